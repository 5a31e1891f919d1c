"""Who lost their second factor has a way back, through an operator who could not profit; nobody else has one."""

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from requests_app.domain import deciders
from requests_app.domain.audit import Action
from requests_app.domain.models import AuditEvent, Edit, Notice, User
from requests_app.domain.workflow import own_edits
from tests import factories, letters
from tests.web.pages import page, signed_in
from tests.web.test_sign_ins_end import PASSWORD, SECRET, is_in, sign_in

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])
WHY = "She lost her phone, and I called her back."


@pytest.fixture
def alice(alice: User) -> User:
    return with_factor(alice)


@pytest.fixture
def peter(db: Any) -> User:
    """Operates too."""
    return factories.person("peter", is_staff=True, is_operator=True)


def with_factor(person: User) -> User:
    person.set_password(PASSWORD)
    person.save(update_fields=["password"])
    with factories.vouched():
        totp.TOTP.activate(person, SECRET)
        RecoveryCodes.activate(person)
    person.refresh_from_db()
    return person


def removes(client: Client, person: User, **typed: str) -> Any:
    return client.post(reverse("admin:remove_factors", args=[person.pk]), {"reason": WHY, **typed}, follow=True)


def told_why() -> list[Notice]:
    """Each of these mails brings the reason."""
    return [notice for notice in Notice.objects.all() if WHY in letters.text(notice)]


def has_factors(person: User) -> bool:
    return Authenticator.objects.filter(user=person).exists()


def test_an_operator_removes_them_and_everybody_concerned_knows(
    alice: User, olivia: User, peter: User, dave: User
) -> None:
    before = sign_in(alice, secret=SECRET)
    hers, address = signed_in(olivia), reverse("admin:remove_factors", args=[alice.pk])
    shown = page(hers.get(address))
    assert (shown.inline, shown.unlabelled(), shown.problems) == ([], [], [])
    assert "authenticator app, recovery codes" in shown.text
    assert (has_factors(alice), is_in(before)) == (True, True), "asking changes nothing"

    assert "no second factor any more" in page(removes(hers, alice)).text

    assert (has_factors(alice), is_in(before)) == (False, False)
    assert is_in(sign_in(alice)), "by the password alone"
    event = AuditEvent.objects.get(action=Action.FACTOR_REMOVED)
    assert (event.actor, event.beneficiary, event.channel) == (olivia, alice, "admin")
    assert (event.detail["reason"], event.detail["factors"]) == (WHY, ["authenticator app", "recovery codes"])
    assert {notice.recipient for notice in told_why()} == {alice, peter}
    assert deciders.same_hand(olivia, alice), "until a third has confirmed it"
    own_edits.confirm(Edit.objects.get(person=alice), by=peter)
    assert not deciders.same_hand(olivia, alice)


def test_about_an_operator_the_auditors_hear_too(olivia: User, peter: User, dave: User) -> None:
    with_factor(peter)
    removes(signed_in(olivia), peter)

    assert {notice.recipient for notice in told_why()} == {peter, dave}


def test_nobody_removes_their_own_and_nobody_but_operators_anybodys(
    alice: User, olivia: User, mallory: User, dave: User, bob: User
) -> None:
    with_factor(olivia)
    for client in (signed_in(olivia), signed_in(mallory), signed_in(dave), signed_in(bob), Client()):
        removes(client, olivia)
    for client in (signed_in(mallory), signed_in(dave), signed_in(bob), signed_in(alice), Client()):
        removes(client, alice)

    assert has_factors(olivia)
    assert has_factors(alice)
    assert not Edit.objects.exists()


def test_a_puppet_operator_removes_nothing_for_whoever_made_it(alice: User, olivia: User, peter: User) -> None:
    """Neither of who made it, nor it of theirs, nor through others."""
    puppet = factories.person("puppet", is_staff=True, is_operator=True)
    own_edits.note(puppet, by=olivia, change={"is_operator": [False, True]})
    with_factor(olivia)
    with_factor(puppet)
    assert "nothing to do with that" in page(removes(signed_in(puppet), olivia)).text
    assert "nothing to do with that" in page(removes(signed_in(olivia), puppet)).text
    own_edits.note(alice, by=puppet, change={"email": ["a", "b"]})
    removes(signed_in(olivia), alice)

    assert all(has_factors(person) for person in (olivia, puppet, alice))
    refused = AuditEvent.objects.filter(action=f"{Action.FACTOR_REMOVED}.refused")
    assert {event.detail["rule"] for event in refused} == {"person.same_hand"}
    removes(signed_in(peter), olivia)
    assert not has_factors(olivia), "somebody who has nothing to do with it may"


@pytest.mark.parametrize("reason", ["", "   ", "x" * 5000, "\x00"])
def test_it_takes_a_reason(reason: str, alice: User, olivia: User) -> None:
    answer = removes(signed_in(olivia), alice, reason=reason)

    assert answer.status_code == 200
    assert has_factors(alice)


def test_where_there_is_none_nothing_happens(bob: User, olivia: User) -> None:
    assert "has no second factor" in page(removes(signed_in(olivia), bob)).text
    assert not Edit.objects.exists()


def test_the_only_operator_comes_back_by_the_server(olivia: User, dave: User) -> None:
    with_factor(olivia)
    with pytest.raises(CommandError):
        call_command("remove_second_factors", olivia.email, reason=" ")
    call_command("remove_second_factors", olivia.email, reason=WHY)

    assert not has_factors(olivia)
    assert {notice.recipient for notice in told_why()} == {olivia, dave}
    assert AuditEvent.objects.get(action=Action.FACTOR_REMOVED).channel == "command"
