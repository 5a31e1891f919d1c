"""A wish for credentials: claimed once and young, asked again at every step, handed over once to whom it is for."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requests_app.aws.session_policy import session_seconds
from requests_app.domain import clock, sealing, workflow
from requests_app.domain.envelopes import EnvelopeStoreDown
from requests_app.domain.errors import Conflict, Invalid, NotAllowed, TooMany
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    AwsClock,
    Delivery,
    Entitlement,
    IssuedSession,
    Membership,
    Notice,
    Role,
    User,
)
from requests_app.domain.partitions import LONGEST_DESTINATION
from requests_app.domain.transitions import DeliveryState, State
from requests_app.domain.workflow import deliveries
from tests import factories
from tests.domain.expect import refused

pytestmark = pytest.mark.usefixtures("aws_clock")
SECOND = timedelta(seconds=1)


@pytest.fixture
def asked(active_request: AccessRequest) -> Delivery:
    return factories.delivery(active_request)


def now_in(delivery: Delivery) -> Delivery:
    delivery.refresh_from_db()
    return delivery


# --- asking -------------------------------------------------------------------------------------------


def test_asking_writes_a_row_and_its_event_and_nothing_secret(active_request: AccessRequest, alice: User) -> None:
    key = factories.recipient_key()
    delivery = factories.delivery(active_request, recipient_key={**key, "kid": "x", "use": "enc"})
    assert delivery.state == DeliveryState.ASKED
    assert delivery.recipient_key == {name: key[name] for name in ("kty", "crv", "x", "y")}
    assert delivery.thumbprint == sealing.thumbprint(key)
    assert "a sign-in" not in str(vars(delivery))  # only its hash
    event = AuditEvent.objects.get(action="delivery.asked")
    assert event.detail == {
        "kind": "credentials",
        "delivery": str(delivery.public_id),
        "thumbprint": delivery.thumbprint,
    }


def test_the_first_wish_starts_an_approved_request(approved_request: AccessRequest) -> None:
    factories.delivery(approved_request)
    approved_request.refresh_from_db()
    assert approved_request.state == State.ACTIVE


def test_a_refused_wish_does_not_start_the_clock(approved_request: AccessRequest) -> None:
    AwsClock.objects.all().delete()
    with refused("clock.unknown"):
        factories.delivery(approved_request)
    approved_request.refresh_from_db()
    assert (approved_request.state, approved_request.activated_at) == (State.APPROVED, None)
    assert AuditEvent.objects.filter(action="delivery.asked.refused").count() == 1


TOO_LONG = "x" * LONGEST_DESTINATION


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"kind": "root"}, "kind"),
        ({"recipient_key": {}}, "recipient_key"),
        ({"recipient_key": {"kty": "oct", "k": "AAAA"}}, "recipient_key"),
        ({"kind": "console", "destination": "https://example.com/"}, "destination"),
        ({"kind": "console", "destination": "https://console.aws.amazon.com.example.com/"}, "destination"),
        ({"kind": "console", "destination": f"https://console.aws.amazon.com/{TOO_LONG}"}, "destination"),
    ],
)
def test_a_wish_that_is_none(wish: dict[str, Any], field: str, active_request: AccessRequest) -> None:
    with pytest.raises(Invalid) as wrong:
        factories.delivery(active_request, **wish)
    assert list(wrong.value.fields) == [field]
    assert not Delivery.objects.exists()


def test_only_the_beneficiary_asks(active_request: AccessRequest, bob: User, olivia: User) -> None:
    for person in (bob, olivia):
        with refused("mint.not_beneficiary"):
            deliveries.ask(
                active_request, by=person, kind="credentials", recipient_key=factories.recipient_key(), sign_in="s"
            )


def test_the_limit_of_a_person_spans_all_passes_and_one_minute(
    active_request: AccessRequest, alice: User, read_only: Role, automatic: Entitlement, settings: Any
) -> None:
    settings.DELIVERIES_PER_PERSON_PER_MINUTE = 2
    other = factories.wish(alice, read_only, automatic, start="at_once")
    with clock.moved(-timedelta(seconds=70)):
        factories.clock_reading()
        earlier = factories.wish(alice, read_only, automatic, start="at_once")
        factories.delivery(earlier)
        factories.delivery(earlier)
    factories.clock_reading()
    factories.delivery(active_request)
    factories.delivery(other)
    with refused("limit.person", TooMany):
        factories.delivery(other)


def test_the_limit_of_a_role_spans_all_people(
    read_only: Role, automatic: Entitlement, engineers: Any, settings: Any
) -> None:
    settings.DELIVERIES_PER_ROLE_PER_MINUTE = 2
    passes = [
        factories.wish(factories.person(f"p{n}", engineers), read_only, automatic, start="at_once") for n in range(3)
    ]
    for one in passes[:2]:
        factories.delivery(one)
    with refused("limit.role", TooMany):
        factories.delivery(passes[2])


# --- claiming -----------------------------------------------------------------------------------------


def test_a_delivery_is_claimed_once(asked: Delivery, alice: User) -> None:
    order = deliveries.claim(asked.pk, worker="w" * 300)
    assert order is not None
    assert deliveries.claim(asked.pk, worker="w2") is None
    now_in(asked)
    assert (asked.state, len(asked.claimed_by)) == (DeliveryState.CLAIMED, 100)


def test_what_does_not_exist_is_not_claimed(db: Any) -> None:
    assert deliveries.claim(4711, worker="w") is None


@pytest.mark.parametrize(("age", "state"), [(19, "claimed"), (21, "stale"), (1700, "stale")])
def test_only_a_young_wish_is_granted(age: int, state: str, active_request: AccessRequest) -> None:
    asked = factories.delivery(active_request)
    with clock.moved(timedelta(seconds=age)):
        factories.clock_reading()
        order = deliveries.claim(asked.pk, worker="w")
    assert (order is not None) == (state == "claimed")
    assert now_in(asked).state == state
    failed = AuditEvent.objects.filter(action="delivery.failed")
    assert failed.count() == (state == "stale")


def test_a_wish_from_the_future_is_no_young_one(asked: Delivery) -> None:
    with clock.moved(-timedelta(seconds=1)):
        assert deliveries.claim(asked.pk, worker="w") is None
    assert now_in(asked).state == DeliveryState.STALE


def test_the_order_says_all_and_only_what_a_worker_needs(asked: Delivery, payments: Account, alice: User) -> None:
    order = deliveries.claim(asked.pk, worker="w")
    assert order is not None
    assert order.role_arn == "arn:aws:iam::222222222222:role/elevated/Administrator"
    assert order.external_id == payments.external_id
    assert order.source_identity == ""  # the account's trust policy does not allow it
    assert order.terms == asked.access_request.terms
    assert (order.region, order.chained, order.beneficiary_name) == ("us-east-1", True, "alice")
    assert 0 < order.seconds_left <= 1800
    assert order.cut_off.microsecond == 0
    assert timedelta(0) <= order.expires_at - order.cut_off < SECOND


def test_the_person_is_named_where_the_account_allows_it(active_request: AccessRequest, alice: User) -> None:
    Account.objects.update(allows_source_identity=True)
    order = deliveries.claim(factories.delivery(active_request).pk, worker="w")
    assert order is not None
    assert order.source_identity == alice.source_identity


@pytest.mark.parametrize(
    "forged",
    [
        {"thumbprint": "someone-elses-or-none"},
        {"recipient_key": {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}},
        {"recipient_key": {"kty": "RSA"}},
        {"recipient_key": []},
        {"kind": "console", "destination": "https://example.com/"},
        {"kind": "console", "destination": ""},
    ],
)
def test_the_worker_believes_no_row(forged: dict[str, Any], asked: Delivery) -> None:
    """Written past the verb: by a web process under somebody's control, say."""
    row = {
        "access_request": asked.access_request,
        "beneficiary": asked.beneficiary,
        "role": asked.role,
        "kind": "credentials",
        "recipient_key": asked.recipient_key,
        "thumbprint": asked.thumbprint,
        "sign_in": asked.sign_in,
        "asked_at": clock.now(),
    }
    honest = Delivery.objects.create(**row)
    assert deliveries.claim(honest.pk, worker="w") is not None
    made = Delivery.objects.create(**row | forged)
    assert deliveries.claim(made.pk, worker="w") is None
    assert now_in(made).state == DeliveryState.REFUSED
    assert AuditEvent.objects.get(action="delivery.failed").detail["rule"] == "delivery.altered"


