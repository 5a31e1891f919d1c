"""What an operator mistyped in the catalog: corrected while nothing depends on it, and then entered anew."""

import threading
from functools import partial
from typing import Any

import pytest
from django.test import Client

from requests_app.domain import arns, clock, workflow
from requests_app.domain.errors import DomainError
from requests_app.domain.models import (
    Account,
    AuditEvent,
    DenyPolicy,
    Edit,
    Entitlement,
    Freeze,
    Group,
    OrganisationalUnit,
    Preflight,
    Role,
    User,
)
from requests_app.domain.workflow import preflights
from tests import factories
from tests.admin.filling import Form, errors, read, save, send
from tests.admin.test_reading import address
from tests.domain.meeting import at_once
from tests.web.pages import Page, page, signed_in

ARN = "arn:aws:iam::222222222222:role/elevated/Deploy"


@pytest.fixture
def operator(olivia: User) -> Client:
    return signed_in(olivia)


def arn(role: Role) -> str:
    return Role.objects.select_related("account").get(pk=role.pk).arn


def asked_for(role: Role, alice: User, engineers: Group) -> Any:
    return factories.wish(alice, role, factories.entitlement(role, groups=[engineers]))


DEPENDS: dict[str, Any] = {
    "request": lambda role, alice, engineers, olivia: asked_for(role, alice, engineers),
    "freeze": lambda role, alice, engineers, olivia: workflow.freezes.freeze(role, by=olivia, reason="incident"),
    "deny policy": lambda role, alice, engineers, olivia: DenyPolicy.objects.create(role=role, expected=[None]),
    "own session": lambda role, alice, engineers, olivia: factories.own_session(role),
}


def test_what_was_read_of_another_accounts_console_is_forgotten_with_its_number(
    operator: Client, payments: Account
) -> None:
    Account.objects.update(console_authorization="on")
    assert "there is no console here" in page(operator.get(address(Account, payments.pk))).text

    assert save(operator, address(Account, payments.pk), number="123456789012").status_code == 302

    payments.refresh_from_db()
    assert (payments.number, payments.console_authorization) == ("123456789012", "")


def test_a_role_with_a_wrong_path_is_corrected_while_nothing_depends_on_it(
    operator: Client, olivia: User, payments: Account
) -> None:
    role = factories.role("Deploy", payments)
    Role.objects.filter(pk=role.pk).update(path="/")
    preflights.look_soon(Role.objects.all())
    Preflight.objects.update(usable="good", minter_at=clock.now(), aws_role_id="AROAOTHER", doors=[{"principal": "x"}])

    assert save(operator, address(Role, role.pk), path="/elevated/").status_code == 302

    assert arn(role) == ARN
    event = AuditEvent.objects.latest("pk")
    assert (event.subject, event.detail["changes"]) == (ARN, {"path": ["/", "/elevated/"]})
    # What was found is about another role at AWS, and the change does not count for whoever made it.
    found = Preflight.objects.get()
    assert (found.usable, found.minter_at, found.aws_role_id, found.doors) == ("unknown", None, "", [])
    assert Edit.objects.get().editor == olivia


@pytest.mark.parametrize("what", ["account", "name", "arn"])
def test_whatever_makes_its_arn_can_be_corrected(what: str, operator: Client, payments: Account) -> None:
    other = factories.account("web")
    role = factories.role("Deploi" if what == "name" else "Deploy", other if what == "account" else payments)
    if what == "arn":
        Role.objects.filter(pk=role.pk).update(path="/", account=other, name="D")

    cases: dict[str, dict[str, Any]] = {
        "account": {"account": payments.pk},
        "name": {"name": "Deploy"},
        "arn": {"arn": f" {ARN}\n"},
    }
    assert save(operator, address(Role, role.pk), **cases[what]).status_code == 302

    assert arn(role) == ARN


def test_an_account_with_a_wrong_number_is_corrected_with_its_roles(operator: Client, olivia: User) -> None:
    account = factories.account("payments-prod", number="222222222220")
    role = factories.role("Deploy", account)
    preflights.look_soon(Role.objects.all())
    Preflight.objects.update(usable="good", minter_at=clock.now())

    assert save(operator, address(Account, account.pk), number="2222-2222-2222").status_code == 302

    assert arn(role) == ARN
    assert Preflight.objects.get().usable == "unknown"
    assert (Edit.objects.get().editor, Edit.objects.get().account) == (olivia, account)


