"""Auditors read everything in the admin and change nothing; strangers get nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.contrib import admin
from django.contrib.auth.models import Group as AdminGroup
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from requests_app.delivery.admin.bounded import first_from
from requests_app.domain import workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    AwsClock,
    Decision,
    Delivery,
    Entitlement,
    Group,
    IssuedSession,
    Membership,
    Notice,
    Role,
    User,
)
from requests_app.domain.workflow import deliveries, freezes
from tests import factories
from tests.web.pages import Page, signed_in

RECORDS = (AccessRequest, AuditEvent, Decision, Delivery, IssuedSession, Notice, AwsClock)
KEPT = (Account, Role, Entitlement, Group, User)
HOSTILE = "<script>alert(1)</script> & 'quotes' \" Ålice"


def address(model: Any, *what: Any, page: str = "") -> str:
    page = page or ("change" if what else "changelist")
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=what)


def mint(delivery: Delivery) -> None:
    """What a worker would record, by the same verbs."""
    order = deliveries.claim(delivery.pk, worker="test")
    assert order is not None
    minted = deliveries.Minted(
        session_name=f"{order.code}-alice",
        source_identity="",
        access_key_id=f"ASIA{delivery.pk:016d}",
        assumed_role_id=f"AROA:{order.code}-alice",
        sts_expires_at=order.expires_at + timedelta(minutes=15),
        packed_policy_size=30,
        aws_ahead_at_most=0.0,
    )
    assert deliveries.record(order, minted, worker="test")


def grant(alice: User, bob: User, administrator: Role, staged: Entitlement) -> AccessRequest:
    """A whole story: asked, approved, started, minted."""
    made = factories.wish(alice, administrator, staged, justification=HOSTILE)
    workflow.approve(made, by=bob, comment=HOSTILE)
    active = workflow.start(made, by=alice)
    mint(factories.delivery(active))
    return active


@pytest.fixture
def story(alice: User, bob: User, administrator: Role, staged: Entitlement, aws_clock: AwsClock) -> AccessRequest:
    return grant(alice, bob, administrator, staged)


@pytest.mark.parametrize("model", [*RECORDS, *KEPT, AdminGroup])
@pytest.mark.parametrize("who", ["dave", "olivia"])
def test_every_list_and_every_page_opens_with_nothing_inline(
    model: Any, who: str, story: AccessRequest, request: pytest.FixtureRequest
) -> None:
    client = signed_in(request.getfixturevalue(who))
    if model is AdminGroup and who == "dave":
        assert client.get(address(model)).status_code == 403
        return
    first = model.objects.order_by("pk").first()

    for at in (
        address(model),
        address(model) + "?q=nothing",
        address(model, first.pk),
        *([] if model in RECORDS else [address(model, first.pk, page="history")]),
        *([address(model, page="add")] if model not in RECORDS and who == "olivia" else []),
        reverse("admin:index"),
    ):
        response = client.get(at)
        assert response.status_code == 200, at
        assert Page(response.content.decode()).inline == [], at
        assert "script-src 'self'" in response["Content-Security-Policy"]
        assert "unsafe" not in response["Content-Security-Policy"]
        assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize("model", RECORDS)
@pytest.mark.parametrize("who", ["dave", "olivia"])
def test_nobody_changes_what_happened(
    model: Any, who: str, story: AccessRequest, request: pytest.FixtureRequest
) -> None:
    client = signed_in(request.getfixturevalue(who))
    rows = list(model.objects.order_by("pk").values())
    first = rows[0]["id"]

    for page, what in (("add", []), ("change", [first]), ("delete", [first])):
        at = address(model, *what, page=page)
        data = {"state": "revoked", "verdict": "deny", "action": "x", "_save": "Save", "post": "yes"}
        assert client.post(at, data).status_code == 403, at
        assert page == "change" or client.get(at).status_code == 403, at
    client.post(address(model), {"action": "delete_selected", "_selected_action": [first], "post": "yes"})

    assert list(model.objects.order_by("pk").values()) == rows


@pytest.mark.parametrize("model", [*KEPT, AdminGroup])
def test_an_auditor_changes_nothing(model: Any, dave: User, story: AccessRequest) -> None:
    client = signed_in(dave)
    events = AuditEvent.objects.count()
    rows = list(model.objects.order_by("pk").values())
    lines = Membership.objects.count()
    first = rows[0]["id"]

    for page, what in (("add", []), ("change", [first]), ("delete", [first])):
        at = address(model, *what, page=page)
        data = {"name": "theirs", "username": "theirs", "is_operator": "on", "_save": "Save", "post": "yes"}
        assert client.post(at, data).status_code == 403, at
    client.post(address(model), {"action": "delete_selected", "_selected_action": [first], "post": "yes"})
    for act in ("admin:deactivate_person", "admin:bring_back_person", "admin:auth_user_password_change"):
        assert client.get(reverse(act, args=[story.beneficiary_id])).status_code == 403
        assert client.post(reverse(act, args=[story.beneficiary_id])).status_code == 403

    assert list(model.objects.order_by("pk").values()) == rows
    assert Membership.objects.count() == lines
    assert AuditEvent.objects.count() == events


def test_a_permission_to_change_is_not_enough(dave: User, administrator: Role) -> None:
    from django.contrib.auth.models import Permission

    dave.user_permissions.set(Permission.objects.all())
    client = signed_in(User.objects.get(pk=dave.pk))

    assert client.post(address(Role, administrator.pk), {"name": "Other"}).status_code == 403
    assert client.post(address(User, dave.pk), {"is_operator": "on"}).status_code == 403
    assert client.post(address(AdminGroup, page="add"), {"name": "x"}).status_code == 403


def test_someone_signed_in_without_rights_gets_a_page_and_no_loop(mallory: User, story: AccessRequest) -> None:
    client = signed_in(mallory)

    for at in (
        reverse("admin:index"),
        address(AuditEvent),
        address(User, story.beneficiary_id),
        reverse("admin:deactivate_person", args=[story.beneficiary_id]),
    ):
        response = client.get(at, follow=True)
        assert response.status_code == 403
        assert len(response.redirect_chain) <= 1
        assert "You may not do this" in response.content.decode()
        assert story.code not in response.content.decode()


def test_a_stranger_is_sent_to_sign_in_where_everybody_does(client: Client, story: AccessRequest) -> None:
    response = client.get(address(AuditEvent), follow=True)

    assert [at for at, _ in response.redirect_chain][-1].startswith(reverse("account_login"))
    assert address(AuditEvent) in response.redirect_chain[-1][0].replace("%2F", "/").replace("%3F", "?")
    assert story.code not in response.content.decode()


def test_a_deactivated_auditor_reads_nothing(dave: User) -> None:
    client = signed_in(dave)
    workflow.people.deactivate(dave, by=None)

    assert client.get(address(AuditEvent)).status_code == 302


def test_what_is_not_ours_is_not_in_the_admin(olivia: User) -> None:
    names = {model._meta.label for model in admin.site._registry}

    assert {name for name in names if not name.startswith("requests_app.")} == {"auth.Group"}
    assert "requests_app.Transition" not in names


def test_nothing_in_the_admin_can_be_deleted_or_done_in_bulk_but_inviting(olivia: User, rf: Any) -> None:
    request = rf.get("/")
    request.user = olivia

    for page in admin.site._registry.values():
        assert not page.has_delete_permission(request)
        assert list(page.get_actions(request)) == (["invite_again"] if page.model is User else [])


def test_nothing_secret_and_no_proof_of_a_sign_in_is_shown(olivia: User, story: AccessRequest, alice: User) -> None:
    alice.set_password("correct horse battery staple")
    alice.save()
    client = signed_in(olivia)
    delivery = Delivery.objects.get()

    person = client.get(address(User, alice.pk)).content.decode()
    shown = client.get(address(Delivery, delivery.pk)).content.decode()

    assert "pbkdf2" not in person
    assert alice.source_identity in person
    assert delivery.sign_in not in shown
    assert delivery.thumbprint in shown


def test_times_of_the_record_are_utc_whoever_reads(dave: User, story: AccessRequest) -> None:
    User.objects.filter(pk=dave.pk).update(time_zone="Asia/Tokyo")
    event = AuditEvent.objects.latest("pk")
    at = f"{event.at:%Y-%m-%d %H:%M:%S} UTC"

    client = signed_in(dave)
    for page in (address(AuditEvent), address(AuditEvent, event.pk), address(AccessRequest, story.pk)):
        assert at in client.get(page).content.decode()


def test_what_people_typed_stays_text(dave: User, story: AccessRequest) -> None:
    client = signed_in(dave)

    for at in (address(AccessRequest, story.pk), address(Decision), address(AuditEvent)):
        assert "<script>alert" not in client.get(at).content.decode()


def test_an_event_leads_to_its_request(dave: User, story: AccessRequest) -> None:
    page = Page(signed_in(dave).get(address(AuditEvent)).content.decode())

    assert any(one.get("href") == address(AccessRequest, story.pk) for one in page.all("a"))


def test_a_notice_says_what_it_is_about(dave: User, olivia: User, staged: Entitlement) -> None:
    peter = factories.person("peter", is_operator=True)
    workflow.own_edits.note(staged, by=olivia, change={})
    other = factories.role("Other")
    freezes.freeze(other, by=olivia, reason="A laptop was stolen.")
    workflow.accounts.tell(peter, workflow.accounts.Change.RECOVERY_CODES)
    told = {kind: Notice.objects.get(recipient=peter, kind=kind) for kind in ("unconfirmed", "frozen", "account")}
    client = signed_in(dave)

    rows = str(client.get(address(Notice)).content.decode())
    for words in (staged.name, str(other), "change: recovery_codes"):
        assert words in rows
    page = Page(client.get(address(Notice, told["unconfirmed"].pk)).content.decode()).text
    assert "Edit:" in page
    assert not any(name in page for name in ("Freeze:", "Stage:", "Moment:", "Details:"))


def codes(response: Any) -> set[int]:
    return {row.pk for row in response.context["cl"].result_list}


@pytest.mark.parametrize("words", ["{code}", "{lower}", "alice", "ALICE@example.com", "{key}", "alice {code}"])
@pytest.mark.parametrize("model", [AccessRequest, AuditEvent, Delivery, IssuedSession, Notice])
def test_records_are_found_by_exact_names(
    words: str, model: Any, dave: User, story: AccessRequest, alice: User, mallory: User, administrator: Role
) -> None:
    words = words.format(code=story.code, lower=story.code.lower(), key=alice.source_identity)
    client = signed_in(dave)

    found = codes(client.get(address(model), {"q": words}))
    if model is AuditEvent:
        assert found == set(AuditEvent.objects.filter(beneficiary=alice).values_list("pk", flat=True))
    elif model is Notice:
        mine = Notice.objects.filter(recipient=alice) if story.code not in words.upper() else Notice.objects.all()
        assert found == set((mine.filter(recipient=alice) if "alice" in words else mine).values_list("pk", flat=True))
    else:
        assert found == set(model.objects.values_list("pk", flat=True))
    assert codes(client.get(address(model), {"q": "mallory"})) == set()
    assert codes(client.get(address(model), {"q": "alic"})) == set()


def test_other_exact_names(dave: User, story: AccessRequest) -> None:
    client = signed_in(dave)
    session, delivery = IssuedSession.objects.get(), Delivery.objects.get()

    assert codes(client.get(address(IssuedSession), {"q": session.access_key_id})) == {session.pk}
    assert codes(client.get(address(Delivery), {"q": str(delivery.public_id)})) == {delivery.pk}
    assert codes(client.get(address(AccessRequest), {"q": "2222-2222-2222"})) == {story.pk}
    assert codes(client.get(address(AccessRequest), {"q": "333333333333"})) == set()
    granted = codes(client.get(address(AuditEvent), {"q": "request.granted"}))
    assert granted == codes(client.get(address(AuditEvent), {"action": "request.granted"}))
    assert len(granted) == 1
    assert codes(client.get(address(AuditEvent), {"q": "request.granted bob"})) == granted


def test_the_list_goes_on_by_key(dave: User, story: AccessRequest) -> None:
    AuditEvent.objects.bulk_create(
        AuditEvent(at=story.asked_at, action="sign_in.succeeded", actor_name="x", channel="web") for _ in range(120)
    )
    client = signed_in(dave)
    everything = list(AuditEvent.objects.order_by("-pk").values_list("pk", flat=True))

    seen: list[int] = []
    at = "?"
    while at:
        response = client.get(address(AuditEvent) + at)
        seen += [row.pk for row in response.context["cl"].result_list]
        at = response.context["cl"].older
    assert seen == everything
    assert "Newest" in response.content.decode()
    older = client.get(address(AuditEvent), {"action": "sign_in.succeeded"}).context["cl"].older
    assert "action=sign_in.succeeded" in older


@pytest.mark.parametrize(
    "query", ["user_agent__icontains=x", "detail__id=5", "actor__email__startswith=a", "at__gte=2026-01-01", "id__gt=1"]
)
def test_an_address_cannot_make_the_database_read_everything(query: str, dave: User) -> None:
    assert signed_in(dave).get(f"{address(AuditEvent)}?{query}").status_code == 400


@pytest.mark.parametrize(
    "query", ["id__lt=abc", "o=1.2", "o=-3", "p=99", "all=", "id__lt=99999999999999999999", "q=%00"]
)
def test_a_strange_address_breaks_nothing(query: str, dave: User, story: AccessRequest) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = signed_in(dave).get(f"{address(AuditEvent)}?{query}", follow=True)

    assert response.status_code == 200
    assert not any("OFFSET" in one["sql"] for one in queries)


def test_the_number_of_queries_does_not_grow_with_the_rows(
    dave: User,
    alice: User,
    bob: User,
    administrator: Role,
    staged: Entitlement,
    aws_clock: AwsClock,
    settings: Any,
) -> None:
    settings.DELIVERIES_PER_PERSON_PER_MINUTE = settings.DELIVERIES_PER_ROLE_PER_MINUTE = 1000
    client = signed_in(dave)
    grant(alice, bob, administrator, staged)
    first = grant(alice, bob, administrator, staged)
    pages = [address(model) for model in (*RECORDS, *KEPT)]
    pages += [address(model, model.objects.order_by("pk")[0].pk) for model in (*RECORDS[1:], *KEPT)]
    pages += [address(AccessRequest, first.pk), address(User, alice.pk), address(Role, administrator.pk)]

    def queries(at: str) -> int:
        with CaptureQueriesContext(connection) as made:
            assert client.get(at).status_code == 200
        assert not any("COUNT(" in one["sql"] and "LIMIT" not in one["sql"] for one in made), at
        return len(made)

    for at in pages:
        client.get(at)  # whatever is read once per process
    few = {at: queries(at) for at in pages}
    for number in range(28):
        grant(alice, bob, administrator, staged)
        mint(factories.delivery(first))
        factories.person(f"person{number}", Group.objects.get(name="Engineers"))
        staged.roles.add(factories.role())
        group = factories.group(f"group {number}", alice)
        staged.groups.add(group)
        factories.entitlement(administrator, name=f"{number}", users=[alice])
    many = {at: queries(at) for at in pages}

    assert {at: (few[at], many[at]) for at in pages if many[at] > few[at]} == {}
    assert max(many.values()) <= 35  # an entitlement has nine kinds of lines


def test_the_first_of_a_day_is_found_by_halving(
    transactional_db: Any, superuser_connection: psycopg.Connection
) -> None:
    superuser_connection.execute(
        """
        INSERT INTO requests_app_auditevent (at, action, actor_name, beneficiary_name, subject, channel, user_agent,
                                             detail)
        SELECT timestamptz '2026-10-01 00:00:00+00' + n * interval '7 hours', 'x', '', '', '', 'web', '', '{}'
        FROM generate_series(0, 99) AS n
        """
    )
    events = AuditEvent.objects.all()
    for bound in (
        datetime(2026, 9, 1, tzinfo=UTC),
        datetime(2026, 10, 8, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    ):
        first = first_from(events, "at", bound)
        assert not events.filter(pk__gte=first, at__lt=bound).exists()
        assert not events.filter(pk__lt=first, at__gte=bound).exists()
    assert first_from(events.none(), "at", bound) in (0, 1)


def test_an_auditor_goes_back_to_a_day(dave: User, story: AccessRequest) -> None:
    auditor = signed_in(dave)

    def listed(day: str, **others: str) -> str:
        return auditor.get(address(AuditEvent), {"until": day, **others}, follow=True).content.decode()

    today = story.asked_at.astimezone(UTC).date()
    assert "request.submitted" in listed(today.isoformat())
    assert story.code not in listed((today - timedelta(days=1)).isoformat())
    assert "Nothing is found." in listed((today - timedelta(days=1)).isoformat())
    assert "request.granted" not in Page(listed(today.isoformat(), action="request.started")).text.split("By action")[0]
    assert "Give a day as" in listed("yesterday")
    assert "Give a day as" in listed("9999-12-31")
    assert auditor.get(address(AwsClock), {"until": today.isoformat()}).status_code == 400  # it has no days
