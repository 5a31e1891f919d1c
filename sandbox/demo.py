"""What `make run` shows: people, a catalog, entitlements, and months of history made by the product's own verbs.

`python -m sandbox.demo` fills an empty database and leaves any other as it is; with `today` there is also something
that waits for each of the people.
"""

import contextlib
import os
import random
import sys
from collections.abc import Callable
from datetime import time, timedelta
from typing import Any
from urllib.parse import urlsplit

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.contrib.auth.models import Group as AdminGroup  # noqa: E402
from django.db import transaction  # noqa: E402
from django.db.models import F  # noqa: E402

from requests_app.domain import audit, clock, workflow  # noqa: E402
from requests_app.domain.database import AUDITORS  # noqa: E402
from requests_app.domain.errors import DomainError  # noqa: E402
from requests_app.domain.models import (  # noqa: E402
    AccessRequest,
    Account,
    Entitlement,
    Group,
    Membership,
    Notice,
    OrganisationalUnit,
    Preflight,
    Role,
    Stage,
    User,
)
from requests_app.domain.workflow import people, preflights, sweeps  # noqa: E402
from sandbox import landscape  # noqa: E402
from sandbox.history import open_history  # noqa: E402
from sandbox.story import PASSWORD, PEOPLE  # noqa: E402

GROUPS = {
    "Engineers": ("alice", "erin", "bob"),
    "Payments engineers": ("alice", "bob"),
    "Data engineers": ("erin",),
    "Payments leads": ("bob", "carol"),
    "Security": ("carol", "frank"),
    "Freelancers": ("erin",),
}
TIME_ZONES = {
    "alice": "Europe/Berlin",
    "bob": "Europe/Berlin",
    "erin": "Europe/Stockholm",
    "carol": "America/Sao_Paulo",
}

REASONS = (
    "replay the failed settlement batch",
    "look why payouts are slow since the morning",
    "compare the ledger with the bank's file for finance",
    "rotate the card vault's key, as planned",
    "find the stuck payment a customer wrote about",
    "check the nightly refinement after the schema change",
    "roll back build 811, the checkout is broken",
    "count events for the quarterly report",
)


def fill(*, today: bool = False) -> None:
    """Fill an empty database; `today`: with what waits now. Another is only told to look again at AWS's refusals."""
    if urlsplit(settings.BASE_URL).hostname not in ("localhost", "127.0.0.1"):
        raise SystemExit("The demo has a public password, so it is only for an address on this machine.")
    if User.objects.exists():
        # What the stand-in's roles may do was brought up to date.
        preflights.look_soon(Role.objects.filter(preflight__scoping=Preflight.Scoping.REFUSED))
        return
    if not (owner := os.environ.get("DATABASE_OWNER_URL")):
        raise SystemExit("The demo writes months of history, which only the owner can allow: set DATABASE_OWNER_URL.")
    with transaction.atomic():
        cast = _people()
        groups = _groups(cast)
        _entitlements(groups, _catalog(groups))
    with open_history(owner), audit.context(channel="demo"):
        cast["olivia"] = people.make_operator("olivia@example.com")
        _history(cast)
        if today:
            _today(cast)
    # Nobody wants mail about last month.
    Notice.objects.filter(sent_at=None, gave_up_at=None).update(sent_at=F("due_at"))


def _people() -> dict[str, User]:
    password = make_password(PASSWORD)  # once: it is slow on purpose
    cast = {
        username: User.objects.create(
            username=username,
            email=f"{username}@example.com",
            name=name,
            password=password,
            time_zone=TIME_ZONES.get(username, "UTC"),
        )
        for username, name, _ in PEOPLE
    }
    User.objects.filter(username="dave").update(is_staff=True)
    cast["dave"].groups.add(AdminGroup.objects.get(name=AUDITORS))
    return cast


def _groups(cast: dict[str, User]) -> dict[str, Group]:
    groups = {name: Group.objects.create(name=name) for name in GROUPS}
    Membership.objects.bulk_create(
        Membership(group=groups[name], user=cast[member]) for name, members in GROUPS.items() for member in members
    )
    return groups


def _catalog(groups: dict[str, Group]) -> dict[str, Role]:
    """Roles by `account/role`."""
    roles = {}
    for place in landscape.ACCOUNTS:
        account = Account.objects.create(
            number=place.id,
            name=place.name,
            external_id=place.external_id,
            allows_source_identity=place.source_identity,
            unit=_unit(place.unit),
            environment=place.environment,
            tags=place.tags,
            owners=groups[place.owners],
        )
        for role in place.roles:
            roles[f"{place.name}/{role.name}"] = Role.objects.create(
                account=account,
                name=role.name,
                path=landscape.ROLE_PATH,
                description=role.description,
                longest_session_seconds=role.longest_session,
                power=_power(role),
                tags=role.tags,
            )
    return roles