@pytest.mark.parametrize("what", DEPENDS)
def test_afterwards_the_page_says_why_not_and_what_to_do(
    what: str, operator: Client, olivia: User, alice: User, engineers: Group, payments: Account
) -> None:
    role = factories.role("Deploy", payments)
    DEPENDS[what](role, alice, engineers, olivia)

    for one in (role, payments):
        at = address(type(one), one.pk)
        page = operator.get(at).content.decode()
        assert "cannot be corrected any more, because" in page
        assert not {"path", "arn", "number", "partition"} & read(operator, at).keys()
        assert save(operator, at, is_active=None).status_code == 302  # taken out of use it can be
        type(one)._default_manager.filter(pk=one.pk).update(is_active=True)


@pytest.mark.parametrize("what", DEPENDS)
def test_what_came_to_depend_on_it_while_the_page_was_open_is_said_at_the_field(
    what: str, operator: Client, olivia: User, alice: User, engineers: Group, payments: Account
) -> None:
    role = factories.role("Deploy", payments)
    pages = {one: read(operator, address(type(one), one.pk)) for one in (role, payments)}
    DEPENDS[what](role, alice, engineers, olivia)

    answers = [
        send(operator, address(Role, role.pk), pages[role], path="/other/"),
        send(operator, address(Account, payments.pk), pages[payments], number="333333333333"),
    ]

    for answer in answers:
        assert "This cannot be corrected any more, because" in errors(answer)
    assert "/other/" in answers[0].content.decode()  # as it was typed
    assert arn(role) == ARN
    # What else the page says can still be saved.
    assert send(operator, address(Role, role.pk), pages[role], description="deploys").status_code == 302


def test_a_role_used_under_a_wrong_path_is_retired_and_the_right_one_entered(
    operator: Client, olivia: User, alice: User, engineers: Group, payments: Account
) -> None:
    wrong = factories.role("deploy", payments)
    Role.objects.filter(pk=wrong.pk).update(path="/elevatd/")
    request = asked_for(wrong, alice, engineers)
    add = address(Role, page="add")

    assert "it is in use: take it out of use first" in errors(save(operator, add, arn=ARN))
    save(operator, address(Role, wrong.pk), is_active=None)
    assert "still open: end them first" in errors(save(operator, add, arn=ARN))
    workflow.withdraw(request, by=alice)
    assert save(operator, add, arn=ARN).status_code == 302

    right = Role.objects.select_related("account").get(path="/elevated/")
    assert right.arn == ARN
    # The old one does not come back beside it.
    assert "it is in use" in errors(save(operator, address(Role, wrong.pk), is_active="on"))
    save(operator, address(Role, right.pk), is_active=None)
    assert save(operator, address(Role, wrong.pk), is_active="on").status_code == 302


def test_where_the_wrong_one_can_be_corrected_that_is_said(operator: Client, payments: Account) -> None:
    factories.role("deploy", payments)

    said = errors(save(operator, address(Role, page="add"), arn=ARN))

    assert "it is in use: correct that one, or take it out of use first" in said


def test_the_link_to_enter_the_right_one_has_the_fields_filled_in(
    operator: Client, alice: User, engineers: Group, payments: Account
) -> None:
    role = factories.role("Deploy", payments)
    asked_for(role, alice, engineers)
    page = Page(operator.get(address(Role, role.pk)).content.decode())
    (link,) = [one["href"] for one in page.all("a") if "?arn=" in (one.get("href") or "")]

    fields = read(operator, str(link))

    assert (fields["account"], fields["path"], fields["name"]) == ([str(payments.pk)], ["/elevated/"], ["Deploy"])


def test_an_arn_that_is_there_already_is_said_with_a_link(operator: Client, payments: Account) -> None:
    role = factories.role("Deploy", payments, is_active=False)

    said = errors(save(operator, address(Role, page="add"), arn=ARN))

    assert "is in the catalog already, out of use: bring it back there" in said
    assert f'<a href="{address(Role, role.pk)}">{ARN}</a>' in said
    assert Role.objects.count() == 1


