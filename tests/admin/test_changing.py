"""Operators change the catalog, the rules and the people: each edit is on record, or did not happen."""

import json
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.models import Group as AdminGroup
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from requests_app.delivery.admin.bounded import MOST_LINES
from requests_app.domain import audit, workflow
from requests_app.domain.audit import Action
from requests_app.domain.errors import Conflict
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    Edit,
    Entitlement,
    EntitlementRole,
    Group,
    Membership,
    Notice,
    Role,
    Stage,
    User,
)
from tests import factories, letters
from tests.admin.filling import add_line, errors, read, save, send
from tests.admin.test_reading import address
from tests.web.pages import Page, signed_in

READ = {"Effect": "Allow", "Action": ["s3:Get*"], "Resource": "*"}


@pytest.fixture
def operator(olivia: User) -> Client:
    return signed_in(olivia)


def last() -> AuditEvent:
    return AuditEvent.objects.latest("pk")


# --- the catalog -------------------------------------------------------------------------------


def test_a_change_is_recorded_with_who_and_what(operator: Client, administrator: Role, olivia: User) -> None:
    assert save(operator, address(Role, administrator.pk), power="read", description="looks").status_code == 302

    event = last()
    assert (event.action, event.actor, event.channel) == (Action.CATALOG_CHANGED, olivia, "admin")
    assert event.subject == administrator.arn
    assert event.ip == "127.0.0.1"
    assert event.detail["changes"] == {"power": ["powerful", "read"], "description": ["", "looks"]}


def test_making_is_recorded_with_everything(operator: Client, payments: Account) -> None:
    made = save(operator, address(Role, page="add"), account=payments.pk, path="/elevated/", name="New", power="change")
    assert made.status_code == 302

    role = Role.objects.get(name="New")
    assert last().detail["made"] is True
    assert last().detail["id"] == role.pk
    assert last().detail["changes"]["account"] == [None, str(payments)]
    assert last().detail["changes"]["name"] == [None, "New"]


def test_saving_without_a_change_records_nothing(
    operator: Client, administrator: Role, staged: Entitlement, alice: User, leads: Group
) -> None:
    before = AuditEvent.objects.count()

    for one in (administrator, administrator.account, staged, alice, leads):
        assert save(operator, address(type(one), one.pk)).status_code == 302
    staged.refresh_from_db()
    assert AuditEvent.objects.count() == before
    assert staged.revision == 1


