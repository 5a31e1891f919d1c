"""manage.py, as an operator types it."""

import io
import sys
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from requests_app.domain.models import AuditEvent, User


def _type(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))


@pytest.mark.django_db
def test_the_first_operator_of_an_empty_installation(monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    _type(monkeypatch, "correct horse battery staple\n")

    call_command("make_operator", "Olivia@Example.com", stdout=io.StringIO())

    olivia = User.objects.get(username="olivia")
    assert olivia.is_superuser
    assert olivia.check_password("correct horse battery staple")
    assert list(AuditEvent.objects.order_by("pk").values_list("action", "channel")) == [
        ("person.made", "command"),
        ("operator.made", "command"),
    ]


@pytest.mark.django_db
def test_someone_known_keeps_their_password(monkeypatch: pytest.MonkeyPatch, alice: User) -> None:
    _type(monkeypatch, "")

    call_command("make_operator", alice.email.upper(), stdout=io.StringIO())

    alice.refresh_from_db()
    assert alice.is_superuser
    assert not alice.has_usable_password()


@pytest.mark.django_db
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


@pytest.mark.django_db
def test_a_taken_user_name_is_said(monkeypatch: pytest.MonkeyPatch, alice: User) -> None:
    _type(monkeypatch, "correct horse battery staple\n")

    with pytest.raises(CommandError, match="user name"):
        call_command("make_operator", "ALICE@elsewhere.example", stdout=io.StringIO())
