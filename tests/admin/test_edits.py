"""Nobody profits from their own edit: each way to change the rules is noted, and another operator confirms it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from requests_app.delivery.admin import shown
from requests_app.domain import workflow
from requests_app.domain.audit import Action
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    Edit,
    Entitlement,
    Extension,
    Group,
    Membership,
    Notice,
    OrganisationalUnit,
    Role,
    User,
)
from tests import factories
from tests.admin.filling import add_line, read, save, send
from tests.admin.test_reading import address
from tests.web.pages import Page, signed_in

ADDRESS = "admin:confirm_edits"


@pytest.fixture
def operator(olivia: User) -> Client:
    return signed_in(olivia)


@pytest.fixture
def oscar(db: Any) -> User:
    """Operates too."""
    return factories.person("oscar", is_staff=True, is_operator=True)


def about() -> list[tuple[str, Any]]:
    """What each edit is about, in the order in which they were made."""
    return [(str(one.editor.username), one.subject) for one in Edit.objects.order_by("pk")]


def edit_of(subject: Any, by: User) -> Edit:
    return workflow.own_edits.note(subject, by=by, change={"name": ["a", "b"]})


def page(client: Client) -> str:
    return Page(client.get(reverse(ADDRESS)).content.decode()).text


# --- what is an edit --------------------------------------------------------------------------------


def test_an_entitlement_that_is_made_or_changed(operator: Client, staged: Entitlement) -> None:
    at = address(Entitlement, page="add")
    assert save(operator, at, name="New", approval="automatic").status_code == 302
    assert save(operator, address(Entitlement, staged.pk), longest_seconds="2 h").status_code == 302

    assert about() == [("olivia", Entitlement.objects.get(name="New")), ("olivia", staged)]
    assert Edit.objects.latest("pk").change == {"longest_seconds": [3600, 7200]}


LINES: dict[str, Callable[..., tuple[str, dict[str, Any]]]] = {
    "groups": lambda group, person, role: ("entitlementgroup_set", {"group": group.pk}),
    "people": lambda group, person, role: ("entitlementuser_set", {"user": person.pk}),
    "roles": lambda group, person, role: ("entitlementrole_set", {"role": role.pk}),
    "excluded groups": lambda group, person, role: ("excludedgroup_set", {"group": group.pk}),
    "excluded people": lambda group, person, role: ("excludeduser_set", {"user": person.pk}),
    "askers": lambda group, person, role: ("entitlementasker_set", {"group": group.pk}),
    "selectors": lambda group, person, role: ("selectors-2", {"role_name": "x*"}),
    "stages": lambda group, person, role: ("stages", {"position": 2, "quorum": 1, "groups": [group.pk]}),
}


@pytest.mark.parametrize("lines", LINES)
def test_each_kind_of_line_of_an_entitlement(
    lines: str, operator: Client, staged: Entitlement, security: Group, carol: User, mallory: User, read_only: Role
) -> None:
    prefix, values = LINES[lines](security, mallory, read_only)
    at = address(Entitlement, staged.pk)

    if lines == "stages":  # carol is a lead too, and has one say
        factories.person("erin", security)
    assert send(operator, at, add_line(read(operator, at), prefix, **values)).status_code == 302
    assert about() == [("olivia", staged)]

    old = "selectors" if lines == "selectors" else prefix
    fields = read(operator, at)
    number = len([name for name in fields if name.startswith(f"{old}-") and name.endswith("-id")]) - 2
    assert send(operator, at, fields, **{f"{old}-{max(number, 0)}-DELETE": "on"}).status_code == 302
    assert about() == [("olivia", staged)] * 2


@pytest.mark.parametrize("where", ["role", "group", "person"])
def test_a_line_that_is_taken_out_elsewhere_is_an_edit_of_the_entitlement(
    where: str, operator: Client, staged: Entitlement, administrator: Role, engineers: Group, mallory: User
) -> None:
    staged.users.add(mallory)
    one, prefix = {
        "role": (administrator, "entitlementrole_set"),
        "group": (engineers, "entitlementgroup_set"),
        "person": (mallory, "entitlementuser_set"),
    }[where]

    assert save(operator, address(type(one), one.pk), **{f"{prefix}-0-DELETE": "on"}).status_code == 302

    assert about() == [("olivia", staged)]


def test_what_decides_of_roles_accounts_and_units(operator: Client, administrator: Role, leads: Group) -> None:
    account, root = administrator.account, OrganisationalUnit.objects.create(name="Root")
    below = OrganisationalUnit.objects.create(name="Below")
    changes: list[tuple[Any, dict[str, Any]]] = [
        (administrator, {"tags": '{"a": "b"}'}),
        (administrator, {"owners": leads.pk}),
        (administrator, {"is_active": None}),
        (administrator, {"power": "read"}),
        (account, {"environment": "prod"}),
        (account, {"unit": root.pk}),
        (account, {"tags": '{"a": "b"}'}),
        (account, {"is_active": None}),
        (below, {"parent": root.pk}),
    ]
    for one, typed in changes:
        assert save(operator, address(type(one), one.pk), **typed).status_code == 302
    assert about() == [("olivia", one) for one, _ in changes]

    for one, typed in ((administrator, {"description": "x"}), (account, {"name": "x"}), (root, {"name": "x"})):
        assert save(operator, address(type(one), one.pk), **typed).status_code == 302
    assert len(about()) == len(changes)  # who may have what does not depend on these


def test_what_is_new_in_the_catalog(operator: Client, payments: Account) -> None:
    assert save(operator, address(OrganisationalUnit, page="add"), name="Root").status_code == 302
    made = save(operator, address(Account, page="add"), name="new", number="555566667777")
    assert made.status_code == 302
    assert save(operator, address(Role, page="add"), account=payments.pk, path="/", name="New").status_code == 302

    assert about() == [
        ("olivia", OrganisationalUnit.objects.get()),
        ("olivia", Account.objects.get(name="new")),
        ("olivia", Role.objects.get()),
    ]


@pytest.mark.parametrize("page", ["group", "person"])
def test_whoever_is_put_into_a_group_or_taken_out(
    page: str, operator: Client, olivia: User, mallory: User, leads: Group
) -> None:
    for person in (mallory, olivia):
        one, field = (leads, {"user": person.pk}) if page == "group" else (person, {"group": leads.pk})
        at = address(type(one), one.pk)
        assert send(operator, at, add_line(read(operator, at), "memberships", **field)).status_code == 302
    assert about() == [("olivia", leads)] * 2
    assert [one.member for one in Edit.objects.order_by("pk")] == [mallory, olivia]
    assert Edit.objects.latest("pk").change["members"] == {"added": [{"user": "olivia", "source": "hand"}]}

    for person in (mallory, olivia):
        at = address(Group, leads.pk) if page == "group" else address(User, person.pk)
        place = [str(one.pk) for one in leads.memberships.order_by("pk")].index(
            str(Membership.objects.get(user=person, group=leads).pk)
        )
        number = place if page == "group" else 0
        assert save(operator, at, **{f"memberships-{number}-DELETE": "on"}).status_code == 302
    assert not leads.memberships.filter(user__in=[olivia, mallory]).exists()
    assert about() == [("olivia", leads)] * 4
    assert [one.member for one in Edit.objects.order_by("pk")] == [mallory, olivia] * 2


def test_what_changes_nothing_or_only_words_is_no_edit(
    operator: Client, staged: Entitlement, leads: Group, alice: User
) -> None:
    assert save(operator, address(Entitlement, staged.pk)).status_code == 302
    assert save(operator, address(Group, leads.pk), name="Other").status_code == 302
    assert save(operator, address(User, alice.pk), name="Other").status_code == 302

    assert about() == []


def test_a_change_whose_edit_cannot_be_noted_is_not_made(
    operator: Client, staged: Entitlement, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = address(Entitlement, staged.pk)
    fields = read(operator, at)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(workflow.own_edits, "note", broken)
    with pytest.raises(RuntimeError):
        send(operator, at, fields, name="Other")

    staged.refresh_from_db()
    assert (staged.name, staged.revision) == ("Payments, one lead", 1)
    assert not AuditEvent.objects.filter(action=Action.ENTITLEMENT_CHANGED).exists()


def test_an_operator_does_not_open_a_door_for_themselves(
    operator: Client, olivia: User, oscar: User, staged: Entitlement, administrator: Role
) -> None:
    at = address(Entitlement, staged.pk)
    fields = add_line(read(operator, at), "entitlementuser_set", user=olivia.pk)
    assert send(operator, at, fields).status_code == 302
    staged.refresh_from_db()

    with pytest.raises(NotAllowed):
        factories.wish(olivia, administrator, staged)
    signed_in(oscar).post(reverse(ADDRESS), {"edit": [Edit.objects.get().pk]})
    assert factories.wish(olivia, administrator, staged).state == "pending"


@pytest.mark.parametrize("half", ["approver", "beneficiary"])
def test_an_operator_does_not_open_a_door_by_a_friend(
    half: str, operator: Client, olivia: User, oscar: User, mallory: User, leads: Group, engineers: Group,
    staged: Entitlement, administrator: Role,
) -> None:  # fmt: skip
    """She asks, and a friend whom she made a lead approves; or the friend asks, and she, one of the leads, approves."""
    group, hers = (leads, engineers) if half == "approver" else (engineers, leads)
    Membership.objects.create(group=hers, user=olivia)
    at = address(Group, group.pk)
    assert send(operator, at, add_line(read(operator, at), "memberships", user=mallory.pk)).status_code == 302
    asks, decides = (olivia, mallory) if half == "approver" else (mallory, olivia)
    one = factories.wish(asks, administrator, staged)

    assert one.code not in signed_in(decides).get("/approvals/").content.decode()
    with pytest.raises(NotAllowed):
        workflow.approve(one, by=decides)
    signed_in(oscar).post(reverse(ADDRESS), {"edit": [Edit.objects.get().pk]})

    assert one.code in signed_in(decides).get("/approvals/").content.decode()
    workflow.approve(one, by=decides)


# --- confirming -------------------------------------------------------------------------------------


def test_an_auditor_finds_what_somebody_changed_and_what_they_confirmed(
    dave: User, olivia: User, oscar: User, staged: Entitlement, automatic: Entitlement
) -> None:
    hers = workflow.own_edits.note(staged, by=olivia, change={})
    his = workflow.own_edits.note(automatic, by=oscar, change={})
    workflow.own_edits.confirm(his, by=olivia)

    def found(words: str) -> list[Edit]:
        shown = signed_in(dave).get(reverse("admin:requests_app_edit_changelist"), {"q": words})
        return list(shown.context["cl"].result_list)

    assert found("olivia") == [his, hers]
    assert found("made:olivia") == [hers]
    assert found("confirmed:olivia@example.com") == [his]
    assert found("confirmed:oscar") == []
    assert found("made:olivia confirmed:oscar") == []
    assert found("nobody") == found("confirmed:nobody") == []


def test_an_auditor_finds_somebodys_extensions(
    dave: User, alice: User, bob: User, active_request: AccessRequest, engineers: Group
) -> None:
    Entitlement.objects.update(extensions_most=1, extension_total_seconds=7200)
    erin, longer = factories.person("erin", engineers), []
    for person in (alice, erin):
        one = factories.wish(person, active_request.role, active_request.entitlement)
        workflow.approve(one, by=bob)
        one = workflow.start(one, by=person)
        why = "the batch takes longer than we thought"
        longer.append(workflow.extend(one, by=person, duration=timedelta(minutes=10), justification=why))

    def found(words: str) -> list[Extension]:
        shown = signed_in(dave).get(reverse("admin:requests_app_extension_changelist"), {"q": words})
        return list(shown.context["cl"].result_list)

    assert found("alice") == [longer[0]]
    assert found("erin@example.com") == [longer[1]]
    assert found(longer[1].access_request.code) == [longer[1]]
    assert found("bob") == []


def test_another_operator_confirms_several_at_once(
    operator: Client, olivia: User, oscar: User, staged: Entitlement, administrator: Role
) -> None:
    first, second, third = (edit_of(one, oscar) for one in (staged, administrator, administrator.account))
    shown = page(operator)
    assert "Payments, one lead entitlement" in shown
    assert "name a → b" in shown
    assert "Oscar" in shown

    answer = operator.post(reverse(ADDRESS), {"edit": [first.pk, second.pk]}, follow=True)

    assert "2 edits are confirmed" in answer.content.decode()
    assert list(Edit.objects.unconfirmed()) == [third]
    assert Edit.objects.get(pk=first.pk).confirmed_by == olivia
    event = AuditEvent.objects.latest("pk")
    assert (event.action, event.actor, event.channel) == (Action.EDIT_CONFIRMED, olivia, "admin")


def test_a_lines_own_button_is_about_that_line_only(
    operator: Client, oscar: User, staged: Entitlement, administrator: Role
) -> None:
    first, second = edit_of(staged, oscar), edit_of(administrator, oscar)

    operator.post(reverse(ADDRESS), {"edit": [first.pk], "only": second.pk})

    assert list(Edit.objects.unconfirmed()) == [first]


def test_nobody_confirms_their_own(operator: Client, olivia: User, oscar: User, staged: Entitlement) -> None:
    own = edit_of(staged, olivia)
    found = Page(operator.get(reverse(ADDRESS)).content.decode())
    assert "Your own, or about yourself: another operator must confirm" in found.text
    assert not [one for one in (*found.all("input"), *found.all("button")) if one.get("name") in ("edit", "only")]

    answer = operator.post(reverse(ADDRESS), {"edit": own.pk}, follow=True)

    assert "another operator must confirm it" in answer.content.decode()
    assert Edit.objects.unconfirmed().get() == own
    assert AuditEvent.objects.filter(action="edit.confirmed.refused", actor=olivia).exists()


def test_a_membership_is_told_by_both_names_and_confirmed_by_neither_of_the_two(
    operator: Client, olivia: User, oscar: User, leads: Group
) -> None:
    third = factories.person("third", is_staff=True, is_operator=True)
    one = workflow.own_edits.note(leads, by=oscar, change={"members": {"added": [{"user": "olivia"}]}}, member=olivia)
    for client in (operator, signed_in(oscar)):
        found = Page(client.get(reverse(ADDRESS)).content.decode())
        assert "Olivia in Payments leads membership" in found.text
        assert not [each for each in found.all("button") if each.get("name") == "only"]
        client.post(reverse(ADDRESS), {"edit": one.pk})
        assert Edit.objects.unconfirmed().exists()

    signed_in(third).post(reverse(ADDRESS), {"edit": one.pk})

    assert not Edit.objects.unconfirmed().exists()
    assert "Olivia in Payments leads" in operator.get(address(Edit, one.pk)).content.decode()


def test_an_auditor_reads_and_a_stranger_does_not(
    dave: User, mallory: User, oscar: User, staged: Entitlement, client: Client
) -> None:
    one = edit_of(staged, oscar)
    found = Page(signed_in(dave).get(reverse(ADDRESS)).content.decode())
    assert "name a → b" in found.text
    assert not [each for each in (*found.all("input"), *found.all("button")) if each.get("name") in ("edit", "only")]

    assert signed_in(dave).post(reverse(ADDRESS), {"edit": one.pk}).status_code == 403
    assert signed_in(mallory).get(reverse(ADDRESS)).status_code in (302, 403)
    signed_in(mallory).post(reverse(ADDRESS), {"edit": one.pk})
    client.post(reverse(ADDRESS), {"edit": one.pk})
    assert Edit.objects.unconfirmed().exists()


@pytest.mark.parametrize("who", ["dave", "olivia"])
def test_the_record_of_edits_is_read_and_never_changed(
    who: str, oscar: User, olivia: User, staged: Entitlement, administrator: Role, request: pytest.FixtureRequest
) -> None:
    first, second = edit_of(staged, oscar), edit_of(administrator, oscar)
    workflow.own_edits.confirm(first, by=olivia)
    client = signed_in(request.getfixturevalue(who))

    assert len(client.get(address(Edit)).context["cl"].result_list) == 2
    assert client.get(address(Edit) + "?confirmed=no").context["cl"].result_list == [second]
    shown = client.get(address(Edit, first.pk)).content.decode()
    assert "name: a → b" in shown
    assert Page(shown).inline == []
    for page in ("change", "delete"):
        assert client.post(address(Edit, second.pk, page=page), {"confirmed_by": olivia.pk}).status_code == 403
    assert client.post(address(Edit, page="add"), {}).status_code == 403
    assert Edit.objects.unconfirmed().get() == second


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_looking_confirms_nothing(method: str, operator: Client, oscar: User, staged: Entitlement) -> None:
    one = edit_of(staged, oscar)
    assert getattr(operator, method)(f"{reverse(ADDRESS)}?edit={one.pk}").status_code in (200, 405)
    assert Edit.objects.unconfirmed().exists()


@pytest.mark.parametrize("keys", [[], ["x"], ["²"], ["9" * 30], ["-1"], ["999999"]])
def test_what_is_no_edit_is_no_error_page(keys: list[str], operator: Client) -> None:
    assert operator.post(reverse(ADDRESS), {"edit": keys}).status_code == 302


def test_confirmed_twice_is_said(operator: Client, olivia: User, oscar: User, staged: Entitlement) -> None:
    one = edit_of(staged, oscar)
    for _ in range(2):
        answer = operator.post(reverse(ADDRESS), {"edit": one.pk}, follow=True)
    assert "confirmed in the meantime" in answer.content.decode()


def test_a_forged_post_confirms_nothing(olivia: User, oscar: User, staged: Entitlement) -> None:
    one = edit_of(staged, oscar)
    client = Client(enforce_csrf_checks=True)
    client.force_login(olivia)

    assert client.post(reverse(ADDRESS), {"edit": one.pk}).status_code == 403
    assert Edit.objects.unconfirmed().exists()


def test_what_somebody_typed_stays_text_and_does_not_fill_the_page(
    operator: Client, oscar: User, staged: Entitlement
) -> None:
    workflow.own_edits.note(staged, by=oscar, change={"name": ["<b>", "x" * 5000], "longest_seconds": [3600, 5400]})
    found = operator.get(reverse(ADDRESS)).content.decode()

    assert "&lt;b&gt;" in found
    assert "<b>" not in found
    assert "x" * 601 not in found
    assert "1 h → 1 h 30 min" in found
    assert Page(found).inline == []
    assert Page(found).unlabelled() == []


def test_lines_are_told_in_words() -> None:
    stage = {"position": 2, "quorum": 1, "groups": ["A", "B"], "users": [], "escalate_seconds": 1800}
    changed = {"line": "stage 1 of X", "quorum": [1, 2], "groups": [["A"], ["A", "B"]], "escalate_seconds": [None, 60]}
    told = shown.changes({"stages": {"added": [stage], "removed": ["stage 3"], "changed": [changed]}})

    assert told == [
        (
            "stages",
            "added position 2, quorum 1, groups A and B, escalate 30 min; removed stage 3; "
            'changed stage 1 of X, quorum 1 → 2, groups ["A"] → ["A", "B"], escalate – → 1 min',
        )
    ]


def test_the_page_is_bounded_and_its_queries_do_not_grow(
    operator: Client, olivia: User, oscar: User, administrator: Role
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as made:
            assert operator.get(reverse(ADDRESS)).status_code == 200
        return len(made)

    def grow() -> None:
        unit = OrganisationalUnit.objects.create(name=f"unit {Edit.objects.count()}")
        for subject in (factories.entitlement(), factories.role(), factories.account(unit=unit), unit):
            edit_of(subject, oscar)
            edit_of(subject, olivia)
        for editor in (oscar, olivia):
            number = Edit.objects.count()
            member, group = factories.person(f"member{number}"), factories.group(f"group {number}")
            workflow.own_edits.note(group, by=editor, change={}, member=member)

    grow()
    queries()
    few = queries()
    for _ in range(13):
        grow()
    assert queries() == few
    found = operator.get(reverse(ADDRESS)).content.decode()
    assert found.count('name="edit"') == 50
    assert "50, the oldest first" in found


# --- banners and mail -------------------------------------------------------------------------------


def test_a_single_operator_is_said_on_every_page_by_one_query(
    operator: Client, olivia: User, dave: User, staged: Entitlement
) -> None:
    pages = [reverse("admin:index"), address(Entitlement), address(Entitlement, staged.pk), reverse(ADDRESS)]
    for at in pages:
        assert "You are the only operator" in operator.get(at).content.decode()
        assert "There is only one operator, Olivia" in signed_in(dave).get(at).content.decode()
    with CaptureQueriesContext(connection) as made:
        operator.get(reverse("admin:index"))
    asked = [one["sql"] for one in made if "requests_app_counted_operators" in one["sql"]]
    assert len(asked) == 1
    assert "LIMIT 2" in asked[0]

    second = factories.person("oscar", is_staff=True, is_operator=True)
    for at in pages:
        assert "only operator" not in operator.get(at).content.decode()
    workflow.people.deactivate(second, by=olivia)
    assert "You are the only operator" in operator.get(pages[0]).content.decode()


def test_whoever_changed_it_reads_so_until_it_is_confirmed(
    operator: Client, olivia: User, oscar: User, staged: Entitlement, administrator: Role
) -> None:
    said = "For you it does not count until another operator has"
    for one in (staged, administrator, administrator.account):
        at = address(type(one), one.pk)
        assert said not in operator.get(at).content.decode()
        made = edit_of(one, olivia)
        assert said in operator.get(at).content.decode()
        assert said not in signed_in(oscar).get(at).content.decode()
        workflow.own_edits.confirm(made, by=oscar)
        assert said not in operator.get(at).content.decode()


def told() -> list[str]:
    notices = Notice.objects.filter(kind="only_one").order_by("pk")
    return [one.recipient.username for one in notices.select_related("recipient")]


def test_auditors_hear_of_a_single_operator_who_edits_once_a_day(
    operator: Client, dave: User, oscar: User, staged: Entitlement
) -> None:
    save(operator, address(Entitlement, staged.pk), name="one")
    assert told() == []  # oscar can confirm

    factories.operates(oscar, False)
    save(operator, address(Entitlement, staged.pk), name="two")
    save(operator, address(Entitlement, staged.pk), name="three")

    assert told() == ["dave"]


@pytest.mark.parametrize("how", ["deactivated", "loses the right"])
def test_auditors_hear_when_one_operator_is_left(how: str, operator: Client, dave: User, oscar: User) -> None:
    third = factories.person("third", is_staff=True, is_operator=True)
    for person in (third, oscar):
        assert told() == []
        if how == "deactivated":
            operator.post(reverse("admin:deactivate_person", args=[person.pk]))
        else:
            assert save(operator, address(User, person.pk), is_operator=None).status_code == 302
    assert told() == ["dave"]
