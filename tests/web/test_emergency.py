"""The operators' emergency page, and what everybody else sees of a freeze."""

from typing import Any

import pytest
from django.test import Client

from requests_app.background.mail import messages
from requests_app.delivery.web.views import emergency
from requests_app.domain import workflow
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    AwsClock,
    Entitlement,
    Freeze,
    Group,
    Notice,
    Role,
    User,
)
from requests_app.domain.workflow import freezes
from requests_app.domain.workflow.freezes import Everything, Scope
from tests import factories
from tests.factories import wish
from tests.web.pages import Page, page, signed_in
from tests.web.test_home import queries
from tests.web.test_pages import HOSTILE, check

pytestmark = pytest.mark.django_db

WHY = "keys of a laptop were stolen"
NO_FREEZE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(autouse=True)
def no_caps(settings: Any) -> None:
    settings.OPEN_REQUESTS_PER_PERSON_AND_ROLE = 1000


@pytest.fixture
def oscar(db: Any) -> User:
    return factories.person("oscar", is_staff=True, is_operator=True)


def addresses(person: User, role: Role) -> dict[str, str]:
    return {
        "person": f"/stop/person/{person.public_id}",
        "role": f"/stop/role/{role.public_id}",
        "account": f"/stop/account/aws/{role.account.number}",
        "everything": "/stop/everything",
    }


def press(client: Client, address: str, typed: str, *, act: str = "stop", reason: str = WHY) -> Any:
    return client.post(address, {"typed": typed, "reason": reason, "act": act}, follow=True)


def buttons(shown: Page) -> dict[str, str]:
    """The value of each act, by the label that a person reads."""
    return {str(one.get("value")): str(one.get("name")) for one in shown.all("button") if one.get("name")}


# --- who comes in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["alice", "bob", "dave", "mallory"])
def test_only_operators_come_in(
    who: str, active_request: AccessRequest, mallory: User, dave: User, olivia: User
) -> None:
    begun = freezes.freeze(active_request.role, by=olivia, reason=WHY)
    client = signed_in(User.objects.get(username=who))
    assert "/stop/" not in {one.get("href") for one in page(client.get("/")).all("a")}
    for address in ("/stop/", *addresses(active_request.beneficiary, active_request.role).values()):
        assert client.get(address).status_code == 403
        assert press(client, address, "everything").status_code in (403, 405)
    assert client.post(f"/stop/freezes/{begun.public_id}/lift").status_code == 403
    assert client.get(f"/stop/freezes/{begun.public_id}/passes").status_code == 403
    active_request.refresh_from_db()
    assert active_request.state == "active"
    assert Freeze.objects.get().lift_asked_at is None


def test_a_stranger_signs_in_first(client: Client) -> None:
    assert client.get("/stop/")["Location"].startswith("/accounts/login/")


def test_whoever_was_an_operator_until_now_is_none(active_request: AccessRequest, olivia: User) -> None:
    client = signed_in(olivia)
    assert client.get("/stop/everything").status_code == 200
    User.objects.filter(pk=olivia.pk).update(is_operator=False)
    assert press(client, "/stop/everything", "everything").status_code == 403
    active_request.refresh_from_db()
    assert active_request.state == "active"


def test_an_operator_finds_the_page_and_the_admin_leads_to_it(olivia: User, active_request: AccessRequest) -> None:
    client = signed_in(olivia)
    assert "/stop/" in {one.get("href") for one in page(client.get("/")).all("a")}
    where = addresses(active_request.beneficiary, active_request.role)
    for kind, row in (
        ("user", active_request.beneficiary),
        ("role", active_request.role),
        ("account", active_request.role.account),
    ):
        shown = page(client.get(f"/admin/requests_app/{kind}/{row.pk}/change/"))
        assert where["person" if kind == "user" else kind] in {one.get("href") for one in shown.all("a")}


def test_a_press_needs_its_token(olivia: User, active_request: AccessRequest) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(olivia)
    of_scopes = addresses(active_request.beneficiary, active_request.role).values()
    for address in (*of_scopes, f"/stop/freezes/{NO_FREEZE}/lift"):
        assert client.post(address, {"typed": "everything", "reason": WHY}).status_code == 403


