"""A session's cookie is in no table; it ends when it is left alone, at its end for good, and when somebody ends it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from requests_app.delivery.web import sessions, sign_ins
from requests_app.domain import workflow
from requests_app.domain.audit import Action
from requests_app.domain.errors import NotAllowed
from requests_app.domain.models import AuditEvent, Notice, User
from tests.web.pages import page, signed_in
from tests.web.test_sign_ins_end import PASSWORD, is_in

pytestmark = pytest.mark.django_db(transaction=True)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
COOKIE = settings.SESSION_COOKIE_NAME


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save(update_fields=["password"])
    return alice


def sign_in(person: User) -> Client:
    client = Client()
    client.post("/accounts/login/", {"login": person.username, "password": PASSWORD})
    assert is_in(client)
    return client


def with_cookie(value: str) -> Client:
    client = Client()
    client.cookies[COOKIE] = value
    return client


@contextmanager
def later(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> Iterator[None]:
    """Sessions end by the web process's clock."""
    now = timezone.now
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", lambda: now() + by)
        cache.clear()  # or it was seen a moment ago
        yield


def everything_stored() -> str:
    with connection.cursor() as cursor:
        rows = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT t::text FROM {connection.ops.quote_name(table)} t")
            rows += [text for (text,) in cursor.fetchall()]
        return "\n".join(rows)


def test_what_stands_in_the_database_opens_nothing(alice: User) -> None:
    client = sign_in(alice)
    client.get("/")
    secret = client.cookies[COOKIE].value

    stored = everything_stored()
    (row,) = Session.objects.all()
    assert (len(secret) >= 43, secret in stored, row.session_key in stored) == (True, False, True)
    assert UserSession.objects.get(user=alice).session_key == row.session_key
    for known in (row.session_key, row.session_data, f"{row.session_key}=", row.session_key.rstrip("=")):
        assert not is_in(with_cookie(known))
    assert is_in(with_cookie(secret))


def test_a_browser_chooses_no_key_of_its_own(alice: User) -> None:
    """A cookie that somebody planted is not taken over by whoever signs in with it."""
    planted = "x" * 43
    client = with_cookie(planted)
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})

    assert client.cookies[COOKIE].value != planted
    assert (is_in(client), is_in(with_cookie(planted))) == (True, False)


def test_signing_in_gives_another_cookie_than_before(alice: User) -> None:
    client = Client()
    client.session["began"] = "before"
    before = client.cookies[COOKIE].value
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})

    assert client.cookies[COOKIE].value != before
    assert (is_in(client), is_in(with_cookie(before))) == (True, False)


@pytest.mark.parametrize("cookie", ["", "x", "\u00e9", "a" * 5000, "'; DROP TABLE django_session"])
def test_nonsense_is_nobody(cookie: str, alice: User) -> None:
    assert with_cookie(cookie).get("/").status_code == 302


# --- how long ----------------------------------------------------------------------------------


