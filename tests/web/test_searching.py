"""What people paste or type into the search boxes finds what reaches them, and tells nothing of what does not."""

from typing import Any

import pytest
from django.test import Client

from requests_app.domain.models import AccessRequest, Account, Entitlement, Group, Role, User
from tests import factories
from tests.web.pages import page, signed_in
from tests.web.test_home import queries

NUMBER = "222222222222"  # of payments-prod
PASTED = [
    f"arn:aws:iam::{NUMBER}:role/elevated/Administrator",
    f"arn:aws:iam::{NUMBER}:role/administrator",
    f" 'arn:aws:sts::{NUMBER}:assumed-role/Administrator/somebody'",
    f"{NUMBER}/Administrator",
    "2222-2222-2222/Administrator",
    "Payments-Prod/administrator",
    f"https://signin.aws.amazon.com/switchrole?account={NUMBER}&roleName=elevated/Administrator&displayName=x",
    "https://signin.aws.amazon.com/switchrole?account=payments-prod&roleName=Administrator",
]


def found(client: Client, words: str) -> str:
    """What the box shows; the page without script shows the same."""
    response = client.get("/request/roles", {"q": words})
    assert response.status_code == 200
    whole = client.get("/request/", {"q": words})
    assert page(response).text in page(whole).text
    return page(response).text


@pytest.mark.parametrize("words", PASTED)
def test_what_is_pasted_finds_that_role_alone(
    words: str, alice: User, administrator: Role, staged: Entitlement, payments: Account, engineers: Group
) -> None:
    others = [factories.role(name, payments) for name in ("AdministratorToo", "Reader")]
    factories.entitlement(*others, factories.role("Administrator"), groups=[engineers])

    shown = found(signed_in(alice), words)

    assert "Administrator in payments-prod" in shown
    assert "AdministratorToo" not in shown
    assert "Reader" not in shown
    assert "account-" not in shown
    assert "Understood as" not in shown


@pytest.mark.parametrize("words", PASTED)
def test_a_role_that_does_not_reach_somebody_is_as_one_that_there_is_not(
    words: str, alice: User, mallory: User, administrator: Role, staged: Entitlement, payments: Account
) -> None:
    client = signed_in(mallory)
    there_is = found(client, words)
    assert "Understood as role" in there_is
    assert "No terms that reach you give it" in there_is
    of_it = queries(lambda: client.get("/request/roles", {"q": words}))

    Role.objects.filter(pk=administrator.pk).update(name="Moved")
    Account.objects.filter(pk=payments.pk).update(name="moved", number="333333333333")

    assert found(client, words) == there_is
    assert queries(lambda: client.get("/request/roles", {"q": words})) == of_it


def test_beside_what_is_not_given_stand_the_roles_that_are_in_its_account(
    alice: User, administrator: Role, read_only: Role, staged: Entitlement
) -> None:
    shown = found(signed_in(alice), f"arn:aws:iam::{NUMBER}:role/{read_only.name}")

    assert "Understood as role ReadOnly in account 2222-2222-2222 . No terms that reach you give it" in shown
    assert "What you may ask for in this account: Administrator in payments-prod" in shown


def test_an_account_in_another_partition_is_another_account(
    alice: User, administrator: Role, staged: Entitlement
) -> None:
    shown = found(signed_in(alice), f"arn:aws-cn:iam::{NUMBER}:role/Administrator")

    assert "role Administrator in account 2222-2222-2222 of aws-cn" in shown
    assert "payments-prod" not in shown


def test_words_with_a_slash_are_words_where_they_are_no_role_in_an_account(
    alice: User, payments: Account, engineers: Group
) -> None:
    factories.entitlement(factories.role("Writer", payments, description="read/write"), groups=[engineers])

    assert "Writer in payments-prod" in found(signed_in(alice), "read/write")
    assert "Writer in payments-prod" in found(signed_in(alice), "paym/writ")


@pytest.mark.parametrize("words", ["{code}", "https://daypass.example.com/requests/{code}/approve", "{code}-alice"])
def test_a_requests_code_leads_to_it_and_tells_no_more(
    words: str, mallory: User, active_request: AccessRequest
) -> None:
    client = signed_in(mallory)
    shown = found(client, words.format(code=active_request.code))

    assert shown == f"{active_request.code} is the code of a request: open {active_request.code} ."
    assert found(client, words.format(code="DP-00000000")).replace("DP-00000000", active_request.code) == shown
    assert client.get(f"/requests/{active_request.code}").status_code == 404


@pytest.mark.parametrize("words", [*PASTED, "arn:aws:iam::999999999999:role/x", "a/b"])
def test_a_paste_takes_no_more_statements_the_more_there_is(
    words: str, alice: User, payments: Account, engineers: Group
) -> None:
    entitlement = factories.entitlement(factories.role("Role0", payments), groups=[engineers])
    client = signed_in(alice)
    client.get("/request/roles", {"q": words})
    few = queries(lambda: client.get("/request/roles", {"q": words}))
    entitlement.roles.add(*[factories.role(f"Role{number}", payments) for number in range(1, 40)])
    shown: list[Any] = []

    assert queries(lambda: shown.append(client.get("/request/roles", {"q": words}))) == few
    assert len(page(shown[0]).all("li")) <= 12