def test_opening_changes_nothing(olivia: User, active_request: AccessRequest) -> None:
    client = signed_in(olivia)
    before = AuditEvent.objects.count()
    for address in ("/stop/", "/stop/?q=alice", *addresses(active_request.beneficiary, active_request.role).values()):
        assert client.get(address, {"typed": "everything", "act": "stop", "reason": WHY}).status_code == 200
    assert client.get(f"/stop/freezes/{NO_FREEZE}/lift").status_code == 405
    assert AuditEvent.objects.count() == before
    assert not Freeze.objects.exists()


@pytest.mark.parametrize(
    "address",
    [
        "/stop/person/00000000-0000-4000-8000-000000000000",
        "/stop/role/00000000-0000-4000-8000-000000000000",
        "/stop/account/aws/000000000000",
        "/stop/freezes/99/passes",
        "/stop/freezes/99999999999999999999/passes",
    ],
)
def test_what_is_not_there(address: str, olivia: User) -> None:
    assert signed_in(olivia).get(address).status_code == 404


@pytest.mark.parametrize(
    "query", ["q=%00", "q=%27", "q=" + "x" * 5000, "before=x", "before=" + "9" * 40, "q=a+b+c+d+e+f+g"]
)
def test_a_strange_address_breaks_nothing(query: str, olivia: User) -> None:
    assert signed_in(olivia).get(f"/stop/?{query}").status_code == 200


def test_nothing_inline_and_nothing_of_what_people_typed(
    olivia: User, alice: User, bob: User, administrator: Role, staged: Entitlement
) -> None:
    User.objects.filter(pk=alice.pk).update(name="<b>Ålice</b> " + "Ж" * 100)
    one = wish(alice, administrator, staged, justification=HOSTILE)
    workflow.approve(one, by=bob)
    client = signed_in(olivia)
    for address in ("/stop/?q=a", *addresses(alice, administrator).values()):
        check(client, address)
    begun = freezes.freeze_restored("<script>alert(1)</script>")
    assert begun
    freezes.freeze(administrator, by=olivia, reason=HOSTILE)
    for address in ("/stop/", f"/stop/freezes/{begun.public_id}/passes"):
        check(client, address)
    for address in ("/", f"/requests/{one.code}", f"/request/?role={administrator.public_id}"):
        check(signed_in(alice), address)
    wish_in_sight = signed_in(bob)
    check(wish_in_sight, "/approvals/")


# --- choosing, looking, doing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("alic", "person"),
        ("ALICE@example", "person"),
        ("admin pay", "role"),
        ("payments", "account"),
        ("2222-2222-2222", "account"),
        ("payments prod", "account"),
    ],
)
def test_what_to_stop_is_found_by_any_part(
    words: str, found: str, alice: User, administrator: Role, olivia: User
) -> None:
    shown = page(signed_in(olivia).get("/stop/", {"q": words}))
    assert addresses(alice, administrator)[found] in {one.get("href") for one in shown.all("a")}


def test_nothing_found_is_said(olivia: User) -> None:
    assert "Nothing matches “zzz”." in page(signed_in(olivia).get("/stop/", {"q": "zzz"})).text


def test_it_says_what_ends_before_it_ends(
    active_request: AccessRequest, alice: User, olivia: User, aws_clock: AwsClock
) -> None:
    wish(alice, active_request.role, active_request.entitlement)
    factories.sealed(active_request)
    shown = page(signed_in(olivia).get(addresses(alice, active_request.role)["person"])).text
    for words in (
        "1 pass of 1 person, on 1 role in 1 account.",
        "AWS has issued credentials for 1",
        "Alice: Administrator in payments-prod",
        "1 request waits for a decision",
        "What it does not stop",
        "shells and database connections",
        "Type “alice” to confirm",
        "End 1 pass and block Alice",
        "Only end them",
    ):
        assert words in shown, words


def test_many_are_told_by_numbers(
    alice: User, engineers: Group, read_only: Role, automatic: Entitlement, olivia: User
) -> None:
    for number in range(12):
        wish(factories.person(f"p{number}", engineers), read_only, automatic, start="at_once")
    shown = page(signed_in(olivia).get("/stop/everything")).text
    assert "12 passes of 12 people, on 1 role in 1 account." in shown
    assert "Most on: ReadOnly in payments-prod (12)" in shown
    assert "Type “everything” to confirm" in shown
    assert "End all 12 passes and freeze everything" in shown


