"""A second factor that is demanded: of whom, until when they may go without, and what is open to them after that."""

from collections.abc import Iterator
from typing import Any

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from requests_app.domain import factor_demand
from requests_app.domain.models import AccessRequest, Account, Entitlement, FactorDemand, Group, Role, Stage, User
from tests import factories
from tests.web.pages import page, signed_in
from tests.web.test_sign_ins_end import PASSWORD, SECRET, code_of, sign_in

pytestmark = pytest.mark.django_db(transaction=True)
BANNER = "A second factor is demanded of you."


@pytest.fixture(autouse=True)
def _as_another_process() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def demanded(settings: Any) -> Any:
    settings.SECOND_FACTOR_FOR = factor_demand.OPERATORS_AND_APPROVERS
    settings.SECOND_FACTOR_GRACE_DAYS = 0
    return settings


@pytest.fixture
def peter(db: Any) -> User:
    """Operates too, and has a factor: so this is no fresh installation."""
    person = factories.person("peter", is_staff=True, is_operator=True)
    with factories.vouched():
        totp.TOTP.activate(person, SECRET)
    return person


def is_concerned(person: User) -> bool:
    return factor_demand.of(person).is_concerned


def is_sent(client: Client, path: str = "/") -> bool:
    """To the page that helps."""
    return bool(client.get(path).headers.get("Location") == reverse("second_factor"))


# --- of whom -----------------------------------------------------------------------------------


def test_of_operators_and_approvers(
    demanded: Any, olivia: User, bob: User, alice: User, mallory: User, dave: User, staged: Entitlement
) -> None:
    assert [is_concerned(person) for person in (olivia, bob, alice, mallory, dave)] == [True, True, False, False, False]
    Entitlement.objects.filter(pk=staged.pk).update(is_active=False)
    assert not is_concerned(bob), "an entitlement that is not in use asks nobody"


@pytest.mark.parametrize("how", ["by name", "further, by name", "further, in a group", "the account's", "the role's"])
def test_whoever_any_stage_asks_approves(
    how: str, demanded: Any, mallory: User, staged: Entitlement, payments: Account, administrator: Role
) -> None:
    stage, group = staged.stages.get(), factories.group("Owners")
    group.members.add(mallory)
    assert not is_concerned(mallory)
    match how:
        case "by name":
            stage.users.add(mallory)
        case "further, by name":
            stage.more_users.add(mallory)
        case "further, in a group":
            stage.more_groups.add(group)
        case "the account's":
            Stage.objects.filter(pk=stage.pk).update(owners="account")
            Account.objects.filter(pk=payments.pk).update(owners=group)
        case "the role's":
            Stage.objects.filter(pk=stage.pk).update(owners="role")
            Role.objects.filter(pk=administrator.pk).update(owners=group)
    assert is_concerned(mallory)


def test_of_everybody_of_groups_or_of_nobody(
    settings: Any, alice: User, mallory: User, olivia: User, engineers: Group
) -> None:
    for who, groups, expected in (
        ("nobody", [], [False, False, False]),
        ("nobody", [engineers.name, "no such"], [True, False, False]),
        ("everybody", [], [True, True, True]),
    ):
        settings.SECOND_FACTOR_FOR, settings.SECOND_FACTOR_GROUPS = who, groups
        assert [is_concerned(person) for person in (alice, mallory, olivia)] == expected
    assert FactorDemand.objects.count() == 3, "each once, and only those of whom it was demanded"


# --- until when --------------------------------------------------------------------------------


def test_until_grace_is_over_a_banner_says_until_when(demanded: Any, bob: User, staged: Entitlement) -> None:
    demanded.SECOND_FACTOR_GRACE_DAYS = 7
    client = signed_in(bob)
    first = client.get("/")
    assert (first.status_code, BANNER in page(first).text) == (200, True)
    since = FactorDemand.objects.get(person=bob).since
    assert BANNER in page(client.get("/approvals/")).text
    assert FactorDemand.objects.get(person=bob).since == since, "it began once"
    help_ = page(client.get(reverse("second_factor")))
    assert "You have until" in help_.text
    assert BANNER not in help_.text, "which says so itself"

    FactorDemand.objects.update(since="2026-01-01T00:00Z")
    assert is_sent(client)


def test_in_the_admin_too(demanded: Any, olivia: User, peter: User) -> None:
    demanded.SECOND_FACTOR_GRACE_DAYS = 7
    assert "A second factor is demanded of you" in page(signed_in(olivia).get("/admin/")).text


