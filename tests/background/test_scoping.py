"""Keys that STS itself ends, scoped from a parent that nobody is given; and what is done where AWS does not."""

import json
import logging
import time
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from django.db import IntegrityError

from requests_app.aws import console, session_policy, sts
from requests_app.background import clocks, minting
from requests_app.domain import clock, policy, workflow
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    AuditEvent,
    AwsClock,
    Delivery,
    Entitlement,
    IssuedSession,
    Notice,
    Preflight,
    Role,
    User,
)
from requests_app.domain.transitions import DeliveryState
from requests_app.domain.workflow import deliveries, revocations
from sandbox.proxy import Fault
from tests import factories
from tests.aws.conftest import failing, impatient, proxy, through
from tests.aws.trouble import SAID
from tests.background.test_minting import Browser, as_caller, failed

__all__ = ["failing", "impatient", "proxy", "through"]

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.xdist_group("aws"),
    pytest.mark.usefixtures("redis_server"),
]
SCOPE, ASSUME = "GetScopedCredentials", "AssumeRole"
QUEUES = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
SOME = (Fault.THROTTLED, Fault.ERROR_500, Fault.RESET_AFTER, Fault.PAGE, Fault.TRUNCATED, Fault.DRIP)


@pytest.fixture(autouse=True)
def measured(through: Any, payments: Any, settings: Any, proxy: Any) -> None:
    """The worker, behind a proxy, has just read AWS's clock."""
    settings.DELIVERIES_PER_PERSON_PER_MINUTE = settings.DELIVERIES_PER_ROLE_PER_MINUTE = 1000
    through("minter")
    clocks.read()
    proxy.at_first, proxy.issued_at_first = proxy.counts(), len(proxy.issued())


@pytest.fixture
def browser() -> Browser:
    return Browser()


@pytest.fixture
def short(alice: User, bob: User, administrator: Role, staged: Entitlement) -> Any:
    """An active pass of which so many seconds are left."""

    def short(seconds: float) -> AccessRequest:
        with clock.moved(-timedelta(minutes=30) + timedelta(seconds=seconds)):
            made = factories.wish(alice, administrator, staged)
            workflow.approve(made, by=bob)
            return workflow.start(made, by=alice)

    return short


def seen(role: Role, scoping: str, *, console: bool | None = None) -> None:
    """What a preflight found."""
    values = {"minter_due_at": clock.now(), "revoker_due_at": clock.now(), "scoping": scoping}
    Preflight.objects.update_or_create(role=role, defaults=values)
    AwsClock.objects.update(scoped_console=console)


def asked_of_sts(proxy: Any) -> list[str]:
    """For people: before, the worker has taken up its own role."""
    since = proxy.counts() - proxy.at_first
    return sorted(one.action for one in since.elements() if one.action in (ASSUME, SCOPE))