@pytest.mark.parametrize(
    ("name", "typed", "held"),
    [
        ("person", "alice", "Alice is blocked."),
        ("role", "Administrator", "Frozen: Administrator in payments-prod."),
        ("account", "payments-prod", "Frozen: payments-prod (2222-2222-2222)."),
        ("everything", "everything", "Frozen: everything."),
    ],
)
def test_ending_everything_and_what_keeps_it_so(
    name: str, typed: str, held: str, active_request: AccessRequest, alice: User, olivia: User, aws_clock: AwsClock
) -> None:
    factories.sealed(active_request)
    client = signed_in(olivia)
    response = press(client, addresses(alice, active_request.role)[name], typed)

    assert f"{held} 1 pass ended. AWS is told to refuse what was issued, on 1 role." in page(response).text
    active_request.refresh_from_db()
    assert (active_request.state, active_request.end_reason) == ("revoked", WHY)
    alice.refresh_from_db()
    assert (alice.deactivated_at is not None) is (name == "person")
    assert Freeze.objects.in_force().exists() is (name != "person")
    assert AuditEvent.objects.get(action="everything.ended").channel == "web"


@pytest.mark.parametrize("name", ["person", "role", "account", "everything"])
def test_only_ending_keeps_nobody_out(name: str, active_request: AccessRequest, alice: User, olivia: User) -> None:
    word = {"person": "alice", "role": "Administrator", "account": "payments-prod"}.get(name, name)
    press(signed_in(olivia), addresses(alice, active_request.role)[name], word, act="end")
    active_request.refresh_from_db()
    alice.refresh_from_db()
    assert (active_request.state, alice.deactivated_at) == ("revoked", None)
    assert not Freeze.objects.exists()


def test_only_freezing_ends_nothing(active_request: AccessRequest, alice: User, olivia: User) -> None:
    response = press(signed_in(olivia), addresses(alice, active_request.role)["role"], "Administrator", act="freeze")
    assert "What runs there goes on until its own end." in page(response).text
    active_request.refresh_from_db()
    assert active_request.state == "active"
    assert Freeze.objects.get().role == active_request.role
    assert not AuditEvent.objects.filter(action="everything.ended").exists()


@pytest.mark.parametrize(
    ("typed", "reason"), [("Administrato", WHY), ("", WHY), ("Administrator", "  "), ("\x00", "\x00")]
)
@pytest.mark.parametrize("act", ["stop", "end", "freeze"])
def test_what_is_wrong_is_said_beside_it_and_nothing_is_done(
    typed: str, reason: str, act: str, active_request: AccessRequest, alice: User, olivia: User
) -> None:
    address = addresses(alice, active_request.role)["role"]
    response = press(signed_in(olivia), address, typed, act=act, reason=reason)
    assert response.status_code == 422
    assert "id_typed_error" in response.content.decode() or "id_reason_error" in response.content.decode()
    active_request.refresh_from_db()
    assert active_request.state == "active"
    assert not Freeze.objects.exists()


def test_pressing_twice_is_harmless(active_request: AccessRequest, alice: User, olivia: User) -> None:
    client = signed_in(olivia)
    address = addresses(alice, active_request.role)["role"]
    press(client, address, "Administrator")
    response = press(client, address, "Administrator")
    assert "0 passes ended." in page(response).text
    assert Freeze.objects.count() == 1
    response = press(client, address, "Administrator", act="freeze")
    assert "This is frozen already" in page(response).text


def test_buttons_say_what_they_do(active_request: AccessRequest, alice: User, bob: User, olivia: User) -> None:
    client = signed_in(olivia)
    where = addresses(alice, active_request.role)
    assert buttons(page(client.get(where["role"]))) == {"stop": "act", "end": "act", "freeze": "act"}
    assert buttons(page(client.get(where["person"]))) == {"stop": "act", "end": "act"}
    # Nothing open: only keeping out is left.
    assert "Block Bob" in page(client.get(f"/stop/person/{bob.public_id}")).text
    freezes.freeze(active_request.role, by=olivia, reason=WHY)
    shown = page(client.get(where["role"]))
    assert buttons(shown) == {"end": "act"}
    assert "End 1 pass" in shown.text
    workflow.give_back(active_request, by=alice)
    assert buttons(page(client.get(where["role"]))) == {}


