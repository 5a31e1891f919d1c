"""Holding everything, somewhere or everywhere, until operators let it go on."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.db import IntegrityError, connection, transaction
from django.db.models import Q

from requests_app.domain import audit, clock, jobs, notices, texts
from requests_app.domain.audit import Action
from requests_app.domain.deciders import in_one_hand
from requests_app.domain.errors import Conflict, NotAllowed
from requests_app.domain.models import AccessRequest, Account, Confirmation, Freeze, Role, User
from requests_app.domain.models.requests import AccessRequestQuerySet
from requests_app.domain.transitions import State
from requests_app.domain.workflow import operators
from requests_app.domain.workflow.verb import lock, verb


@dataclass(frozen=True, slots=True)
class Everything:
    """The widest scope there is."""

    def __str__(self) -> str:
        return "everything"


Scope = Everything | Account | Role


class Step(StrEnum):
    """What lifting a freeze takes next."""

    LOOK = "look"  # passes of a restored database are neither confirmed nor ended
    ASK = "ask"  # and then another operator lifts it
    WAIT = "wait"  # for another operator, because this one asked
    ONE_HAND = "one_hand"  # for another operator, because this one and who asked may be one
    LIFT = "lift"


@verb(Action.FREEZE_BEGUN)
def freeze(scope: Scope, *, by: User, reason: str) -> Freeze:
    """Nothing is asked for, approved, started or minted within `scope` from now on, until it is lifted.

    When this returns, whatever was under way has come through or is refused. What runs already goes on.
    Raises NotAllowed for anyone but an operator, Invalid without a reason, Conflict if it is frozen already.
    """
    require_operator(by)
    begun = _begin(where(scope), reason=plain_reason(reason), by=by)
    if begun is None:
        raise Conflict(f"This is frozen already: {scope}.", rule="freeze.already")
    return begun


@verb(Action.FREEZE_LIFTED)
def lift(freeze: Freeze, *, by: User) -> Freeze:
    """Let it go on. Where there are two operators, the first call asks for it and another operator's lifts it.

    One of a restored database is lifted when every pass in it was confirmed or ended.
    """
    require_operator(by)
    freeze = _lock_freeze(freeze)
    now = clock.now()
    if freeze.lifted_at is not None:
        raise Conflict("This was lifted in the meantime.", rule="freeze.lifted")
    alone = operators.operates_alone(by)
    match next_steps([freeze], by, alone=alone)[0]:
        case Step.LOOK:
            raise Conflict(
                "There are passes of the restored database that nobody has confirmed or ended yet.",
                rule="freeze.unconfirmed",
            )
        case Step.WAIT:
            raise NotAllowed("You have asked for it; another operator must lift it.", rule="freeze.second_operator")
        case Step.ONE_HAND:
            raise NotAllowed(
                f"{freeze.lift_asked_by} has asked for it, and one of you made the other's account or changed how they "
                "sign in or what they may do: an operator who has nothing to do with that must lift it.",
                rule="person.same_hand",
            )
        case Step.ASK:
            freeze.lift_asked_at, freeze.lift_asked_by = now, by
            freeze.save(update_fields=["lift_asked_at", "lift_asked_by"])
            audit.record(Action.FREEZE_LIFT_ASKED, by=by, at=now, subject=str(freeze))
            return freeze
    if alone:
        freeze.lift_asked_at, freeze.lift_asked_by = now, by
    freeze.lifted_at, freeze.lifted_by = now, by
    freeze.save(update_fields=["lift_asked_at", "lift_asked_by", "lifted_at", "lifted_by"])
    audit.record(Action.FREEZE_LIFTED, by=by, at=now, subject=str(freeze), asked_by=str(freeze.lift_asked_by))
    _tell(notices.Kind.THAWED, freeze)
    # What was to start at once, and is still in time.
    jobs.nudge("default.sweep_requests")
    return freeze


@verb(Action.REQUEST_CONFIRMED)
def confirm(access_request: AccessRequest, *, freeze: Freeze, by: User) -> Confirmation:
    """An operator's word that this pass, found in a restored database, lives on when the freeze is lifted.

    Not about a pass of one's own: another operator confirms it, or it is ended.
    """
    require_operator(by)
    access_request, _ = lock(access_request)
    freeze = _lock_freeze(freeze)
    now = clock.now()
    if freeze.lifted_at is not None or not unconfirmed(freeze).filter(pk=access_request.pk).exists():
        raise Conflict("There is nothing to confirm any more: look again.", rule="confirm.nothing")
    if refusal := why_not_confirm([access_request], by)[access_request.pk]:
        raise refusal
    confirmation = Confirmation.objects.create(
        freeze=freeze, access_request=access_request, confirmed_by=by, confirmed_at=now
    )
    audit.record(Action.REQUEST_CONFIRMED, access_request, by=by, at=now)
    return confirmation


def freeze_restored(how: str) -> Freeze | None:
    """This database is not the one it was: hold everything until operators have looked. None if that is so already."""
    reason = f"The database was restored ({how}), so passes ended since then may look alive. Each must be looked at."
    with transaction.atomic(durable=True):
        return _begin({}, reason=texts.shortened(reason, texts.LONGEST_REASON), by=None)


def unconfirmed(freeze: Freeze) -> AccessRequestQuerySet:
    """Passes of a restored database about which no operator has said anything yet."""
    if freeze.cause != Freeze.Cause.RESTORED:
        return AccessRequest.objects.none()
    now = clock.now()
    return AccessRequest.objects.filter(
        Q(state=State.APPROVED, start_by__gt=now) | Q(state=State.ACTIVE, expires_at__gt=now)
    ).exclude(confirmations__freeze=freeze)


def why_not_confirm(passes: Sequence[AccessRequest], by: User) -> dict[int, NotAllowed | None]:
    """For each of these passes, by its key, why this operator cannot confirm it; None where they can. One query."""
    sides = [sorted(access_request.asking_side) for access_request in passes]
    found: dict[int, NotAllowed | None] = {}
    for access_request, one_hand in zip(passes, in_one_hand(by, sides), strict=True):
        if by.pk in access_request.asking_side:
            own = "Nobody confirms their own pass. Another operator can, or end it."
            found[access_request.pk] = NotAllowed(own, rule="confirm.own")
        else:
            found[access_request.pk] = of_one_hand(to="confirm this pass, or end it") if one_hand else None
    return found


def next_steps(freezes: Sequence[Freeze], by: User, *, alone: bool) -> list[Step]:
    """What this operator can do about each of these freezes in force; `alone` if there is no other operator."""
    askers = [[freeze.lift_asked_by_id] if freeze.lift_asked_by_id else [] for freeze in freezes]
    one_hand = in_one_hand(by, askers) if any(askers) and not alone else [False] * len(freezes)
    return [
        Step.ONE_HAND if is_one and step is Step.LIFT else step
        for step, is_one in zip((_next_step(freeze, by, alone=alone) for freeze in freezes), one_hand, strict=True)
    ]


def _next_step(freeze: Freeze, by: User, *, alone: bool) -> Step:
    if unconfirmed(freeze).exists():
        return Step.LOOK
    if alone:
        return Step.LIFT
    asker = freeze.lift_asked_by
    # Whoever asked and is no operator any more does not count.
    if asker is None or not asker.is_operator or asker.deactivated_at is not None:
        return Step.ASK
    return Step.WAIT if asker.pk == by.pk else Step.LIFT


def is_frozen(scope: Scope) -> bool:
    """Whether operators have frozen just this; something wider may hold it all the same."""
    exactly = {"account": None, "role": None} | where(scope)
    return Freeze.objects.in_force().filter(cause=Freeze.Cause.OPERATOR, **exactly).exists()


def require_operator(by: User) -> None:
    if not User.objects.operators().filter(pk=by.pk).exists():
        raise NotAllowed("Only operators can do this.", rule="operator.only")


def of_one_hand(*, to: str) -> NotAllowed:
    return NotAllowed(
        "One of you made the other's account, or changed how they sign in or what they may do, perhaps through "
        f"others: an operator who has nothing to do with that must {to}.",
        rule="person.same_hand",
    )


def plain_reason(typed: str) -> str:
    return texts.plain_reason(typed, read_by="everyone whom it stops reads")


def where(scope: Scope) -> dict[str, Account | Role]:
    """The columns of a freeze that say what it holds."""
    match scope:
        case Account():
            return {"account": scope}
        case Role():
            return {"role": scope}
        case Everything():
            return {}


def _begin(where: dict[str, Account | Role], *, reason: str, by: User | None) -> Freeze | None:
    cause = Freeze.Cause.OPERATOR if by else Freeze.Cause.RESTORED
    try:
        with transaction.atomic():
            _wait_for_those_who_have_looked()
            now = clock.now()
            begun = Freeze.objects.create(**where, cause=cause, reason=reason, begun_at=now, begun_by=by)
    except IntegrityError as refused:
        if "freeze_once_in_force" in str(refused):
            return None
        raise
    audit.record(Action.FREEZE_BEGUN, by=by, at=now, subject=str(begun), reason=reason, cause=str(cause))
    _tell(notices.Kind.FROZEN if by else notices.Kind.RESTORED, begun)
    return begun


def _wait_for_those_who_have_looked() -> None:
    """The trigger takes this lock too; here it comes before the clock is asked, so that whatever got through is
    older than the freeze by its own times as well."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


_LOCK = 0x667265657A65  # "freeze"


def _lock_freeze(freeze: Freeze) -> Freeze:
    # Two statements, as in `verb.lock_row`: what is joined must be read after the lock.
    Freeze.objects.select_for_update(no_key=True).values_list("pk").get(pk=freeze.pk)
    return Freeze.objects.select_related("account", "role__account", "lift_asked_by").get(pk=freeze.pk)


def _tell(kind: notices.Kind, freeze: Freeze) -> None:
    notices.tell(kind, at=clock.now(), to=notices.who_answer_for_daypass(), freeze=freeze.pk)
