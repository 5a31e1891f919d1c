"""Operators say whom an entitlement reaches and what it gives: units, tags, selectors and exclusions, on record."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from requests_app.domain.audit import Action
from requests_app.domain.models import (
    AccessRequest,
    Account,
    AuditEvent,
    Entitlement,
    Group,
    OrganisationalUnit,
    Role,
    User,
)
from tests import factories
from tests.admin.filling import add_line, errors, read, save, send
from tests.admin.test_reading import address
from tests.web.pages import signed_in

SAID = ("account", "unit", "environment", "account_tag_key", "account_tag_value", "role_name", "role_tag_key")


@pytest.fixture
def operator(olivia: User) -> Client:
    return signed_in(olivia)


@pytest.fixture
def tree(db: Any) -> dict[str, OrganisationalUnit]:
    made: dict[str, OrganisationalUnit] = {}
    for name, parent in (("Root", ""), ("Zoo", "Root"), ("Apes", "Zoo"), ("Bank", "Root")):
        made[name] = OrganisationalUnit.objects.create(name=name, parent=made.get(parent))
    return made


def last() -> AuditEvent:
    return AuditEvent.objects.latest("pk")


def add_selector(client: Client, to: Entitlement, **says: Any) -> Any:
    at = address(Entitlement, to.pk)
    blank = dict.fromkeys((*SAID, "role_tag_value"), "")
    return send(client, at, add_line(read(client, at), "selectors-2", **{**blank, **says}))


# --- units ----------------------------------------------------------------------------------------


def test_units_are_listed_as_the_tree_that_they_are(operator: Client, tree: dict[str, OrganisationalUnit]) -> None:
    Account.objects.filter(pk=factories.account().pk).update(unit=tree["Apes"])

    page = operator.get(address(OrganisationalUnit))

    units = [(one.place, one.number) for one in page.context["cl"].result_list]
    assert units == [("Root", None), ("Root / Zoo", None), ("Root / Zoo / Apes", 1), ("Root / Bank", None)]
    assert "\N{EM SPACE}\N{EM SPACE}Apes" in page.content.decode()


def test_a_move_is_recorded_with_both_places(operator: Client, tree: dict[str, OrganisationalUnit]) -> None:
    assert save(operator, address(OrganisationalUnit, tree["Zoo"].pk), parent=tree["Bank"].pk).status_code == 302

    assert last().action == Action.CATALOG_CHANGED
    assert last().detail["changes"] == {"parent": ["Root", "Root / Bank"]}
    tree["Apes"].refresh_from_db()
    assert tree["Apes"].path == "/" + "".join(f"{tree[name].pk}/" for name in ("Root", "Bank", "Zoo", "Apes"))


@pytest.mark.parametrize("below", ["Zoo", "Apes"])
def test_no_unit_is_moved_below_itself(below: str, operator: Client, tree: dict[str, OrganisationalUnit]) -> None:
    before = AuditEvent.objects.count()
    said = errors(save(operator, address(OrganisationalUnit, tree["Zoo"].pk), parent=tree[below].pk))
    assert "A unit is not below itself" in said
    assert AuditEvent.objects.count() == before


def test_two_units_of_one_name_at_one_place_are_said_in_the_form(
    operator: Client, tree: dict[str, OrganisationalUnit]
) -> None:
    at = address(OrganisationalUnit, page="add")
    assert "There is a unit of this name at this place" in errors(
        save(operator, at, name="zoo", parent=tree["Root"].pk)
    )
    assert save(operator, at, name="zoo", parent=tree["Bank"].pk).status_code == 302


def test_units_are_chosen_by_their_places(operator: Client, tree: dict[str, OrganisationalUnit]) -> None:
    names = {"app_label": "requests_app", "model_name": "account", "field_name": "unit", "term": "ape"}
    found = operator.get(reverse("admin:autocomplete"), names).json()["results"]
    assert [one["text"] for one in found] == ["Root / Zoo / Apes"]


# --- accounts and roles -----------------------------------------------------------------------------


def test_what_an_account_is_like_is_recorded(
    operator: Client, payments: Account, tree: dict[str, OrganisationalUnit], leads: Group
) -> None:
    at = address(Account, payments.pk)
    like = {"unit": tree["Apes"].pk, "environment": "prod", "tags": '{"team": "payments"}', "owners": leads.pk}
    assert save(operator, at, **like).status_code == 302

    payments.refresh_from_db()
    assert (payments.unit, payments.environment, payments.owners) == (tree["Apes"], "prod", leads)
    assert payments.tags == {"team": "payments"}
    assert last().detail["changes"] == {
        "unit": [None, "Root / Zoo / Apes"],
        "environment": ["", "prod"],
        "tags": [{}, {"team": "payments"}],
        "owners": [None, "Payments leads"],
    }
    before = AuditEvent.objects.count()
    assert save(operator, at).status_code == 302
    assert AuditEvent.objects.count() == before
    assert save(operator, at, unit=tree["Bank"].pk).status_code == 302
    assert last().detail["changes"] == {"unit": ["Root / Zoo / Apes", "Root / Bank"]}


def test_an_accounts_region_is_one_of_its_partition_and_is_copied_along_with_its_keys(
    operator: Client, payments: Account, administrator: Role, active_request: AccessRequest
) -> None:
    at = address(Account, payments.pk)
    for wrong in ("Frankfurt", "cn-north-1", "us-gov-west-1", "eu-central-1 ", "EU-CENTRAL-1"):
        answer = save(operator, at, region=wrong)
        assert answer.status_code == (302 if wrong.endswith(" ") else 200), wrong
    payments.refresh_from_db()
    assert payments.region == "eu-central-1"
    shown = signed_in(active_request.beneficiary).get(f"/requests/{active_request.code}/credentials")
    assert b'data-region="eu-central-1"' in shown.content

    payments.region = ""
    assert payments.region_of_keys == "", "whoever has one keeps it"
    payments.partition = "aws-cn"
    assert payments.region_of_keys == "cn-north-1", "elsewhere another partition's would lead out of it"
    with pytest.raises(ValidationError):
        Account(partition="aws-cn", region="eu-central-1").clean()


def test_a_profile_has_a_name_that_can_be_typed(payments: Account) -> None:
    for name, expected in {
        "Zahlungen (Prod)": "zahlungen-prod-readonly",
        "支払い": f"{payments.number}-readonly",
    }.items():
        payments.name = name
        assert Role(account=payments, name="ReadOnly").profile == expected


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("team=payments", "This is not JSON"),
        ('["team"]', "Write an object"),
        ('{"team": 1}', "nothing deeper"),
        ('{"team": {"name": "x"}}', "nothing deeper"),
        ('{"": "x"}', "1 to 128 characters"),
        ('{"a": "' + "x" * 257 + '"}', "256 at most"),
        ('{"a": "\\u0000"}', "cannot be stored"),
        ("{" + ", ".join(f'"k{number}": ""' for number in range(51)) + "}", "50 tags"),
        ('{"a": "\\ud800"}', "cannot be stored"),
    ],
)
@pytest.mark.parametrize("what", ["account", "role"])
def test_tags_that_aws_would_not_have_are_refused(
    what: str, typed: str, sentence: str, operator: Client, administrator: Role
) -> None:
    one = administrator if what == "role" else administrator.account
    assert sentence in errors(save(operator, address(type(one), one.pk), tags=typed))


def test_an_environment_with_capitals_is_refused_in_words(operator: Client, payments: Account) -> None:
    assert "Lower case" in errors(save(operator, address(Account, payments.pk), environment="Prod"))


def test_a_roles_page_says_what_selects_it(operator: Client, staged: Entitlement, administrator: Role) -> None:
    other = factories.entitlement(name="All administrators <b>")
    other.selectors.create(role_name="admin*")
    staged.selectors.create(role_name="*")  # named there too, and so in the lines below

    page = operator.get(address(Role, administrator.pk)).content.decode()

    assert f'<a href="{address(Entitlement, other.pk)}">All administrators &lt;b&gt;</a>' in page
    assert f'<a href="{address(Entitlement, staged.pk)}">' not in page.partition("entitlementrole_set")[0]


# --- entitlements -----------------------------------------------------------------------------------


def test_a_selector_is_added_and_taken_out_each_by_one_revision(
    operator: Client, staged: Entitlement, payments: Account, tree: dict[str, OrganisationalUnit]
) -> None:
    Account.objects.filter(pk=payments.pk).update(unit=tree["Apes"], tags={"team": "payments"})
    factories.role("ReadOnly", payments)

    made = add_selector(
        operator, staged, unit=tree["Zoo"].pk, role_name="read*", account_tag_key="team", account_tag_value="payments"
    )

    assert made.status_code == 302
    staged.refresh_from_db()
    assert staged.revision == last().detail["revision"] == 2
    (added,) = last().detail["changes"]["role selectors"]["added"]
    assert {name: value for name, value in added.items() if value} == {
        "unit": "Zoo",
        "role_name": "read*",
        "account_tag_key": "team",
        "account_tag_value": "payments",
    }
    at = address(Entitlement, staged.pk)
    page = operator.get(at).content.decode()
    words = "roles named read*, in or below the unit Root / Zoo, whose account is tagged team = payments"
    assert words in page
    assert "1 role: ReadOnly in payments-prod" in page

    gone = send(
        operator, at, add_line(read(operator, at), "selectors-2", role_name="*"), **{"selectors-0-DELETE": "on"}
    )
    assert gone.status_code == 302
    staged.refresh_from_db()
    assert staged.revision == 3
    changes = last().detail["changes"]["role selectors"]
    assert changes["removed"] == [{"line": words}]
    assert changes["added"][0]["role_name"] == "*"
    assert [one.role_name for one in staged.selectors.all()] == ["*"]


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ({"account_tag_value": "x"}, "needs the tag"),
        ({"role_name": "Read %"}, "As IAM writes role names"),
        ({"environment": "PROD"}, "Lower case"),
        ({"role_name": "x" * 65}, "at most 64 characters"),
    ],
)
def test_a_selector_that_says_nonsense_is_refused_in_words(
    says: dict[str, str], sentence: str, operator: Client, staged: Entitlement
) -> None:
    assert sentence in errors(add_selector(operator, staged, **says))
    assert not staged.selectors.exists()


def test_an_empty_line_is_no_selector(operator: Client, staged: Entitlement) -> None:
    assert add_selector(operator, staged).status_code == 302
    assert not staged.selectors.exists()
    assert add_selector(operator, staged, role_tag_key=" ").status_code == 302
    assert not staged.selectors.exists()


def test_any_value_of_a_tag_and_what_gives_nothing_yet(operator: Client, staged: Entitlement) -> None:
    assert add_selector(operator, staged, role_tag_key="break-glass").status_code == 302
    assert staged.selectors.get().role_tag_value is None
    page = operator.get(address(Entitlement, staged.pk)).content.decode()
    assert "roles tagged break-glass" in page
    assert "no role at the moment" in page


def test_what_is_counted_is_bounded_and_in_use(operator: Client, staged: Entitlement, payments: Account) -> None:
    staged.selectors.create(account=payments)
    staged.selectors.create(role_name="r0001")
    staged.selectors.create(role_name="r0002")
    Role.objects.bulk_create(Role(account=payments, name=f"R{number:04}") for number in range(1100))
    Role.objects.filter(name="R0002").update(is_active=False)

    page = operator.get(address(Entitlement, staged.pk)).content.decode()

    assert "1,000 or more roles: Administrator in payments-prod, R0000 in payments-prod," in page
    assert "1 role: R0001 in payments-prod" in page
    assert "no role at the moment" in page


def test_too_many_selectors_are_refused(operator: Client, staged: Entitlement) -> None:
    for number in range(20):
        staged.selectors.create(role_name=f"R{number}")
    assert "20 selectors at most" in errors(add_selector(operator, staged, role_name="R21"))
    assert staged.selectors.count() == 20


def test_narrowing_must_fit_what_is_selected_too(operator: Client, administrator: Role) -> None:
    elsewhere = factories.role("Elsewhere")
    arn = "arn:aws:iam::222222222222:policy/read-only"
    one = factories.entitlement(administrator, narrowing_policy_arns=[arn])

    assert add_selector(operator, one, account=administrator.account_id).status_code == 302
    assert "own account" in errors(add_selector(operator, one, role_name="else*"))
    assert one.selectors.count() == 1

    # Nor can it be narrowed so later, while a selector gives other accounts' roles.
    wide = factories.entitlement()
    wide.selectors.create(account=elsewhere.account)
    assert "own account" in errors(save(operator, address(Entitlement, wide.pk), narrowing_policy_arns=arn))
    gone = {"selectors-0-DELETE": "on", "narrowing_policy_arns": arn}
    assert save(operator, address(Entitlement, wide.pk), **gone).status_code == 302


def test_what_is_selected_later_and_does_not_fit_is_said_where_it_is_changed(
    operator: Client, tree: dict[str, OrganisationalUnit]
) -> None:
    """By the role's own tags, by its account, and by a unit that is moved."""
    one = factories.entitlement(name="Apes, reading", narrowing_policy_arns=["arn:aws:iam::222222222222:policy/r"])
    one.selectors.create(unit=tree["Bank"], role_tag_key="access")
    account = factories.account(unit=tree["Zoo"])
    role = factories.role("Keeper", account)

    def told(response: Any) -> bool:
        said = str(operator.get(response["Location"]).content, "utf-8")
        return "gives what its narrowing does not fit" in said and "Apes, reading" in said

    def on_its_page() -> bool:
        return "its narrowing does not fit" in operator.get(address(Role, role.pk)).content.decode()

    assert not told(save(operator, address(Role, role.pk), tags='{"access": "read"}'))
    assert told(save(operator, address(Account, account.pk), unit=tree["Bank"].pk))
    assert on_its_page()
    assert not told(save(operator, address(Account, account.pk), unit=tree["Apes"].pk))
    assert not on_its_page()
    assert told(save(operator, address(OrganisationalUnit, tree["Zoo"].pk), parent=tree["Bank"].pk))
    assert told(save(operator, address(Role, role.pk), tags='{"access": "write"}'))
    assert not told(save(operator, address(Role, role.pk), tags="{}"))