# --- the end by AWS's clock -----------------------------------------------------------------------------


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.floats(-30, 30),
)
def test_the_cut_off_is_never_late_and_less_than_a_second_early(expires_at: datetime, ahead: float) -> None:
    made = deliveries.cut_off(expires_at, ahead)
    exact = expires_at + timedelta(seconds=ahead)
    assert made.microsecond == 0
    assert timedelta(0) <= exact - made + timedelta(microseconds=1) <= SECOND + timedelta(microseconds=2)


@pytest.mark.parametrize(
    ("low", "at"),
    [(0.0, 0), (0.4, 0), (1.0, 1), (12.25, 12), (-0.4, -1), (-1.0, -1), (-12.25, -13)],
)
def test_the_cut_off_takes_the_safe_side(low: float, at: int) -> None:
    # AWS ahead by `low` at least: when its clock shows this, ours shows the pass's end or earlier.
    end = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert deliveries.cut_off(end, low) == end + timedelta(seconds=at)


# --- the same questions at every step -------------------------------------------------------------------


def _leave_group(one: AccessRequest) -> None:
    Membership.objects.filter(user=one.beneficiary).delete()


LOSSES: dict[str, tuple[str, Callable[[AccessRequest], object]]] = {
    "left the group": ("entitlement.does_not_reach", _leave_group),
    "excluded": ("entitlement.excluded", lambda one: one.entitlement.excluded_users.add(one.beneficiary)),
    "deactivated": ("person.deactivated", lambda one: workflow.people.deactivate(one.beneficiary, by=None)),
    "given back": ("mint.not_active", lambda one: workflow.give_back(one, by=one.beneficiary)),
    "role out of use": ("role.inactive", lambda one: Role.objects.update(is_active=False)),
    "account out of use": ("role.inactive", lambda one: Account.objects.update(is_active=False)),
    "entitlement out of use": (
        "entitlement.does_not_reach",
        lambda one: Entitlement.objects.update(is_active=False),
    ),
    "role taken out of the entitlement": ("entitlement.does_not_reach", lambda one: one.entitlement.roles.clear()),
    "clock unknown": ("clock.unknown", lambda one: AwsClock.objects.all().delete()),
    "clock old": (
        "clock.unknown",
        lambda one: AwsClock.objects.update(measured_at=clock.now() - timedelta(seconds=121)),
    ),
    "clocks apart": ("clock.apart", lambda one: AwsClock.objects.update(low_seconds=30.5, high_seconds=31)),
    "clock is no number": ("clock.apart", lambda one: AwsClock.objects.update(low_seconds=float("nan"))),
    "identity is access": ("mint.identity_is_access", lambda one: Role.objects.update(identity_is_access=True)),
}


