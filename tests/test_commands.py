"""manage.py, as an operator types it."""

import io
import sys
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from requests_app.domain.models import AuditEvent, User
from requests_app.domain.workflow import people

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "owner"])


def _type(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))


def test_the_first_operator_of_an_empty_installation(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    _type(monkeypatch, "correct horse battery staple\n")

    call_command("make_operator", "Olivia@Example.com", stdout=io.StringIO())

    olivia = User.objects.get(username="olivia")
    assert olivia.is_operator
    assert olivia.check_password("correct horse battery staple")
    assert list(AuditEvent.objects.order_by("pk").values_list("action", "channel")) == [
        ("person.made", "command"),
        ("operator.made", "command"),
    ]


def test_someone_known_keeps_their_password(monkeypatch: pytest.MonkeyPatch, alice: User) -> None:
    _type(monkeypatch, "")

    call_command("make_operator", alice.email.upper(), stdout=io.StringIO())

    alice.refresh_from_db()
    assert alice.is_operator
    assert not alice.has_usable_password()


@pytest.mark.parametrize(
    ("email", "password", "sentence"),
    [("new@example.com", "short", "too short"), ("no address", "correct horse battery staple", "valid email")],
)
def test_what_cannot_be_is_said_and_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch, email: str, password: str, sentence: str
) -> None:
    _type(monkeypatch, password)

    with pytest.raises(CommandError, match=sentence):
        call_command("make_operator", email, stdout=io.StringIO())

    assert not User.objects.exists()


def test_a_taken_user_name_is_said(monkeypatch: pytest.MonkeyPatch, alice: User) -> None:
    _type(monkeypatch, "correct horse battery staple\n")

    with pytest.raises(CommandError, match="user name"):
        call_command("make_operator", "ALICE@elsewhere.example", stdout=io.StringIO())


def make(*args: str, **options: str) -> str:
    out = io.StringIO()
    call_command("make_operator", *args, stdout=out, **options)
    return out.getvalue()


def test_a_name_of_ones_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, "correct horse battery staple\n")
    assert "maxi" in make("Max.Muster@Example.com", "--username", "Maxi", "--name", "Max Muster")
    person = User.objects.get(username="maxi")
    assert (person.email, person.name, person.is_operator) == ("max.muster@example.com", "Max Muster", True)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["o'brien@example.com"], "user name “o'brien”.*letters, numbers.*--username"),
        (["alice@elsewhere.example"], "user name “alice”.*Someone has this user name.*--username"),
        (["new@example.com", "--username", "two words"], "user name “two words”.*letters, numbers"),
        (["new@example.com", "--username", "x" * 151], "user name.*at most 150"),
        (["new@example.com", "--name", "x" * 151], "name “x+”.*at most 150"),
        (["a b@example.com"], "address “a b@example.com”.*valid email"),
        (["x" * 200 + "@example.com"], "user name.*at most 150.*--username"),
        (["@example.com"], "address “@example.com”.*valid email"),
    ],
)
def test_what_is_wrong_with_a_name_is_said_before_a_password_is_asked_for(
    args: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, alice: User
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CommandError, match=sentence):
        make(*args)
    assert User.objects.count() == 1


def test_another_name_for_somebody_known_is_refused(alice: User) -> None:
    with pytest.raises(CommandError, match="is alice's address, not malice's"):
        make(alice.email, "--username", "malice")
    assert not User.objects.get().is_operator

    make(alice.email, "--username", "Alice")
    assert User.objects.get().is_operator


def test_somebody_deactivated_has_to_be_brought_back_first(alice: User) -> None:
    people.deactivate(alice, by=None)
    with pytest.raises(CommandError, match="Alice is deactivated"):
        make(alice.email)