def test_exclusions_are_lines_like_others(
    operator: Client, staged: Entitlement, security: Group, mallory: User
) -> None:
    at = address(Entitlement, staged.pk)
    fields = add_line(read(operator, at), "excludedgroup_set", group=security.pk)
    assert send(operator, at, add_line(fields, "excludeduser_set", user=mallory.pk)).status_code == 302

    assert (list(staged.excluded_groups.all()), list(staged.excluded_users.all())) == ([security], [mallory])
    assert last().detail["revision"] == 2
    assert last().detail["changes"] == {
        "excluded groups": {"added": [{"group": "Security"}]},
        "excluded people": {"added": [{"user": "mallory"}]},
    }


def test_auditors_read_it_and_change_nothing(
    dave: User, staged: Entitlement, tree: dict[str, OrganisationalUnit]
) -> None:
    staged.selectors.create(unit=tree["Zoo"])
    client = signed_in(dave)
    page = client.get(address(Entitlement, staged.pk)).content.decode()
    assert "all roles, in or below the unit Root / Zoo" in page
    assert "new selectors" not in page
    at = address(OrganisationalUnit, tree["Zoo"].pk)
    assert client.get(at).status_code == 200
    assert client.post(at, {"name": "Mine"}).status_code == 403


def test_pages_take_as_many_statements_for_many(
    operator: Client, staged: Entitlement, tree: dict[str, OrganisationalUnit], payments: Account
) -> None:
    def statements(at: str) -> int:
        with CaptureQueriesContext(connection) as made:
            assert operator.get(at).status_code == 200
        return len(made)

    def grow(name: str) -> None:
        below = OrganisationalUnit.objects.create(name=name, parent=tree["Zoo"])
        staged.selectors.create(unit=below)
        staged.selectors.create(account=factories.account(unit=below))
        staged.excluded_groups.add(factories.group(name))
        staged.excluded_users.add(factories.person(name))

    pages = (address(Entitlement, staged.pk), address(OrganisationalUnit), address(Account))
    grow("first")
    for at in pages:
        statements(at)
    few = [statements(at) for at in pages]
    for number in range(6):
        grow(f"more{number}")
    assert [statements(at) for at in pages] == few