@pytest.mark.parametrize("words", PASTED)
def test_operators_find_what_to_stop_by_what_they_paste(
    words: str, olivia: User, administrator: Role, read_only: Role
) -> None:
    links = [str(link.get("href")) for link in page(signed_in(olivia).get("/stop/", {"q": words})).all("a")]

    assert f"/stop/role/{administrator.public_id}" in links
    assert f"/stop/account/aws/{NUMBER}" in links
    assert f"/stop/role/{read_only.public_id}" not in links


def test_operators_find_who_to_stop_by_a_session_from_aws(olivia: User, active_request: AccessRequest) -> None:
    session = f"arn:aws:sts::{NUMBER}:assumed-role/Administrator/{active_request.code}-someone"
    for words in (session, active_request.code, f"https://daypass.example.com/requests/{active_request.code}"):
        links = [str(link.get("href")) for link in page(signed_in(olivia).get("/stop/", {"q": words})).all("a")]
        assert f"/stop/person/{active_request.beneficiary.public_id}" in links


@pytest.mark.parametrize("words", PASTED)
def test_the_admin_finds_roles_accounts_and_requests_by_what_is_pasted(
    words: str, olivia: User, active_request: AccessRequest, read_only: Role, payments: Account
) -> None:
    factories.account("elsewhere")
    client = signed_in(olivia)
    roles = page(client.get("/admin/requests_app/role/", {"q": words})).text
    assert "Administrator" in roles
    assert "ReadOnly" not in roles
    accounts = page(client.get("/admin/requests_app/account/", {"q": words})).text
    assert "elsewhere" not in accounts
    assert "payments-prod" in accounts
    if "ayments-" not in words:  # requests are found by what is exact
        requests = page(client.get("/admin/requests_app/accessrequest/", {"q": words.replace("somebody", "").strip()}))
        assert active_request.code in requests.text


@pytest.mark.parametrize(
    "words",
    [
        "https://daypass.example.com/requests/{code}",
        "arn:aws:sts::222222222222:assumed-role/Administrator/{code}-alice",
        "{code}",
    ],
)
def test_the_admin_finds_a_request_by_any_link_to_it(words: str, dave: User, active_request: AccessRequest) -> None:
    other = AccessRequest.objects.exclude(pk=active_request.pk)
    assert not other.exists()
    client = signed_in(dave)
    for list_of in ("accessrequest", "auditevent"):
        shown = page(client.get(f"/admin/requests_app/{list_of}/", {"q": words.format(code=active_request.code)})).text
        assert active_request.code in shown
        shown = page(client.get(f"/admin/requests_app/{list_of}/", {"q": words.format(code="DP-00000000")})).text
        assert active_request.code not in shown


# --- without typing ------------------------------------------------------------------------------------


def test_whoever_types_nothing_sees_the_accounts_and_roles_that_reach_them(
    alice: User, mallory: User, administrator: Role, read_only: Role, staged: Entitlement
) -> None:
    factories.role("Hidden", factories.account("hidden"))
    shown = found(signed_in(alice), "")
    assert "payments-prod 2222-2222-2222 1 role Administrator" in shown
    assert "ReadOnly" not in shown
    assert "hidden" not in shown.lower()
    assert "Accounts" not in found(signed_in(mallory), "")


def test_accounts_and_the_roles_of_one_are_shown_page_by_page(alice: User, engineers: Group) -> None:
    large = factories.account("account 00")
    roles = [factories.role(f"Role{number:03}", large) for number in range(60)]
    roles += [factories.role("Reader", factories.account(f"account {number:02}")) for number in range(1, 25)]
    entitlement = factories.entitlement(groups=[engineers])
    entitlement.roles.add(*roles)
    client = signed_in(alice)

    met, address, pages = [], "/request/roles", 0
    while address:
        shown = page(client.get(address))
        met += [word for word in shown.text.replace("account ", "account-").split() if word.startswith("account-")]
        links = [str(link["hx-get"]) for link in shown.all("a") if "data-browse" in link]
        address = next((link for link in links if "account%20" in link and "account=" not in link), "")
        pages += 1
    assert pages == 3
    assert sorted(set(met)) == [f"account-{number:02}" for number in range(25)]

    first = page(client.get("/request/roles"))
    of_large = next(str(link["hx-get"]) for link in first.all("a") if "account=" in str(link.get("hx-get")))
    whole = page(client.get(of_large))
    assert "Role049" in whole.text
    assert "Role050" not in whole.text
    further = next(str(link["hx-get"]) for link in whole.all("a") if "after=Role049" in str(link.get("hx-get")))
    assert "Role059" in page(client.get(further)).text
    assert page(client.get(further)).text in page(client.get(further.replace("/request/roles", "/request/"))).text