@pytest.mark.parametrize("minutes", [16, 30])
def test_a_session_that_is_access_by_itself_ends_with_the_pass(
    minutes: int, alice: User, read_only: Role, automatic: Entitlement
) -> None:
    Role.objects.update(identity_is_access=True)
    made = factories.wish(alice, read_only, automatic, duration=timedelta(minutes=minutes), start="at_once")
    order = deliveries.claim(factories.delivery(made).pk, worker="w")
    assert order is not None
    asked = session_seconds(order.seconds_left - order.set_aside, ceiling=3600, role_max=3600, chained=True)
    slowest = timedelta(seconds=3 + 10)  # the time-outs of the call
    assert clock.now() + slowest + timedelta(seconds=asked) <= order.expires_at
    assert asked >= 900


@pytest.mark.parametrize(("identity_is_access", "kept"), [(True, False), (False, True)])
def test_a_worker_that_stood_still_before_it_asked_gives_nobody_a_second_more(
    identity_is_access: bool, kept: bool, alice: User, read_only: Role, automatic: Entitlement
) -> None:
    """AWS begins the session late. Only where that is what counts does it end late, too."""
    Role.objects.update(identity_is_access=identity_is_access)
    made = factories.wish(alice, read_only, automatic, duration=timedelta(minutes=30), start="at_once")
    order = deliveries.claim(factories.delivery(made).pk, worker="w")
    assert order is not None
    late = factories.minted(order, sts_expires_at=order.expires_at + timedelta(seconds=2))
    assert deliveries.record(order, late, worker="w") is kept
    assert IssuedSession.objects.get().discarded is not kept