@pytest.mark.parametrize("what", ["account", "role", "entitlement", "group", "person", "new person", "member"])
def test_without_its_event_no_change_is_made(
    what: str,
    operator: Client,
    administrator: Role,
    staged: Entitlement,
    alice: User,
    mallory: User,
    leads: Group,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = administrator.account
    fields: dict[str, Any] = {
        "account": lambda: (address(Account, account.pk), {"name": "other"}),
        "role": lambda: (address(Role, administrator.pk), {"description": "other"}),
        "entitlement": lambda: (address(Entitlement, staged.pk), {"name": "other", "pending_seconds": "60"}),
        "group": lambda: (address(Group, leads.pk), {"name": "other"}),
        "person": lambda: (address(User, alice.pk), {"name": "other", "is_staff": "on"}),
        "new person": lambda: (
            address(User, page="add"),
            {"username": "new", "email": "new@example.com"},
        ),
        "member": lambda: (
            address(Group, leads.pk),
            add_line({"memberships-TOTAL_FORMS": ["2"]}, "memberships", user=mallory.pk),
        ),
    }
    at, changed = fields[what]()
    everything = [list(model.objects.order_by("pk").values()) for model in (Account, Role, Entitlement, Group, User)]
    page = read(operator, at)

    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the record cannot be written")

    monkeypatch.setattr(audit._RECORD, "one", broken)
    with pytest.raises(RuntimeError):
        send(operator, at, page, **changed)

    assert everything == [
        list(model.objects.order_by("pk").values()) for model in (Account, Role, Entitlement, Group, User)
    ]
    assert not Membership.objects.filter(user=mallory).exists()


def test_what_was_approved_for_one_role_cannot_become_another(
    operator: Client, administrator: Role, payments: Account, pending_request: AccessRequest
) -> None:
    other = factories.account("other")
    save(operator, address(Role, administrator.pk), name="Root", path="/", account=other.pk)
    save(operator, address(Account, payments.pk), number="999999999999", partition="aws-cn")

    role = Role.objects.select_related("account").get(pk=administrator.pk)
    assert role.arn == "arn:aws:iam::222222222222:role/elevated/Administrator"


def test_roles_are_found_by_words(operator: Client, administrator: Role, read_only: Role) -> None:
    factories.role("Administrator", factories.account("web"))

    def found(words: str) -> set[str]:
        return {str(row) for row in operator.get(address(Role), {"q": words}).context["cl"].result_list}

    assert found("admin pay") == {str(administrator)}
    assert found("2222-2222") == {str(administrator), str(read_only)}
    assert found("nothing") == set()


def test_autocomplete_answers_with_a_few_queries(
    operator: Client, payments: Account, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        factories.role()
    ask = {"app_label": "requests_app", "model_name": "entitlementrole", "field_name": "role", "term": "role"}

    operator.get(reverse("admin:index"))
    with django_assert_max_num_queries(6):
        answer = operator.get(reverse("admin:autocomplete"), ask).json()
    assert len(answer["results"]) == 20
    assert answer["pagination"]["more"] is True
    for model, field in (("entitlementgroup", "group"), ("entitlementuser", "user")):
        ask = {"app_label": "requests_app", "model_name": model, "field_name": field, "term": "\0"}
        assert operator.get(reverse("admin:autocomplete"), ask).status_code == 200


# --- entitlements ------------------------------------------------------------------------------


def new_entitlement(
    operator: Client,
    *,
    roles: tuple[Role, ...] = (),
    stages: tuple[dict[str, Any], ...] = (),
    **typed: Any,
) -> Any:
    at = address(Entitlement, page="add")
    fields = read(operator, at)
    for role in roles:
        fields = add_line(fields, "entitlementrole_set", role=role.pk)
    for position, stage in enumerate(stages, start=1):
        fields = add_line(fields, "stages", **{"position": position, "quorum": 1, **stage})
    return send(operator, at, fields, **{"name": "New", **typed})


def test_how_it_is_approved_is_chosen_and_never_left_over(operator: Client, administrator: Role) -> None:
    page = operator.get(address(Entitlement, page="add")).content.decode()
    assert 'name="approval"' in page
    assert not [one for one in Page(page).all("input") if one.get("name") == "approval" and "checked" in one]

    said = errors(new_entitlement(operator, roles=(administrator,)))

    assert "Choose one. Automatic means that nobody is asked." in said
    assert not Entitlement.objects.exists()


def test_a_staged_one_is_made_with_its_stages(
    operator: Client, administrator: Role, leads: Group, bob: User, carol: User, dave: User
) -> None:
    made = new_entitlement(
        operator,
        approval="staged",
        roles=(administrator,),
        stages=({"groups": [leads.pk], "quorum": 2}, {"users": [dave.pk]}),
    )
    assert made.status_code == 302

    one = Entitlement.objects.get()
    assert [(s.position, s.quorum, list(s.groups.all()), list(s.users.all())) for s in one.stages.all()] == [
        (1, 2, [leads], []),
        (2, 1, [], [dave]),
    ]
    assert last().detail["changes"]["stages"]["added"][0] == {
        "position": 1,
        "quorum": 2,
        "groups": ["Payments leads"],
        "users": [],
        "owners": "",
        "escalate_seconds": None,
        "more_groups": [],
        "more_users": [],
    }
    assert last().detail["changes"]["entitlement roles"]["added"] == [{"role": "Administrator in payments-prod"}]


@pytest.mark.parametrize(
    ("approval", "stages", "sentence"),
    [
        ("staged", [], "Staged approval needs at least one stage"),
        ("automatic", [{"groups": "leads"}], "Automatic approval asks nobody"),
        ("staged", [{}], "Name at least one group or person"),
        ("staged", [{"groups": "leads", "quorum": 3}], "3 must agree here, but too few people can"),
        ("staged", [{"users": "gone"}], "1 must agree here, but too few people can"),
        ("staged", [{"users": "bob"}, {"users": "bob"}], "one say in all stages together"),
        ("staged", [{"groups": "leads", "quorum": 0}], "greater than or equal to 1"),
    ],
)
def test_an_approval_that_could_not_work_is_refused_at_the_field(
    approval: str,
    stages: list[dict[str, Any]],
    sentence: str,
    operator: Client,
    administrator: Role,
    leads: Group,
    bob: User,
    carol: User,
) -> None:
    gone = factories.person("gone")
    workflow.people.deactivate(gone, by=None)
    keys = {"leads": leads.pk, "bob": bob.pk, "gone": gone.pk}
    typed = tuple(
        {name: [keys[value]] if isinstance(value, str) else value for name, value in stage.items()} for stage in stages
    )

    said = errors(new_entitlement(operator, approval=approval, roles=(administrator,), stages=typed))

    assert sentence in said
    assert not Entitlement.objects.exists()


def test_changing_only_the_approval_is_checked_too(
    operator: Client, staged: Entitlement, automatic: Entitlement
) -> None:
    assert "asks nobody" in errors(save(operator, address(Entitlement, staged.pk), approval="automatic"))
    assert "at least one stage" in errors(save(operator, address(Entitlement, automatic.pk), approval="staged"))
    fields = read(operator, address(Entitlement, staged.pk))
    assert "at least one stage" in errors(
        send(operator, address(Entitlement, staged.pk), fields, **{"stages-0-DELETE": "on"})
    )


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ('[{"Effect": "Allow"', "This is not JSON"),
        ("[" * 10_000, "This is not JSON"),
        ("[" * 60 + "]" * 60, "AWS would not take"),
        ("[" + "9" * 5000 + "]", "AWS would not take"),
        ("[1e16]", "AWS would not take"),
        ("[NaN]", "AWS would not take"),
        (json.dumps(READ), "Write a list of statements"),
        ('["Allow"]', "must be an object whose Effect"),
        (json.dumps([READ | {"Principal": "*"}]), "may not have: Principal"),
        (json.dumps([READ | {"Effect": "Deny"}]), "only denies"),
        (json.dumps([READ | {"Action": 5}]), "take a text or a list of texts"),
        (json.dumps([READ | {"Resource": "a\0b"}]), "cannot be stored"),
        (json.dumps([READ | {"Resource": "arn:aws:s3:::" + "x" * 1900}]), "too long"),
        (json.dumps([READ | {"Resource": "x" * 30_000}]), "far longer"),
        ("5", "Write a list of statements"),
    ],
)
def test_narrowing_that_aws_would_refuse_is_refused_here(
    typed: str, sentence: str, operator: Client, administrator: Role
) -> None:
    said = errors(new_entitlement(operator, approval="automatic", roles=(administrator,), narrowing_statements=typed))

    assert sentence in said
    assert not Entitlement.objects.exists()


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("ReadOnlyAccess", "not the ARN of a managed policy: ReadOnlyAccess"),
        ("arn:aws:iam::333333333333:policy/x", "own account or AWS&#x27;s own"),
        ("\n".join(f"arn:aws:iam::aws:policy/p{number}" for number in range(11)), "at most 10"),
    ],
)
def test_managed_policies_that_aws_would_refuse_are_refused_here(
    typed: str, sentence: str, operator: Client, administrator: Role
) -> None:
    said = errors(new_entitlement(operator, approval="automatic", roles=(administrator,), narrowing_policy_arns=typed))

    assert sentence in said
    assert not Entitlement.objects.exists()


