"""What may go wrong between a parent and the keys scoped from it: nobody is given more, and nothing is unrecorded."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any

import pytest
from botocore.exceptions import ClientError
from django.urls import reverse

from requests_app.aws import console, sts
from requests_app.aws.errors import Refused
from requests_app.background import minting
from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, AuditEvent, IssuedSession, Notice, Role, User
from requests_app.domain.secret import Secret
from requests_app.domain.transitions import DeliveryState
from requests_app.domain.workflow import deliveries, preflights
from sandbox import proxy as proxying
from sandbox.proxy import Fault
from tests import factories
from tests.aws.conftest import assumed, failing, impatient, proxy, through
from tests.background.test_minting import Browser, as_caller, failed
from tests.background.test_scoping import ASSUME, QUEUES, SCOPE, asked_of_sts, browser, measured, seen, short
from tests.web.pages import signed_in

__all__ = ["assumed", "browser", "failing", "impatient", "measured", "proxy", "short", "through"]

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.xdist_group("aws"),
    pytest.mark.usefixtures("redis_server", "measured"),
]


@pytest.fixture
def before_scoping(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[sts.MintedSession]]:
    """Something happens between the two calls; returns what is scoped from then on."""

    def before_scoping(act: Callable[[], object]) -> list[sts.MintedSession]:
        scope, answered = sts.scope, []

        def act_first(*arguments: Any, **which: Any) -> sts.MintedSession:
            act()
            answered.append(scope(*arguments, **which))
            return answered[-1]

        monkeypatch.setattr(sts, "scope", act_first)
        return answered

    return before_scoping


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """AWS answers so much later an end, or whatever is said."""

    def answering(later: timedelta = timedelta(0), **otherwise: Any) -> None:
        scope = sts.scope

        def change(*arguments: Any, **which: Any) -> sts.MintedSession:
            session = scope(*arguments, **which)
            return dataclasses.replace(session, expires_at=session.expires_at + later, **otherwise)

        monkeypatch.setattr(sts, "scope", change)

    return answering


# --- the parent's keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.DENIED, Fault.PAGE])
def test_nothing_that_is_raised_leads_to_the_parents_keys(
    fault: Fault,
    active_request: AccessRequest,
    browser: Browser,
    proxy: Any,
    assumed: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever an error report may show: what an exception holds, and the variables of all it came through."""
    reachable: set[str] = set()
    record = deliveries.record

    def listen(*arguments: Any, **how: Any) -> bool:
        reachable.update(_reachable(sys.exc_info()[1]))
        return record(*arguments, **how)

    monkeypatch.setattr(deliveries, "record", listen)
    proxy.fail(fault, actions={SCOPE})
    if fault is Fault.DENIED:  # and there is no other way
        monkeypatch.setattr(deliveries, "order_again", lambda order: None)
    minting.mint(browser.ask(active_request).pk)

    (parent,) = assumed.sessions
    assert parent.access_key_id in reachable
    assert not {parent.secret_access_key.reveal(), parent.session_token.reveal()} & reachable


def _reachable(error: BaseException | None) -> Iterator[str]:
    known: set[int] = set()
    here: list[Any] = [error]
    while here:
        one = here.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        match one:
            case str():
                yield one
            case Secret():
                yield one.reveal()
            case BaseException():
                here += [*one.args, *vars(one).values(), one.__cause__, one.__context__, one.__traceback__]
            case TracebackType():
                here += [one.tb_next, *one.tb_frame.f_locals.values()]
            case dict():
                here += one.values()
            case list() | tuple():
                here += one
            case _ if dataclasses.is_dataclass(one):
                here += [getattr(one, field.name) for field in dataclasses.fields(one)]


# --- what AWS answers -------------------------------------------------------------------------------------


def test_keys_that_came_too_late_are_named_on_record(
    short: Any, browser: Browser, before_scoping: Any, dave: User
) -> None:
    waits = iter((2.5, 0.0))
    answered = before_scoping(lambda: time.sleep(next(waits)))
    browser.credentials(short(60))

    late, in_time = answered
    assert IssuedSession.objects.get().access_key_id == in_time.access_key_id
    event = AuditEvent.objects.get(action="session.keys_discarded")
    assert (event.detail["access_key_id"], event.detail["of"]) == (late.access_key_id, in_time.access_key_id)
    # And whoever finds that key in CloudTrail learns whose session it was.
    found = signed_in(dave).get(reverse("admin:requests_app_issuedsession_changelist"), {"q": late.access_key_id})
    assert event.subject in found.content.decode()