@pytest.fixture
def short_pass(alice: User, bob: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    """Of ten minutes: less than what a role whose identity is access needs."""
    made = factories.wish(alice, administrator, staged, duration=timedelta(minutes=10))
    workflow.approve(made, by=bob)
    return workflow.start(made, by=alice)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("step", ["ask", "claim", "record", "seal", "hand over"])
def test_whatever_is_lost_on_the_way_nothing_is_handed_over(step: str, loss: str, short_pass: AccessRequest) -> None:
    rule, lose = LOSSES[loss]
    alice = short_pass.beneficiary
    if step == "ask":
        lose(short_pass)
        with refused(rule if loss != "given back" else "mint.not_active", NotAllowed):
            factories.delivery(short_pass)
        assert not Delivery.objects.exists()
        return
    delivery = factories.delivery(short_pass)
    if step == "claim":
        lose(short_pass)
        assert deliveries.claim(delivery.pk, worker="w") is None
        assert now_in(delivery).state == DeliveryState.REFUSED
        assert AuditEvent.objects.get(action="delivery.failed").detail["rule"] == rule
        return
    order = deliveries.claim(delivery.pk, worker="w")
    assert order is not None
    if step == "record":
        lose(short_pass)
        assert deliveries.record(order, factories.minted(order), worker="w") is False
        assert IssuedSession.objects.get().discarded
        assert AuditEvent.objects.get(action="session.discarded").detail["rule"] == rule
        assert not Notice.objects.filter(kind="issued").exists()
    else:
        assert deliveries.record(order, factories.minted(order), worker="w") is True
    envelope = sealing.seal({"kind": "credentials"}, order.recipient_key)
    if step == "seal":
        lose(short_pass)
    assert deliveries.seal_down(order, envelope) is (step == "hand over")
    if step == "hand over":
        lose(short_pass)
        with refused(rule, Conflict):
            deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=_never)
    assert now_in(delivery).state == DeliveryState.DISCARDED
    assert delivery.message.endswith(".")


def _never(_: str) -> str:
    raise AssertionError("the envelope was taken out")


def test_the_end_of_the_pass_ends_it_at_every_step(active_request: AccessRequest, alice: User) -> None:
    delivery, _ = factories.sealed(active_request)
    waiting = factories.delivery(active_request)
    with clock.moved(timedelta(minutes=30)):
        factories.clock_reading()
        with refused("mint.not_active", Conflict):
            deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=_never)
        assert deliveries.claim(waiting.pk, worker="w") is None
        with refused("mint.not_active"):
            factories.delivery(active_request)


# --- recording ------------------------------------------------------------------------------------------


def test_a_session_is_recorded_before_it_is_given(asked: Delivery) -> None:
    order = deliveries.claim(asked.pk, worker="w1")
    assert order is not None
    assert deliveries.record(order, factories.minted(order, access_key_id="ASIAONE"), worker="w1")
    session = IssuedSession.objects.get()
    assert (session.access_key_id, session.cut_off, session.discarded) == ("ASIAONE", order.cut_off, False)
    assert (session.thumbprint, session.minted_by) == (asked.thumbprint, "w1")
    assert AuditEvent.objects.get(action="session.issued").detail["access_key_id"] == "ASIAONE"
    assert Notice.objects.get(kind="issued").recipient == asked.beneficiary


@pytest.mark.parametrize(("ahead_at_most", "kept"), [(0.5, True), (0.0, True), (-1.5, False), (-25.0, False)])
def test_a_clock_set_between_the_measure_and_the_mint(ahead_at_most: float, kept: bool, asked: Delivery) -> None:
    """AWS turns out to be behind: its cut-off would come after the pass's end."""
    order = deliveries.claim(asked.pk, worker="w")
    assert order is not None
    assert deliveries.record(order, factories.minted(order, aws_ahead_at_most=ahead_at_most), worker="w") is kept
    if not kept:
        assert now_in(asked).state == DeliveryState.DISCARDED
        assert AuditEvent.objects.get(action="session.discarded").detail["rule"] == "clock.set"


def test_a_late_workers_session_is_recorded_as_discarded(asked: Delivery) -> None:
    order = deliveries.claim(asked.pk, worker="w")
    assert order is not None
    with clock.moved(timedelta(seconds=61)):
        assert deliveries.sweep() == 1
    assert now_in(asked).state == DeliveryState.UNKNOWN
    assert deliveries.record(order, factories.minted(order), worker="w") is False
    assert IssuedSession.objects.get().discarded
    assert AuditEvent.objects.get(action="session.discarded").detail["rule"] == "delivery.given_up"
    assert not deliveries.seal_down(order, "a.b.c.d.e")
    deliveries.fail(order, deliveries.Failure(DeliveryState.REFUSED, "Too late."))
    assert now_in(asked).state == DeliveryState.UNKNOWN


