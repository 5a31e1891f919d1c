"""What every verb shares: the due transition first, one durable transaction, and a refusal that stays recorded."""

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from django.db import IntegrityError, transaction

from requests_app.domain import audit, clock
from requests_app.domain.errors import Conflict, DomainError, NotAllowed
from requests_app.domain.joined import Joined
from requests_app.domain.models import AccessRequest, User
from requests_app.domain.prepared import Question
from requests_app.domain.workflow import sweeps

P = ParamSpec("P")
R = TypeVar("R")
Subject = TypeVar("Subject", bound=Any)
Verb = Callable[Concatenate[Subject, P], R]

log = structlog.get_logger(__name__)
# Refusals of one person in a minute: more than anybody meets with who reads what the page says. They are counted among
# that person's newest events.
MOST_RECORDED = 30
MOST_LOOKED_AT = 200


class Due(Conflict):
    """The clock was faster than whoever waited for the lock; the verb settles that and looks once more."""

    def __init__(self) -> None:
        super().__init__("This request's time ran out this very moment. Look at it again.", rule="request.due")


def verb(action: audit.Action) -> Callable[[Verb[Subject, P, R]], Verb[Subject, P, R]]:
    """Run the function in a transaction of its own; a DomainError is recorded as `<action>.refused` in another.

    The wrapped function locks what it changes and asks `policy` under the lock.
    """

    def decorate(function: Verb[Subject, P, R]) -> Verb[Subject, P, R]:
        def in_transaction(subject: Subject, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                with transaction.atomic(durable=True):
                    return function(subject, *args, **kwargs)
            except IntegrityError as refused:
                # The rules of the row changed after we had asked them: someone was taken out of a group, say.
                log.warning("verb.refused_by_database", action=str(action), error=str(refused))
                raise frozen_meanwhile(refused) or Conflict(
                    "Something changed while you did this, and nothing was stored. Look again and repeat it.",
                    rule="database.refused",
                ) from refused

        @recorded(action)
        @wraps(function)
        def run(subject: Subject, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return in_transaction(subject, *args, **kwargs)
            except Due:
                # Touching a due request performs the due transition, committed whatever the verb then says.
                access_request = _request_of(subject)
                assert access_request is not None  # noqa: S101 - only those have a time
                sweeps.settle([access_request.pk])
            return in_transaction(subject, *args, **kwargs)

        return run

    return decorate


def frozen_meanwhile(refused: IntegrityError) -> Conflict | None:
    """What to say where a freeze began after the rules were asked; None if the database refused something else."""
    if "operators have frozen this" not in str(refused):
        return None
    return Conflict("Operators froze this at this very moment, so nothing was stored. Look again.", rule="freeze")


def recorded(action: audit.Action) -> Callable[[Verb[Subject, P, R]], Verb[Subject, P, R]]:
    """Record a DomainError as `<action>.refused` and let it through.

    Raising rolls the verb back, its audit line included: hence a transaction of its own, here where no door
    can forget it.
    """

    def decorate(function: Verb[Subject, P, R]) -> Verb[Subject, P, R]:
        @wraps(function)
        def run(subject: Subject, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(subject, *args, **kwargs)
            except DomainError as refusal:
                _record_refusal(action, subject, kwargs.get("by"), refusal)
                raise

        return run

    return decorate


def looking_again(step: Callable[P, R]) -> Callable[P, R]:
    """A worker's step, done once more if the database refuses it: something changed after the rules were asked, a
    freeze began, say. This time the rules see it, and what became of the delivery is written down."""

    @wraps(step)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return step(*args, **kwargs)
        except IntegrityError as refused:
            log.warning("step.refused_by_database", step=step.__name__, error=str(refused))
        return step(*args, **kwargs)

    return run


def lock(access_request: AccessRequest) -> tuple[AccessRequest, datetime]:
    """The row as it is now, held until the transaction ends, and the moment that this verb goes by.

    Raises Due if by that moment the row should be in another state.
    """
    locked, now = _lock(access_request.pk)
    if locked.due(now):
        raise Due
    return locked, now


def lock_row(access_request: AccessRequest) -> AccessRequest:
    """The row as it is now, due or not, held until the transaction ends. Ask the clock after this, not before."""
    return _lock(access_request.pk)[0]


def _lock(key: int) -> tuple[AccessRequest, datetime]:
    # Two statements: after a wait, one would join what role and entitlement were before it.
    if not _LOCK.all(key=key):
        raise AccessRequest.DoesNotExist
    (locked,) = _WHOLE.read(_LOAD.all(key=key, shift=clock.shift()), "read_at")
    return locked, locked.read_at  # type: ignore[attr-defined]


# No key: rows that point here may be inserted meanwhile, or a sweep and a verb could wait for each other.
_LOCK = Question(
    "verb.lock",
    """
SELECT r.id FROM requests_app_accessrequest r WHERE r.id = %(key)s::bigint FOR NO KEY UPDATE
""",
)
_WHOLE = Joined(
    AccessRequest, "r", "requester", "beneficiary", "role", "role__account", "role__account__unit", "entitlement"
)
_LOAD = Question(
    "verb.load",
    f"""
SELECT {_WHOLE.columns}, clock_timestamp() + %(shift)s::interval
FROM {_WHOLE.tables}
WHERE r.id = %(key)s::bigint
""",  # noqa: S608 - texts of ours only
)


def require_active(by: User) -> None:
    if _IS_ACTIVE.first(person=by.pk) != (True,):
        raise NotAllowed("Your account is deactivated. Ask an operator.", rule="person.deactivated")


_IS_ACTIVE = Question(
    "verb.is_active",
    """
SELECT u.deactivated_at IS NULL FROM requests_app_user u WHERE u.id = %(person)s::bigint
""",
)


def _request_of(subject: object) -> AccessRequest | None:
    found = getattr(subject, "access_request", None)
    return found if isinstance(found, AccessRequest) else None


def _record_refusal(action: audit.Action, subject: object, by: object, refusal: DomainError) -> None:
    """The first of a minute are recorded in full, the last of them says so: nobody fills the record by insisting."""
    recorded = audit.refusals_lately(by, MOST_LOOKED_AT) if isinstance(by, User) else 0
    if recorded >= MOST_RECORDED:
        log.warning("verb.refused_again", action=str(action), rule=refusal.rule, person=getattr(by, "pk", None))
        return
    more: dict[str, Any] = {"more_are_not_recorded": True} if recorded == MOST_RECORDED - 1 else {}
    access_request = _request_of(subject)
    with transaction.atomic():
        refusal.event = audit.record(
            f"{action}.refused",
            access_request,
            by=by if isinstance(by, User) else None,
            subject="" if access_request else str(subject),
            rule=refusal.rule,
            message=refusal.message,
            **more,
        )