def test_entering_anew_escapes_no_freeze(
    operator: Client, olivia: User, alice: User, engineers: Group, payments: Account
) -> None:
    wrong = factories.role("deploy", payments, is_active=False)
    Role.objects.filter(pk=wrong.pk).update(path="/elevatd/")
    workflow.freezes.freeze(wrong, by=olivia, reason="an incident there")
    assert save(operator, address(Role, page="add"), arn=ARN).status_code == 302
    right = Role.objects.get(path="/elevated/")
    entitlement = factories.entitlement(right, groups=[engineers])

    with pytest.raises(DomainError) as refused:
        factories.wish(alice, right, entitlement)
    assert refused.value.rule == "freeze"
    page = signed_in(alice).get(f"/request/?role={right.public_id}").content.decode()
    assert "an incident there" in page

    workflow.freezes.lift(Freeze.objects.get(), by=olivia)
    assert factories.wish(alice, right, entitlement).state == "approved"


@pytest.mark.parametrize("how", ["corrected", "entered anew"])
def test_neither_escapes_that_nobody_uses_their_own_edit(
    how: str, operator: Client, olivia: User, payments: Account
) -> None:
    oscar = factories.person("oscar", is_staff=True, is_operator=True)
    role = factories.role("Deploi", payments)
    entitlement: Entitlement = factories.entitlement(role, users=[olivia])
    if how == "corrected":
        save(operator, address(Role, role.pk), arn=ARN)
    else:
        save(operator, address(Role, role.pk), is_active=None)
        save(operator, address(Role, page="add"), arn=ARN)
        role = Role.objects.get(name="Deploy")
        entitlement.roles.add(role)
    with pytest.raises(DomainError) as refused:
        factories.wish(olivia, role, entitlement)
    assert refused.value.rule == "edit.own"

    for edit in Edit.objects.unconfirmed():
        workflow.own_edits.confirm(edit, by=oscar)
    assert factories.wish(olivia, role, entitlement).state == "approved"


# --- an ARN in one paste -----------------------------------------------------------------------


def test_an_arn_fills_in_account_path_and_name(operator: Client, payments: Account) -> None:
    assert save(operator, address(Role, page="add"), arn=f'"{ARN}" ', path="/other/", name="X").status_code == 302

    role = Role.objects.select_related("account").get()
    assert role.arn == ARN
    made = AuditEvent.objects.latest("pk").detail["changes"]
    assert (made["path"], made["name"], "arn" in made) == ([None, "/elevated/"], [None, "Deploy"], False)


def test_where_the_account_is_not_in_the_catalog_it_is_offered(operator: Client) -> None:
    add = address(Role, page="add")
    arn = "arn:aws-cn:iam::333344445555:role/elevated/Deploy"

    answer = save(operator, add, arn=arn, description="deploys")

    said = errors(answer)
    assert "Its account 3333-4444-5555 is not in the catalog." in said
    assert "This field" not in said
    (link,) = [one["href"] for one in Page(answer.content.decode()).all("a") if "number=" in (one.get("href") or "")]
    assert save(operator, str(link), name="web").status_code == 302
    # The page still has what was typed.
    assert send(operator, add, Form(answer.content.decode()).fields).status_code == 302
    role = Role.objects.select_related("account").get()
    assert (role.arn, role.description) == (arn, "deploys")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("Deploy", "This is not the ARN of a role"),
        ("arn:aws:iam::222222222222:user/elevated/Deploy", "This is not the ARN of a role"),
        ("arn:aws:sts::222222222222:assumed-role/Deploy/me", "does not say the role&#x27;s path"),
        ("arn:aws:iam::222222222222:role/team:a/Deploy", "but : could mean something else"),
        ("arn:aws:iam::222222222222:role/a*b/Deploy", "but * could mean something else"),
        ("arn:aws:iam::222222222222:role/elevated/De ploy", "and not a space"),
    ],
)
def test_what_is_no_arn_that_can_be_used_is_said_beside_it(
    typed: str, sentence: str, operator: Client, payments: Account
) -> None:
    said = errors(save(operator, address(Role, page="add"), arn=typed))

    assert sentence in said
    assert "This field" not in said
    assert not Role.objects.exists()