def test_aws_words_fit_the_row_whatever_they_are(asked: Delivery) -> None:
    order = deliveries.claim(asked.pk, worker="w")
    assert order is not None
    deliveries.fail(order, deliveries.Failure(DeliveryState.REFUSED, "No.", "a" * 9999, "C" * 999, "\x00" + "m" * 9999))
    now_in(asked)
    assert (len(asked.advice), len(asked.aws_code)) == (1000, 100)
    assert asked.aws_message == "m" * 1998 + " …"  # that something was left out is seen


# --- handing over ---------------------------------------------------------------------------------------


def test_it_is_handed_over_once_to_the_sign_in_that_asked(active_request: AccessRequest, alice: User) -> None:
    delivery, envelope = factories.sealed(active_request)
    asked_for: list[str] = []

    def take(key: str) -> str:
        asked_for.append(key)
        return envelope

    assert deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=take) == envelope
    assert asked_for == [str(delivery.public_id)]
    assert now_in(delivery).state == DeliveryState.DELIVERED
    assert AuditEvent.objects.get(action="delivery.handed_over").actor == alice
    with refused("delivery.not_ready", Conflict):
        deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=_never)


@pytest.mark.parametrize("sign_in", ["another sign-in", "", "a sign-in "])
def test_another_sign_in_of_the_same_person_gets_nothing(
    sign_in: str, active_request: AccessRequest, alice: User
) -> None:
    delivery, _ = factories.sealed(active_request)
    with refused("delivery.not_yours", NotAllowed):
        deliveries.hand_over(delivery, by=alice, sign_in=sign_in, take=_never)
    assert now_in(delivery).state == DeliveryState.SEALED
    event = AuditEvent.objects.get(action="delivery.handed_over.refused")
    assert (event.actor, event.subject, event.detail["rule"]) == (alice, active_request.code, "delivery.not_yours")


def test_another_person_gets_nothing(active_request: AccessRequest, olivia: User) -> None:
    delivery, _ = factories.sealed(active_request)
    with refused("delivery.not_yours", NotAllowed):
        deliveries.hand_over(delivery, by=olivia, sign_in="a sign-in", take=_never)


@pytest.mark.parametrize("found", [None, "", "another.made.by.some.one"])
def test_a_lost_or_replaced_envelope_is_not_handed_over(
    found: str | None, active_request: AccessRequest, alice: User
) -> None:
    delivery, _ = factories.sealed(active_request)
    # One that is not there may be on its way for a moment; another one is a wrong one at once.
    with clock.moved(deliveries.PUT_DOWN_WITHIN if found is None else timedelta(0)), refused("delivery.lost", Conflict):
        deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=lambda _: found)
    assert now_in(delivery).state == DeliveryState.LOST
    assert AuditEvent.objects.filter(action="delivery.failed").count() == 1


def test_an_envelope_that_is_on_its_way_is_not_lost(active_request: AccessRequest, alice: User) -> None:
    """It is recorded first and put down then: whoever is quicker asks again, and that is no refusal."""
    delivery, envelope = factories.sealed(active_request)
    for _ in range(3):
        with pytest.raises(deliveries.NotYet):
            deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=lambda _: None)
    assert now_in(delivery).state == DeliveryState.SEALED
    assert not AuditEvent.objects.filter(action__endswith=".refused").exists()
    assert deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=lambda _: envelope) == envelope


def test_a_session_is_recorded_and_sealed_at_once(asked: Delivery, alice: User) -> None:
    order = deliveries.claim(asked.pk, worker="w1")
    assert order is not None
    envelope = sealing.seal({"kind": "credentials"}, order.recipient_key)
    assert deliveries.record(order, factories.minted(order), worker="w1", envelope=envelope)
    assert now_in(asked).state == DeliveryState.SEALED
    assert AuditEvent.objects.filter(action="session.issued").count() == 1
    assert deliveries.hand_over(asked, by=alice, sign_in="a sign-in", take=lambda _: envelope) == envelope


def test_what_could_not_be_put_down_is_lost_and_says_so(asked: Delivery) -> None:
    order = deliveries.claim(asked.pk, worker="w1")
    assert order is not None
    assert deliveries.record(order, factories.minted(order), worker="w1", envelope="a.b.c.d.e")
    deliveries.fail(order, deliveries.Failure(DeliveryState.LOST, "It could not be put down."))
    assert now_in(asked).state == DeliveryState.LOST
    assert asked.message == "It could not be put down."
    deliveries.fail(order, deliveries.Failure(DeliveryState.LOST, "Twice."))
    assert now_in(asked).message == "It could not be put down."