def test_an_operator_ends_their_own_and_is_not_offered_to_block_themselves(olivia: User, read_only: Role) -> None:
    terms = factories.entitlement(read_only, users=[olivia])
    own = wish(olivia, read_only, terms, start="at_once")
    client = signed_in(olivia)
    address = f"/stop/person/{olivia.public_id}"
    shown = page(client.get(address))
    assert buttons(shown) == {"end": "act"}
    assert "End my 1 pass" in shown.text
    assert "Nobody blocks themselves." in page(press(client, address, "olivia")).text
    press(client, address, "olivia", act="end")
    own.refresh_from_db()
    assert own.state == "revoked"


def test_someone_deactivated_can_still_be_stopped(active_request: AccessRequest, alice: User, olivia: User) -> None:
    workflow.people.deactivate(alice, by=None)
    client = signed_in(olivia)
    address = addresses(alice, active_request.role)["person"]
    assert buttons(page(client.get(address))) == {"end": "act"}
    press(client, address, "alice", act="end")
    active_request.refresh_from_db()
    assert active_request.ended_by == olivia


# --- freezes in force ---------------------------------------------------------------------------------


def test_freezes_are_listed_asked_about_and_lifted_by_two(olivia: User, oscar: User, administrator: Role) -> None:
    hers, his = signed_in(olivia), signed_in(oscar)
    begun = freezes.freeze(administrator, by=olivia, reason=WHY)
    for words in ("Administrator in payments-prod", "by Olivia", WHY, "Ask to lift it"):
        assert words in page(hers.get("/stop/")).text

    response = hers.post(f"/stop/freezes/{begun.public_id}/lift", follow=True)
    assert "stays until another operator lifts it too" in page(response).text
    assert "Another operator must lift it." in page(response).text
    assert "Ask to lift it" not in page(response).text
    response = hers.post(f"/stop/freezes/{begun.public_id}/lift", follow=True)
    assert "another operator must lift it" in page(response).text
    shown = page(his.get("/stop/")).text
    assert "Olivia asked to lift it" in shown
    assert "Lift it" in shown
    response = his.post(f"/stop/freezes/{begun.public_id}/lift", follow=True)
    assert "The freeze of Administrator in payments-prod is lifted." in page(response).text
    assert not Freeze.objects.in_force().exists()
    response = his.post(f"/stop/freezes/{begun.public_id}/lift", follow=True)
    assert "lifted in the meantime" in page(response).text


def test_one_operator_alone_lifts_at_once(olivia: User) -> None:
    begun = freezes.freeze(Everything(), by=olivia, reason=WHY)
    client = signed_in(olivia)
    shown = page(client.get("/stop/")).text
    assert "Lift it" in shown
    assert "Ask to lift it" not in shown
    client.post(f"/stop/freezes/{begun.public_id}/lift")
    assert not Freeze.objects.in_force().exists()


def test_many_freezes_take_no_more_queries_and_go_on_by_key(olivia: User, oscar: User) -> None:
    client = signed_in(olivia)

    def fill(number: int) -> None:
        for _ in range(number):
            freezes.lift(freezes.freeze(factories.role(), by=olivia, reason=WHY), by=oscar)

    fill(2)
    client.get("/stop/")
    few = queries(lambda: client.get("/stop/"))
    fill(31)
    assert queries(lambda: client.get("/stop/")) == few <= 14
    first = page(client.get("/stop/"))
    (older,) = [str(one["href"]) for one in first.all("a") if str(one.get("href")).startswith("?before=")]
    names = [page(client.get(at)).text.count("Oscar asked to lift it") for at in ("/stop/", f"/stop/{older}")]
    assert names == [30, 3]


