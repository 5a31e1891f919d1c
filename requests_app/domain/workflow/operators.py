"""How many operate this installation: where it is one, nobody can confirm what they change."""

from datetime import datetime

from django.db import transaction

from requests_app.domain import clock, notices
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import Entitlement, Role, User

MOST_TOLD = 50


def the_only_one() -> User | None:
    """The operator, where there is no other. One query."""
    first = list(User.objects.operators().order_by("pk")[:2])
    return first[0] if len(first) == 1 else None


def tell_auditors_of_only_one(*, at: datetime) -> None:
    """Mail, once a day at most, where there is one operator; in the caller's transaction."""
    only = the_only_one()
    if only is None:
        return
    auditors = User.objects.auditors().exclude(pk=only.pk).order_by("pk")
    notices.tell(
        notices.Kind.TROUBLE,
        f"Daypass has only one operator, {only}. What they change in the rules, or in who is in which group, never "
        "counts for themselves, because nobody else can confirm it: make somebody else an operator too.",
        at=at,
        to=auditors[:MOST_TOLD],
        occasion=f"only operator:{at:%Y-%m-%d}",
    )


# Refusals that meet everybody who asks under these terms.
# So many mails a day about the roles of one entitlement.
MOST_OF_ONE = 10
_FOR_OPERATORS_TO_MEND = ("stage.none", "stage.nobody_can", "narrowing.does_not_fit", "role.address")


def tell_of_refusal(role: Role, entitlement: Entitlement, refusal: NotAllowed) -> None:
    """Mail, once a day at most, what only operators can mend; in a transaction of its own, after the refused one."""
    if refusal.rule not in _FOR_OPERATORS_TO_MEND:
        return
    now = clock.now()
    # Where the role matters, what is to be mended differs from role to role.
    of_role = (
        refusal.rule in ("narrowing.does_not_fit", "role.address") or entitlement.stages.exclude(owners="").exists()
    )
    # Whoever goes through a thousand roles fills nobody's letter box.
    which = f"{entitlement.pk} {role.pk % MOST_OF_ONE}" if of_role else str(entitlement.pk)
    with transaction.atomic():
        notices.tell(
            notices.Kind.NOBODY,
            f"Someone asked for {role} under “{entitlement}” and was refused: {refusal.message}",
            at=now,
            to=User.objects.operators().order_by("pk")[:MOST_TOLD],
            occasion=f"{which}:{now:%Y-%m-%d}",
        )
