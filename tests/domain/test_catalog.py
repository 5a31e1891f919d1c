"""Which role at AWS a row means: corrected by nobody once something depends on it, and by no two rows at once."""

import string
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction

from requests_app.aws.session_policy import session_policy
from requests_app.domain import arns, clock, doctor, workflow
from requests_app.domain.errors import DomainError
from requests_app.domain.models import (
    AccessRequest,
    Account,
    DenyPolicy,
    Entitlement,
    Freeze,
    Group,
    OwnSession,
    Preflight,
    Revocation,
    Role,
    User,
)
from requests_app.domain.workflow import asking, preflights, revocations
from requests_app.domain.workflow.preflights import Found, Half, Look
from tests import factories
from tests.domain.expect import refused
from tests.domain.meeting import at_once, in_background, wait_until_stuck
from tests.servers import database_name, database_url

ROLES, REQUESTS = Role._meta.db_table, AccessRequest._meta.db_table


@pytest.fixture
def deploy(payments: Account) -> Role:
    return factories.role("Deploy", payments)


@pytest.fixture
def deploying(deploy: Role, engineers: Group) -> Entitlement:
    return factories.entitlement(deploy, groups=[engineers])


def correct(row: Role | Account, **values: Any) -> str:
    """What the database says when the application's role corrects it."""
    try:
        with transaction.atomic():
            type(row)._default_manager.filter(pk=row.pk).update(**values)
    except IntegrityError as refusal:
        return str(refusal)
    return ""


def enter(like: Role, **values: Any) -> str:
    try:
        with transaction.atomic():
            Role.objects.create(**{"account_id": like.account_id, "name": like.name, "path": "/new/"} | values)
    except IntegrityError as refusal:
        return str(refusal)
    return ""


# --- the database's own rules ------------------------------------------------------------------

NEVER = "never changes once something depends on it"


@pytest.mark.django_db
def test_what_nothing_depends_on_can_be_corrected(deploy: Role) -> None:
    preflights.look_soon(Role.objects.all())  # findings are no reason: they are looked for anew
    other = factories.account()

    assert correct(deploy, path="/other/", name="Other", account=other) == ""
    assert correct(other, number="333344445555", partition="aws-cn") == ""
    assert "which role this is" in correct(deploy, public_id="00000000-0000-4000-8000-000000000000")


@pytest.mark.django_db
@pytest.mark.parametrize("what", ["request", "freeze", "lifted freeze", "deny policy", "own session", "ended request"])
def test_what_something_depends_on_is_not(
    what: str, deploy: Role, deploying: Entitlement, alice: User, olivia: User
) -> None:
    if "request" in what:
        asked = factories.wish(alice, deploy, deploying)
        if what == "ended request":
            workflow.withdraw(asked, by=alice)
    elif "freeze" in what:
        freeze = workflow.freezes.freeze(deploy, by=olivia, reason="incident")
        if what == "lifted freeze":
            workflow.freezes.lift(freeze, by=olivia)
    elif what == "deny policy":
        DenyPolicy.objects.create(role=deploy, expected=[None])
    else:
        factories.own_session(deploy)

    for change in ({"path": "/other/"}, {"name": "Other"}, {"account": factories.account()}):
        assert NEVER in correct(deploy, **change)
    for change in ({"number": "333344445555"}, {"partition": "aws-cn"}):
        assert NEVER in correct(deploy.account, **change)
    assert correct(deploy, description="deploys", is_active=False) == ""
    assert correct(deploy.account, name="renamed", external_id="another") == ""


@pytest.mark.django_db
def test_a_freeze_of_the_account_keeps_its_number_and_not_its_roles(deploy: Role, olivia: User) -> None:
    workflow.freezes.freeze(deploy.account, by=olivia, reason="incident")

    assert NEVER in correct(deploy.account, number="333344445555")
    assert correct(deploy, path="/other/") == ""