@pytest.mark.parametrize("name", ["person", "role", "account", "everything"])
def test_many_passes_take_no_more_queries(
    name: str, alice: User, engineers: Group, read_only: Role, automatic: Entitlement, olivia: User
) -> None:
    client = signed_in(olivia)
    wish(alice, read_only, automatic, start="at_once")
    address = addresses(alice, read_only)[name]
    client.get(address)
    few = queries(lambda: client.get(address))
    for number in range(12):
        other = factories.role(in_account=read_only.account)
        automatic.roles.add(other)
        wish(factories.person(f"p{number}", engineers), other, automatic, start="at_once")
        wish(alice, other, automatic, start="at_once")
    assert queries(lambda: client.get(address)) == few <= 20


# --- a restored database ------------------------------------------------------------------------------


@pytest.fixture
def restored(alice: User, read_only: Role, automatic: Entitlement, oscar: User) -> Freeze:
    for _ in range(4):
        wish(alice, read_only, automatic, start="at_once")
    begun = freezes.freeze_restored("an event is missing")
    assert begun
    return begun


def test_its_passes_are_confirmed_or_ended_one_by_one_and_several_at_once(restored: Freeze, olivia: User) -> None:
    client = signed_in(olivia)
    address = f"/stop/freezes/{restored.public_id}/passes"
    shown = page(client.get("/stop/"))
    assert address in {one.get("href") for one in shown.all("a")}
    assert "Look at its passes" in shown.text
    a, b, c, d = AccessRequest.objects.order_by("pk")
    for one in (a, b, c, d):
        assert one.code in page(client.get(address)).text

    def post(**data: Any) -> Page:
        return page(client.post(address, {"reason": "nobody knows it", **data}, follow=True))

    assert "Tick at least one pass." in post(confirm="ticked").text
    assert "1 pass confirmed." in post(confirm=a.code).text
    assert "1 pass ended." in post(end=b.code).text
    assert "Say why" in page(client.post(address, {"end": c.code, "reason": " "})).text
    assert "2 passes ended." in post(end="ticked", code=[c.code, d.code, a.code]).text
    for one in (a, b, c, d):
        one.refresh_from_db()
    assert [one.state for one in (a, b, c, d)] == ["active", "revoked", "revoked", "revoked"]
    assert b.end_reason == "nobody knows it"
    assert "Every pass was confirmed or ended." in page(client.get(address)).text
    assert "Ask to lift it" in page(client.get("/stop/")).text


def test_very_many_are_shown_in_parts_with_no_more_queries(
    restored: Freeze, olivia: User, alice: User, read_only: Role, automatic: Entitlement, monkeypatch: Any
) -> None:
    monkeypatch.setattr(emergency, "MOST_PASSES", 3)
    client = signed_in(olivia)
    address = f"/stop/freezes/{restored.public_id}/passes"
    client.get(address)
    first = page(client.get(address))
    few = queries(lambda: client.get(address))
    (more,) = [str(one["href"]) for one in first.all("a") if str(one.get("href")).startswith("?after=")]
    codes = [
        [one["value"] for one in shown.all("input") if one.get("name") == "code"]
        for shown in (first, page(client.get(address + more)))
    ]
    assert [len(some) for some in codes] == [3, 1]
    monkeypatch.setattr(emergency, "MOST_PASSES", 50)
    assert queries(lambda: client.get(address)) == few <= 14


def test_another_freeze_has_no_such_page(olivia: User) -> None:
    begun = freezes.freeze(Everything(), by=olivia, reason=WHY)
    assert signed_in(olivia).get(f"/stop/freezes/{begun.public_id}/passes").status_code == 404


# --- what everybody else sees -------------------------------------------------------------------------


def scope(name: str, role: Role) -> Scope:
    scopes: dict[str, Scope] = {"everything": Everything(), "account": role.account, "role": role}
    return scopes[name]