def test_a_pass_that_ends_while_aws_thinks_seals_nothing(asked: Delivery, alice: User) -> None:
    order = deliveries.claim(asked.pk, worker="w1")
    assert order is not None
    workflow.give_back(asked.access_request, by=alice)
    assert not deliveries.record(order, factories.minted(order), worker="w1", envelope="a.b.c.d.e")
    assert (now_in(asked).state, asked.envelope_sha256) == (DeliveryState.DISCARDED, "")
    assert IssuedSession.objects.get().discarded


def test_an_older_envelope_does_not_pass_for_a_new_one(active_request: AccessRequest, alice: User) -> None:
    _, older = factories.sealed(active_request)
    delivery, _ = factories.sealed(active_request)
    with refused("delivery.lost"):
        deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=lambda _: older)


def test_a_store_that_is_down_leaves_it_to_be_taken_later(active_request: AccessRequest, alice: User) -> None:
    delivery, envelope = factories.sealed(active_request)

    def down(_: str) -> str:
        raise EnvelopeStoreDown("TimeoutError")

    with pytest.raises(EnvelopeStoreDown):
        deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=down)
    assert now_in(delivery).state == DeliveryState.SEALED
    assert deliveries.hand_over(delivery, by=alice, sign_in="a sign-in", take=lambda _: envelope) == envelope


@pytest.mark.parametrize("state", ["asked", "claimed"])
def test_what_is_not_sealed_yet_is_not_handed_over(state: str, asked: Delivery, alice: User) -> None:
    if state == "claimed":
        deliveries.claim(asked.pk, worker="w")
    with refused("delivery.not_ready", Conflict):
        deliveries.hand_over(asked, by=alice, sign_in="a sign-in", take=_never)


# --- sweeping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "seconds", "after", "action"),
    [
        ("asked", 20, "stale", "delivery.failed"),
        ("claimed", 60, "unknown", "session.unaccounted"),
        ("sealed", 60, "lost", "delivery.failed"),
    ],
)
def test_what_is_old_is_said_truthfully(
    state: str, seconds: int, after: str, action: str, active_request: AccessRequest
) -> None:
    if state == "sealed":
        delivery, _ = factories.sealed(active_request)
    else:
        delivery = factories.delivery(active_request)
    if state == "claimed":
        deliveries.claim(delivery.pk, worker="w")
    with clock.moved(timedelta(seconds=seconds - 2)):
        assert deliveries.sweep() == 0
    with clock.moved(timedelta(seconds=seconds + 1)):
        assert deliveries.sweep() == 1
        assert deliveries.sweep() == 0
    now_in(delivery)
    assert delivery.state == after
    assert delivery.message.endswith(".")
    assert delivery.finished_at is not None
    event = AuditEvent.objects.get(action=action)
    assert event.detail["delivery"] == str(delivery.public_id)


def test_a_young_wish_that_nobody_took_is_nudged_again(
    asked: Delivery, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    nudged: list[tuple[str, tuple[object, ...]]] = []
    monkeypatch.setattr(
        "requests_app.domain.jobs.current_app.send_task", lambda job, args, **_: nudged.append((job, args))
    )
    with django_capture_on_commit_callbacks(execute=True):
        deliveries.sweep()
    assert nudged == []  # its own nudge is not a second old
    with clock.moved(timedelta(seconds=3)), django_capture_on_commit_callbacks(execute=True):
        deliveries.sweep()
    assert nudged == [("mint.mint", (asked.pk,))]


def test_a_broker_that_is_down_costs_no_verb(
    active_request: AccessRequest, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    def down(*_: object, **__: object) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr("requests_app.domain.jobs.current_app.send_task", down)
    with django_capture_on_commit_callbacks(execute=True):
        assert factories.delivery(active_request).state == DeliveryState.ASKED


def test_a_sweep_of_many_takes_a_handful_of_statements(
    active_request: AccessRequest, django_assert_max_num_queries: Any, settings: Any
) -> None:
    settings.DELIVERIES_PER_PERSON_PER_MINUTE = 100
    for _ in range(20):
        factories.delivery(active_request)
    with clock.moved(timedelta(minutes=1)), django_assert_max_num_queries(12):
        assert deliveries.sweep() == 20