@pytest.mark.django_db
def test_never_do_two_rows_stand_for_one_role(deploy: Role, deploying: Entitlement, alice: User) -> None:
    assert "still stands" in enter(deploy)
    assert "still stands" in enter(deploy, name="DEPLOY")
    asked = factories.wish(alice, deploy, deploying)
    Role.objects.filter(pk=deploy.pk).update(is_active=False)
    assert "still stands" in enter(deploy)  # a pass of it is open
    workflow.withdraw(asked, by=alice)
    policy = DenyPolicy.objects.create(role=deploy, expected=[None], due_at=clock.now())
    assert "still stands" in enter(deploy)  # its policy is still to be written, by the role's name
    DenyPolicy.objects.filter(pk=policy.pk).update(due_at=None)

    assert "role_arn_unique" in enter(deploy, path=deploy.path)
    assert enter(deploy) == ""

    # From now on the old one has nothing to do with AWS any more.
    deploy.refresh_from_db()
    assert "still stands" in correct(deploy, is_active=True)
    with pytest.raises(IntegrityError, match="another row stands"), transaction.atomic():
        DenyPolicy.objects.filter(pk=policy.pk).update(due_at=clock.now())
    revocations.look_after(deploy.pk, clock.now())
    assert DenyPolicy.objects.get(due_at__isnull=False).role.path == "/new/"


@pytest.mark.django_db
def test_no_session_that_aws_still_has_to_refuse_is_left_behind(
    history: None, active_request: AccessRequest, alice: User, aws_clock: Any
) -> None:
    factories.sealed(active_request)
    workflow.give_back(active_request, by=alice)
    role = active_request.role
    Role.objects.filter(pk=role.pk).update(is_active=False)
    DenyPolicy.objects.update(due_at=None)  # whatever the worker made of it

    assert "still stands" in enter(role)
    Revocation.objects.update(state="over")
    assert enter(role) == ""


@pytest.mark.django_db
def test_nobody_asks_for_a_role_out_of_use_by_whatever_door(pending_request: AccessRequest) -> None:
    like = f"""INSERT INTO {REQUESTS} SELECT (jsonb_populate_record(r, jsonb_build_object(
        'id', 10 ^ 12, 'code', 'DP-23456789'))).* FROM {REQUESTS} r"""
    Role.objects.update(is_active=False)
    with pytest.raises(IntegrityError, match="out of use"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(like)
    Role.objects.update(is_active=True)
    with connection.cursor() as cursor:
        cursor.execute(like)  # the control


@pytest.mark.django_db
def test_a_freeze_holds_for_whatever_row_stands_for_the_role(
    deploy: Role, alice: User, olivia: User, engineers: Group
) -> None:
    Role.objects.filter(pk=deploy.pk).update(is_active=False)
    enter(deploy, name="DEPLOY")
    new = Role.objects.get(name="DEPLOY")
    entitlement = factories.entitlement(new, groups=[engineers])
    waiting = factories.wish(alice, new, entitlement)

    workflow.freezes.freeze(deploy, by=olivia, reason="incident")

    with refused("freeze"):
        factories.wish(alice, new, entitlement)
    with refused("freeze"):
        workflow.start(waiting, by=alice)
    with pytest.raises(IntegrityError, match="frozen"), transaction.atomic():
        AccessRequest.objects.filter(pk=waiting.pk).update(state="active")
    elsewhere = factories.role("Deploy")
    assert factories.wish(alice, elsewhere, factories.entitlement(elsewhere, groups=[engineers])).state == "approved"

    workflow.freezes.lift(Freeze.objects.get(), by=olivia)
    assert workflow.start(waiting, by=alice).state == "active"


@pytest.mark.django_db
def test_what_is_to_start_by_itself_waits_for_a_freeze_of_the_other_row(
    deploy: Role, alice: User, olivia: User, engineers: Group
) -> None:
    Role.objects.filter(pk=deploy.pk).update(is_active=False)
    enter(deploy)
    new = Role.objects.get(path="/new/")
    workflow.freezes.freeze(deploy, by=olivia, reason="incident")
    with refused("freeze"):
        factories.wish(alice, new, factories.entitlement(new, groups=[engineers]), start="at_once")
    workflow.freezes.lift(Freeze.objects.get(), by=olivia)
    assert workflow.sweeps.activate_due() == 0


# --- at the same moment ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("corrected", ["path", "account", "number"])
def test_whoever_asks_and_whoever_corrects_do_not_miss_each_other(
    corrected: str, deploy: Role, deploying: Entitlement, alice: User
) -> None:
    """Asking has gone as far as the insert, uncommitted: the correction waits and then sees it."""
    other = factories.account()
    cases: dict[str, tuple[Role | Account, dict[str, Any]]] = {
        "path": (deploy, {"path": "/other/"}),
        "account": (deploy, {"account": other}),
        "number": (deploy.account, {"number": "333344445555"}),
    }
    row, change = cases[corrected]
    before = deploy.arn
    with transaction.atomic():
        ask_uncommitted(alice, deploy, deploying)
        correcting = in_background(lambda: correct(row, **change))
        wait_until_stuck([correcting])
        assert not correcting.done()

    assert NEVER in correcting.result(timeout=10)
    assert Role.objects.select_related("account").get(pk=deploy.pk).arn == before


def ask_uncommitted(alice: User, role: Role, entitlement: Entitlement) -> None:
    """A verb's transaction is its own, so the statement that it stores a request with is made here."""
    now = clock.now()
    terms = entitlement.terms_now(role)
    asking._insert(
        AccessRequest(
            requester=alice,
            beneficiary=alice,
            role=role,
            entitlement=entitlement,
            terms_document=terms.document(),
            justification="replay the failed batch",
            duration_seconds=1800,
            asked_at=now,
            decide_by=now + timedelta(seconds=terms.pending_seconds),
            deciding_groups=[],
            deciding_users=[],
            stage=0,
            stage_since=now,
        )
    )


@pytest.mark.django_db(transaction=True)
def test_whoever_asks_while_it_is_corrected_asks_for_the_corrected_one(
    deploy: Role, deploying: Entitlement, alice: User, engineers: Group
) -> None:
    """The check of the narrowing, too, is about the role that the request is stored for."""
    Entitlement.objects.filter(pk=deploying.pk).update(
        narrowing_policy_arns=["arn:aws:iam::222222222222:policy/Narrow"], narrowing_statements=[]
    )
    deploying.refresh_from_db()
    other = factories.account()
    with psycopg.connect(database_url("app", database_name())) as operator:
        operator.execute(f"UPDATE {ROLES} SET account_id = %s WHERE id = %s", [other.pk, deploy.pk])
        asking = in_background(lambda: factories.wish(alice, deploy, deploying))
        wait_until_stuck([asking])
        assert not asking.done()

    answer = asking.result(timeout=10)
    assert isinstance(answer, DomainError)
    assert answer.rule == "narrowing.does_not_fit"
    assert not AccessRequest.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["freeze", "own session", "deny policy", "look after"])
