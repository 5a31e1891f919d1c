"""Every sign-in, each failure of one, each change of a factor, each end of a sign-in and each link is an event.

Each kind by the door that it comes through.
"""

from collections.abc import Callable
from typing import Any

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from requests_app.domain import password_links, workflow
from requests_app.domain.audit import Action
from requests_app.domain.models import AuditEvent, Notice, UsedStep, User
from tests.admin.filling import save
from tests.web.pages import signed_in
from tests.web.test_sign_ins_end import PASSWORD, SECRET, code_of, sign_in

pytestmark = pytest.mark.django_db(transaction=True)
NEW = "a new long pass phrase"
Act = Callable[[], Any]
# Each arranges what comes before, and gives what is looked at.
Door = Callable[[User, User], Act]


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save(update_fields=["password"])
    return alice


def of(act: Act) -> list[tuple[str, str, str, dict[str, Any]]]:
    """What happened, who did it, whom it names and what more there is, of each event that this writes."""
    newest = AuditEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    act()
    found = AuditEvent.objects.filter(pk__gt=newest).order_by("pk").select_related("actor", "beneficiary")
    return [
        (
            event.action,
            event.actor.username if event.actor else "",
            event.beneficiary.username if event.beneficiary else event.subject,
            event.detail,
        )
        for event in found
    ]


def first_step(password: str = PASSWORD, name: str = "alice") -> Client:
    client = Client()
    client.post("/accounts/login/", {"login": name, "password": password})
    return client


def second_step(code: str) -> Client:
    client = first_step()
    client.post(reverse("mfa_authenticate"), {"code": code})
    return client


def fresh_code() -> str:
    cache.clear()
    UsedStep.objects.all().delete()
    return code_of(SECRET)


def with_app(alice: User) -> list[str]:
    totp.TOTP.activate(alice, SECRET)
    codes: list[str] = RecoveryCodes.activate(alice).generate_codes()
    alice.refresh_from_db()
    return codes


def confirmed(alice: User, *, app: bool = False) -> Client:
    """Signed in, and has just shown that it is they."""
    if not app:
        client = sign_in(alice)
        client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
        return client
    client = second_step(fresh_code())
    client.post(reverse("mfa_reauthenticate"), {"code": fresh_code()})
    UsedStep.objects.all().delete()
    return client


def post(client: Client, name: str, typed: dict[str, Any] | None = None, *args: Any) -> Act:
    return lambda: client.post(reverse(name, args=args), typed or {})


# --- signing in, and failing to ------------------------------------------------------------------


def by_password(alice: User, olivia: User) -> Act:
    return first_step


def by_code(alice: User, olivia: User) -> Act:
    with_app(alice)
    return lambda: second_step(fresh_code())


def by_recovery_code(alice: User, olivia: User) -> Act:
    code = with_app(alice)[0]
    return lambda: second_step(code)


def only_the_first_step(alice: User, olivia: User) -> Act:
    with_app(alice)
    return first_step


def wrong_password(alice: User, olivia: User) -> Act:
    return lambda: first_step("wrong")


def unknown_name(alice: User, olivia: User) -> Act:
    return lambda: first_step("wrong", "hunter2")


def wrong_code(alice: User, olivia: User) -> Act:
    with_app(alice)
    return lambda: second_step("000000")


def used_recovery_code(alice: User, olivia: User) -> Act:
    code = with_app(alice)[0]
    second_step(code)
    return lambda: second_step(code)


def deactivated(alice: User, olivia: User) -> Act:
    workflow.people.deactivate(alice, by=None)
    return first_step


def changed_between_the_steps(alice: User, olivia: User) -> Act:
    with_app(alice)
    client = first_step()
    workflow.people.end_other_sign_ins(User.objects.get(pk=alice.pk))
    return post(client, "mfa_authenticate", {"code": fresh_code()})


def wrong_password_to_confirm(alice: User, olivia: User) -> Act:
    return post(sign_in(alice), "account_reauthenticate", {"password": "wrong"})


def wrong_code_to_confirm(alice: User, olivia: User) -> Act:
    with_app(alice)
    return post(second_step(fresh_code()), "mfa_reauthenticate", {"code": "000000"})


def wrong_password_to_change_it(alice: User, olivia: User) -> Act:
    typed = {"oldpassword": "wrong", "password1": NEW, "password2": NEW}
    return post(sign_in(alice), "account_change_password", typed)


FAILED = "sign_in.failed"
IN: tuple[Any, ...] = ("sign_in.succeeded", "alice", "alice", {})


@pytest.mark.parametrize(
    ("door", "events"),
    [
        (by_password, [IN]),
        (by_code, [IN]),
        (by_recovery_code, [IN]),
        (only_the_first_step, []),
        (wrong_password, [(FAILED, "", "alice", {})]),
        (unknown_name, [(FAILED, "", "an unknown name", {})]),
        (wrong_code, [(FAILED, "", "alice", {"wrong": "code"})]),
        (used_recovery_code, [(FAILED, "", "alice", {"wrong": "code"})]),
        (deactivated, [(FAILED, "", "alice", {"wrong": "deactivated"})]),
        (changed_between_the_steps, [(FAILED, "", "alice", {"wrong": "changed meanwhile"})]),
        (wrong_password_to_confirm, [(FAILED, "", "alice", {})]),
        (wrong_code_to_confirm, [(FAILED, "", "alice", {"wrong": "code"})]),
        (wrong_password_to_change_it, [(FAILED, "", "alice", {})]),
    ],
)
def test_each_sign_in_and_each_failure(door: Door, events: list[Any], alice: User, olivia: User) -> None:
    assert of(door(alice, olivia)) == events