def test_left_alone_it_ends(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    client = sign_in(alice)
    almost, over = (timedelta(seconds=settings.SESSION_IDLE_SECONDS + more) for more in (-120, 1))

    with later(monkeypatch, almost):
        assert client.get("/").status_code == 200
        with later(monkeypatch, almost):
            assert client.get("/").status_code == 200, "it was used meanwhile"
            with later(monkeypatch, over):
                assert client.get("/").status_code == 302


def test_a_page_that_asks_by_itself_does_not_use_it(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    client = sign_in(alice)
    almost = timedelta(seconds=settings.SESSION_IDLE_SECONDS - 120)

    with later(monkeypatch, almost):
        asked = client.get(reverse("approvals_updates"), headers={"HX-Request": "true", "HX-Trigger": "updates"})
        assert asked.status_code < 300
        with later(monkeypatch, timedelta(seconds=121)):
            assert not is_in(client)


def test_however_often_it_is_used_it_ends_for_good(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    client = sign_in(alice)
    lasts = timedelta(seconds=settings.SESSION_COOKIE_AGE)
    step = timedelta(seconds=settings.SESSION_IDLE_SECONDS - 1)

    used, at = 0, timedelta(0)
    while at + step < lasts:
        at += step
        with later(monkeypatch, at):
            session = sessions.SessionStore.of_cookie(client.cookies[COOKIE].value)
            session["something"] = used  # saved whole, as a message does it
            session.save()
            assert client.get("/").status_code == 200
        used += 1
    with later(monkeypatch, lasts + timedelta(seconds=1)):
        assert client.get("/").status_code == 302
    assert used >= 11


# --- ending ------------------------------------------------------------------------------------


def test_one_of_them_is_ended(alice: User) -> None:
    here, elsewhere, third = (sign_in(alice) for _ in range(3))
    UserSession.objects.update(user_agent=FIREFOX)  # `is_in` asked with none
    shown = page(here.get(reverse("usersessions_list")))
    assert shown.text.count("Firefox") == 3
    assert "this browser" in shown.text
    key = UserSession.objects.get(session_key=elsewhere.session.session_key).pk

    here.post(reverse("usersessions_list"), {"one": key})

    assert [is_in(client) for client in (here, elsewhere, third)] == [True, False, True]
    assert AuditEvent.objects.latest("pk").action == Action.SIGNED_OUT
    assert "already ended" in page(here.post(reverse("usersessions_list"), {"one": key}, follow=True)).text


def test_nobody_ends_somebody_elses(alice: User, mallory: User) -> None:
    client = sign_in(alice)
    key = UserSession.objects.get(user=alice).pk
    for typed in (key, f"{key} ", "1e3", "9" * 40, "-1", "\u0663"):
        signed_in(mallory).post(reverse("usersessions_list"), {"one": typed})
    assert is_in(client)


@pytest.mark.parametrize(("act", "stays"), [("others", True), ("all", False)])
def test_all_others_or_all_are_ended(act: str, stays: bool, alice: User, bob: User) -> None:
    here, elsewhere, of_bob = sign_in(alice), sign_in(alice), signed_in(bob)
    UserSession.objects.filter(session_key=elsewhere.session.session_key).delete()  # no list has it any more

    here.post(reverse("usersessions_list"), {"act": act})

    assert [is_in(client) for client in (here, elsewhere, of_bob)] == [stays, False, True]
    event = AuditEvent.objects.filter(action=Action.SIGN_INS_ENDED).get()
    assert (event.beneficiary, event.actor) == (alice, alice)
    assert is_in(sign_in(alice))


def test_an_operator_ends_those_of_others(alice: User, olivia: User, mallory: User) -> None:
    client = sign_in(alice)
    address = reverse("admin:sign_out_person", args=[alice.pk])
    assert signed_in(mallory).post(address).status_code in (302, 403)
    with pytest.raises(NotAllowed):
        workflow.people.end_sign_ins(alice, by=mallory)
    assert is_in(client)

    assert signed_in(olivia).get(address).status_code == 200
    assert is_in(client)
    signed_in(olivia).post(address)

    assert not is_in(client)
    assert AuditEvent.objects.filter(action=Action.SIGN_INS_ENDED, beneficiary=alice).get().actor == olivia
    assert Notice.objects.filter(recipient=alice, kind=Notice.Kind.ACCOUNT).exists()


def test_a_list_of_many_is_cut_and_asks_little(alice: User, django_assert_max_num_queries: Any) -> None:
    client = sign_in(alice)
    client.get("/")
    now = timezone.now()
    for number in range(60):
        key = f"{number:040d}"
        Session.objects.create(session_key=key, session_data="x", expire_date=now + timedelta(hours=1))
        UserSession.objects.create(user=alice, session_key=key, ip="203.0.113.7", user_agent="curl", last_seen_at=now)
    with django_assert_max_num_queries(8):
        text = page(client.get(reverse("usersessions_list"))).text
    assert "There are more" in text
    assert text.count("203.0.113.7") >= 49


def test_the_application_cannot_bring_one_back(alice: User, app_connection: psycopg.Connection) -> None:
    """A row that a backup kept opens nothing after its end: what it carries is not what the person has now."""
    client = sign_in(alice)
    kept = Session.objects.get(pk=client.session.session_key)
    workflow.people.end_sign_ins(alice, by=alice)

    app_connection.execute(
        "INSERT INTO django_session VALUES (%s, %s, %s)", [kept.session_key, kept.session_data, kept.expire_date]
    )
    assert not is_in(client)


def test_an_end_is_not_undone_by_everywhere_else(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody with a stolen cookie ends all others at the moment at which the person chooses another password."""
    stolen = sign_in(alice)
    hold = sign_ins.hold

    def meanwhile(request: Any, user: User) -> User | None:
        workflow.accounts.set_password(User.objects.get(pk=alice.pk), "another one, and long")
        return hold(request, user)

    with monkeypatch.context() as patch:
        patch.setattr(sign_ins, "hold", meanwhile)
        stolen.post(reverse("usersessions_list"), {"act": "others"})
    assert not is_in(stolen)


def test_nor_one_that_was_ended_by_itself(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    stolen, hold = sign_in(alice), sign_ins.hold

    def meanwhile(request: Any, user: User) -> User | None:
        UserSession.objects.get(session_key=request.session.session_key).end()
        return hold(request, user)

    with monkeypatch.context() as patch:
        patch.setattr(sign_ins, "hold", meanwhile)
        stolen.post(reverse("usersessions_list"), {"act": "others"})
    assert not is_in(stolen)


def test_what_is_kept_stays_in_the_list(alice: User) -> None:
    client = sign_in(alice)
    client.post(reverse("usersessions_list"), {"act": "others"}, headers={"HX-Trigger": "updates"})
    assert [row.session_key for row in UserSession.objects.filter(user=alice)] == [client.session.session_key]