def test_a_role_that_the_narrowing_does_not_fit_cannot_be_added_later(operator: Client, administrator: Role) -> None:
    arn = "arn:aws:iam::222222222222:policy/read-only"
    one = factories.entitlement(administrator, narrowing_policy_arns=[arn])
    elsewhere = factories.role("Elsewhere")
    fields = add_line(read(operator, address(Entitlement, one.pk)), "entitlementrole_set", role=elsewhere.pk)

    assert "own account" in errors(send(operator, address(Entitlement, one.pk), fields))
    assert list(one.roles.all()) == [administrator]


def test_narrowing_and_lifted_denies_are_stored_as_lists(operator: Client, administrator: Role) -> None:
    arns = "arn:aws:iam::aws:policy/ReadOnlyAccess\r\n\r\n arn:aws:iam::222222222222:policy/read-only \r\n"
    page = operator.get(address(Entitlement, page="add")).content.decode()
    assert "can work for up to 12 hours after the pass" in page

    made = new_entitlement(
        operator,
        approval="automatic",
        roles=(administrator,),
        narrowing_statements=json.dumps([READ]),
        narrowing_policy_arns=arns,
        lifted=["assume-role"],
    )
    assert made.status_code == 302

    one = Entitlement.objects.get()
    assert one.narrowing_statements == [READ]
    assert one.narrowing_policy_arns == [
        "arn:aws:iam::aws:policy/ReadOnlyAccess",
        "arn:aws:iam::222222222222:policy/read-only",
    ]
    assert one.lifted == ["assume-role"]
    assert save(operator, address(Entitlement, one.pk)).status_code == 302
    one.refresh_from_db()
    assert (one.narrowing_statements, one.lifted, one.revision) == ([READ], ["assume-role"], 1)
    assert new_entitlement(operator, name="x", approval="automatic", lifted=["the-cut-off"]).status_code == 200