# --- one alphabet ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/team:a/", "/r&d/", "/a*b/", "/a$b/", "/a\\b/"])
def test_a_path_that_no_session_policy_could_name_is_refused_where_it_is_typed(
    path: str, operator: Client, payments: Account
) -> None:
    typed = {"account": payments.pk, "name": "Deploy"}
    said = errors(save(operator, address(Role, page="add"), path=path, **typed))

    assert "IAM allows more, but" in said
    assert not Role.objects.exists()


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/a b/", "a space"),
        ("/a :b/", "a space or :"),
        ("/grün/", "ü"),
        ("/a\x07b/", "U+0007"),
        ("/a *:b/", "a space * or :"),
    ],
)
def test_a_path_that_iam_could_not_have_is_not_said_to_be_one(path: str, what: str) -> None:
    said = arns.path_problem(path)

    assert said.endswith(f", and not {what}.")
    assert "IAM" not in said


@pytest.mark.parametrize(
    ("typed", "stored"),
    [("elevated", "/elevated/"), (" /elevated ", "/elevated/"), ("a/b/", "/a/b/"), ("/", "/"), ("//", "/")],
)
def test_the_slashes_around_a_path_need_not_be_typed(
    typed: str, stored: str, operator: Client, payments: Account
) -> None:
    assert save(operator, address(Role, page="add"), account=payments.pk, path=typed, name="X").status_code == 302
    assert Role.objects.get().path == stored


def test_the_form_begins_with_the_path_that_the_documentation_asks_for(operator: Client) -> None:
    assert read(operator, address(Role, page="add"))["path"] == ["/elevated/"]


@pytest.mark.parametrize("typed", ["x", "with a space", "ü-umlaut"])
def test_an_external_id_that_sts_would_not_take_is_refused(typed: str, operator: Client, payments: Account) -> None:
    assert "As STS takes it" in errors(save(operator, address(Account, payments.pk), external_id=typed))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", [Role, Account])
def test_of_two_operators_who_enter_the_same_one_is_told(what: type, olivia: User, payments: Account) -> None:
    unit = OrganisationalUnit.objects.create(name="Root")
    typed: dict[str, Any] = {"account": payments.pk, "path": "/elevated/", "name": "Deploy"}
    held: Any = payments
    if what is Account:
        typed, held = {"name": "web", "number": "333344445555", "unit": unit.pk}, unit
    clients = [signed_in(olivia), signed_in(factories.person("oscar", is_staff=True, is_operator=True))]
    add = address(what, page="add")
    fields = [read(client, add) for client in clients]

    # Both forms have looked, and neither row is there yet.
    answers = at_once(
        *(partial(send, client, add, page, **typed) for client, page in zip(clients, fields, strict=True)),
        held=(held._meta.db_table, held.pk),
    )

    assert sorted(answer.status_code for answer in answers) == [200, 302]
    assert "already" in errors(next(answer for answer in answers if answer.status_code == 200))


@pytest.mark.django_db(transaction=True)
def test_of_two_operators_who_bring_back_one_each_of_two_that_are_alike_one_is_told(
    olivia: User, payments: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike: dict[str, Any] = {"account": payments, "name": "Deploy", "is_active": False}
    rows = [Role.objects.create(path=path, **alike) for path in ("/one/", "/two/")]
    clients = [signed_in(olivia), signed_in(factories.person("oscar", is_staff=True, is_operator=True))]
    pages = [address(Role, row.pk) for row in rows]
    fields = [read(client, page) for client, page in zip(clients, pages, strict=True)]
    both, met = threading.Barrier(2), threading.local()
    look = workflow.catalog.standing_for

    def once_both_are_here(role: Role) -> Any:
        """Each holds its own row, and looks at the other's only then."""
        if not hasattr(met, "once"):
            met.once = True
            both.wait(10)
        return look(role)

    monkeypatch.setattr(workflow.catalog, "standing_for", once_both_are_here)

    answers = at_once(
        *(
            partial(send, client, page, filled, is_active="on")
            for client, page, filled in zip(clients, pages, fields, strict=True)
        )
    )

    assert sorted(answer.status_code for answer in answers) == [200, 302]
    assert "it is in use" in errors(next(answer for answer in answers if answer.status_code == 200))
    assert Role.objects.filter(is_active=True).count() == 1
