"""Nobody is the second pair of eyes of whoever made them, or could sign in as them: one operator by themselves gets
nowhere, over the web and past all of our code."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group as AdminGroup
from django.core.management import call_command
from django.db import IntegrityError, connection
from django.test import Client
from django.urls import reverse

from requests_app.domain import clock, deciders, workflow
from requests_app.domain.database import AUDITORS
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import AccessRequest, Edit, Entitlement, Freeze, Group, Notice, Role, User
from requests_app.domain.workflow import candidates, freezes, operators, own_edits
from requests_app.domain.workflow.freezes import Everything
from tests import factories, letters
from tests.domain.expect import refused
from tests.domain.meeting import Act, at_once, in_background, wait_until_stuck
from tests.web.pages import page, signed_in

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
HOUR = timedelta(hours=1)
PHRASE = "a new long pass phrase"


@pytest.fixture
def peter(db: Any) -> User:
    """Operates too, and is made by nobody here."""
    return factories.person("peter", is_staff=True, is_operator=True)


def makes(operator: Client, name: str, *, as_operator: bool = False) -> User:
    """Over the web: a person, and their rights."""
    typed = {"username": name, "email": f"{name}@example.com", "name": name.title()}
    operator.post(reverse("admin:requests_app_user_add"), typed)
    person = User.objects.get(username=name)
    if as_operator:
        rights = {**typed, "time_zone": "UTC", "is_staff": "on", "is_operator": "on"}
        rights |= {f"memberships-{what}": "0" for what in ("TOTAL_FORMS", "INITIAL_FORMS")}
        address = reverse("admin:requests_app_user_change", args=[person.pk])
        form = page(operator.get(address))
        assert form
        operator.post(address, _management(operator, address) | rights)
        person.refresh_from_db()
        assert person.is_operator
    return person


def _management(operator: Client, address: str) -> dict[str, str]:
    """The hidden fields of the inlines, as the page has them."""
    formsets = operator.get(address).context["inline_admin_formsets"]
    return {
        f"{inline.formset.prefix}-{name}": str(value)
        for inline in formsets
        for name, value in inline.formset.management_form.initial.items()
    }


def test_one_operator_makes_no_second_one(olivia: User, peter: User, staged: Entitlement) -> None:
    """The whole attack over HTTP: each step is refused."""
    hers = signed_in(olivia)
    puppet = makes(hers, "puppet", as_operator=True)
    second = signed_in(puppet)

    # Her own edit.
    edit = own_edits.note(staged, by=olivia, change={"name": ["a", "b"]})
    answer = page(second.post(reverse("admin:confirm_edits"), {"only": edit.pk}, follow=True))
    assert "nothing to do with that" in answer.text
    # What made the second one.
    for made in Edit.objects.filter(person=puppet):
        page(second.post(reverse("admin:confirm_edits"), {"only": made.pk}, follow=True))
        page(hers.post(reverse("admin:confirm_edits"), {"only": made.pk}, follow=True))
    assert not Edit.objects.exclude(confirmed_at=None).exists()
    # Through another one.
    third = signed_in(makes(second, "third", as_operator=True))
    third.post(reverse("admin:confirm_edits"), {"only": edit.pk})
    assert not Edit.objects.exclude(confirmed_at=None).exists()
    # Her own freeze.
    freeze = freezes.freeze(Everything(), by=olivia, reason="to be lifted by nobody")
    freezes.lift(freeze, by=olivia)
    for other in (second, third):
        other.post(reverse("lift", args=[freeze.public_id]))
    assert Freeze.objects.in_force().exists()

    # Whoever has nothing to do with it confirms, and then they are two.
    for made in Edit.objects.filter(person__isnull=False):
        own_edits.confirm(made, by=peter)
    second.post(reverse("admin:confirm_edits"), {"only": edit.pk})
    assert Edit.objects.get(pk=edit.pk).confirmed_by == puppet
    second.post(reverse("lift", args=[freeze.public_id]))
    assert not Freeze.objects.in_force().exists()


def test_whoever_removes_all_others_is_not_alone(olivia: User, peter: User) -> None:
    freeze = freezes.freeze(Everything(), by=olivia, reason="x")
    signed_in(olivia).post(reverse("admin:deactivate_person", args=[peter.pk]))
    assert not User.objects.get(pk=peter.pk).is_active

    assert not operators.operates_alone(olivia)
    freezes.lift(freeze, by=olivia)
    with pytest.raises(NotAllowed):
        freezes.lift(freeze, by=olivia)
    assert Freeze.objects.in_force().exists()


def test_nor_by_taking_their_rights(olivia: User, peter: User) -> None:
    hers, address = signed_in(olivia), reverse("admin:requests_app_user_change", args=[peter.pk])
    typed = {"username": "peter", "email": "peter@example.com", "name": "Peter", "time_zone": "UTC"}
    hers.post(address, _management(hers, address) | typed)
    assert not User.objects.get(pk=peter.pk).is_operator

    assert not operators.operates_alone(olivia)


@pytest.mark.parametrize("how", ["password", "address", "back"])
def test_an_approver_whom_somebody_could_sign_in_as_decides_nothing_for_them(
    how: str, olivia: User, bob: User, peter: User, staged: Entitlement, administrator: Role, engineers: Group
) -> None:
    engineers.members.add(olivia)
    hers = signed_in(olivia)
    request = workflow.submit(
        administrator, by=olivia, entitlement=staged, duration=HOUR, justification="because it is needed"
    )
    assert bob in workflow.who_can_decide(request)

    address = reverse("admin:requests_app_user_change", args=[bob.pk])
    if how == "password":
        typed = {"password1": PHRASE, "password2": PHRASE, "usable_password": "true"}
        hers.post(reverse("admin:auth_user_password_change", args=[bob.pk]), typed)
    elif how == "address":
        typed = {"username": "bob", "email": "olivia+bob@example.com", "name": "Bob", "time_zone": "UTC"}
        hers.post(address, _management(hers, address) | typed)
    else:
        hers.post(reverse("admin:deactivate_person", args=[bob.pk]))
        hers.post(reverse("admin:bring_back_person", args=[bob.pk]))
    bob.refresh_from_db()

    assert bob not in workflow.who_can_decide(request)
    with pytest.raises(NotAllowed) as refused:
        workflow.approve(request, by=bob)
    assert refused.value.rule == "person.same_hand"
    told = Notice.objects.filter(kind=Notice.Kind.UNCONFIRMED, recipient=peter)
    assert any("Bob" in letters.text(notice) for notice in told)

    for edit in Edit.objects.filter(person=bob):
        own_edits.confirm(edit, by=peter)
    workflow.approve(request, by=bob)


def test_what_people_change_of_their_own_links_them_with_nobody(bob: User, alice: User, olivia: User) -> None:
    workflow.accounts.set_password(bob, "another pass phrase that is long")
    workflow.people.choose_time_zone(bob, "Europe/Berlin")
    hers, address = signed_in(olivia), reverse("admin:requests_app_user_change", args=[bob.pk])
    typed = {"username": "bob", "email": "bob@example.com", "name": "Robert", "time_zone": "UTC"}
    hers.post(address, _management(hers, address) | typed)
    assert User.objects.get(pk=bob.pk).name == "Robert"

    assert not Edit.objects.exists()
    assert not deciders.same_hand(bob, olivia)


def test_puppets_decide_nothing_for_one_another(olivia: User, peter: User) -> None:
    """One operator makes two people: one asks, the other approves."""
    asks, approves = (makes(signed_in(olivia), name) for name in ("asks", "approves"))
    role = factories.role()
    terms = factories.entitlement(role, users=[asks], stages=[([approves], 1)])

    with pytest.raises(NotAllowed) as refused:
        workflow.submit(role, by=asks, entitlement=terms, duration=HOUR, justification="because it is so")
    assert refused.value.rule == "stage.nobody_can"
    for edit in Edit.objects.filter(person=asks):
        own_edits.confirm(edit, by=peter)
    workflow.submit(role, by=asks, entitlement=terms, duration=HOUR, justification="because it is so")


def test_what_a_puppet_changes_counts_for_nobody_behind_it(
    olivia: User, peter: User, staged: Entitlement, administrator: Role, engineers: Group
) -> None:
    puppet = makes(signed_in(olivia), "puppet", as_operator=True)
    engineers.members.add(olivia)
    own_edits.note(staged, by=puppet, change={"name": ["a", "b"]})

    verdict = workflow.may_request(administrator, by=olivia, entitlement=staged, beneficiary=olivia)
    assert verdict.rule == "edit.own"
    for edit in Edit.objects.filter(person=puppet):
        own_edits.confirm(edit, by=peter)
    assert workflow.may_request(administrator, by=olivia, entitlement=staged, beneficiary=olivia)


def two_who_are_one(olivia: User, alice: User, bob: User, carol: User) -> AccessRequest:
    """What two must agree to; Olivia could sign in as both of them, and has agreed as Bob."""
    role = factories.role()
    request = factories.wish(alice, role, factories.entitlement(role, users=[alice], stages=[([bob, carol], 2)]))
    for one in (bob, carol):
        own_edits.note(one, by=olivia, change={"password": ["", "changed"]})
    workflow.approve(request, by=bob)
    return request


def test_two_whom_one_could_act_as_agree_once(
    olivia: User, peter: User, alice: User, bob: User, carol: User, app_connection: psycopg.Connection
) -> None:
    request = two_who_are_one(olivia, alice, bob, carol)
    assert not workflow.may_approve(request, carol)
    with pytest.raises(NotAllowed) as refused:
        workflow.approve(request, by=carol)
    assert refused.value.rule == "decision.same_hand"
    with pytest.raises(psycopg.errors.CheckViolation, match="agrees a second time"):
        app_connection.execute(
            "INSERT INTO requests_app_decision "
            "(access_request_id, stage, approver_id, approver_name, verdict, comment, decided_at) "
            "VALUES (%s, 1, %s, 'x', 'approve', '', clock_timestamp())",
            [request.pk, carol.pk],
        )
    # Nobody else is asked, so this is found before it lapses; one of the two confirmed is enough.
    assert workflow.stages_that_lack_people(request) == [1]
    assert candidates.for_want_of_people(clock.now()) == [request.pk]
    shown = page(signed_in(carol).get(f"/requests/{request.code}"))
    assert "You two count once" in shown.text
    assert "Deny" in shown.text

    for edit in Edit.objects.filter(person=carol):
        own_edits.confirm(edit, by=peter)
    assert workflow.stages_that_lack_people(request) == []
    workflow.approve(request, by=carol)
    request.refresh_from_db()
    assert request.state == "approved"


@pytest.mark.parametrize("first", ["bob", "carol"])
def test_nor_at_a_later_stage_nor_both_at_once(
    first: str, olivia: User, peter: User, alice: User, bob: User, carol: User
) -> None:
    """Whoever is behind both presses both buttons at the same moment, or is asked at each stage."""
    role = factories.role()
    terms = factories.entitlement(role, users=[alice], stages=[([bob, carol], 1), ([bob, carol, peter], 1)])
    both = factories.wish(alice, role, terms)
    other = factories.role()
    at_once_of_two = factories.entitlement(other, users=[alice], stages=[([bob, carol], 2)])
    together = factories.wish(alice, other, at_once_of_two)
    for one in (bob, carol):
        own_edits.note(one, by=olivia, change={"password": ["", "changed"]})
    order = [bob, carol] if first == "bob" else [carol, bob]

    workflow.approve(both, by=order[0])
    both.refresh_from_db()
    assert both.stage == 2
    with refused("decision.same_hand", NotAllowed):
        workflow.approve(both, by=order[1])
    workflow.approve(both, by=peter)

    def approves(one: User) -> Act:
        return lambda: workflow.approve(AccessRequest.objects.get(pk=together.pk), by=one)

    outcomes = at_once(*(approves(one) for one in order), held=(AccessRequest._meta.db_table, together.pk))
    assert sorted(getattr(one, "rule", "agreed") for one in outcomes) == ["agreed", "decision.same_hand"]
    together.refresh_from_db()
    assert (together.state, together.decisions.count()) == ("pending", 1)


def test_nor_past_all_of_our_code_at_once(
    olivia: User, peter: User, alice: User, bob: User, carol: User, app_connection: psycopg.Connection
) -> None:
    role = factories.role()
    request = factories.wish(alice, role, factories.entitlement(role, users=[alice], stages=[([bob, carol], 2)]))
    for one in (bob, carol):
        own_edits.note(one, by=olivia, change={"password": ["", "changed"]})
    agrees = (
        "INSERT INTO requests_app_decision "
        "(access_request_id, stage, approver_id, approver_name, verdict, comment, decided_at) "
        "VALUES (%s, 1, %s, 'x', 'approve', '', clock_timestamp())"
    )

    def second() -> None:
        with connection.cursor() as cursor:
            cursor.execute(agrees, [request.pk, carol.pk])

    with app_connection.transaction():
        app_connection.execute(agrees, [request.pk, bob.pk])
        waiting = in_background(second)
        wait_until_stuck([waiting])
    with pytest.raises(IntegrityError, match="agrees a second time"):
        waiting.result(timeout=20)


def test_nor_for_more_time_nor_together_with_others(
    olivia: User, peter: User, alice: User, bob: User, carol: User, app_connection: psycopg.Connection
) -> None:
    role = factories.role()
    terms = factories.entitlement(
        role, users=[alice], stages=[([bob, carol], 2)], extensions_most=2, extension_total_seconds=7200
    )
    running = factories.wish(alice, role, terms)
    for one in (bob, carol):
        workflow.approve(running, by=one)
    workflow.start(running, by=alice)
    running.refresh_from_db()
    more = workflow.extend(running, by=alice, duration=HOUR / 4, justification="the batch takes longer")
    several = []
    for _ in range(2):
        role = factories.role()
        terms = factories.entitlement(role, users=[alice], stages=[([bob, carol], 2)])
        several.append(factories.wish(alice, role, terms))
    for one in (bob, carol):
        own_edits.note(one, by=olivia, change={"password": ["", "changed"]})

    his, hers = signed_in(bob), signed_in(carol)
    chosen = {"verdict": "approve", "code": [one.code for one in several]}
    chosen |= {f"stage-{one.code}": "1" for one in several}
    at = reverse("approve_more", args=[running.code, more.public_id])
    for client in (his, hers):
        client.post(at, {"stage": "1"})
        answer = page(client.post(reverse("decide_several"), chosen, follow=True))
    assert answer.text.count("You two count once") == 3, "of each"
    assert more.decisions.count() == 1
    assert [one.decisions.count() for one in several] == [1, 1]
    more.refresh_from_db()
    assert more.state == "pending"
    with pytest.raises(psycopg.errors.CheckViolation, match="agrees a second time"):
        app_connection.execute(
            "INSERT INTO requests_app_decision (access_request_id, extension_id, stage, approver_id, approver_name, "
            "verdict, comment, decided_at) VALUES (%s, %s, 1, %s, 'x', 'approve', '', clock_timestamp())",
            [running.pk, more.pk, carol.pk],
        )


def test_and_may_still_say_no(olivia: User, peter: User, alice: User, bob: User, carol: User) -> None:
    request = two_who_are_one(olivia, alice, bob, carol)
    workflow.deny(request, by=carol)
    request.refresh_from_db()
    assert request.state == "denied"


def test_nobody_accepts_from_whoever_made_them(
    olivia: User, peter: User, staged: Entitlement, administrator: Role, engineers: Group
) -> None:
    asker, puppet = factories.group("Askers"), makes(signed_in(olivia), "puppet")
    asker.members.add(olivia)
    engineers.members.add(puppet)
    staged.askers.add(asker)
    request = workflow.submit(
        administrator, by=olivia, entitlement=staged, beneficiary=puppet, duration=HOUR,
        justification="because it is needed",
    )  # fmt: skip
    with pytest.raises(NotAllowed) as refused:
        workflow.accept(request, by=puppet)
    assert refused.value.rule == "person.same_hand"

    for edit in Edit.objects.filter(person=puppet):
        own_edits.confirm(edit, by=peter)
    workflow.accept(request, by=puppet)


# --- past all of our code ----------------------------------------------------------------------


def test_the_database_refuses_each_step_too(
    olivia: User,
    peter: User,
    pending_request: AccessRequest,
    alice: User,
    bob: User,
    administrator: Role,
    staged: Entitlement,
    app_connection: psycopg.Connection,
) -> None:
    put, now = app_connection.execute, clock.now()
    columns = "(editor_id, person_id, made_at, change)"
    link = f"INSERT INTO requests_app_edit {columns} VALUES (%s, %s, %s, '{{}}') RETURNING id"
    puppet = factories.person("puppet", is_staff=True, is_operator=True)
    (made,) = put(link, [olivia.pk, puppet.pk, now]).fetchone() or (None,)
    rule = own_edits.note(staged, by=olivia, change={"name": ["a", "b"]})
    confirm = "UPDATE requests_app_edit SET confirmed_at = now(), confirmed_by_id = %s WHERE id = %s"
    for who, what in ((puppet, rule.pk), (puppet, made), (olivia, made)):
        with pytest.raises(psycopg.errors.CheckViolation):
            put(confirm, [who.pk, what])
    # A link is not taken away, moved, or said to be confirmed from the start.
    for statement in (
        f"DELETE FROM requests_app_edit WHERE id = {made}",
        f"UPDATE requests_app_edit SET person_id = {peter.pk} WHERE id = {made}",
        f"INSERT INTO requests_app_edit (editor_id, person_id, made_at, change, confirmed_at, confirmed_by_id) "
        f"VALUES ({olivia.pk}, {puppet.pk}, now(), '{{}}', now(), {peter.pk})",
    ):
        with pytest.raises(psycopg.Error):
            put(statement)

    freeze = freezes.freeze(administrator.account, by=olivia, reason="x")
    freezes.lift(freeze, by=olivia)
    with pytest.raises(psycopg.errors.CheckViolation):
        put("UPDATE requests_app_freeze SET lifted_at = now(), lifted_by_id = %s WHERE id = %s", [puppet.pk, freeze.pk])
    freezes.lift(freeze, by=peter)

    put(link, [alice.pk, bob.pk, now])
    with pytest.raises(psycopg.errors.CheckViolation, match="made them"):
        put(
            "INSERT INTO requests_app_decision "
            "(access_request_id, stage, approver_id, approver_name, verdict, comment, decided_at) "
            "VALUES (%s, 1, %s, 'x', 'approve', '', clock_timestamp())",
            [pending_request.pk, bob.pk],
        )


def test_many_who_were_made_by_one_are_told_apart(
    olivia: User, peter: User, superuser_connection: psycopg.Connection
) -> None:
    """An operator made thousands, whom nobody has confirmed: only who is behind somebody is followed."""
    superuser_connection.execute(
        "WITH new AS (INSERT INTO requests_app_user (password, is_superuser, public_id, username, email, name, "
        "time_zone, source_identity, is_staff) SELECT '', false, gen_random_uuid(), 'many' || n, 'many' || n, '', "
        "'UTC', 'many' || n, false FROM generate_series(1, 5000) n RETURNING id) "
        "INSERT INTO requests_app_edit (editor_id, person_id, made_at, change) SELECT %s, id, now(), '{}' FROM new",
        [olivia.pk],
    )
    superuser_connection.execute("ANALYZE requests_app_edit")
    first, last = User.objects.get(username="many1"), User.objects.get(username="many5000")
    assert deciders.same_hand(first, last)
    assert deciders.same_hand(olivia, last)
    assert not deciders.same_hand(peter, last)
    behind = superuser_connection.execute("SELECT count(*) FROM requests_app_behind(ARRAY[%s::bigint])", [last.pk])
    assert behind.fetchone() == (2,)


def test_two_operators_who_mend_one_person_stay_two(olivia: User, peter: User) -> None:
    """That both could act as that one does not make them each other."""
    made = makes(signed_in(olivia), "newcomer")
    his, address = signed_in(peter), reverse("admin:requests_app_user_change", args=[made.pk])
    typed = {"username": "newcomer", "email": "new.comer@example.com", "name": "New", "time_zone": "UTC"}
    his.post(address, _management(his, address) | typed)
    assert set(Edit.objects.filter(person=made).values_list("editor", flat=True)) == {olivia.pk, peter.pk}

    freeze = freezes.freeze(Everything(), by=olivia, reason="x")
    freezes.lift(freeze, by=olivia)
    freezes.lift(freeze, by=peter)
    assert not Freeze.objects.in_force().exists()


def test_whom_a_single_operator_made_decide_for_one_another(olivia: User) -> None:
    """Nobody could confirm them; they do not decide for whoever made them, though."""
    asks, approves = (makes(signed_in(olivia), name) for name in ("asks", "approves"))
    role = factories.role()
    terms = factories.entitlement(role, users=[asks, olivia], stages=[([approves], 1)])

    request = workflow.submit(role, by=asks, entitlement=terms, duration=HOUR, justification="because it is so")
    workflow.approve(request, by=approves)
    with pytest.raises(NotAllowed):
        workflow.submit(role, by=olivia, entitlement=terms, duration=HOUR, justification="because it is so")


def test_another_address_ends_sign_ins(olivia: User, alice: User) -> None:
    theirs, hers = signed_in(alice), signed_in(olivia)
    address = reverse("admin:requests_app_user_change", args=[alice.pk])
    typed = {"username": "alice", "email": "new@example.com", "name": "Alice", "time_zone": "UTC"}
    hers.post(address, _management(hers, address) | typed)
    assert theirs.get("/").status_code == 302


def test_those_who_are_told_cannot_be_made_nobody(olivia: User, peter: User, dave: User) -> None:
    hers = signed_in(olivia)
    auditors = AdminGroup.objects.get(name=AUDITORS)
    hers.post(reverse("admin:auth_group_change", args=[auditors.pk]), {"name": "Others", "permissions": []})
    assert AdminGroup.objects.filter(name=AUDITORS).exists()
    hers.post(reverse("admin:deactivate_person", args=[peter.pk]))
    makes(hers, "puppet", as_operator=True)
    told = {notice.recipient.username for notice in Notice.objects.filter(kind=Notice.Kind.UNCONFIRMED)}
    assert {"peter", "dave"} <= told


@pytest.mark.parametrize("key", ["0{}", "+{}", " {}"])
def test_nobody_sets_their_own_password_as_an_operator(key: str, olivia: User) -> None:
    typed = {"password1": PHRASE, "password2": PHRASE, "usable_password": "true"}
    signed_in(olivia).post(f"/admin/requests_app/user/{key.format(olivia.pk)}/password/", typed)
    olivia.refresh_from_db()
    assert not olivia.check_password(PHRASE)


def test_the_server_says_who_placed_an_operator_whom_it_makes(olivia: User, capsys: pytest.CaptureFixture[str]) -> None:
    makes(signed_in(olivia), "quinn")
    call_command("make_operator", "quinn@example.com")
    assert "by Olivia" in capsys.readouterr().err