def _unit(place: tuple[str, ...]) -> OrganisationalUnit | None:
    unit = None
    for name in place:
        unit, _ = OrganisationalUnit.objects.get_or_create(name=name, parent=unit)
    return unit


def _power(role: landscape.Role) -> str:
    if role.powerful:
        return Role.Power.POWERFUL
    return Role.Power.READ if role.name == "ReadOnly" else Role.Power.CHANGE


def _entitlements(groups: dict[str, Group], roles: dict[str, Role]) -> None:
    hour = 3600
    payments = landscape.ACCOUNTS[0]

    def make(name: str, who: str, what: list[str], *stages: tuple[str, int], **terms: object) -> Entitlement:
        made = Entitlement.objects.create(**{"name": name, "approval": "staged" if stages else "automatic", **terms})
        made.groups.add(groups[who])
        made.roles.add(*(roles[one] for one in what))
        for position, (asked, quorum) in enumerate(stages, start=1):
            Stage.objects.create(entitlement=made, position=position, quorum=quorum).groups.add(groups[asked])
        return made

    for_others = make(
        "Reading, automatic",
        "Engineers",
        ["payments-prod/ReadOnly", "data-lake-prod/ReadOnly", "web-staging/DeployRole"],
        longest_seconds=8 * hour,
    )
    for_others.askers.add(groups["Payments leads"])
    make(
        "Payments administrator, one lead",
        "Payments engineers",
        ["payments-prod/Administrator", "payments-prod/DatabaseOperator"],
        ("Payments leads", 1),
        longest_seconds=hour,
        ticket=Entitlement.Ticket.OPTIONAL,
        schedule_ahead_seconds=7 * 24 * hour,
        extensions_most=2,
        extension_total_seconds=3 * hour,
    )
    make(
        "Payments administrator, reading only",
        "Payments engineers",
        ["payments-prod/Administrator"],
        longest_seconds=4 * hour,
        narrowing_policy_arns=[payments.read_only_policy_arn],
    )
    make(
        "Data lake, lead and security",
        "Data engineers",
        ["data-lake-prod/DataEngineer"],
        ("Payments leads", 1),
        ("Security", 1),
        longest_seconds=4 * hour,
        ticket=Entitlement.Ticket.REQUIRED,
    )
    make("Staging administrator", "Engineers", ["web-staging/Administrator"], ("Security", 1), longest_seconds=2 * hour)
    # By what the roles are like, whatever is added later.
    make("Security reads production", "Security", [], longest_seconds=2 * hour)
    reading = Entitlement.objects.get(name="Security reads production")
    production = OrganisationalUnit.objects.get(name="Production")
    reading.selectors.create(unit=production, role_tag_key="access", role_tag_value="read")
    make(
        "Data lake, in office hours",
        "Data engineers",
        ["data-lake-prod/DataEngineer"],
        longest_seconds=2 * hour,
        hours_days=[1, 2, 3, 4, 5],
        hours_begin=time(8),
        hours_end=time(18),
        hours_zone="Europe/Stockholm",
    )
    owned = make(
        "Data lake, its owners decide",
        "Payments engineers",
        ["data-lake-prod/DataEngineer"],
        approval="staged",
        longest_seconds=4 * hour,
    )
    Stage.objects.create(entitlement=owned, position=1, owners=Stage.Owners.ACCOUNT)


def _history(cast: dict[str, User]) -> None:
    """Three months of requests, each acted out at its own time."""
    chance = random.Random(4711)
    stories: list[Callable[[AccessRequest, dict[str, User], random.Random], None]] = [
        _used_up, _used_up, _returned, _returned, _returned, _denied, _withdrawn, _forgotten, _revoked,
    ]  # fmt: skip
    wishes = [
        (cast[username], entitlement, role)
        for username in ("alice", "erin", "bob")
        for entitlement in Entitlement.objects.reaching(cast[username]).order_by("pk")
        for role in entitlement.roles.order_by("pk")
    ]
    for days_ago in range(90, 0, -1):
        if chance.random() < 0.2:
            continue
        person, entitlement, role = chance.choice(wishes)
        ago = timedelta(days=days_ago, minutes=chance.randrange(600))
        with clock.moved(-ago):
            access_request = workflow.submit(
                role,
                by=person,
                entitlement=entitlement,
                duration=timedelta(minutes=chance.choice([15, 30, 60])),
                justification=chance.choice(REASONS),
                ticket=f"INC-{chance.randrange(1800, 2400)}",
            )
        with clock.moved(-ago + timedelta(minutes=chance.randrange(1, 12))):
            access_request.refresh_from_db()
            with contextlib.suppress(DomainError):  # an automatic one cannot be denied, say: then it lapses
                chance.choice(stories)(access_request, cast, chance)
        with clock.moved(-ago + timedelta(days=1, minutes=30)):
            sweeps.lapse_due()
            sweeps.expire_due()


