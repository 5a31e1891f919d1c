"""manage.py doctor, as operators run it on production: what it says, and its exit code."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import call_command

from requests_app.domain import clock, doctor, invariants, lags, troubles, workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AwsClock,
    DenyPolicy,
    Entitlement,
    Group,
    Identity,
    Notice,
    Preflight,
    Role,
    User,
)
from requests_app.domain.workflow import sweeps
from requests_app.domain.workflow.deliveries import CLAIMED_WITHIN
from tests import factories, plans

pytestmark = pytest.mark.django_db

REFUSED = {
    "check": "trust",
    "verdict": "bad",
    "code": "AccessDenied",
    "words": "is not authorized to perform: sts:AssumeRole",
    "advice": "The account's owner should check the role.",
}
GOOD = {"check": "trust", "verdict": "good", "code": "", "words": "", "advice": ""}
ARNS = {
    "minter": "arn:aws:sts::111111111111:assumed-role/daypass-minter/worker",
    "revoker": "arn:aws:sts::111111111111:assumed-role/daypass-revoker/worker",
}


def run(*options: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("doctor", *options, stdout=out, stderr=io.StringIO())
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue()
    return 0, out.getvalue()


def line(about: str) -> str:
    """What it says about this, with its verdict; and that this decides the exit code."""
    code, said = run()
    (found,) = [one for one in said.splitlines() if one[9:].startswith(f"{about}:")]
    if found.startswith("bad"):
        assert code == 1
    return found


def looked_at(role: Role, **values: Any) -> Preflight:
    now = clock.now()
    values = {
        "minter_findings": [GOOD],
        "minter_at": now,
        "revoker_at": now,
        "minter_due_at": now + timedelta(days=1),
        "revoker_due_at": now + timedelta(days=1),
        "usable": "good",
        "verdict": "good",
    } | values
    return Preflight.objects.create(role=role, **values)


@pytest.fixture
def healthy(aws_clock: AwsClock, administrator: Role) -> Preflight:
    """All is well with everything that is looked at."""
    Account.objects.update(console_authorization="off")
    for worker, arn in ARNS.items():
        Identity.objects.create(
            worker=worker, region="us-east-1", arn=arn, chained=True, seen_at=clock.now(), regional=True,
            endpoint="https://sts.us-east-1.amazonaws.com",
        )  # fmt: skip
    return looked_at(administrator)


def test_when_all_is_well_it_says_so_and_nothing_else(healthy: Preflight) -> None:
    code, said = run()

    assert code == 0
    assert {one.split()[0] for one in said.splitlines()} == {"good"}
    looked = {one[9:].partition(":")[0] for one in said.splitlines()}
    assert looked >= {"rules", "clock in us-east-1", "troubles", "freezes", "mail", "roles", "passes to end"}
    assert "daypass-minter/worker, a role session itself" in said


def test_an_installation_where_nothing_runs_is_ill(payments: Account) -> None:
    assert line("minter in us-east-1").startswith("bad")
    assert line("revoker in us-east-1").startswith("bad")
    assert line("clock in us-east-1").startswith("bad")
    assert line("identities in us-east-1").startswith("unknown")


def test_which_accounts_consoles_ask_for_more_and_of_which_nobody_knows(healthy: Preflight) -> None:
    Account.objects.update(console_authorization="on")
    assert line("console").startswith("unknown")
    assert f"is on in {healthy.role.account}" in line("console")
    assert run()[0] == 0, "it may well be meant"
    Account.objects.update(console_authorization="")
    assert "Of 1 accounts it is not known" in line("console")
    assert "signin:GetConsoleAuthorizationConfiguration" in line("console")


def test_a_broken_rule_is_told_with_its_examples(healthy: Preflight, active_request: AccessRequest) -> None:
    late = active_request.expires_at
    assert late is not None
    now = late + timedelta(minutes=3)
    told = [str(one) for one in doctor.examine(now) if one.about.startswith("rule ")]

    expected = invariants.broken(now)
    assert len(told) == len(expected) > 0
    assert any(active_request.code in one for one in told)
    assert all(one.startswith("bad") for one in told)


@pytest.mark.parametrize(
    ("values", "verdict", "words"),
    [
        ({"seen_at": None}, "bad", "last seen never"),
        ({"aws_code": "ExpiredToken", "aws_message": "The security token is expired"}, "bad", "ExpiredToken: The sec"),
        ({"regional": False, "endpoint": "https://sts.amazonaws.com"}, "bad", "AWS_STS_REGIONAL_ENDPOINTS"),
        ({"regional": False, "endpoint": "http://127.0.0.1:4566"}, "unknown", "Is it meant?"),
        ({"chained": False}, "good", "no role session"),
    ],
)
def test_identities(healthy: Preflight, values: dict[str, Any], verdict: str, words: str) -> None:
    values = values | ({"failed_at": clock.now()} if "aws_code" in values else {})
    Identity.objects.filter(worker="revoker").update(**values)
    assert line("revoker in us-east-1").startswith(verdict)
    assert words in line("revoker in us-east-1")


def test_one_identity_for_both_workers_is_bad(healthy: Preflight) -> None:
    Identity.objects.update(arn=ARNS["minter"])
    Identity.objects.filter(worker="revoker").update(arn=ARNS["minter"] + "-2")
    assert line("identities in us-east-1").startswith("bad")


@pytest.mark.parametrize(
    ("low", "high", "age", "verdict"),
    [(-1.0, 1.0, 5, "good"), (31.0, 32.0, 5, "bad"), (-33.0, -31.0, 5, "bad"), (0.0, 0.0, 200, "bad")],
)
def test_the_clock(healthy: Preflight, low: float, high: float, age: int, verdict: str) -> None:
    factories.clock_reading(low, high, measured_at=clock.now() - timedelta(seconds=age))
    assert line("clock in us-east-1").startswith(verdict)


def test_a_partition_in_use_counts_with_its_own_region(healthy: Preflight) -> None:
    factories.account(partition="aws-cn")
    assert line("minter in cn-north-1").startswith("bad")


def test_redis(healthy: Preflight, settings: Any) -> None:
    assert line("redis") == "good     redis: It takes what is written to it."
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert line("redis").startswith("bad      redis: It is not usable: ConnectionError.")


def test_lags(healthy: Preflight, active_request: AccessRequest, read_only: Role, alice: User) -> None:
    now = clock.now()
    assert {lag.work: lag.late for lag in lags.lags(now) if lag.late > timedelta(seconds=30)} == {}
    Notice.objects.update(due_at=now - timedelta(minutes=9))
    DenyPolicy.objects.create(
        role=read_only, expected=[None], due_at=now - timedelta(minutes=7), probe_due_at=now - timedelta(minutes=8)
    )
    healthy.minter_due_at, healthy.revoker_due_at = now - timedelta(hours=9), now - timedelta(hours=5)
    healthy.save()
    assert active_request.expires_at is not None
    ends = active_request.expires_at + timedelta(minutes=6)
    factories.delivery(active_request)

    at = {lag.work: lag for lag in lags.lags(now + CLAIMED_WITHIN * 2)}
    assert at["credentials to mint"].too_long
    late = {lag.work: (round(lag.late / timedelta(minutes=1)), lag.too_long) for lag in lags.lags(now)}
    assert late["mail to send"] == (9, True)
    assert late["deny policies to write or read back"] == (7, True)
    assert late["early ends to prove"] == (8, True)
    assert late["roles for the minter to look at"] == (540, True)
    assert late["roles for the revoker to look at"] == (300, False)
    assert {lag.work: lag for lag in lags.lags(ends)}["passes to end"].late == timedelta(minutes=6)
    assert line("mail to send").startswith("bad")
    assert "revoke running" in line("deny policies to write or read back")


def test_lags_of_what_is_decided_stage_by_stage(
    healthy: Preflight, staged: Entitlement, security: Group, administrator: Role, alice: User, bob: User
) -> None:
    """A request and an extension that nobody escalated, and after that nobody let lapse."""
    Entitlement.objects.update(extensions_most=1, extension_total_seconds=7200, pending_seconds=1800)
    staged.stages.update(escalate_seconds=600)
    staged.stages.get().more_groups.add(security)
    running = factories.wish(alice, administrator, staged)
    workflow.approve(running, by=bob)
    workflow.start(running, by=alice)
    factories.wish(alice, administrator, staged)
    workflow.extend(
        running, by=alice, duration=timedelta(minutes=30), justification="the batch takes longer than we thought"
    )

    def late(after: timedelta) -> dict[str, tuple[int, bool]]:
        found = lags.lags(clock.now() + after)
        minutes = {lag.work: (round(lag.late / timedelta(minutes=1)), lag.too_long) for lag in found}
        return {work: minutes[work] for work in minutes if work.endswith(("to lapse", "to escalate"))}

    of_nothing = {"approved passes to lapse": (0, False)}
    on_time = {"requests to lapse": (0, False), "extensions to lapse": (0, False)} | of_nothing
    escalated = {"requests to escalate": (0, False), "extensions to escalate": (0, False)}
    assert late(timedelta(0)) == on_time | escalated
    assert late(timedelta(minutes=15)) == on_time | dict.fromkeys(escalated, (5, True))
    assert late(timedelta(minutes=33)) == of_nothing | dict.fromkeys(escalated, (23, True)) | {
        "requests to lapse": (3, True),
        "extensions to lapse": (3, True),
    }
    with clock.moved(timedelta(minutes=15)):
        assert sweeps.escalate_due() == 2
    assert late(timedelta(minutes=15)) == on_time | escalated
    with clock.moved(timedelta(minutes=31)):
        assert (sweeps.lapse_due(), sweeps.lapse_extensions()) == (1, 1)
    assert late(timedelta(minutes=33)) | of_nothing == on_time | escalated


def test_a_database_in_which_a_history_may_be_written_is_none_to_use(healthy: Preflight, history: None) -> None:
    assert line("database").startswith("bad")
    assert "history_from = NULL" in line("database")


@pytest.mark.django_db(transaction=True)
def test_freezes_and_what_they_hold(healthy: Preflight, olivia: User) -> None:
    Preflight.objects.update(minter_due_at=clock.now() - timedelta(days=1))
    workflow.freezes.freeze(healthy.role.account, by=olivia, reason="a stolen laptop")
    assert line("freeze of payments-prod (2222-2222-2222)").startswith("good")
    assert "by Olivia: a stolen laptop" in line("freeze of payments-prod (2222-2222-2222)")
    assert line("roles for the minter to look at").startswith("bad")

    workflow.freezes.freeze_restored("a test")
    assert line("freeze of everything").startswith("bad")
    assert line("roles for the minter to look at").startswith("good"), "these wait for operators"


def test_narrowing_that_does_not_fit_what_is_given(healthy: Preflight, payments: Account) -> None:
    one = factories.entitlement(
        healthy.role, name="Reading", narrowing_policy_arns=[f"arn:aws:iam::{payments.number}:policy/reading"]
    )
    one.selectors.create(role_name="Reader*")
    assert line("narrowing").startswith("good")
    added = factories.role("Reader")
    assert line("narrowing").startswith("bad")
    assert "“Reading”: A managed policy must be in the role's own account" in line("narrowing")

    Role.objects.filter(pk=added.pk).update(is_active=False)
    assert line("narrowing").startswith("good")
    Role.objects.update(is_active=True)
    Entitlement.objects.update(is_active=False)
    assert line("narrowing").startswith("good")


def test_narrowing_that_leaves_no_room_for_every_deny(healthy: Preflight) -> None:
    long = {"Effect": "Allow", "Action": "*", "Resource": ["x" * 1120]}
    one = factories.entitlement(healthy.role, name="Long", narrowing_statements=[long])
    assert line("narrowing").startswith("bad")
    assert "“Long”: license-manager:GetAcc*, sso-oauth:CreateT*." in line("narrowing").replace("  ", " ")

    # Where it allows nothing of the kind it needs none of them.
    one.narrowing_statements = [long | {"Action": "s3:*"}]
    one.save()
    assert line("narrowing").startswith("good")


def test_troubles(healthy: Preflight) -> None:
    troubles.note("revoke.work", "7", error="KeyError", where="requests_app/aws/iam.py:60")
    assert "KeyError at requests_app/aws/iam.py:60, 1 times" in line("trouble revoke.work 7")
    for number in range(30):
        troubles.note("revoke.work", str(number), error="KeyError", where="x:1")
    code, said = run()
    assert code == 1
    assert said.count(" trouble ") == doctor.MOST_TROUBLES
    assert "There are more." in said


def test_mail_that_was_given_up(healthy: Preflight, alice: User) -> None:
    def gave_up(error: str, days: int) -> None:
        at = clock.now() - timedelta(days=days)
        Notice.objects.create(kind="ended", recipient=alice, moment=at, due_at=at, gave_up_at=at, last_error=error)

    gave_up("decided meanwhile", 1)
    gave_up("SMTPServerDisconnected: gone", 8)
    assert line("mail").startswith("good")
    gave_up("SMTPRecipientsRefused: nobody", 2)
    assert line("mail").startswith("bad")
    assert "1 were given up" in line("mail")
    assert "SMTPRecipientsRefused: nobody" in line("mail")


def test_roles_are_counted_and_the_worst_are_told_in_awss_words(healthy: Preflight, read_only: Role) -> None:
    looked_at(read_only, usable="bad", verdict="bad", minter_findings=[REFUSED])
    never, retired = factories.role("Never"), factories.role("Retired", is_active=False)
    looked_at(retired, usable="bad", verdict="bad", minter_findings=[REFUSED])
    doors = [{**GOOD, "check": "other doors", "verdict": "bad", "words": "This role has other doors: everyone"}]
    Preflight.objects.filter(pk=healthy.pk).update(verdict="bad", revoker_findings=doors)

    code, said = run()

    assert code == 1
    assert "roles: 1 can be used, 1 of them with something to mend." in said
    (worst,) = [one for one in said.splitlines() if one.startswith("bad")]
    assert f"role {read_only.arn}: Looked at" in worst
    assert "trust: AccessDenied: is not authorized to perform: sts:AssumeRole" in worst
    assert worst.endswith("The account's owner should check the role.")
    assert "unknown  roles: 1: never looked at." in said
    assert never.arn not in said

    _, every = run("--all")
    assert f"good     role {healthy.role.arn}" in every
    assert "other doors: everyone" in every
    assert retired.arn not in every


def test_for_a_program(healthy: Preflight, read_only: Role) -> None:
    looked_at(read_only, usable="bad", verdict="bad", minter_findings=[REFUSED])
    code, said = run("--json")

    found = json.loads(said)
    assert code == 1
    assert {tuple(one) for one in found} == {("verdict", "about", "sentence", "advice")}
    assert [one["about"] for one in found if one["verdict"] == "bad"] == [f"role {read_only.arn}"]


def test_look_now(healthy: Preflight) -> None:
    run("--look-now")

    healthy.refresh_from_db()
    assert healthy.minter_due_at <= clock.now()
    assert healthy.revoker_due_at <= clock.now()


def test_it_asks_no_more_for_more_roles_and_writes_nothing(healthy: Preflight) -> None:
    def asked() -> list[str]:
        with plans.watched() as statements:
            run()
        return [one.sql.split()[0] for one in statements]

    run()
    few = asked()
    for _ in range(30):
        role = factories.role(in_account=healthy.role.account)
        looked_at(role, usable="bad", verdict="bad", minter_findings=[REFUSED])
    assert len(asked()) == len(few)
    assert not {"INSERT", "UPDATE", "DELETE"} & set(few)


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [("ended or mended meanwhile", "good"), ("extended meanwhile", "good"), ("deactivated", "good"), ("550 no", "bad")],
)
def test_mail_that_was_rightly_not_sent_is_nothing_bad(
    reason: str, verdict: str, pending_request: AccessRequest
) -> None:
    Notice.objects.update(gave_up_at=clock.now(), last_error=reason)
    (mail,) = [one for one in doctor.examine(clock.now()) if one.about == "mail"]
    assert mail.verdict == verdict


def test_second_factors_are_looked_at_where_they_are_demanded(settings: Any, olivia: User, engineers: Group) -> None:
    assert "second factors" not in run()[1]
    settings.SECOND_FACTOR_GROUPS = [engineers.name]
    assert "second factors" not in run()[1]
    settings.SECOND_FACTOR_GROUPS = [engineers.name, "Enginers"]
    assert "groups that are not there: Enginers." in line("second factors")

    settings.SECOND_FACTOR_GROUPS, settings.SECOND_FACTOR_FOR = [], "operators-and-approvers"
    assert line("second factors").startswith("bad")
    with factories.vouched():
        Authenticator.objects.create(user=olivia, type="webauthn", data={})
    factories.person("peter", is_staff=True, is_operator=True)
    assert "1 of 2 operators have one" in line("second factors")