def test_a_narrowing_that_leaves_no_room_for_every_deny_is_stored_and_that_is_said(
    operator: Client, administrator: Role
) -> None:
    long = {"Effect": "Allow", "Action": ["iam:*", "sso-oauth:*"], "Resource": ["x" * 1462]}
    made = new_entitlement(
        operator, approval="automatic", roles=(administrator,), narrowing_statements=json.dumps([long])
    )
    assert made.status_code == 302
    said = Page(operator.get(made["Location"]).content.decode()).text
    assert "these could not be denied: sso-oauth:CreateT*. What they give can work after the pass" in said


def test_each_edit_of_it_or_its_lines_is_one_revision(
    operator: Client, staged: Entitlement, read_only: Role, security: Group, mallory: User, leads: Group
) -> None:
    at = address(Entitlement, staged.pk)

    def revision_after(response: Any) -> int:
        assert response.status_code == 302
        staged.refresh_from_db()
        assert last().detail["revision"] == staged.revision
        return staged.revision

    fields = add_line(read(operator, at), "entitlementrole_set", role=read_only.pk)
    fields = add_line(fields, "entitlementgroup_set", group=security.pk)
    assert revision_after(send(operator, at, fields, name="Renamed")) == 2  # one save, one revision
    assert last().detail["changes"]["name"] == ["Payments, one lead", "Renamed"]

    fields = add_line(read(operator, at), "entitlementuser_set", user=mallory.pk)
    assert revision_after(send(operator, at, fields)) == 3
    assert last().detail["changes"] == {"entitled people": {"added": [{"user": "mallory"}]}}

    assert revision_after(save(operator, at, **{"stages-0-quorum": "2"})) == 4
    assert last().detail["changes"]["stages"]["changed"][0]["quorum"] == [1, 2]

    assert revision_after(save(operator, at, **{"stages-0-groups": [security.pk, leads.pk]})) == 5
    assert last().detail["changes"]["stages"]["changed"][0]["groups"][0] == ["Payments leads"]

    assert revision_after(save(operator, at, **{"entitlementgroup_set-0-DELETE": "on"})) == 6
    assert last().detail["changes"] == {"entitlement groups": {"removed": [{"group": "Engineers"}]}}

    fields = read(operator, at)
    role_lines = [name for name, value in fields.items() if name.startswith("entitlementrole_set") and "-id" in name]
    gone = {f"{name.removesuffix('-id')}-DELETE": "on" for name in role_lines if "__prefix__" not in name}
    assert revision_after(send(operator, at, fields, **gone)) == 7
    assert not staged.roles.exists()


def test_taken_out_on_the_roles_own_page_it_is_an_edit_of_the_entitlement(
    operator: Client, staged: Entitlement, administrator: Role
) -> None:
    at = address(Role, administrator.pk)
    assert save(operator, at, **{"entitlementrole_set-0-DELETE": "on"}).status_code == 302

    staged.refresh_from_db()
    assert not staged.roles.exists()
    assert staged.revision == 2
    assert last().action == Action.ENTITLEMENT_CHANGED
    assert last().subject == staged.name
    assert last().detail["revision"] == 2
    assert last().detail["changes"] == {"entitlement roles": {"removed": ["Administrator in payments-prod"]}}


def test_two_operators_at_once_do_not_undo_each_other(operator: Client, staged: Entitlement) -> None:
    at = address(Entitlement, staged.pk)
    theirs = read(operator, at)
    save(operator, at, name="First")

    said = errors(send(operator, at, theirs, pending_seconds="60"))

    staged.refresh_from_db()
    assert "Someone changed this entitlement while you had it open" in said
    assert (staged.name, staged.longest_seconds) == ("First", 3600)
    assert "Someone changed" in errors(send(operator, at, theirs, seen_revision=None))


def test_a_line_taken_out_twice_is_no_error_page(operator: Client, staged: Entitlement) -> None:
    at = address(Entitlement, staged.pk)
    theirs = read(operator, at)
    EntitlementRole.objects.filter(entitlement=staged).delete()

    assert send(operator, at, theirs, **{"entitlementrole_set-0-DELETE": "on"}).status_code in (200, 302)