@pytest.mark.parametrize("name", ["everything", "account", "role"])
def test_whom_it_stops_reads_why_and_can_still_end(
    name: str, active_request: AccessRequest, alice: User, bob: User, olivia: User
) -> None:
    role, terms = active_request.role, active_request.entitlement
    waits = wish(alice, role, terms)
    freezes.freeze(scope(name, role), by=olivia, reason=WHY)
    hers, his = signed_in(alice), signed_in(bob)
    for client, address in (
        (hers, "/"),
        (hers, f"/request/?role={role.public_id}"),
        (hers, f"/request/terms?role={role.public_id}"),
        (hers, f"/requests/{active_request.code}"),
        (hers, f"/requests/{waits.code}"),
        (his, "/approvals/"),
        (his, f"/requests/{waits.code}/approve"),
    ):
        shown = page(client.get(address))
        assert len([one for _, one in shown.elements if "data-frozen" in one]) == 1, address
        assert WHY in shown.text, address
    for client, address in (
        (hers, f"/requests/{active_request.code}/give-back"),
        (his, f"/requests/{active_request.code}/revoke"),
        (his, f"/requests/{waits.code}/deny"),
    ):
        response = client.get(address)
        assert response.status_code == 200
        assert "data-frozen" not in response.content.decode()
    assert "I'm done" in page(hers.get("/")).text
    hers.post(f"/requests/{active_request.code}/give-back")
    active_request.refresh_from_db()
    assert active_request.state == "returned"
    assert "data-frozen" not in hers.get(f"/requests/{active_request.code}").content.decode()


def test_nobody_else_is_bothered(
    active_request: AccessRequest, mallory: User, alice: User, olivia: User, read_only: Role, automatic: Entitlement
) -> None:
    freezes.freeze(factories.role(), by=olivia, reason=WHY)
    freezes.freeze(read_only, by=olivia, reason=WHY)
    for who, address in (
        (alice, "/"),
        (alice, "/request/"),
        (alice, f"/requests/{active_request.code}"),
        (mallory, "/"),
    ):
        assert WHY not in signed_in(who).get(address).content.decode(), address
    freezes.freeze(Everything(), by=olivia, reason=WHY)
    assert WHY not in signed_in(mallory).get("/").content.decode()


def test_a_refusal_says_why_where_it_was_pressed(
    approved_request: AccessRequest, alice: User, bob: User, olivia: User
) -> None:
    waits = wish(alice, approved_request.role, approved_request.entitlement)
    freezes.freeze(approved_request.role, by=olivia, reason=WHY)
    started = signed_in(alice).post(f"/requests/{approved_request.code}/start", follow=True)
    approved = signed_in(bob).post(f"/requests/{waits.code}/approve", follow=True)
    for response in (started, approved):
        assert f"Operators have frozen this: {WHY}." in page(response).text


def test_of_several_freezes_pages_name_the_one_that_refusals_name(
    pending_request: AccessRequest, alice: User, bob: User, olivia: User
) -> None:
    role = pending_request.role
    targets: list[Scope] = [role.account, Everything(), role]
    for number, target in enumerate(targets):
        freezes.freeze(target, by=olivia, reason=f"reason {number}")
    refusal = page(signed_in(bob).post(f"/requests/{pending_request.code}/approve", follow=True)).text
    assert "Operators have frozen this: reason 0." in refusal
    for client, address in ((signed_in(alice), "/"), (signed_in(bob), "/approvals/")):
        shown = page(client.get(address)).text
        assert "reason 0" in shown
        assert "reason 1" not in shown
        assert "reason 2" not in shown


def test_several_freezes_are_each_told_once(alice: User, olivia: User, read_only: Role, automatic: Entitlement) -> None:
    for _ in range(3):
        wish(alice, read_only, automatic, start="at_once")
    freezes.freeze(read_only, by=olivia, reason=WHY)
    shown = page(signed_in(alice).get("/"))
    assert len([one for _, one in shown.elements if "data-frozen" in one]) == 1


def test_banners_take_one_query_however_many_freezes(
    alice: User, olivia: User, read_only: Role, automatic: Entitlement
) -> None:
    wish(alice, read_only, automatic, start="at_once")
    client = signed_in(alice)
    client.get("/")
    few = queries(lambda: client.get("/"))
    targets: list[Scope] = [read_only, read_only.account, Everything()]
    for target in targets:
        freezes.freeze(target, by=olivia, reason=WHY)
    assert queries(lambda: client.get("/")) == few


def test_mail_about_it_leads_operators_to_the_page(olivia: User, dave: User) -> None:
    freezes.freeze(Everything(), by=olivia, reason=WHY)
    links = {one.recipient.username: messages.page_for(one) for one in Notice.objects.select_related("recipient")}
    assert links == {"olivia": "/stop/", "dave": "/"}
    assert Account.objects.count() == 0