# --- factors, ends and links -----------------------------------------------------------------------


def app_set_up(alice: User, olivia: User) -> Act:
    client = confirmed(alice)
    secret = client.get(reverse("mfa_activate_totp")).context["form"].secret
    return post(client, "mfa_activate_totp", {"code": code_of(secret)})


def app_turned_off(alice: User, olivia: User) -> Act:
    with_app(alice)
    return post(confirmed(alice, app=True), "mfa_deactivate_totp")


def codes_made_anew(alice: User, olivia: User) -> Act:
    with_app(alice)
    return post(confirmed(alice, app=True), "mfa_generate_recovery_codes")


def taken_by_an_operator(alice: User, olivia: User) -> Act:
    with_app(alice)
    return post(signed_in(olivia), "admin:remove_factors", {"reason": "lost the phone"}, alice.pk)


def signed_out(alice: User, olivia: User) -> Act:
    return post(sign_in(alice), "account_logout")


def one_ended_from_elsewhere(alice: User, olivia: User) -> Act:
    sign_in(alice)
    other = UserSession.objects.get(user=alice).pk
    return post(sign_in(alice), "usersessions_list", {"one": other})


def all_ended_by_oneself(alice: User, olivia: User) -> Act:
    return post(sign_in(alice), "usersessions_list", {"act": "all"})


def ended_by_an_operator(alice: User, olivia: User) -> Act:
    sign_in(alice)
    return post(signed_in(olivia), "admin:sign_out_person", {}, alice.pk)


def ended_with_their_part(alice: User, olivia: User) -> Act:
    return post(signed_in(olivia), "admin:deactivate_person", {}, alice.pk)


def ended_by_another_address(alice: User, olivia: User) -> Act:
    at = reverse("admin:requests_app_user_change", args=[alice.pk])
    return lambda: save(signed_in(olivia), at, email="new@example.com")


def password_changed(alice: User, olivia: User) -> Act:
    typed = {"oldpassword": PASSWORD, "password1": NEW, "password2": NEW}
    return post(sign_in(alice), "account_change_password", typed)


def password_set_by_an_operator(alice: User, olivia: User) -> Act:
    typed = {"password1": NEW, "password2": NEW, "usable_password": "true"}
    return post(signed_in(olivia), "admin:auth_user_password_change", typed, alice.pk)


def link_asked_for(alice: User, olivia: User) -> Act:
    return post(Client(), "account_reset_password", {"email": alice.email})


def link_used(alice: User, olivia: User) -> Act:
    client = Client()
    client.get(reverse("password_link", args=[password_links.make(alice, Notice.Kind.NEW_PASSWORD)]))
    return post(client, "choose_password", {"password1": NEW, "password2": NEW})


def invited(alice: User, olivia: User) -> Act:
    User.objects.filter(pk=alice.pk).update(last_login=None)
    return post(signed_in(olivia), "admin:invite_person", {}, alice.pk)


@pytest.mark.parametrize(
    ("door", "events"),
    [
        (app_set_up, [("factor.added", "alice"), ("factor.codes_made", "alice")]),
        (app_turned_off, [("factor.removed", "alice"), ("factor.removed", "alice")]),
        (codes_made_anew, [("factor.codes_made", "alice")]),
        (taken_by_an_operator, [("factor.removed", "olivia")]),
        (signed_out, [("sign_in.ended", "alice")]),
        (one_ended_from_elsewhere, [("sign_in.ended", "alice")]),
        (all_ended_by_oneself, [("sign_ins.ended", "alice")]),
        (ended_by_an_operator, [("sign_ins.ended", "olivia")]),
        (ended_with_their_part, [("person.deactivated", "olivia")]),
        (ended_by_another_address, [("person.changed", "olivia")]),
        (password_changed, [("password.set", "alice")]),
        (password_set_by_an_operator, [("person.changed", "olivia")]),
        (link_asked_for, [("password.asked", "")]),
        (link_used, [("password.set", "alice")]),
        (invited, [("person.invited", "olivia")]),
    ],
)
def test_each_change_of_a_factor_each_end_and_each_link(
    door: Door, events: list[Any], alice: User, olivia: User
) -> None:
    told = of(door(alice, olivia))

    assert [(action, by) for action, by, _, _ in told] == events
    assert {whom for _, _, whom, _ in told} == {"alice"}


def test_no_kind_is_left_out() -> None:
    """Passkeys stand in test_passkeys.py, operators in tests/domain/test_operators.py."""
    held = {action for mark in (*_EACH,) for _, events in mark.args[1] for action, *_ in events}
    ours = {str(one) for one in Action if one.partition(".")[0] in ("sign_in", "sign_ins", "factor", "password")}
    assert ours <= held


_EACH = (
    *test_each_sign_in_and_each_failure.pytestmark,
    *test_each_change_of_a_factor_each_end_and_each_link.pytestmark,
)