def refuses(caller: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as refused:
        caller.client("sts", checked=False).get_scoped_credentials(**parameters)
    return str(refused.value)


# --- to the second ------------------------------------------------------------------------------------


def test_they_work_three_seconds_before_the_end_and_their_holder_cannot_scope_them(
    short: Any, browser: Browser, minter_behind: Any
) -> None:
    active = short(8)
    caller = as_caller(minter_behind, browser.credentials(active))
    assert "explicit deny in a session policy" in refuses(caller, DurationSeconds=1)
    time.sleep(max(0.0, (active.expires_at - clock.now()).total_seconds() - 3))
    caller.client("sqs").list_queues()
    caller.client("sts").get_caller_identity()


@pytest.fixture
def minter_behind(aws_stand_in: Any) -> Any:
    return aws_stand_in


def test_what_cloudtrail_is_told_is_plain(
    alice: User, administrator: Role, staged: Entitlement, bob: User, browser: Browser, monkeypatch: Any
) -> None:
    told: list[str] = []
    scope = sts.scope

    def listen(*arguments: Any, **which: Any) -> sts.MintedSession:
        told.append(which["description"])
        return scope(*arguments, **which)

    monkeypatch.setattr(sts, "scope", listen)
    made = factories.wish(alice, administrator, staged, ticket="ÄÖ-1\u2028\x7f" + "x" * 80)
    workflow.approve(made, by=bob)
    browser.credentials(workflow.start(made, by=alice))

    (description,) = told
    assert description.startswith(f"{made.code} ??-1?")
    assert description.isascii()
    assert description.isprintable()


def test_an_answer_that_came_late_is_asked_for_again_with_the_excess_taken_off(
    short: Any, browser: Browser, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope, waits = sts.scope, iter((2.5, 0.0))

    def slow(*arguments: Any, **which: Any) -> sts.MintedSession:
        time.sleep(next(waits))
        return scope(*arguments, **which)

    monkeypatch.setattr(sts, "scope", slow)
    browser.credentials(short(60))

    assert asked_of_sts(proxy) == [ASSUME, SCOPE, SCOPE]
    session = IssuedSession.objects.get()
    assert session.ends_by == "sts"
    assert timedelta(0) <= session.cut_off - session.sts_expires_at <= timedelta(seconds=3)


def test_what_came_late_twice_is_given_to_nobody(
    short: Any, browser: Browser, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope, waits = sts.scope, iter((2.5, 5.5))

    def slow(*arguments: Any, **which: Any) -> sts.MintedSession:
        time.sleep(next(waits))
        return scope(*arguments, **which)

    monkeypatch.setattr(sts, "scope", slow)
    delivery = browser.ask(short(60))
    minting.mint(delivery.pk)

    assert failed(delivery).state == DeliveryState.UNAVAILABLE
    assert delivery.aws_code == "TooLate"
    assert asked_of_sts(proxy) == [ASSUME, SCOPE, SCOPE]
    assert IssuedSession.objects.get().discarded


def test_a_parent_that_ends_before_the_pass_lends_its_end(alice: User, administrator: Role, browser: Browser) -> None:
    Role.objects.filter(pk=administrator.pk).update(longest_session_seconds=3600)
    terms = factories.entitlement(administrator, users=[alice], longest_seconds=4 * 3600)
    asked = factories.wish(alice, administrator, terms, start="at_once", duration=timedelta(hours=4))
    browser.credentials(asked)

    session = IssuedSession.objects.get()
    assert (session.ends_by, session.sts_expires_at) == ("sts", session.parent_expires_at)
    assert session.sts_expires_at < session.cut_off


# --- where AWS does not -------------------------------------------------------------------------------


@pytest.mark.parametrize("switches", [{"known": False}, {"refused": ["*"]}], ids=["no such call", "denied"])
def test_a_refusal_for_good_leads_the_older_way_and_operators_hear_of_it_where_it_had_worked(
    switches: dict[str, Any],
    active_request: AccessRequest,
    browser: Browser,
    aws_stand_in: Any,
    proxy: Any,
    olivia: User,
) -> None:
    for scoping_seen in ("", "works"):
        seen(active_request.role, scoping_seen)
        with aws_stand_in.scoping(**switches):
            caller = as_caller(aws_stand_in, browser.credentials(active_request))
        caller.client("sqs").list_queues()
        # Not the parent, which may be scoped.
        assert "explicit deny in a session policy" in refuses(caller, DurationSeconds=60)
        session = IssuedSession.objects.latest("pk")
        assert session.ends_by == "policy"
        assert session.fell_back in ("InvalidAction", "AccessDenied")
        assert session.access_key_id == caller.access_key_id != session.parent_access_key_id
        told = Notice.objects.filter(kind="not_scoped", recipient=olivia, role=active_request.role)
        assert told.count() == (1 if scoping_seen else 0)
        assert told.count() == 0 or told.get().detail == {"code": session.fell_back}
    assert asked_of_sts(proxy) == [ASSUME] * 4 + [SCOPE] * 2
    # It is looked at again soon, for what was seen is no longer so.
    assert Preflight.objects.get(role=active_request.role).minter_due_at < clock.now() + timedelta(minutes=6)


def test_a_role_that_a_preflight_saw_refused_goes_the_older_way_at_once(
    active_request: AccessRequest, browser: Browser, proxy: Any
) -> None:
    seen(active_request.role, "refused")
    browser.credentials(active_request)

    assert asked_of_sts(proxy) == [ASSUME]
    session = IssuedSession.objects.get()
    assert (session.ends_by, session.fell_back, session.parent_access_key_id) == ("policy", "", "")


@pytest.mark.parametrize(
    "fault", [Fault.THROTTLED, Fault.ERROR_500, Fault.RESET_AFTER, Fault.PAGE, Fault.TRUNCATED, Fault.DRIP]
)
def test_trouble_is_no_refusal_nothing_is_given_and_the_parent_is_on_record(
    fault: Fault, active_request: AccessRequest, browser: Browser, proxy: Any, failing: Any, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    delivery = browser.ask(active_request)
    with failing(proxy, fault, actions={SCOPE}):
        minting.mint(delivery.pk)

    said = SAID[fault]
    assert failed(delivery).state == (DeliveryState.UNKNOWN if said.outcome_unknown else DeliveryState.UNAVAILABLE)
    assert delivery.aws_code == said.code or fault is Fault.DRIP
    assert asked_of_sts(proxy) == [ASSUME, SCOPE]
    session = IssuedSession.objects.get()
    assert session.discarded
    (parent,) = (one.access_key_id for one in proxy.issued()[proxy.issued_at_first :] if not one.parent)
    assert session.access_key_id == parent
    event = AuditEvent.objects.get(action="session.discarded")
    assert event.detail["access_key_id"] == session.access_key_id
    everything = caplog.text + str(list(AuditEvent.objects.values())) + str(list(Delivery.objects.values()))
    assert proxy.secrets
    assert not proxy.told(everything)

    minting.mint(browser.ask(active_request).pk)
    assert IssuedSession.objects.latest("pk").ends_by == "sts"


def test_a_fallback_that_fails_leaves_the_parent_on_record(
    active_request: AccessRequest, browser: Browser, aws_stand_in: Any, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assume_role = sts.assume_role

    def once(order: sts.MintOrder) -> sts.MintedSession:
        session = assume_role(order)
        proxy.fail(Fault.THROTTLED, actions={ASSUME})
        return session

    monkeypatch.setattr(sts, "assume_role", once)
    delivery = browser.ask(active_request)
    with aws_stand_in.scoping(known=False):
        minting.mint(delivery.pk)

    assert (failed(delivery).state, delivery.aws_code) == (DeliveryState.UNAVAILABLE, "Throttling")
    assert IssuedSession.objects.get().discarded


# --- what is proved by identity alone -----------------------------------------------------------------


def test_identity_roles_lose_their_floor_where_sts_ends_them(
    short: Any, administrator: Role, browser: Browser, aws_stand_in: Any
) -> None:
    Role.objects.filter(pk=administrator.pk).update(identity_is_access=True)
    active = short(20)
    for scoping_seen in ("", "refused"):
        seen(administrator, scoping_seen)
        with pytest.raises(NotAllowed) as refused:
            browser.ask(active)
        assert refused.value.rule == "mint.identity_is_access"
    seen(administrator, "works")
    with pytest.raises(NotAllowed):
        browser.ask(active, kind="console")  # of which nobody saw that it takes such keys

    as_caller(aws_stand_in, browser.credentials(active)).client("sts").get_caller_identity()
    session = IssuedSession.objects.get()
    assert session.sts_expires_at <= session.cut_off

    # No way back to sessions of a quarter of an hour.
    delivery = browser.ask(active)
    with aws_stand_in.scoping(refused=["Administrator"]):
        minting.mint(delivery.pk)
    assert (failed(delivery).state, delivery.aws_code) == (DeliveryState.REFUSED, "AccessDenied")
    assert IssuedSession.objects.latest("pk").discarded


def test_terms_may_demand_it_and_then_there_is_no_older_way(
    alice: User, administrator: Role, browser: Browser, aws_stand_in: Any
) -> None:
    terms = factories.entitlement(administrator, users=[alice], ends_by_sts_only=True)
    asked = factories.wish(alice, administrator, terms, start="at_once")
    browser.credentials(asked)
    assert IssuedSession.objects.get().ends_by == "sts"

    delivery = browser.ask(asked)
    with aws_stand_in.scoping(known=False):
        minting.mint(delivery.pk)
    assert (failed(delivery).state, delivery.aws_code) == (DeliveryState.REFUSED, "InvalidAction")
    assert IssuedSession.objects.latest("pk").discarded

    seen(administrator, "refused")
    with pytest.raises(NotAllowed) as refused:
        browser.ask(asked)
    assert refused.value.rule == "mint.ends_by_sts_only"


# --- the console --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("takes", "asked"), [(True, [ASSUME, SCOPE]), (False, [ASSUME]), (None, [ASSUME])])
def test_the_console_opens_from_scoped_keys_where_it_takes_them(
    takes: bool | None,
    asked: list[str],
    active_request: AccessRequest,
    browser: Browser,
    federation: Any,
    settings: Any,
    proxy: Any,
) -> None:
    settings.FEDERATION_URL = federation.url
    seen(active_request.role, "works", console=takes)
    opened = browser.credentials(active_request, kind="console")

    assert opened["fields"]["SigninToken"]
    assert asked_of_sts(proxy) == asked
    assert IssuedSession.objects.get().ends_by == ("sts" if takes else "policy")


def test_a_console_that_takes_such_keys_no_more_opens_in_the_older_way_next_time(
    active_request: AccessRequest, browser: Browser, aws_stand_in: Any, federation: Any, settings: Any
) -> None:
    settings.FEDERATION_URL = federation.url
    seen(active_request.role, "works", console=True)
    with aws_stand_in.scoping(console=False):
        delivery = browser.ask(active_request, kind="console")
        minting.mint(delivery.pk)
        assert failed(delivery).state == DeliveryState.REFUSED
        assert AwsClock.objects.get().scoped_console is None
        assert browser.credentials(active_request, kind="console")["fields"]["SigninToken"]
    assert IssuedSession.objects.latest("pk").ends_by == "policy"


# --- where terms narrow -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statements",
    [
        [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}],
        [
            {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"},
            {"Effect": "Deny", "Action": "sts:*", "Resource": "*"},
        ],
        [
            {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"},
            {"Effect": "Deny", "NotAction": "sqs:*", "Resource": "*"},
        ],
        [{"Effect": "Allow", "Action": ["sqs:*", *(f"s3:Get{'x' * 40}{n:03}" for n in range(24))], "Resource": "*"}],
    ],
    ids=["short", "denies all of STS", "denies all else", "long"],
)
def test_a_narrowing_holds_and_the_call_stays_possible(
    statements: list[dict[str, Any]], alice: User, administrator: Role, browser: Browser, aws_stand_in: Any
) -> None:
    terms = factories.entitlement(administrator, users=[alice], narrowing_statements=statements)
    asked = factories.wish(alice, administrator, terms, start="at_once")
    caller = as_caller(aws_stand_in, browser.credentials(asked))

    assert IssuedSession.objects.get().ends_by == "sts"
    caller.client("sqs").list_queues()
    with pytest.raises(ClientError, match="AccessDenied"):
        caller.client("iam").list_roles()
    # And in the older way.
    with aws_stand_in.scoping(known=False):
        caller = as_caller(aws_stand_in, browser.credentials(asked))
    caller.client("sqs").list_queues()
    with pytest.raises(ClientError, match="AccessDenied"):
        caller.client("iam").list_roles()


def test_both_layers_hold_every_deny_and_only_the_scoped_one_that_of_scoping() -> None:
    cut_off, role = clock.now(), "arn:aws:iam::222222222222:role/elevated/Administrator"
    layers = session_policy.layers(cut_off=cut_off, role_arn=role)
    assert layers is not None
    today = json.loads(session_policy.session_policy(cut_off=cut_off, role_arn=role))["Statement"]
    parent, scoped = json.loads(layers.parent)["Statement"], json.loads(layers.scoped)["Statement"]

    assert scoped == today
    (bought,) = (one["Action"] for one in today if "sts:Get*Cred*" in one["Action"])
    assert [one for one in today if one not in parent] == [{"Effect": "Deny", "Action": bought, "Resource": "*"}]
    assert {"Effect": "Deny", "Action": bought[1:], "Resource": "*"} in parent


# --- on record ----------------------------------------------------------------------------------------


def test_a_key_belongs_to_one_session_in_whichever_column(active_request: AccessRequest) -> None:
    def record(**keys: Any) -> None:
        order = deliveries.claim(factories.delivery(active_request).pk, worker="w")
        assert order is not None
        end = {"ends_by": "sts", "parent_expires_at": order.cut_off, "sts_expires_at": order.cut_off}
        deliveries.record(order, factories.minted(order, **end, **keys), worker="w")

    record(access_key_id="ASIA1", parent_access_key_id="ASIA2")
    for keys in (("ASIA2", "ASIA3"), ("ASIA4", "ASIA1"), ("ASIA5", "ASIA2"), ("ASIA1", "ASIA6"), ("ASIA7", "ASIA7")):
        with pytest.raises(IntegrityError):
            record(access_key_id=keys[0], parent_access_key_id=keys[1])
    record(access_key_id="ASIA8", parent_access_key_id="ASIA9")


@pytest.mark.parametrize("seconds", [1, -120])
def test_the_database_takes_no_scoped_session_that_does_not_end_with_its_pass(
    seconds: int, active_request: AccessRequest
) -> None:
    order = deliveries.claim(factories.delivery(active_request).pk, worker="w")
    assert order is not None
    end = order.cut_off + timedelta(seconds=seconds)
    parent = {"parent_access_key_id": "ASIAPARENT", "parent_expires_at": order.cut_off + timedelta(minutes=1)}
    minted = factories.minted(order, aws_ahead_at_most=20.0, ends_by="sts", sts_expires_at=end, **parent)
    with pytest.raises(IntegrityError, match="a session that STS ends"):
        deliveries.record(order, minted, worker="w")


@pytest.mark.parametrize(
    ("ends_by", "values", "words"),
    [
        ("sts", {"fell_back": "AccessDenied"}, "a session has a parent where"),
        ("policy", {"parent_access_key_id": "ASIAPARENT"}, "a session has a parent where"),
        ("policy", {"fell_back": "AccessDenied"}, "a session has a parent where"),
        ("sts", {"parent_ends_later": -timedelta(seconds=30)}, "a session that STS ends"),
    ],
)
def test_the_database_takes_no_session_whose_parent_does_not_fit(
    ends_by: str, values: dict[str, Any], words: str, active_request: AccessRequest
) -> None:
    order = deliveries.claim(factories.delivery(active_request).pk, worker="w")
    assert order is not None
    values = dict(values)
    later = values.pop("parent_ends_later", timedelta(0))
    parent = {"parent_access_key_id": "ASIAPARENT", "parent_expires_at": order.cut_off + later}
    given = (parent | {"sts_expires_at": order.cut_off} if ends_by == "sts" else {}) | values
    with pytest.raises(IntegrityError, match=words):
        deliveries.record(order, factories.minted(order, ends_by=ends_by, **given), worker="w")


def test_the_database_takes_no_session_by_policy_where_sts_must_end_it(
    alice: User, administrator: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_ends_in_time", lambda *_: True)  # as a worker that does not look
    for only, identity in ((True, False), (False, True)):
        Role.objects.filter(pk=administrator.pk).update(identity_is_access=identity)
        terms = factories.entitlement(administrator, users=[alice], ends_by_sts_only=only)
        asked = factories.wish(alice, administrator, terms, start="at_once")
        order = deliveries.claim(factories.delivery(asked).pk, worker="w")
        assert order is not None
        outlives = factories.minted(order, sts_expires_at=order.expires_at + timedelta(minutes=1))
        with pytest.raises(IntegrityError, match="STS itself must end this session"):
            deliveries.record(order, outlives, worker="w")


def test_deadlines_leave_time_for_three_calls() -> None:
    whole = policy.MINT_TAKES_SECONDS + console._LONGEST_WAIT
    assert policy.MINT_TAKES_SECONDS >= 2 * policy.CALL_TAKES_SECONDS
    assert timedelta(seconds=whole + 10) <= deliveries.HEARD_OF_WITHIN
    assert timedelta(seconds=policy.MINT_TAKES_SECONDS) <= revocations.LAST_ISSUED_AFTER
    assert timedelta(seconds=policy.MINT_TAKES_SECONDS) < revocations.HELD_AHEAD
