"""What every verb shares: the due transition first, one durable transaction, and a refusal that stays recorded."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from django.db import transaction

from requests_app.domain import audit, clock
from requests_app.domain.errors import DomainError, NotAllowed
from requests_app.domain.models import AccessRequest, User
from requests_app.domain.workflow import sweeps

P = ParamSpec("P")
R = TypeVar("R")
Subject = TypeVar("Subject", bound=Any)


def verb(
    action: audit.Action,
) -> Callable[[Callable[Concatenate[Subject, P], R]], Callable[Concatenate[Subject, P], R]]:
    """Run the function in a transaction of its own; a DomainError is recorded as `<action>.refused` in another.

    Raising rolls the verb back, its audit line included: hence the second transaction, here where no door can
    forget it. The wrapped function locks what it changes and asks `policy` under the lock.
    """

    def decorate(function: Callable[Concatenate[Subject, P], R]) -> Callable[Concatenate[Subject, P], R]:
        @wraps(function)
        def run(subject: Subject, *args: P.args, **kwargs: P.kwargs) -> R:
            access_request = subject if isinstance(subject, AccessRequest) else None
            if access_request is not None:
                _settle(access_request)
            try:
                with transaction.atomic(durable=True):
                    return function(subject, *args, **kwargs)
            except DomainError as refusal:
                _record_refusal(action, access_request, kwargs.get("by"), refusal)
                raise

        return run

    return decorate


def lock(access_request: AccessRequest) -> AccessRequest:
    """The row as it is now, held until the transaction ends. Ask the clock after this, not before."""
    return (
        AccessRequest.objects.select_for_update(of=("self",))
        .select_related("requester", "beneficiary", "role__account", "entitlement")
        .get(pk=access_request.pk)
    )


def require_active(by: User) -> None:
    if not User.objects.filter(pk=by.pk, deactivated_at=None).exists():
        raise NotAllowed("Your account is deactivated. Ask an operator.", rule="person.deactivated")


def _settle(access_request: AccessRequest) -> None:
    """Touching a due request performs the due transition, committed whatever the verb then says."""
    if access_request.due(clock.now()):
        sweeps.settle([access_request.pk])


def _record_refusal(
    action: audit.Action, access_request: AccessRequest | None, by: object, refusal: DomainError
) -> None:
    with transaction.atomic():
        audit.record(
            f"{action}.refused",
            access_request,
            by=by if isinstance(by, User) else None,
            rule=refusal.rule,
            message=refusal.message,
        )