def test_nothing_comes_to_depend_on_it_unseen(what: str, deploy: Role, olivia: User) -> None:
    makes: dict[str, Callable[[], Any]] = {
        "freeze": lambda: workflow.freezes.freeze(deploy, by=olivia, reason="incident"),
        "own session": lambda: factories.own_session(deploy),
        "deny policy": lambda: DenyPolicy.objects.create(role=deploy, expected=[None]),
        "look after": lambda: revocations.look_after(deploy.pk, clock.now()),
    }
    # Both wait behind somebody who has the row, in either order; then one after the other.
    _, said = at_once(makes[what], lambda: correct(deploy, path="/other/"), held=(ROLES, deploy.pk))

    deploy.refresh_from_db()
    assert (NEVER in said) == (deploy.path == "/elevated/")
    assert Freeze.objects.exists() or OwnSession.objects.exists() or DenyPolicy.objects.exists()
    assert NEVER in correct(deploy, path="/third/")


@pytest.mark.django_db(transaction=True)
def test_of_two_who_enter_the_same_role_one_is_refused(deploy: Role) -> None:
    Role.objects.filter(pk=deploy.pk).update(is_active=False)

    said = at_once(
        lambda: enter(deploy, path="/one/"),
        lambda: enter(deploy, path="/two/"),
        lambda: correct(deploy, is_active=True),
        held=(ROLES, deploy.pk),
    )

    assert sorted(map(bool, said)) == [False, True, True]
    assert Role.objects.filter(is_active=True).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_request_on_its_way_is_waited_for_before_another_row_is_entered(
    deploy: Role, deploying: Entitlement, alice: User
) -> None:
    with transaction.atomic():
        ask_uncommitted(alice, deploy, deploying)
        assert in_background(lambda: correct(deploy, is_active=False)).result(timeout=10) == ""
        entering = in_background(lambda: enter(deploy))
        wait_until_stuck([entering])
        assert not entering.done()

    assert "still stands" in entering.result(timeout=10)


