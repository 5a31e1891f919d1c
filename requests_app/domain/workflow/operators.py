"""Who operates this installation, and how many: where it is one, nobody can confirm what they change."""

from datetime import datetime

from django.db import transaction

from requests_app.domain import audit, clock, notices
from requests_app.domain.audit import Action
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import Entitlement, Notice, Role, User
from requests_app.domain.prepared import Question

MOST_TOLD = 50


def the_only_one() -> User | None:
    """The operator, where there is no other. One query."""
    first = list(User.objects.raw(_FIRST_TWO))
    return first[0] if len(first) == 1 else None


def operates_alone(by: User) -> bool:
    """Whether there is no other operator. Those whom somebody removed count until another operator has confirmed that,
    or whoever removes the others would be alone."""
    (others,) = _OTHERS.one(person=by.pk)
    return not others


# Both ask one relation, in which those who were removed count too, and are told apart.
_FIRST_TWO = """
SELECT u.* FROM requests_app_user u JOIN requests_app_counted_operators() o ON o.person_id = u.id
WHERE o.operates ORDER BY u.id LIMIT 2
"""
_OTHERS = Question(
    "operators.others",
    "SELECT EXISTS (SELECT FROM requests_app_counted_operators() o WHERE o.person_id <> %(person)s::bigint)",
)


def made(person: User) -> None:
    """Put on record that the server made somebody an operator, and tell all operators and auditors at once; in the
    caller's transaction."""
    now = clock.now()
    event = audit.record(Action.OPERATOR_MADE, by=None, at=now, beneficiary=person, subject=person.email)
    told = {each.pk: each for each in (*notices.who_answer_for_daypass(), person)}
    notices.tell(notices.Kind.OPERATOR, at=now, to=told.values(), moment=now, event=event)


def tell_auditors_of_only_one(*, at: datetime) -> None:
    """Mail, once a day at most, where there is one operator; in the caller's transaction."""
    only = the_only_one()
    if only is None:
        return
    auditors = User.objects.auditors().exclude(pk=only.pk).order_by("pk")
    notices.tell(notices.Kind.ONLY_ONE, at=at, to=auditors[:MOST_TOLD], moment=notices.day_of(at))


def tell_of_strange_proxy(ip: str) -> None:
    """Mail to operators, once a day: attempts cannot be told apart by where they come from."""
    now = clock.now()
    people = User.objects.operators().order_by("pk")[:MOST_TOLD]
    day = notices.day_of(now)
    notices.tell(notices.Kind.PROXY, at=now, to=people, moment=day, detail={"ip": ip})


# So many mails a day about the roles of one entitlement.
MOST_OF_ONE = 10
# Refusals that meet everybody who asks under these terms.
_FOR_OPERATORS_TO_MEND = ("stage.none", "stage.nobody_can", "narrowing.does_not_fit", "role.address")


def tell_of_refusal(role: Role, entitlement: Entitlement, refusal: NotAllowed) -> None:
    """Mail, once a day at most, what only operators can mend; in a transaction of its own, after the refused one."""
    if refusal.rule not in _FOR_OPERATORS_TO_MEND:
        return
    now = clock.now()
    day = notices.day_of(now)
    to = list(User.objects.operators().order_by("pk")[:MOST_TOLD])
    about: notices.About = {"entitlement": entitlement.pk, "moment": day}
    if refusal.event is not None:  # of whoever insists not all are recorded
        about["event"] = refusal.event
    # Where the role matters, what is to be mended differs from role to role.
    if refusal.rule in ("narrowing.does_not_fit", "role.address") or entitlement.stages.exclude(owners="").exists():
        about["role"] = role.pk
        if not to or _told_enough(to[0], entitlement, role, day):
            return
    with transaction.atomic():
        notices.tell(notices.Kind.NOBODY, at=now, to=to, **about)


def _told_enough(operator: User, entitlement: Entitlement, role: Role, day: datetime) -> bool:
    """Whoever goes through a thousand roles fills nobody's letter box."""
    today = Notice.objects.filter(access_request=None, kind=Notice.Kind.NOBODY, recipient=operator, moment=day)
    told = set(today.filter(entitlement=entitlement).exclude(role=None).values_list("role", flat=True)[:MOST_OF_ONE])
    return role.pk not in told and len(told) >= MOST_OF_ONE