def test_an_account_that_does_not_reach_somebody_is_as_one_that_there_is_not(
    mallory: User, administrator: Role, staged: Entitlement
) -> None:
    client = signed_in(mallory)
    shown = [
        page(client.get("/request/roles", {"account": account, "after": after})).text
        for account in ("aws:222222222222", "aws:999999999999", "aws", ":", "x" * 3000, "aws:2222\0")
        for after in ("", "A", "\0", "漢")
    ]
    assert set(shown) == {shown[0]}
    assert "payments" not in shown[0]
    assert "payments" not in page(client.get("/request/roles", {"after": "payments-proc"})).text


def test_much_to_browse_takes_as_many_statements(alice: User, engineers: Group) -> None:
    entitlement = factories.entitlement(factories.role(), groups=[engineers])
    client = signed_in(alice)
    for address in ("/request/roles", "/request/"):
        client.get(address)
        few = queries(lambda at=address: client.get(at))  # type: ignore[misc]
        entitlement.roles.add(*[factories.role() for _ in range(15)])
        assert queries(lambda at=address: client.get(at)) == few  # type: ignore[misc]


# --- mistyped ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        *(
            "adminstrator",
            "Admnistrator",
            "paymnets",
            "paymnets adminstrator",
            "adminstrator payments",
            "paymets/admin",
        ),
        *("pyments-prod/adminstrator", "“administratr”"),
    ],
)
def test_what_is_mistyped_finds_what_is_like_it(
    words: str, alice: User, administrator: Role, read_only: Role, staged: Entitlement
) -> None:
    shown = found(signed_in(alice), words)

    assert "Nothing has exactly these words; like them are: Administrator in payments-prod" in shown
    assert "ReadOnly" not in shown


def test_the_most_alike_stands_first_and_what_is_right_is_not_joined_by_others(
    alice: User, payments: Account, engineers: Group
) -> None:
    roles = [factories.role(name, payments) for name in ("Adviser", "Administration", "Administrator", "Admiral")]
    factories.entitlement(*roles, groups=[engineers])
    client = signed_in(alice)

    shown = found(client, "adminstrator")
    assert shown.index("Administrator") < shown.index("Administration")
    assert "Adviser" not in shown
    assert "exactly" not in found(client, "administrator")
    assert "Administration" not in found(client, "administrator")


@pytest.mark.parametrize("words", ["adminstrator", "paymnets", "paymnets adminstrator"])
def test_nothing_like_it_is_shown_that_does_not_reach_somebody(
    words: str, mallory: User, administrator: Role, staged: Entitlement, security: Group
) -> None:
    of_hers = factories.role("Reader", factories.account("ledger"))
    factories.entitlement(of_hers, users=[mallory])
    shown = found(signed_in(mallory), words)
    assert "Nothing matches" in shown

    assert "Administrator" not in shown
    Role.objects.filter(pk=administrator.pk).update(name="Moved")
    assert found(signed_in(mallory), words) == shown


@pytest.mark.parametrize(
    "words", ["%%%%", "____", "\\\\\\\\", "aaaa' --", "漢字漢字漢字", "zzzz " * 40, "%s%s%(x)s", "xyz"]
)
def test_strange_words_are_like_nothing(words: str, alice: User, administrator: Role, staged: Entitlement) -> None:
    assert "Administrator" not in found(signed_in(alice), words)


def test_many_that_are_alike_take_no_more_statements(alice: User, payments: Account, engineers: Group) -> None:
    entitlement = factories.entitlement(factories.role("Reader", payments), groups=[engineers])
    client = signed_in(alice)
    client.get("/request/roles?q=readre")
    few = queries(lambda: client.get("/request/roles?q=readre"))
    entitlement.roles.add(*[factories.role(f"Reader-{number}", payments) for number in range(30)])
    shown: list[Any] = []
    assert queries(lambda: shown.append(client.get("/request/roles?q=readre"))) == few
    assert len(page(shown[0]).all("li")) == 12


@pytest.mark.parametrize("words", ["mallroy", "malory", "mallory@exampel"])
def test_operators_find_people_whom_they_mistype(words: str, olivia: User, mallory: User, alice: User) -> None:
    shown = page(signed_in(olivia).get("/stop/", {"q": words}))
    assert "Nothing has exactly these words; like them are: Mallory" in shown.text
    assert str(alice.public_id) not in str(shown.all("a"))


@pytest.mark.parametrize("words", ["paymnets-prod", "adminstrator"])
def test_operators_find_what_they_mistype(words: str, olivia: User, administrator: Role, payments: Account) -> None:
    shown = page(signed_in(olivia).get("/stop/", {"q": words})).text
    assert "like them are: " in shown
    assert "payments-prod" in shown
    assert "exactly" not in page(signed_in(olivia).get("/stop/", {"q": "payments-prod"})).text


@pytest.mark.parametrize("words", ["arn:aws:iam::999999999999:role/nowhere", "a/b", "\0", "\u200b", "''", "x" * 5000])
def test_operators_are_told_that_nothing_is_meant(words: str, olivia: User, administrator: Role) -> None:
    response = signed_in(olivia).get("/stop/", {"q": words})
    assert response.status_code == 200
    assert "Administrator" not in page(response).text
