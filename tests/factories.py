"""Rows for tests, made as the product makes them: requests only by the verbs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from itertools import count
from typing import Any

from django.db import connection
from joserfc.jwk import ECKey

from requests_app.domain import clock, sealing, workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AwsClock,
    Delivery,
    Entitlement,
    Group,
    Membership,
    OwnSession,
    Role,
    Stage,
    User,
)
from requests_app.domain.workflow import deliveries
from sandbox.history import open_history
from tests import servers

_number = count(1)


@contextmanager
def vouched() -> Iterator[None]:
    """Inside, somebody may be made an operator by nobody: the owner takes it for history."""
    with open_history(servers.database_url("owner", servers.database_name_of_django())):
        yield
        if connection.in_atomic_block:  # else it was looked at by now
            connection.cursor().execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


def person(name: str, *groups: Group, **values: Any) -> User:
    with vouched() if values.get("is_operator") else nullcontext():
        user = User.objects.create_user(name, f"{name}@example.com", name=name.capitalize(), **values)
    for group in groups:
        Membership.objects.create(group=group, user=user)
    return user


def operates(person: User, it_is_so: bool = True) -> None:
    """By nobody's hand."""
    with vouched():
        User.objects.filter(pk=person.pk).update(is_operator=it_is_so)


def group(name: str, *members: User) -> Group:
    made = Group.objects.create(name=name)
    for member in members:
        Membership.objects.create(group=made, user=member)
    return made


def account(name: str = "", **values: Any) -> Account:
    number = next(_number)
    values.setdefault("number", f"{900000000000 + number}")
    return Account.objects.create(name=name or f"account-{number}", **values)


def role(name: str = "", in_account: Account | None = None, **values: Any) -> Role:
    return Role.objects.create(
        name=name or f"Role{next(_number)}", account=in_account or account(), path="/elevated/", **values
    )


def entitlement(
    *roles: Role,
    groups: Sequence[Group] = (),
    users: Sequence[User] = (),
    stages: Sequence[tuple[Group | User | Sequence[Group | User], int]] = (),
    **values: Any,
) -> Entitlement:
    """Staged when `stages` (who is asked, how many must agree) are given, else automatic."""
    values.setdefault("approval", "staged" if stages else "automatic")
    made = Entitlement.objects.create(name=values.pop("name", f"entitlement {next(_number)}"), **values)
    made.roles.add(*roles)
    made.groups.add(*groups)
    made.users.add(*users)
    for position, (asked, quorum) in enumerate(stages, start=1):
        stage = Stage.objects.create(entitlement=made, position=position, quorum=quorum)
        for one in [asked] if isinstance(asked, Group | User) else asked:
            (stage.groups if isinstance(one, Group) else stage.users).add(one)  # type: ignore[arg-type]
    return made


def wish(by: User, of: Role, under: Entitlement, **values: Any) -> AccessRequest:
    """Ask by the verb; 30 minutes unless `duration` says otherwise."""
    values.setdefault("duration", timedelta(minutes=30))
    values.setdefault("justification", "replay the failed settlement batch")
    return workflow.submit(of, by=by, entitlement=under, **values)


def clock_reading(low: float = 0.0, high: float = 0.0, **values: Any) -> AwsClock:
    values.setdefault("measured_at", clock.now())
    row, _ = AwsClock.objects.update_or_create(
        region=values.pop("region", "us-east-1"),
        defaults={
            "low_seconds": low,
            "high_seconds": high,
            "identity_arn": "arn:aws:sts::111111111111:assumed-role/daypass-minter/worker",
            "chained": True,
            **values,
        },
    )
    return row


def recipient_key() -> dict[str, Any]:
    return dict(ECKey.generate_key("P-256").as_dict(private=False))


def delivery(of: AccessRequest, **values: Any) -> Delivery:
    values = {"kind": "credentials", "recipient_key": recipient_key(), "sign_in": "a sign-in", **values}
    return deliveries.ask(of, by=of.beneficiary, **values)


def minted(order: deliveries.Order, **values: Any) -> deliveries.Minted:
    """What AWS would have given for this order, by a clock that equals ours."""
    return deliveries.Minted(
        **{
            "session_name": f"{order.code}-{order.beneficiary_name}",
            "source_identity": order.source_identity,
            "access_key_id": f"ASIA{next(_number):016d}",
            "assumed_role_id": "AROAEXAMPLE:session",
            "sts_expires_at": clock.now() + timedelta(minutes=15),
            "packed_policy_size": 20,
            "aws_ahead_at_most": 0.5,
            **values,
        }
    )


def own_session(role: Role, **values: Any) -> OwnSession:
    now = clock.now()
    values = {"purpose": "preflight", "session_name": "DP-PREFLIGHT-test", "issued_at": now} | values
    return OwnSession.objects.create(
        role=role, access_key_id=f"ASIA{next(_number):016d}", sts_expires_at=now + timedelta(minutes=15), **values
    )


def sealed(of: AccessRequest, **values: Any) -> tuple[Delivery, str]:
    """A delivery that a worker has minted and sealed, and the envelope that it put down."""
    made = delivery(of, **values)
    order = deliveries.claim(made.pk, worker="worker")
    assert order is not None
    assert deliveries.record(order, minted(order), worker="worker")
    envelope = sealing.seal({"kind": "credentials"}, order.recipient_key)
    assert deliveries.seal_down(order, envelope)
    made.refresh_from_db()
    return made, envelope