def test_what_ends_sooner_than_it_was_asked_for_is_on_record_and_nobody_has_it(
    active_request: AccessRequest, browser: Browser, answering: Any
) -> None:
    answering(-timedelta(minutes=2))
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)

    assert failed(delivery).state == DeliveryState.DISCARDED
    assert IssuedSession.objects.get().discarded
    assert AuditEvent.objects.get(action="session.discarded").detail["rule"] == "delivery.discarded"


def test_keys_of_another_session_are_given_to_nobody(
    active_request: AccessRequest, browser: Browser, answering: Any, proxy: Any
) -> None:
    answering(assumed_role_arn="arn:aws:sts::222222222222:assumed-role/Other/DP-x")
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)

    assert (failed(delivery).state, delivery.aws_code) == (DeliveryState.UNAVAILABLE, "AnotherSession")
    assert asked_of_sts(proxy) == [ASSUME, SCOPE]
    assert IssuedSession.objects.get().discarded
    assert AuditEvent.objects.filter(action="session.keys_discarded").count() == 1


@pytest.mark.parametrize(
    ("code", "state"),
    [
        # Keys that were made a moment ago, and that AWS does not know everywhere yet.
        ("InvalidSubjectCredentials", DeliveryState.UNAVAILABLE),
        ("InvalidClientTokenId", DeliveryState.UNAVAILABLE),
        ("ExpiredToken", DeliveryState.UNAVAILABLE),
        ("SignatureDoesNotMatch", DeliveryState.UNAVAILABLE),
        # Which no release of ours has heard of.
        ("SomethingNew", DeliveryState.REFUSED),
        ("InsufficientSessionLifetime", DeliveryState.REFUSED),
        ("AccessDeniedForNow", DeliveryState.REFUSED),
    ],
)
def test_only_what_aws_says_of_the_role_or_the_call_leads_the_older_way(
    code: str,
    state: str,
    active_request: AccessRequest,
    browser: Browser,
    proxy: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(proxying._REFUSALS, Fault.DENIED, (403, code, "AWS said so."))
    proxy.fail(Fault.DENIED, actions={SCOPE})
    delivery = browser.ask(active_request)
    minting.mint(delivery.pk)

    assert (failed(delivery).state, delivery.aws_code) == (state, code)
    assert "worker" not in delivery.advice  # its own identity has just been good enough
    assert asked_of_sts(proxy) == [ASSUME, SCOPE]
    assert IssuedSession.objects.get().discarded


# --- meanwhile --------------------------------------------------------------------------------------------


def test_a_pass_that_is_ended_between_the_calls_gets_no_second_session(
    active_request: AccessRequest,
    alice: User,
    browser: Browser,
    before_scoping: Any,
    proxy: Any,
    aws_stand_in: Any,
    olivia: User,
) -> None:
    """AWS refuses the parent by then, because it was told to: that says nothing of the role."""
    seen(active_request.role, "works")
    iam = aws_stand_in.root("222222222222").client("iam")
    policy = {"RoleName": "Administrator", "PolicyName": "ended-meanwhile"}
    deny = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    deny["Condition"] = {"StringLike": {"aws:userid": f"*:{active_request.code}-*"}}  # type: ignore[assignment]

    def end() -> None:
        workflow.give_back(active_request, by=alice)
        iam.put_role_policy(**policy, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": deny}))

    before_scoping(end)
    delivery = browser.ask(active_request)
    try:
        minting.mint(delivery.pk)
    finally:
        iam.delete_role_policy(**policy)

    assert failed(delivery).state == DeliveryState.DISCARDED
    assert AuditEvent.objects.get(action="session.discarded").detail["rule"] == "mint.not_active"
    assert asked_of_sts(proxy) == [ASSUME, SCOPE]
    assert not Notice.objects.filter(kind="not_scoped").exists()


def test_the_cut_off_that_comes_between_the_calls_is_no_refusal_to_scope(
    short: Any, browser: Browser, before_scoping: Any, proxy: Any, olivia: User
) -> None:
    """The parent's own policy refuses it then; by our clock a moment is left."""
    active = short(5)
    seen(active.role, "works")
    left = 0.3
    before_scoping(lambda: time.sleep((active.expires_at - clock.now()).total_seconds() - left))
    delivery = browser.ask(active)
    minting.mint(delivery.pk)

    assert (failed(delivery).state, delivery.aws_code) == (DeliveryState.UNAVAILABLE, "TooLate")
    assert asked_of_sts(proxy) == [ASSUME, SCOPE]
    assert not Notice.objects.filter(kind="not_scoped").exists()


def test_what_is_left_when_aws_refuses_decides_whether_the_older_way_would_do(
    short: Any, administrator: Role, browser: Browser, before_scoping: Any, aws_stand_in: Any, proxy: Any
) -> None:
    Role.objects.filter(pk=administrator.pk).update(identity_is_access=True)
    before_scoping(lambda: time.sleep(2.5))
    delivery = browser.ask(short(917))
    with aws_stand_in.scoping(known=False):
        minting.mint(delivery.pk)

    assert (failed(delivery).state, delivery.aws_code) == (DeliveryState.DISCARDED, "")
    assert asked_of_sts(proxy) == [ASSUME, SCOPE]
    assert IssuedSession.objects.get().discarded


def test_a_role_of_which_identity_is_access_can_be_used_to_the_last_seconds(
    short: Any, administrator: Role, browser: Browser, aws_stand_in: Any
) -> None:
    Role.objects.filter(pk=administrator.pk).update(identity_is_access=True)
    seen(administrator, "works")
    active = short(9)
    as_caller(aws_stand_in, browser.credentials(active)).client("sts").get_caller_identity()
    session = IssuedSession.objects.get()
    assert session.cut_off - timedelta(seconds=3) <= session.sts_expires_at <= session.cut_off
    # Nor is a longer pass cut short by what is set aside where only a policy ends.
    browser.credentials(short(1000))
    session = IssuedSession.objects.latest("pk")
    assert session.cut_off - timedelta(seconds=3) <= session.sts_expires_at <= session.cut_off


# --- on record first --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("falls_back", "state"), [(True, DeliveryState.SEALED), (False, DeliveryState.REFUSED)], ids=["by policy", "no way"]
)
def test_what_aws_gave_is_on_record_before_a_look_is_asked_for(
    falls_back: bool,
    state: str,
    alice: User,
    administrator: Role,
    browser: Browser,
    aws_stand_in: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(delivery: int) -> None:
        assert IssuedSession.objects.filter(delivery=delivery, discarded=not falls_back).exists()
        raise RuntimeError("the look")

    monkeypatch.setattr(preflights, "look_after_refusal", breaks)
    terms = factories.entitlement(administrator, users=[alice], ends_by_sts_only=not falls_back)
    delivery = browser.ask(factories.wish(alice, administrator, terms, start="at_once"))
    with aws_stand_in.scoping(known=False), pytest.raises(RuntimeError, match="the look"):
        minting.mint(delivery.pk)
    delivery.refresh_from_db()
    assert delivery.state == state


# --- every deny, in either way ----------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["by STS", "by policy"])
def way(request: Any, aws_stand_in: Any) -> Iterator[str]:
    with aws_stand_in.scoping(known=request.param):
        yield "sts" if request.param else "policy"


def test_what_terms_refuse_of_the_ai_gateway_holds_in_either_way(
    way: str, alice: User, administrator: Role, browser: Browser, aws_stand_in: Any
) -> None:
    for narrowing in ([], [QUEUES], [QUEUES, {"Effect": "Deny", "Action": "sts:*", "Resource": "*"}]):
        for said in (True, False):
            terms = factories.entitlement(
                administrator, users=[alice], narrowing_statements=narrowing, not_through_mcp=said
            )
            asked = factories.wish(alice, administrator, terms, start="at_once")
            sqs = as_caller(aws_stand_in, browser.credentials(asked)).client("sqs")
            sqs.list_queues()
            sqs.meta.events.register("before-send", _through_mcp)
            assert _denied_explicitly(sqs.list_queues) is said
            workflow.give_back(asked, by=alice)
    assert set(IssuedSession.objects.values_list("ends_by", flat=True)) == {way}


def _through_mcp(request: Any, **_: Any) -> None:
    request.headers["X-Sandbox-Via-AWS-MCP"] = "1"


@pytest.mark.parametrize(
    "narrowing", [[], [{"Effect": "Allow", "Action": ["sts:*", "ecr:*", "iam:*"], "Resource": "*"}]]
)
def test_what_buys_credentials_is_denied_in_either_way_and_lifted_by_name_alone(
    narrowing: list[Any], way: str, alice: User, administrator: Role, browser: Browser, aws_stand_in: Any
) -> None:
    for lifted in ([], ["assume-role", "service-tokens", "long-lived-keys"]):
        terms = factories.entitlement(administrator, users=[alice], narrowing_statements=narrowing, lifted=lifted)
        asked = factories.wish(alice, administrator, terms, start="at_once")
        caller = as_caller(aws_stand_in, browser.credentials(asked))
        sts_, iam, ecr = (caller.client(service, checked=False) for service in ("sts", "iam", "ecr"))
        buys = {
            "assume-role": partial(sts_.assume_role, RoleArn=administrator.arn, RoleSessionName="DP-x"),
            "service-tokens": ecr.get_authorization_token,
            "long-lived-keys": partial(iam.create_access_key, UserName="nobody"),
        }
        for name, buy in buys.items():
            assert _denied_explicitly(buy) is (name not in lifted), name
        assert _denied_explicitly(partial(sts_.get_scoped_credentials, DurationSeconds=60))
        workflow.give_back(asked, by=alice)
    assert set(IssuedSession.objects.values_list("ends_by", flat=True)) == {way}


def _denied_explicitly(call: Callable[[], object]) -> bool:
    try:
        call()
    except ClientError as error:
        return "explicit deny" in str(error)
    return False


def test_a_narrowing_that_leaves_no_room_for_two_policies_holds_by_one(
    alice: User, administrator: Role, browser: Browser, aws_stand_in: Any
) -> None:
    terms = factories.entitlement(administrator, users=[alice], narrowing_statements=[QUEUES])
    asked = factories.wish(alice, administrator, terms, start="at_once")
    with aws_stand_in.scoping(largest=800):
        caller = as_caller(aws_stand_in, browser.credentials(asked))

    session = IssuedSession.objects.get()
    assert (session.ends_by, session.fell_back) == ("policy", "PackedPolicyTooLarge")
    caller.client("sqs").list_queues()
    with pytest.raises(ClientError, match="AccessDenied"):
        caller.client("iam").list_roles()


def test_a_narrowing_that_fits_only_without_what_lets_it_be_scoped_still_works(
    alice: User, administrator: Role, browser: Browser, aws_stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much AWS packs into a token it does not publish: the parent's policy is the longer one by some characters."""
    assume_role = sts.assume_role

    def with_little_room(order: sts.MintOrder) -> sts.MintedSession:
        if SCOPE in order.policy:
            raise Refused(
                "PackedPolicyTooLarge", "Packed size of session policies consumes 101% of allotted space.", ""
            )
        return assume_role(order)

    monkeypatch.setattr(sts, "assume_role", with_little_room)
    for by_sts_only in (False, True):
        terms = factories.entitlement(
            administrator, users=[alice], narrowing_statements=[QUEUES], ends_by_sts_only=by_sts_only
        )
        delivery = browser.ask(factories.wish(alice, administrator, terms, start="at_once"))
        minting.mint(delivery.pk)
        if by_sts_only:
            assert (failed(delivery).state, delivery.aws_code) == (DeliveryState.REFUSED, "PackedPolicyTooLarge")
        else:
            caller = as_caller(aws_stand_in, browser.open(delivery))
            caller.client("sqs").list_queues()
            with pytest.raises(ClientError, match="AccessDenied"):
                caller.client("iam").list_roles()
            assert IssuedSession.objects.get().ends_by == "policy"
        workflow.give_back(delivery.access_request, by=alice)


def test_a_console_link_is_made_from_what_is_narrowed_though_the_parent_is_not(
    alice: User,
    administrator: Role,
    browser: Browser,
    aws_stand_in: Any,
    federation: Any,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.FEDERATION_URL = federation.url
    signed_in: list[sts.MintedSession] = []
    sign_in = console.sign_in

    def listen(session: sts.MintedSession, **how: Any) -> console.ConsoleLink:
        signed_in.append(session)
        return sign_in(session, **how)

    monkeypatch.setattr(console, "sign_in", listen)
    statements = [QUEUES, {"Effect": "Deny", "Action": "sts:*", "Resource": "*"}]
    terms = factories.entitlement(administrator, users=[alice], narrowing_statements=statements)
    asked = factories.wish(alice, administrator, terms, start="at_once")
    for console_takes_them, known, ends_by in ((True, True, "sts"), (True, False, "policy"), (None, True, "policy")):
        seen(administrator, "works", console=console_takes_them)
        with aws_stand_in.scoping(known=known):
            assert browser.credentials(asked, kind="console")["fields"]["SigninToken"]
        session = IssuedSession.objects.latest("pk")
        assert (session.ends_by, session.access_key_id) == (ends_by, signed_in[-1].access_key_id)
        with pytest.raises(ClientError, match="AccessDenied"):
            sts.client_of(signed_in[-1], "iam", "us-east-1").list_roles()
        sts.client_of(signed_in[-1], "sqs", "us-east-1").list_queues()
