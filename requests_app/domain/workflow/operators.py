"""How many operate this installation: where it is one, nobody can confirm what they change."""

from datetime import datetime

from requests_app.domain import notices
from requests_app.domain.database import AUDITORS
from requests_app.domain.models import User

MOST_TOLD = 50


def the_only_one() -> User | None:
    """The operator, where there is no other. One query."""
    first = list(User.objects.filter(is_superuser=True, deactivated_at=None).order_by("pk")[:2])
    return first[0] if len(first) == 1 else None


def tell_auditors_of_only_one(*, at: datetime) -> None:
    """Mail, once a day at most, where there is one operator; in the caller's transaction."""
    only = the_only_one()
    if only is None:
        return
    auditors = User.objects.filter(groups__name=AUDITORS, deactivated_at=None).exclude(pk=only.pk).order_by("pk")
    notices.tell(
        notices.Kind.TROUBLE,
        f"Daypass has only one operator, {only}. What they change in the rules never counts for themselves, "
        "because nobody else can confirm it: make somebody else an operator too.",
        at=at,
        to=auditors[:MOST_TOLD],
        occasion=f"only operator:{at:%Y-%m-%d}",
    )
