"""Holding everything, somewhere or everywhere, until operators let it go on."""

from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from requests_app.domain import audit, clock
from requests_app.domain.audit import Action
from requests_app.domain.errors import Conflict, Invalid, NotAllowed
from requests_app.domain.models import AccessRequest, Account, Confirmation, Freeze, Role, User
from requests_app.domain.transitions import State
from requests_app.domain.workflow.verb import hold, verb


@dataclass(frozen=True, slots=True)
class Everything:
    """The widest scope there is."""

    def __str__(self) -> str:
        return "everything"


Scope = Everything | Account | Role


@verb(Action.FREEZE_BEGUN)
def freeze(scope: Scope, *, by: User, reason: str) -> Freeze:
    """Nothing is asked for, approved, started or minted within `scope` from now on, until it is lifted.

    When this returns, whatever was under way has come through or is refused. What runs already goes on.
    Raises NotAllowed for anyone but an operator, Invalid without a reason, Conflict if it is frozen already.
    """
    require_operator(by)
    reason = reason.strip()
    if not reason or len(reason) > 500 or "\x00" in reason:
        raise Invalid({"reason": ["Say why, in at most 500 plain characters: everyone whom it stops reads it."]})
    begun = _begin(_where(scope), reason=reason, by=by)
    if begun is None:
        raise Conflict(f"This is frozen already: {scope}.", rule="freeze.already")
    return begun


@verb(Action.FREEZE_LIFTED)
def lift(freeze: Freeze, *, by: User) -> Freeze:
    """Let it go on. Where there are two operators, the first call asks for it and another operator's lifts it.

    One of a restored database is lifted when every pass in it was confirmed or ended.
    """
    require_operator(by)
    freeze = Freeze.objects.select_for_update(no_key=True, of=("self",)).get(pk=freeze.pk)
    now = clock.now()
    if freeze.lifted_at is not None:
        raise Conflict("This was lifted in the meantime.", rule="freeze.lifted")
    if waiting := unconfirmed(freeze).count():
        raise Conflict(
            f"{waiting} passes of the restored database still have to be confirmed or ended.", rule="freeze.unconfirmed"
        )
    operators = set(User.objects.filter(is_superuser=True, deactivated_at=None).values_list("pk", flat=True)[:100])
    if operators == {by.pk}:
        freeze.lift_asked_at, freeze.lift_asked_by = now, by
    elif freeze.lift_asked_by_id not in operators:
        freeze.lift_asked_at, freeze.lift_asked_by = now, by
        freeze.save(update_fields=["lift_asked_at", "lift_asked_by"])
        audit.record(Action.FREEZE_LIFT_ASKED, by=by, at=now, subject=str(freeze))
        return freeze
    elif freeze.lift_asked_by_id == by.pk:
        raise NotAllowed("You have asked for it; another operator must lift it.", rule="freeze.second_operator")
    freeze.lifted_at, freeze.lifted_by = now, by
    freeze.save(update_fields=["lift_asked_at", "lift_asked_by", "lifted_at", "lifted_by"])
    audit.record(Action.FREEZE_LIFTED, by=by, at=now, subject=str(freeze), asked_by=str(freeze.lift_asked_by))
    return freeze


@verb(Action.REQUEST_CONFIRMED)
def confirm(access_request: AccessRequest, *, freeze: Freeze, by: User) -> Confirmation:
    """An operator's word that this pass, found in a restored database, lives on when the freeze is lifted."""
    require_operator(by)
    access_request = hold(access_request)
    Freeze.objects.select_for_update(no_key=True, of=("self",)).get(pk=freeze.pk)
    now = clock.now()
    if not unconfirmed(freeze).filter(pk=access_request.pk).exists():
        raise Conflict("There is nothing to confirm any more: look again.", rule="confirm.nothing")
    confirmation = Confirmation.objects.create(
        freeze=freeze, access_request=access_request, confirmed_by=by, confirmed_at=now
    )
    audit.record(Action.REQUEST_CONFIRMED, access_request, by=by, at=now)
    return confirmation


def freeze_restored(how: str) -> Freeze | None:
    """This database is not the one it was: hold everything until operators have looked. None if that is so already."""
    reason = f"The database was restored ({how}), so passes ended since then may look alive. Each must be looked at."
    with transaction.atomic(durable=True):
        return _begin({}, reason=reason[:500], by=None)


def unconfirmed(freeze: Freeze) -> QuerySet[AccessRequest]:
    """Passes of a restored database about which no operator has said anything yet."""
    if freeze.cause != Freeze.Cause.RESTORED:
        return AccessRequest.objects.none()
    now = clock.now()
    return AccessRequest.objects.filter(
        Q(state=State.APPROVED, start_by__gt=now) | Q(state=State.ACTIVE, expires_at__gt=now)
    ).exclude(confirmations__freeze=freeze)


def require_operator(by: User) -> None:
    if not User.objects.filter(pk=by.pk, is_superuser=True, deactivated_at=None).exists():
        raise NotAllowed("Only operators can do this.", rule="operator.only")


def _where(scope: Scope) -> dict[str, Account | Role]:
    match scope:
        case Account():
            return {"account": scope}
        case Role():
            return {"role": scope}
        case Everything():
            return {}


def _begin(where: dict[str, Account | Role], *, reason: str, by: User | None) -> Freeze | None:
    cause = Freeze.Cause.OPERATOR if by else Freeze.Cause.RESTORED
    now = clock.now()
    try:
        with transaction.atomic():
            begun = Freeze.objects.create(**where, cause=cause, reason=reason, begun_at=now, begun_by=by)
    except IntegrityError as refused:
        if "freeze_once_in_force" in str(refused):
            return None
        raise
    audit.record(Action.FREEZE_BEGUN, by=by, at=now, subject=str(begun), reason=reason, cause=str(cause))
    return begun
