"""What the walk walks on: rows made as the product makes them, so that each list is empty, one and many somewhere.

`CENSUS` in `census` counts them against the models. To add what a new model or relation needs, add rows to one of the
landscapes here: `empty` is a new installation, `asked` has one of everything before a decision (and its only stage
names a person and no group), `over` one of everything that comes after, `many` several of each, and parents that have
none, one and several.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any

import psycopg
from allauth.account.models import EmailAddress
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from allauth.mfa.webauthn.internal.auth import WebAuthn
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group as AdminGroup
from django.core.cache import cache
from django.test import Client
from psycopg import sql

from requests_app.domain import audit, clock, workflow
from requests_app.domain.database import AUDITORS
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    DenyPolicy,
    Edit,
    Entitlement,
    Extension,
    Identity,
    Notice,
    OrganisationalUnit,
    Preflight,
    Role,
    Stage,
    Trouble,
    UsedStep,
    User,
)
from requests_app.domain.workflow import freezes, own_edits, sweeps
from tests import factories, servers
from tests.factories import wish
from tests.web.soft_key import SoftKey

PASSWORD = "correct horse battery staple"
DAY = timedelta(days=1)
MINUTES = timedelta(minutes=1)

# The people, and who they are. `stranger` is not signed in; `half` has typed the password, not the second factor.
STRANGER, NOBODY, REQUESTER, BENEFICIARY = "stranger", "in no group", "requester", "beneficiary"
APPROVER, FURTHER, OWNER = "approver", "further approver", "owner"
AUDITOR, OPERATOR, DEACTIVATED, HALF = "auditor", "operator", "deactivated", "before the second factor"
VISITORS = (
    *(STRANGER, NOBODY, REQUESTER, BENEFICIARY, APPROVER, FURTHER, OWNER),
    *(AUDITOR, OPERATOR, DEACTIVATED, HALF),
)


# Unusual names and reasons, as somebody could type them.
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7|add:7 }} \u202e" + "長" * 40


@dataclass
class Landscape:
    name: str
    superuser: psycopg.Connection
    people: dict[str, User] = field(default_factory=dict)
    visitors: dict[str, SimpleCookie] = field(default_factory=dict)

    def __getitem__(self, who: str) -> User:
        return self.people[who]

    def move(self, matter: AccessRequest | Extension, by: timedelta) -> None:
        """Make it so much older: every time in its row, past every guard."""
        table = matter._meta.db_table
        times = [str(one.column) for one in matter._meta.fields if one.get_internal_type() == "DateTimeField"]
        older = [sql.SQL("{0} = {0} - {1}").format(sql.Identifier(one), sql.Literal(by)) for one in times]
        change = sql.SQL(", ").join(older)
        self.change(sql.SQL("UPDATE {} SET {} WHERE id = {}").format(sql.Identifier(table), change, matter.pk))
        matter.refresh_from_db()

    def remove(self, model: Any) -> None:
        self.change(sql.SQL("DELETE FROM {}").format(sql.Identifier(model._meta.db_table)))

    def leave_one(self, model: Any) -> None:
        """The record of what was arranged is longer than what it is about."""
        table = sql.Identifier(model._meta.db_table)
        self.change(sql.SQL("DELETE FROM {0} WHERE id <> (SELECT max(id) FROM {0})").format(table))

    def change(self, statement: sql.Composed) -> None:
        with self.superuser.transaction():
            self.superuser.execute("SET LOCAL session_replication_role = replica")
            self.superuser.execute(statement)


def empty(land: Landscape) -> None:
    """A new installation: people, and nothing else."""


def asked(land: Landscape) -> None:
    """One of everything that there is before somebody decides. The stage names one person and no group."""
    unit = OrganisationalUnit.objects.create(name="Root")
    owners = factories.group("Owners", land[OWNER])
    account = factories.account("payments", unit=unit, owners=owners, environment="prod", tags={"team": "payments"})
    role = factories.role("Administrator", account, power=Role.Power.POWERFUL, owners=owners, tags={"a": "b"})
    terms = factories.entitlement(
        role, users=[land[REQUESTER]], stages=[(land[APPROVER], 1)], hours_days=[], lifted=["s3-data-access"],
    )  # fmt: skip
    wish(land[REQUESTER], role, terms)
    workflow.own_edits.note(terms, by=land[OPERATOR], change={"name": ["a", "b"]})
    _checks(role)
    factories.own_session(role)
    Identity.objects.create(worker=Identity.Worker.MINTER, region="us-east-1")
    Trouble.objects.create(task="mint.mint", error="KeyError", where="x", first_at=clock.now(), last_at=clock.now())
    factories.clock_reading()


def over(land: Landscape) -> None:
    """One of everything that comes after a decision; in a database that was restored."""
    group = factories.group("Engineers", land[REQUESTER])
    role = factories.role("ReadOnly")
    terms = factories.entitlement(
        role, groups=[group], stages=[(land[APPROVER], 1)], extensions_most=1, extension_total_seconds=7200,
        lifted=["sign-in-tokens"],
    )  # fmt: skip
    factories.clock_reading()
    active = wish(land[REQUESTER], role, terms)
    workflow.approve(active, by=land[APPROVER])
    active = workflow.start(active, by=land[REQUESTER])
    factories.sealed(active)
    workflow.extend(active, by=land[REQUESTER], duration=5 * MINUTES, justification="it takes longer")
    at_once = factories.entitlement(role, groups=[group])
    wish(land[REQUESTER], role, at_once)
    freeze = freezes.freeze_restored("test")
    assert freeze
    freezes.confirm(active, freeze=freeze, by=land[OPERATOR])
    workflow.revoke(active, by=land[OPERATOR], reason="enough")
    DenyPolicy.objects.update(
        left_out=[active.code], denied=[active.code], expected=[{}], unknown={"DP-AAAAAAAA": "2026-11-01T00:00:00Z"},
        signed_out=[active.code],
    )  # fmt: skip
    Account.objects.update(console_authorization="on")


def many(land: Landscape) -> None:
    """Several of each, with and without what belongs to them."""
    land.people["second operator"] = factories.person("second-operator", is_staff=True, is_operator=True)
    roles = _catalog(land)
    _requests(land, roles, _entitlements(land, roles))


def _catalog(land: Landscape) -> dict[str, Role]:
    root = OrganisationalUnit.objects.create(name="Root")
    workloads, sandbox = (
        OrganisationalUnit.objects.create(name=name, parent=root) for name in ("Workloads", "Sandbox")
    )
    production = OrganisationalUnit.objects.create(name="Production", parent=workloads)
    owners = factories.group("Owners", land[OWNER], land[APPROVER])
    few = factories.group("Solo", land[OWNER])
    tags = {"team": "payments", "cost": "7"}
    payments = factories.account("payments", unit=production, owners=owners, environment="prod", tags=tags)
    data = factories.account("data-lake", unit=sandbox, owners=few, tags={"team": "data"})
    factories.account("data-attic", unit=sandbox, owners=owners, is_active=False)
    roles = {
        "admin": factories.role("Administrator", payments, power=Role.Power.POWERFUL, owners=owners, tags=tags),
        "read": factories.role("ReadOnly", payments, power=Role.Power.READ, owners=few, tags={"access": "read"}),
        "frozen": factories.role("Deploy", payments, owners=owners),
        "data": factories.role("Engineer", data, description=HOSTILE[:300]),
    }
    for role, findings in (("admin", 0), ("read", 1), ("data", 2)):
        _checks(roles[role], findings=findings)
    for role, number in (("admin", 2), ("read", 1)):
        for _ in range(number):
            factories.own_session(roles[role])
    for worker in Identity.Worker:
        Identity.objects.create(worker=worker, region="us-east-1", arn="arn:aws:sts::111111111111:assumed-role/x/y")
    for task in ("mint.mint", "default.sweep_outbox"):
        Trouble.objects.create(task=task, error="KeyError", where="x", first_at=clock.now(), last_at=clock.now())
    for region in ("us-east-1", "cn-north-1"):
        factories.clock_reading(region=region)
    AdminGroup.objects.create(name="Nobody may look")
    factories.role("Forgotten", payments)
    return roles


def _entitlements(land: Landscape, roles: dict[str, Role]) -> dict[str, Entitlement]:
    engineers = factories.group("Engineers", land[REQUESTER], land[BENEFICIARY])
    leads = factories.group("Leads", land[APPROVER], land[OWNER])
    desk = factories.group("Service desk", land[REQUESTER])
    empty = factories.group("Nobody yet")
    by_name = factories.entitlement(
        roles["admin"], roles["data"], users=[land[REQUESTER], land[BENEFICIARY]], name="By name",
        stages=[(land[APPROVER], 1), ([land[OWNER], land[FURTHER]], 1)],
        extensions_most=2, extension_total_seconds=7200, schedule_ahead_seconds=7 * 86400, hours_days=[],
        narrowing_policy_arns=["arn:aws:iam::aws:policy/ReadOnlyAccess"], lifted=["s3-data-access", "assume-role"],
    )  # fmt: skip
    by_group = factories.entitlement(
        roles["data"], groups=[engineers, leads], stages=[([leads], 1), ([leads, empty], 1)], name=HOSTILE[:150],
        narrowing_statements=[{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}] * 2, pending_seconds=86400,
        narrowing_policy_arns=["arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::aws:policy/IAMReadOnlyAccess"],
        extensions_most=2, extension_total_seconds=7200,
    )  # fmt: skip
    first, second = by_group.stages.all()
    Stage.objects.filter(entitlement=by_group).update(escalate_seconds=3600)
    first.users.add(land[APPROVER])
    first.more_users.add(land[FURTHER])
    second.more_users.add(land[FURTHER], land[NOBODY])
    first.more_groups.add(empty)
    second.more_groups.add(empty, leads)
    owned = factories.entitlement(
        roles["admin"], groups=[engineers], name="Its owners decide", approval="staged", most_at_once=9,
        hours_days=[1, 2, 3, 4, 5, 6, 7], hours_begin="00:00", hours_end="23:59", hours_zone="UTC",
        narrowing_statements=[{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}], lifted=["assume-role"],
    )  # fmt: skip
    Stage.objects.create(entitlement=owned, position=1, owners=Stage.Owners.ROLE)
    automatic = factories.entitlement(roles["read"], roles["frozen"], groups=[engineers], name="At once")
    automatic.askers.add(desk)
    by_group.askers.add(desk, leads)
    owned.excluded_users.add(land[NOBODY], land[AUDITOR])
    owned.excluded_groups.add(empty, desk)
    by_name.excluded_users.add(land[NOBODY])
    by_name.excluded_groups.add(empty)
    selecting = factories.entitlement(users=[land[REQUESTER]], name="Selecting", hours_days=[2], hours_begin="00:00",
                                      hours_end="23:59")  # fmt: skip
    production, workloads = (OrganisationalUnit.objects.get(name=name) for name in ("Production", "Workloads"))
    selecting.selectors.create(unit=production, role_tag_key="access")
    selecting.selectors.create(role_name="Nothing*")
    automatic.selectors.create(environment="none")
    factories.entitlement(approval="staged", name="Nobody decides", groups=[engineers], is_active=False)
    for terms, times in ((by_name, 1), (by_group, 2)):
        for number in range(times):
            workflow.own_edits.note(terms, by=land[OPERATOR], change={"name": ["", f"{number}"]})
    for kind, times in ((roles["frozen"], 1), (roles["data"], 2), (roles["frozen"].account, 1), (production, 1),
                        (workloads, 2), (roles["data"].account, 2)):  # fmt: skip
        for number in range(times):
            workflow.own_edits.note(kind, by=land[OPERATOR], change={"name": ["", f"{number}"]})
    workflow.own_edits.note(desk, by=land[OPERATOR], change={}, member=land[REQUESTER])
    workflow.own_edits.note(leads, by=land[OPERATOR], change={"members": {}, "name": "x"}, member=land[OWNER])
    for member in (land[REQUESTER], land[BENEFICIARY]):
        workflow.own_edits.note(engineers, by=land[OPERATOR], change={"members": {}}, member=member)
    workflow.own_edits.note(desk, by=land["second operator"], change={"members": {}}, member=land[REQUESTER])
    for edit in Edit.objects.all():
        by = land["second operator"] if edit.editor == land[OPERATOR] else land[OPERATOR]
        if edit.entitlement or edit.member:
            workflow.own_edits.confirm(edit, by=by)
    return {"by_name": by_name, "by_group": by_group, "owned": owned, "automatic": automatic, "selecting": selecting}


def _requests(land: Landscape, roles: dict[str, Role], terms: dict[str, Entitlement]) -> None:
    requester, approver, owner = land[REQUESTER], land[APPROVER], land[OWNER]
    by_name, by_group, automatic = terms["by_name"], terms["by_group"], terms["automatic"]

    def granted(
        role: str = "data", under: Entitlement = by_name, who: User = requester, **values: Any
    ) -> AccessRequest:
        made = wish(who, roles[role], under, justification=HOSTILE, **values)
        for decider in (approver, owner):
            workflow.approve(made, by=decider, comment=HOSTILE)
            made.refresh_from_db()
        return made

    def started(**values: Any) -> AccessRequest:
        made = granted(**values)
        return workflow.start(made, by=made.beneficiary)

    # Found in a restored database, confirmed, and long forgotten.
    revoked, returned, expired = started(), started(role="admin"), started(who=land[BENEFICIARY])
    unconfirmed = [started(), started()]
    for restoration, found in (("first", unconfirmed), ("second", unconfirmed[:1])):
        freeze = freezes.freeze_restored(restoration)
        assert freeze
        for one in freezes.unconfirmed(freeze):
            freezes.confirm(one, freeze=freeze, by=land[OPERATOR])
        for by in (OPERATOR, "second operator"):
            freezes.lift(freeze, by=land[by])
        assert found
    for one in unconfirmed[:1]:
        factories.sealed(one)
        factories.delivery(one)
    for _ in range(2):
        factories.sealed(revoked)
        factories.sealed(returned)
    workflow.revoke(revoked, by=approver, reason=HOSTILE)
    factories.sealed(unconfirmed[1])
    for one in (returned, unconfirmed[1]):
        workflow.give_back(one, by=requester)
    DenyPolicy.objects.update(expected=[])
    DenyPolicy.objects.filter(role=roles["admin"]).update(
        left_out=[returned.code, "DP-AAAAAAAA"], denied=[returned.code, "DP-BBBBBBBB"], expected=[{}, None],
        unknown={"DP-AAAAAAAA": "2026-11-01T00:00:00Z", "DP-BBBBBBBB": "2026-11-01T00:00:00Z"},
        signed_out=[returned.code, "DP-BBBBBBBB"], sign_in_code="AccessDenied", sign_in_message=HOSTILE,
        sign_in_advice=HOSTILE,
    )  # fmt: skip
    land.move(expired, 2 * DAY)
    sweeps.expire_due()
    due = started()
    land.move(due, DAY)
    lapsed, denied, withdrawn = (wish(requester, roles["data"], by_name) for _ in range(3))
    land.move(lapsed, 3 * DAY)
    sweeps.lapse_due()
    workflow.deny(denied, by=approver, comment=HOSTILE)
    workflow.withdraw(withdrawn, by=requester)

    # What waits.
    wish(requester, roles["admin"], by_name, justification=HOSTILE)
    wish(land[BENEFICIARY], roles["data"], by_name)
    wish(land[BENEFICIARY], roles["admin"], terms["owned"])
    wish(land[BENEFICIARY], roles["data"], by_group)
    escalated = wish(land[BENEFICIARY], roles["data"], by_group)
    land.move(escalated, timedelta(hours=2))
    sweeps.escalate_due()
    for under, role in ((automatic, "read"), (by_group, "data")):
        wish(requester, roles[role], under, beneficiary=land[BENEFICIARY])
    workflow.approve(wish(requester, roles["admin"], by_name), by=approver)
    # What can be used: at once, later, and with more time.
    granted()
    granted(who=land[BENEFICIARY], start=AccessRequest.Start.AT_TIME, start_at=clock.now() + DAY)
    workflow.start(wish(requester, roles["read"], automatic), by=requester)
    longer = started(who=land[BENEFICIARY])
    asked_more = workflow.extend(longer, by=land[BENEFICIARY], duration=MINUTES, justification=HOSTILE)
    workflow.approve_extension(asked_more, by=approver)
    workflow.approve_extension(asked_more, by=owner)
    workflow.extend(longer, by=land[BENEFICIARY], duration=MINUTES, justification=HOSTILE)
    shorter = started()
    asked_more = workflow.extend(shorter, by=requester, duration=MINUTES, justification=HOSTILE)
    workflow.approve_extension(asked_more, by=approver)
    for stage in (1, 2):
        by_leads = started(who=land[BENEFICIARY], under=by_group)
        asked_more = workflow.extend(by_leads, by=land[BENEFICIARY], duration=MINUTES, justification=HOSTILE)
        if stage == 2:
            workflow.approve_extension(asked_more, by=owner)
    # Of how they sign in, from a browser that is not known and from one that is.
    for ip in (None, "192.0.2.7"):
        with audit.context(channel="web", ip=ip, user_agent="Mozilla/5.0 (X11; Linux) Firefox/140.0"):
            workflow.accounts.tell(land[REQUESTER], workflow.accounts.Change.RECOVERY_CODES)
    # Frozen, and not any more.
    for scope, lifted in ((roles["frozen"], True), (roles["frozen"], False), (roles["data"], True)):
        freeze = freezes.freeze(scope, by=land[OPERATOR], reason=HOSTILE)
        for by in (OPERATOR, "second operator") if lifted else ():
            freezes.lift(freeze, by=land[by])
    for account, times in ((roles["admin"].account, 1), (roles["data"].account, 2)):
        for _ in range(times):
            freeze = freezes.freeze(account, by=land[OPERATOR], reason=HOSTILE)
            for by in (OPERATOR, "second operator"):
                freezes.lift(freeze, by=land[by])


def _checks(role: Role, *, findings: int = 1) -> None:
    now = clock.now()
    found = [
        {"check": "trust", "verdict": "bad", "code": "AccessDenied", "words": "not authorized", "advice": "Look."}
    ] * findings
    Preflight.objects.create(
        role=role, minter_at=now, revoker_at=now, minter_due_at=now + DAY, revoker_due_at=now + DAY, usable="bad",
        verdict="bad", minter_findings=found, revoker_findings=found,
        doors=[{"principal": "*", "actions": ["sts:AssumeRole"], "condition": "{}"}] * findings,
    )  # fmt: skip


LANDSCAPES: dict[str, Callable[[Landscape], None]] = {one.__name__: one for one in (empty, asked, over, many)}


def enter(name: str) -> tuple[str, dict[str, SimpleCookie]]:
    """A database of this worker's with that landscape in it, which is made once for all; and its people's cookies."""
    database = f"walk_{name}_{servers.worker()}"
    signed_in = json.loads(servers.make_filled_database(database, like=f"walk_{name}", fill=lambda: _made(name)))
    return database, {who: SimpleCookie(cookies) for who, cookies in signed_in.items()}


def _made(name: str) -> str:
    with servers.as_superuser(servers.database_name_of_django()) as superuser:
        visitors = build(name, superuser).visitors
    return json.dumps({who: {name: one.value for name, one in cookies.items()} for who, cookies in visitors.items()})


def build(name: str, superuser: psycopg.Connection) -> Landscape:
    """In a database that is empty but for what migrations put there; commits."""
    land = Landscape(name, superuser)
    _people(land)
    LANDSCAPES[name](land)
    secret = generate_totp_secret() if name == "many" else ""
    if secret:
        TOTP.activate(land[REQUESTER], secret)
        RecoveryCodes.activate(land[REQUESTER])
        made = SoftKey("https://daypass.example.com", "daypass.example.com").make({"publicKey": {"challenge": "AA"}})
        WebAuthn.add(land[REQUESTER], "Phone", json.loads(made))
    for who in VISITORS:
        for _ in range(2 if who == REQUESTER else 1):
            land.visitors[who] = _sign_in(land, who, secret if who == REQUESTER else "")
    # In "empty" by nobody, which places nobody.
    workflow.people.deactivate(land[DEACTIVATED], by=land[OPERATOR] if name != "empty" else None)
    if name == "many":
        own_edits.note(land[DEACTIVATED], by=land[OPERATOR], change={"email": ["a@example.com", "b@example.com"]})
        EmailAddress.objects.create(user=land[REQUESTER], email=land[REQUESTER].email, verified=True, primary=True)
    for record in (AuditEvent, Notice):
        if name == "empty":
            land.remove(record)
        elif name != "many":
            land.leave_one(record)
    return land


def _people(land: Landscape) -> None:
    password = make_password(PASSWORD)
    for who in VISITORS[1:]:
        rights = {"is_staff": who in (AUDITOR, OPERATOR), "is_operator": who == OPERATOR}
        land.people[who] = factories.person(who.replace(" ", "-"), **rights)
    User.objects.update(password=password, time_zone="Asia/Kathmandu")
    land[AUDITOR].groups.add(AdminGroup.objects.get(name=AUDITORS))
    TOTP.activate(land[HALF], generate_totp_secret())


def _sign_in(land: Landscape, who: str, secret: str = "") -> SimpleCookie:
    client = Client()
    if who != STRANGER:
        client.post("/accounts/login/", {"login": land[who].username, "password": PASSWORD})
    if secret:
        UsedStep.objects.all().delete()  # twice within one of its steps, which allauth remembers too
        cache.clear()
        code = totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))
        client.post("/accounts/2fa/authenticate/", {"code": code})
    signed_in = client.get("/").status_code == 200
    assert signed_in == (who not in (STRANGER, HALF)), who
    return client.cookies