def test_afterwards_nothing_else_is_open(
    demanded: Any, bob: User, olivia: User, peter: User, pending_request: AccessRequest
) -> None:
    client, hers = signed_in(bob), signed_in(olivia)
    for path in ("/", "/approvals/", "/request/", f"/requests/{pending_request.code}", "/settings/", "/stop/"):
        assert is_sent(client, path), path
    for path in ("/admin/", reverse("admin:requests_app_user_changelist"), reverse("admin:jsi18n"), "/stop/"):
        assert is_sent(hers, path), path
    pressed = client.post(f"/requests/{pending_request.code}/approve", {"comment": "yes"})
    assert pressed["Location"] == reverse("second_factor")
    pending_request.refresh_from_db()
    assert not pending_request.decisions.exists()

    for headers in ({"Accept": "application/json"}, {"HX-Request": "true"}):
        answer = client.get("/approvals/updates", headers=headers)
        assert (answer.status_code, answer.json()["rule"]) == (403, "factor.demanded")
        assert "Set one up first" in answer.json()["message"]

    shown = page(client.get(reverse("second_factor")))
    assert (shown.inline, shown.unlabelled(), shown.problems) == ([], [], [])
    assert client.get(reverse("mfa_index")).status_code == 200
    assert client.get(reverse("account_logout")).status_code == 200
    client.post(reverse("account_logout"))
    assert client.get("/")["Location"].startswith("/accounts/login/")


def test_who_sets_one_up_goes_on_and_who_takes_it_off_does_not(demanded: Any, bob: User, staged: Entitlement) -> None:
    bob.set_password(PASSWORD)
    bob.save(update_fields=["password"])
    client = Client()
    client.post("/accounts/login/", {"login": "bob", "password": PASSWORD})
    assert is_sent(client)
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    secret = client.get(reverse("mfa_activate_totp")).context["form"].secret
    client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)})
    assert client.get("/").status_code == 200

    client.post(reverse("mfa_deactivate_totp"))
    assert is_sent(client)


def test_who_signed_in_without_the_one_they_have_uses_it_first(demanded: Any, bob: User, staged: Entitlement) -> None:
    """By a door that does not ask for it; grace or not."""
    demanded.SECOND_FACTOR_GRACE_DAYS = 7
    totp.TOTP.activate(bob, SECRET)
    codes = RecoveryCodes.activate(bob).generate_codes()
    bob.refresh_from_db()
    client = signed_in(bob)
    assert is_sent(client)
    assert "did not use it in this sign-in" in page(client.get(reverse("second_factor"))).text
    client.post(reverse("mfa_reauthenticate"), {"code": codes[0]})
    assert client.get("/").status_code == 200


def test_a_fresh_installation_does_not_lock_itself(demanded: Any, olivia: User, bob: User, staged: Entitlement) -> None:
    """No operator has one: they are warned, all others are not let off."""
    hers = signed_in(olivia)
    answer = hers.get("/admin/")
    assert answer.status_code == 200
    assert "no operator has one yet" in page(answer).text
    assert "no operator has one yet" in page(hers.get("/")).text
    assert is_sent(signed_in(bob))

    peter = factories.person("peter", is_staff=True, is_operator=True)
    with factories.vouched():
        RecoveryCodes.activate(peter)
    assert not is_sent(hers), "codes alone are no factor"
    with factories.vouched():
        totp.TOTP.activate(peter, SECRET)
    assert is_sent(hers)


# --- what it costs -----------------------------------------------------------------------------


def asked(client: Client, path: str = "/settings/") -> int:
    client.get(path)  # what a first page of this process asks besides
    with CaptureQueriesContext(
        connection,
    ) as queries:
        client.get(path)
    return sum("factor_demand" in query["sql"] or "mfa_authenticator" in query["sql"] for query in queries)


def test_it_costs_one_statement_and_none_for_those_who_have_one(
    demanded: Any, bob: User, mallory: User, alice: User, staged: Entitlement
) -> None:
    demanded.SECOND_FACTOR_GRACE_DAYS = 7
    assert (asked(signed_in(bob)), asked(signed_in(mallory))) == (1, 0)

    bob.set_password(PASSWORD)
    bob.save(update_fields=["password"])
    totp.TOTP.activate(bob, SECRET)
    bob.refresh_from_db()
    assert asked(sign_in(bob, secret=SECRET)) == 0

    demanded.SECOND_FACTOR_FOR = factor_demand.NOBODY
    assert asked(signed_in(alice)) == 0