@pytest.mark.django_db(transaction=True)
def test_whoever_asks_while_another_row_is_entered_is_refused(
    deploy: Role, deploying: Entitlement, alice: User
) -> None:
    with psycopg.connect(database_url("app", database_name())) as operator:
        operator.execute(f"UPDATE {ROLES} SET is_active = false WHERE id = %s", [deploy.pk])
        operator.execute(
            f"INSERT INTO {ROLES} (public_id, account_id, path, name, description, power, longest_session_seconds, "
            "identity_is_access, is_active) "
            "VALUES (gen_random_uuid(), %s, '/new/', 'Deploy', '', 'change', 3600, false, true)",
            [deploy.account_id],
        )
        asking = in_background(lambda: factories.wish(alice, deploy, deploying))
        wait_until_stuck([asking])
        assert not asking.done()

    assert asking.result(timeout=10).rule == "role.inactive"


@pytest.mark.django_db
@pytest.mark.parametrize("half", Half)
def test_what_a_look_found_at_another_role_is_not_said_of_the_corrected_one(
    half: Half, deploy: Role, aws_clock: Any
) -> None:
    preflights.look_soon(Role.objects.all())
    look = preflights.take_up(deploy.pk, half)
    assert isinstance(look, Look)
    assert correct(deploy, path="/other/") == ""
    preflights.forget(Role.objects.all())

    preflights.note(look, Found([{"check": half.way_in, "verdict": "good"}], aws_role_id="AROAOTHER", denies=True))

    found = Preflight.objects.get()
    assert (found.usable, getattr(found, f"{half}_at"), found.aws_role_id) == ("unknown", None, "")
    assert getattr(found, half.due_at) <= clock.now()
    assert not DenyPolicy.objects.exists()


# --- one alphabet ------------------------------------------------------------------------------

CHARACTERS = [chr(code) for code in range(0x20, 0x7F)] + ["é", "ß", "\u0660", "\n", "Ⅷ", "K"]


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["path", "name"])
def test_what_is_typed_stored_and_sent_has_one_alphabet(where: str, payments: Account) -> None:
    """The form's check, the guard's, and the session policy's."""
    allowed = set()
    for one in CHARACTERS:
        path, name = (f"/a{one}b/", "Name") if where == "path" else ("/a/", f"N{one}e")
        arn = f"arn:aws:iam::222222222222:role{path}{name}"
        try:
            session_policy(cut_off=clock.now(), role_arn=arn)
            is_sent = True
        except ValueError:
            is_sent = False
        with connection.cursor() as cursor:
            cursor.execute("SELECT requests_app_is_role_address(%s, %s)", [path, name])
            (is_stored,) = cursor.fetchone()
        is_typed = not (arns.path_problem(path) or arns.name_problem(name))
        if (where, one) != ("name", "/"):  # which is no name, and in an ARN a longer path
            assert is_typed == is_stored == is_sent, one
        if is_typed:
            allowed.add(one)
    letters = set(string.ascii_letters + string.digits + "_+=,.@-")
    assert allowed == letters | ({"/"} if where == "path" else set())


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["", "/a", "a/", "//", "/a b/", "/a\n", "/a/\n", "/" + "x" * 600 + "/"])
def test_what_is_no_path_is_stored_by_nobody(path: str, deploy: Role) -> None:
    assert arns.path_problem(path)
    with pytest.raises(Exception, match=r"cannot stand in the policies|value too long"), transaction.atomic():
        Role.objects.create(account=deploy.account, name="Other", path=path)


@pytest.mark.django_db(transaction=True)
def test_what_was_entered_before_stays_readable_and_is_found(
    deploy: Role, deploying: Entitlement, alice: User, olivia: User, superuser_connection: psycopg.Connection
) -> None:
    with superuser_connection.transaction():
        superuser_connection.execute("SET LOCAL session_replication_role = replica")
        superuser_connection.execute(f"UPDATE {ROLES} SET path = '/team:a/'")

    with refused("role.address"):
        factories.wish(alice, deploy, deploying)
    said = [one for one in doctor.examine(clock.now()) if one.about == "paths"]
    assert [one.verdict for one in said] == ["bad"]
    assert "role/team:a/Deploy" in said[0].sentence
    # It can still be described, taken out of use, and not brought back; or corrected.
    assert correct(deploy, description="deploys") == ""
    assert correct(deploy, is_active=False) == ""
    assert "cannot stand" in correct(deploy, is_active=True)
    assert correct(deploy, path="/team-a/", is_active=True) == ""
    assert factories.wish(alice, deploy, deploying).state == "approved"
    assert [one.verdict for one in doctor.examine(clock.now()) if one.about == "paths"] == ["good"]