def test_terms_that_were_edited_meanwhile_are_not_asked_under(
    operator: Client, staged: Entitlement, administrator: Role, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Entitlement.objects.get(pk=staged.pk)
    save(operator, address(Entitlement, staged.pk), longest_seconds="7200")
    # As if somebody had edited them after this was read: the database compares.
    monkeypatch.setattr("requests_app.domain.workflow.asking._lock", lambda role, *_: (role, old))

    with pytest.raises(Conflict) as refused:
        factories.wish(alice, administrator, old)
    assert refused.value.rule == "terms.changed"


def test_only_the_first_of_many_lines_are_shown_and_the_others_stay(
    operator: Client, staged: Entitlement, payments: Account
) -> None:
    roles = Role.objects.bulk_create(Role(account=payments, name=f"R{number:04}") for number in range(300))
    EntitlementRole.objects.bulk_create(EntitlementRole(entitlement=staged, role=role) for role in roles)
    at = address(Entitlement, staged.pk)

    page = operator.get(at).content.decode()
    assert f"the first {MOST_LINES} of 301" in page
    fields = read(operator, at)
    assert sum(len(values) for values in fields.values()) < 1000  # as many as Django takes
    assert send(operator, at, fields, **{"entitlementrole_set-0-DELETE": "on"}).status_code == 302
    assert staged.roles.count() == 300


# --- groups and memberships --------------------------------------------------------------------


def test_a_new_member_is_recorded_with_who(operator: Client, leads: Group, mallory: User, olivia: User) -> None:
    at = address(Group, leads.pk)
    assert send(operator, at, add_line(read(operator, at), "memberships", user=mallory.pk)).status_code == 302

    membership = Membership.objects.get(group=leads, user=mallory)
    assert (membership.source, membership.added_by) == ("hand", olivia)
    event = last()
    assert (event.action, event.actor, event.beneficiary) == (Action.GROUP_CHANGED, olivia, mallory)
    assert event.subject == "Payments leads"
    assert event.detail["changes"] == {"members": {"added": [{"user": "mallory", "source": "hand"}]}}


@pytest.mark.parametrize("page", ["group", "person"])
def test_taking_someone_out_is_recorded_with_who(page: str, operator: Client, leads: Group, bob: User) -> None:
    at = address(Group, leads.pk) if page == "group" else address(User, bob.pk)
    assert save(operator, at, **{"memberships-0-DELETE": "on"}).status_code == 302

    assert not bob.memberships.exists()
    assert last().beneficiary == bob
    assert last().detail["kind"] == "group"
    assert last().detail["changes"] == {"members": {"removed": [{"user": "bob", "source": "hand"}]}}


def test_someone_is_added_from_their_own_page(operator: Client, leads: Group, mallory: User, olivia: User) -> None:
    at = address(User, mallory.pk)
    assert send(operator, at, add_line(read(operator, at), "memberships", group=leads.pk)).status_code == 302

    assert Membership.objects.get(user=mallory).added_by == olivia
    assert last().action == Action.GROUP_CHANGED


def test_nobody_is_in_a_group_twice(operator: Client, leads: Group, bob: User, mallory: User) -> None:
    at = address(Group, leads.pk)
    again = send(operator, at, add_line(read(operator, at), "memberships", user=bob.pk))
    fields = add_line(read(operator, at), "memberships", user=mallory.pk)
    twice = send(operator, at, add_line(fields, "memberships", user=mallory.pk))

    assert "Please correct the duplicate" in errors(again)
    assert twice.status_code == 200
    assert leads.memberships.count() == 1


@pytest.mark.parametrize("page", ["group", "person"])
def test_who_was_added_meanwhile_is_not_added_again(
    page: str, operator: Client, leads: Group, mallory: User, olivia: User
) -> None:
    at, line = address(Group, leads.pk), {"user": mallory.pk}
    if page == "person":
        at, line = address(User, mallory.pk), {"group": leads.pk}
    fields = add_line(read(operator, at), "memberships", **line)
    Membership.objects.create(group=leads, user=mallory, added_by=olivia)

    assert "This is here already" in errors(send(operator, at, fields))
    assert mallory.memberships.count() == 1


def test_what_is_beyond_the_lines_shown_is_not_added_again(
    operator: Client, staged: Entitlement, payments: Account, leads: Group
) -> None:
    roles = [factories.role(f"Z{number:03}", payments) for number in range(MOST_LINES + 1)]
    staged.roles.add(*roles)
    at = address(Entitlement, staged.pk)
    fields = add_line(read(operator, at), "entitlementrole_set", role=roles[-1].pk)
    other = factories.role("Other", payments)
    fields = add_line(fields, "entitlementrole_set", role=other.pk)

    response = send(operator, at, fields)
    assert errors(response).count("This is here already") == 1
    assert str(roles[-1].pk) in response.content.decode()  # what was chosen stays
    staged.refresh_from_db()
    assert (staged.revision, staged.roles.filter(pk=other.pk).exists()) == (1, False)


def test_what_is_taken_out_may_be_added_again(operator: Client, leads: Group, bob: User) -> None:
    at = address(Group, leads.pk)
    fields = add_line(read(operator, at), "memberships", user=bob.pk)
    assert send(operator, at, fields, **{"memberships-0-DELETE": "on"}).status_code == 302

    assert leads.memberships.get().user == bob


def test_how_someone_came_into_a_group_is_not_chosen(operator: Client, leads: Group, mallory: User) -> None:
    at = address(Group, leads.pk)
    send(operator, at, add_line(read(operator, at), "memberships", user=mallory.pk, source="scim"))

    assert Membership.objects.get(user=mallory).source == "hand"


# --- people ------------------------------------------------------------------------------------


def test_a_person_is_made_without_a_password_and_invited(operator: Client, olivia: User) -> None:
    made = save(operator, address(User, page="add"), username="Erin", email="erin@example.com", name="Erin")
    assert made.status_code == 302

    erin = User.objects.get(username="erin")  # as signing in looks for it
    assert not erin.has_usable_password()
    assert not erin.is_staff
    event = AuditEvent.objects.get(action=Action.PERSON_MADE)
    assert (event.actor, event.beneficiary) == (olivia, erin)
    assert event.detail["changes"]["username"] == [None, "erin"]
    invited = AuditEvent.objects.get(action=Action.PERSON_INVITED)
    assert (invited.actor, invited.beneficiary, invited.channel) == (olivia, erin, "admin")
    assert Notice.objects.get(kind="invited").recipient == erin


def test_names_and_addresses_belong_to_one_person(operator: Client, alice: User, bob: User) -> None:
    at = address(User, bob.pk)

    assert "Someone has this user name." in errors(save(operator, at, username="ALICE"))
    assert "Someone has this address." in errors(save(operator, at, email="Alice@Example.com"))
    assert "such as Europe/Vienna" in errors(save(operator, at, time_zone="Nowhere"))
    new = save(operator, address(User, page="add"), username="Alice", email="ALICE@example.com")
    assert "Someone has this user name." in errors(new)
    assert "Someone has this address." in errors(new)


def test_an_edit_of_a_person_is_recorded_about_them(operator: Client, alice: User) -> None:
    assert save(operator, address(User, alice.pk), name="Alicia", time_zone="Europe/Vienna").status_code == 302

    assert last().action == Action.PERSON_CHANGED
    assert last().beneficiary == alice
    assert last().detail["changes"] == {"name": ["Alice", "Alicia"], "time_zone": ["UTC", "Europe/Vienna"]}


def test_an_address_that_was_taken_away_opens_the_account_no_more(operator: Client, alice: User) -> None:
    """Whatever rows of allauth's there are."""
    EmailAddress.objects.create(user=alice, email=alice.email, verified=True, primary=True)
    alice.set_password("correct horse battery staple")
    alice.save(update_fields=["password"])

    save(operator, address(User, alice.pk), email="alice@elsewhere.example")

    typed = {"password": "correct horse battery staple"}
    assert Client().post("/accounts/login/", {"login": "alice@example.com", **typed}).status_code == 200
    assert Client().post("/accounts/login/", {"login": "alice@elsewhere.example", **typed}).status_code == 302
    Client().post("/accounts/password/reset/", {"email": "alice@example.com"})
    assert not Notice.objects.filter(kind=Notice.Kind.NEW_PASSWORD).exists()


def test_the_key_in_cloudtrail_is_shown_and_stays(operator: Client, alice: User) -> None:
    key = alice.source_identity
    assert key in operator.get(address(User, alice.pk)).content.decode()

    save(operator, address(User, alice.pk), source_identity="mallory", name="x")

    alice.refresh_from_db()
    assert alice.source_identity == key


def test_an_operator_is_made_and_that_is_an_event_of_its_own(operator: Client, alice: User, olivia: User) -> None:
    assert "must be able to open" in errors(save(operator, address(User, alice.pk), is_operator="on"))
    assert save(operator, address(User, alice.pk), is_operator="on", is_staff="on").status_code == 302

    alice.refresh_from_db()
    assert alice.is_operator
    assert last().action == Action.OPERATOR_MADE
    assert AuditEvent.objects.get(action=Action.PERSON_CHANGED).detail["changes"]["is_operator"] == [False, True]


def test_nobody_changes_their_own_rights(operator: Client, olivia: User) -> None:
    at = address(User, olivia.pk)
    fields = read(operator, at)
    assert "is_operator" not in fields

    assert send(operator, at, fields, name="O.", is_staff=None, is_operator=None).status_code == 302
    olivia.refresh_from_db()
    assert olivia.is_operator
    assert olivia.is_staff

    assert send(operator, at, fields, groups=[AdminGroup.objects.get().pk]).status_code == 302
    assert not olivia.groups.exists()


def test_nobody_deactivates_themselves(operator: Client, olivia: User) -> None:
    for act in ("admin:deactivate_person", "admin:bring_back_person"):
        assert operator.post(reverse(act, args=[olivia.pk])).status_code == 403
    send(operator, address(User, olivia.pk), read(operator, address(User, olivia.pk)), deactivated_at="2020-01-01")

    olivia.refresh_from_db()
    assert olivia.deactivated_at is None
    assert "Deactivate…" not in operator.get(address(User, olivia.pk)).content.decode()


@pytest.mark.parametrize("key", ["²", "٣", "9" * 30, "x"])
def test_nobody_is_deactivated_by_what_is_no_key(key: str, operator: Client) -> None:
    assert operator.get(f"/admin/requests_app/user/{key}/deactivate/").status_code == 404


def test_someone_is_deactivated_and_brought_back(operator: Client, alice: User, olivia: User) -> None:
    off, on = (reverse(f"admin:{act}_person", args=[alice.pk]) for act in ("deactivate", "bring_back"))
    for at in (off, on):
        response = operator.get(at)
        assert Page(response.content.decode()).inline == []
    alice.refresh_from_db()
    assert alice.deactivated_at is None  # looking changes nothing

    operator.post(off)
    alice.refresh_from_db()
    assert alice.deactivated_at is not None
    event = last()
    assert (event.action, event.actor, event.beneficiary, event.channel) == (
        Action.PERSON_DEACTIVATED,
        olivia,
        alice,
        "admin",
    )

    operator.post(on)
    operator.post(on)
    alice.refresh_from_db()
    assert alice.deactivated_at is None
    assert last().detail["changes"]["deactivated_at"][1] is None
    assert AuditEvent.objects.filter(action=Action.PERSON_CHANGED).count() == 1
    assert operator.get(reverse("admin:deactivate_person", args=[999999])).status_code == 404


def test_each_act_opens_a_transaction_of_its_own(
    transactional_db: Any, operator: Client, staged: Entitlement, alice: User
) -> None:
    """The other tests run inside one, where a missing transaction would not show."""
    secret = {"password1": "correct horse battery", "password2": "correct horse battery", "usable_password": "true"}

    for at in (address(Entitlement, staged.pk), address(User, alice.pk)):
        assert save(operator, at, name="Other").status_code == 302
    for act, data in (("auth_user_password_change", secret), ("deactivate_person", {}), ("bring_back_person", {})):
        response = operator.post(reverse(f"admin:{act}", args=[alice.pk]), {**data, "set-password": "x"})
        assert response.status_code == 302, act
    assert operator.post(address(User, alice.pk, page="history")).status_code == 405
    assert AuditEvent.objects.filter(channel="admin").count() == 5


def test_a_forged_post_changes_nobody(alice: User, olivia: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(olivia)

    assert client.post(reverse("admin:deactivate_person", args=[alice.pk])).status_code == 403
    assert client.post(address(User, alice.pk), {"is_operator": "on"}).status_code == 403


def test_a_password_is_set_by_a_form_and_only_that_is_recorded(operator: Client, alice: User, olivia: User) -> None:
    at = reverse("admin:auth_user_password_change", args=[alice.pk])
    assert Page(operator.get(at).content.decode()).inline == []
    secret = "correct horse battery staple"

    operator.post(at, {"password1": secret, "password2": secret, "usable_password": "true", "set-password": "x"})

    alice.refresh_from_db()
    assert alice.check_password(secret)
    assert last().action == Action.PERSON_CHANGED
    assert last().beneficiary == alice
    assert last().detail["changes"] == {"password": "set"}
    assert letters.sentence(Notice.objects.get(recipient=alice)) == "Olivia has set a password for you."
    own = operator.get(reverse("admin:auth_user_password_change", args=[olivia.pk]))
    assert own.headers["Location"] == reverse("account_change_password")


@pytest.mark.parametrize("button", ["set-password", "unset-password"])
def test_no_form_takes_a_password_away(button: str, operator: Client, alice: User) -> None:
    """Django's would, past the record, and says so of one that was left alone."""
    alice.set_password("correct horse battery staple")
    alice.save()
    at = reverse("admin:auth_user_password_change", args=[alice.pk])
    shown = Page(operator.get(at).content.decode())
    assert "password-based" not in shown.text.lower()
    assert "nothing for one another" in shown.text

    typed = {"password1": "", "password2": "", "usable_password": "false", button: "x"}
    assert operator.post(at, typed).status_code == 200
    alice.refresh_from_db()
    assert alice.check_password("correct horse battery staple")
    assert not Edit.objects.exists()
    assert not Notice.objects.filter(recipient=alice).exists()

    operator.post(at, {"password1": "another long phrase", "password2": "another long phrase", button: "x"})
    assert Edit.objects.get().change == {"password": "set"}, "one act is one edit"


def test_who_may_look_is_recorded_too_and_is_about_looking_only(operator: Client) -> None:
    at = address(AdminGroup, page="add")
    assert "Daypass’s own groups" in operator.get(at).content.decode().replace("'", "’").replace("&#x27;", "’")
    look = Permission.objects.get(codename="view_role")
    change = Permission.objects.get(codename="change_role")

    assert "not one of the available" in errors(save(operator, at, name="Editors", permissions=[change.pk]))
    assert save(operator, at, name="Readers", permissions=[look.pk]).status_code == 302
    assert last().action == Action.ADMIN_GROUP_CHANGED


def test_what_operators_changed_is_its_history(operator: Client, staged: Entitlement, alice: User, dave: User) -> None:
    save(operator, address(Entitlement, staged.pk), name="Renamed")
    save(operator, address(User, alice.pk), name="Alicia")

    for client in (operator, signed_in(dave)):
        one = client.get(address(Entitlement, staged.pk, page="history")).content.decode()
        assert "entitlement.changed" in one
        assert "Renamed" in one
        assert "Alicia" in client.get(address(User, alice.pk, page="history")).content.decode()


def test_leaving_by_the_admin_is_recorded(operator: Client, olivia: User) -> None:
    assert operator.get(reverse("admin:logout")).headers["Location"] == reverse("account_logout")
    assert operator.post(reverse("admin:logout")).status_code == 302

    assert last().action == Action.SIGNED_OUT
    assert operator.get(reverse("admin:index")).status_code == 302
    assert reverse("admin:password_change")


def test_a_stage_of_a_pending_request_can_change_and_the_request_keeps_its_terms(
    operator: Client, pending_request: AccessRequest, staged: Entitlement, security: Group, carol: User, bob: User
) -> None:
    save(operator, address(Entitlement, staged.pk), **{"stages-0-groups": [security.pk]})
    assert list(Stage.objects.get().groups.all()) == [security]

    workflow.approve(pending_request, by=bob)
    pending_request.refresh_from_db()
    assert pending_request.state == "approved"


def test_an_account_id_is_taken_as_the_console_shows_it(operator: Client) -> None:
    said = save(operator, address(Account, page="add"), name="billing-prod", number=" 5555-6666-7777")

    assert said.status_code == 302
    made = Account.objects.get(number="555566667777")
    shown = operator.get(address(Account)).content.decode()
    assert "billing-prod (5555-6666-7777)" in shown
    assert "was added" in shown
    assert "successfully" not in shown
    assert "An account id has 12 digits." in errors(
        save(operator, address(Account, page="add"), name="x", number="5555-6666-777")
    )
    factories.own_session(factories.role("Deploy", made))
    assert b'name="number"' not in operator.get(address(Account, made.pk)).content  # from now on it stays what it is


def test_every_input_of_a_row_says_what_it_is(operator: Client, staged: Entitlement) -> None:
    shown = Page(operator.get(address(Entitlement, staged.pk)).content.decode())
    inline = [one for one in shown.unlabelled() if "-" in str(one.get("name"))]

    assert inline == []