def _today(cast: dict[str, User]) -> None:
    """Something that waits for each: more time, a start that is planned, an acceptance, owners, an exclusion."""

    def wish(by: str, entitlement: str, role: str, why: str, **wanted: Any) -> AccessRequest:
        account, _, name = role.partition("/")
        return workflow.submit(
            Role.objects.get(account__name=account, name=name),
            by=cast[by],
            entitlement=Entitlement.objects.get(name=entitlement),
            **{"duration": timedelta(hours=1), "justification": why, **wanted},
        )

    one_lead = "Payments administrator, one lead"
    with clock.moved(-timedelta(minutes=6)):
        running = wish("alice", one_lead, "payments-prod/DatabaseOperator", "find the payment a customer wrote about")
        workflow.approve(running, by=cast["bob"])
        running = workflow.start(running, by=cast["alice"])
    workflow.extend(
        running,
        by=cast["alice"],
        duration=timedelta(minutes=30),
        justification="the bank answers within the hour",
    )
    there = cast["alice"].zone
    tomorrow = (clock.now() + timedelta(days=1)).astimezone(there).replace(hour=9, minute=0, second=0, microsecond=0)
    wish(
        "alice", one_lead, "payments-prod/Administrator", "rotate the card vault's key, as planned",
        start=AccessRequest.Start.AT_TIME, start_at=tomorrow,
    )  # fmt: skip
    wish(
        "carol", "Reading, automatic", "payments-prod/ReadOnly", "look at the ledger with me, for the audit",
        beneficiary=cast["alice"],
    )  # fmt: skip
    wish("alice", "Data lake, its owners decide", "data-lake-prod/DataEngineer", "compare the ledger with the events")
    with clock.moved(-timedelta(hours=1)):
        withdrawn = wish("erin", "Staging administrator", "web-staging/Administrator", "try the new build's set-up")
        workflow.withdraw(withdrawn, by=cast["erin"])
    staging = Entitlement.objects.get(name="Staging administrator")
    staging.excluded_groups.add(Group.objects.get(name="Freelancers"))


def _approve_all(access_request: AccessRequest) -> None:
    while approvers := workflow.who_can_decide(access_request):
        workflow.approve(access_request, by=approvers[0], comment="")
        access_request.refresh_from_db()


def _used_up(access_request: AccessRequest, cast: dict[str, User], chance: random.Random) -> None:
    _approve_all(access_request)
    workflow.start(access_request, by=access_request.beneficiary)


def _returned(access_request: AccessRequest, cast: dict[str, User], chance: random.Random) -> None:
    _used_up(access_request, cast, chance)
    with clock.moved(timedelta(minutes=chance.randrange(3, 14))):
        access_request.refresh_from_db()
        workflow.give_back(access_request, by=access_request.beneficiary)


def _revoked(access_request: AccessRequest, cast: dict[str, User], chance: random.Random) -> None:
    _used_up(access_request, cast, chance)
    with clock.moved(timedelta(minutes=5)):
        access_request.refresh_from_db()
        workflow.revoke(access_request, by=cast["olivia"], reason="The incident is closed; please ask again if needed.")


def _denied(access_request: AccessRequest, cast: dict[str, User], chance: random.Random) -> None:
    for approver in workflow.who_can_decide(access_request)[:1]:
        workflow.deny(access_request, by=approver, comment="Reading is enough for this.")


def _withdrawn(access_request: AccessRequest, cast: dict[str, User], chance: random.Random) -> None:
    workflow.withdraw(access_request, by=access_request.requester)


def _forgotten(access_request: AccessRequest, cast: dict[str, User], chance: random.Random) -> None:
    """Nobody does anything: it lapses."""


if __name__ == "__main__":
    fill(today="today" in sys.argv[1:])
