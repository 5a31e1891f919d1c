"""The whole story in a real browser, then with the real AWS CLI, while we listen to all who could overhear it."""

import base64
import contextlib
import json
import os
import quopri
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from sandbox.stack import Stack
from sandbox.story import PASSWORD
from tests import servers
from tests.stack.people import AWS

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.stack,
    pytest.mark.browser,
    pytest.mark.xdist_group("stack"),
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def someone(demo: Stack, browser: Browser) -> Iterator[Any]:
    """Signs a person in, in a browser of their own; a page that breaks the CSP or throws fails the test."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def someone(username: str, *, start: str = "/", **options: Any) -> Page:
        context = browser.new_context(base_url=demo.url, **options)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"{username}: {error}"))
        page.on(
            "console",
            lambda message: wrong.append(f"{username}: {message.text}") if message.type == "error" else None,
        )
        page.goto(start)
        page.locator("input[name=login]").fill(username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_load_state()
        return page

    yield someone
    for context in contexts:
        context.close()
    assert not wrong, wrong


def test_from_question_to_credential(demo: Stack, someone: Any) -> None:
    tokens: list[str] = []
    with _overheard(demo) as redis_traffic:
        alice = someone("alice")
        code = _ask_for_administrator(alice)
        _approve_on_a_phone(demo, someone, code)
        keys = _take_credentials(alice, code)
        signed_in_as = _open_console(alice, code, tokens)

    assert code in signed_in_as
    _use_the_keys(demo, keys)
    _nobody_overheard(demo, [keys["AWS_SECRET_ACCESS_KEY"], keys["AWS_SESSION_TOKEN"], *tokens], redis_traffic)
    _the_record_shows_it(someone("dave", start="/"), demo, code)


def _ask_for_administrator(alice: Page) -> str:
    alice.get_by_role("link", name="Request access").first.click()
    alice.get_by_label("Role", exact=True).press_sequentially("paym admin", delay=30)
    alice.get_by_role("link", name=re.compile("Administrator.*payments-prod")).click()
    _choose(alice, "approval from Payments leads")
    _choose(alice, "30 min")
    alice.get_by_label("Why").fill("replay the failed settlement batch <b>now</b>")
    alice.get_by_label(re.compile("Ticket")).fill("INC-2291")
    alice.get_by_role("button", name="Ask for access").click()
    found = re.search(r"DP-[0-9A-Z]{8}", alice.url)
    assert found, alice.url
    expect(alice.locator("main")).to_contain_text("<b>now</b>")
    return found.group()


def _choose(page: Page, words: str) -> None:
    spaced = words.replace(" ", r"\s")  # a number and its unit are kept on one line
    page.locator("label.choice", has_text=re.compile(rf"(^|\W){spaced}($|\W)")).first.click()


def _approve_on_a_phone(demo: Stack, someone: Any, code: str) -> None:
    """From the mail's link through sign-in to the decision, 360 px wide."""
    link = _link_in_mail(demo, code, to="bob@example.com")
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "color_scheme": "dark"}
    bob = someone("bob", start=link, **phone)
    expect(bob.locator("main")).to_contain_text("Administrator")
    assert bob.evaluate("document.documentElement.scrollWidth") <= 360
    bob.get_by_role("link", name=re.compile("^Approve")).or_(
        bob.get_by_role("button", name=re.compile("^Approve"))
    ).first.tap()
    expect(bob.locator("main")).to_contain_text("30 min")
    expect(bob.locator("main")).to_contain_text("2222-2222-2222")
    bob.get_by_role("button", name=re.compile("^Approve Administrator")).tap()
    bob.wait_for_load_state()
    expect(bob.locator("main")).to_contain_text("approved", ignore_case=True)


def _link_in_mail(demo: Stack, code: str, *, to: str) -> str:
    for _ in range(200):
        for message in demo.mail():
            if code in message and f"To: {to}" in message:
                text = quopri.decodestring(message.encode()).decode(errors="replace")
                found = re.search(rf"{re.escape(demo.url)}(/requests/{code}\S*)", text)
                assert found, text
                return found.group(1)
        time.sleep(0.1)
    raise AssertionError(f"no mail about {code} to {to}")


def _take_credentials(alice: Page, code: str) -> dict[str, str]:
    alice.goto(f"/requests/{code}/credentials")
    alice.get_by_role("button", name="Start and get credentials").click()
    keys = alice.locator("[data-keys-text]")
    expect(keys).to_contain_text("AWS_SESSION_TOKEN", timeout=30_000)
    alice.locator("[data-keys-copy]").click()
    copied = alice.evaluate("navigator.clipboard.readText()")
    values = dict(re.findall(r"export (\w+)=(\S+)", copied))
    assert set(values) >= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    for name in ("fish", "PowerShell", "cmd", "AWS CLI profile", "credential_process"):
        _choose(alice, name)
        assert values["AWS_SECRET_ACCESS_KEY"] in (keys.text_content() or "")
    kept = alice.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, history.state, document.cookie])")
    assert not [value for value in values.values() if value in kept + alice.url and value != "us-east-1"]
    alice.reload()
    expect(alice.locator("body")).not_to_contain_text(values["AWS_ACCESS_KEY_ID"])
    return values


def _open_console(alice: Page, code: str, tokens: list[str]) -> str:
    def notice(request: Any) -> None:
        form = urllib.parse.parse_qs(request.post_data or "")
        tokens.extend(form.get("SigninToken", []))
        assert "SigninToken" not in request.url

    alice.context.on("request", notice)
    alice.goto(f"/requests/{code}/console")
    with alice.context.expect_page(timeout=40_000) as opened:
        alice.get_by_role("button", name="Open the console").click()
        # By itself when it was ready within a second of the press, else by this button.
        with contextlib.suppress(Exception):
            alice.locator("[data-open-form] button").click(timeout=15_000)
    console = opened.value
    console.wait_for_load_state()
    text = console.locator("body").inner_text()
    assert "SigninToken" not in console.url
    assert tokens
    return text


def _use_the_keys(demo: Stack, keys: dict[str, str]) -> None:
    """Something real in the target account: the failed batch is put back."""
    hers = {"PATH": os.environ["PATH"], "HOME": str(demo.folder), "AWS_DEFAULT_REGION": "eu-central-1"}
    environment = {**hers, "AWS_ENDPOINT_URL": demo.aws.url, **keys}

    def aws(*command: str) -> str:
        done = subprocess.run([AWS, *command], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "222222222222" in aws("sts", "get-caller-identity")
    assert "summary.csv" in aws("s3", "ls", "s3://payments-prod-ledger", "--recursive")
    aws("ssm", "put-parameter", "--name", "/payments/replayed", "--value", "yes", "--type", "String")
    assert "yes" in aws("ssm", "get-parameter", "--name", "/payments/replayed")


def _nobody_overheard(demo: Stack, secrets: list[str], redis_traffic: list[str]) -> None:
    assert len(secrets) >= 3
    assert any("envelope:" in line for line in redis_traffic), "the listener heard nothing"
    places = {
        "Redis traffic": "\n".join(redis_traffic),
        "Redis": _dump_of_redis(demo),
        "PostgreSQL": _dump_of_postgres(demo),
        "mail": "\n".join(map(_as_read, demo.mail())),
        **{str(log): log.read_text(errors="replace") for log in demo.logs() if log.name not in ("aws.log",)},
    }
    assert "session.issued" in places["PostgreSQL"], "the dump is empty"
    for place, text in places.items():
        for secret in secrets:
            assert not _stands_in(secret, text), f"a secret stands in {place}"


def _stands_in(secret: str, text: str) -> bool:
    """As it is, as an address has it, or inside something in base64, as Celery sends its arguments."""
    forms = {secret, urllib.parse.quote(secret, safe=""), urllib.parse.quote(secret)}
    for before in range(3):  # where it begins decides how it reads; what it shares with its neighbours is left out
        inside = base64.b64encode(b"." * before + secret.encode())[4:-4]
        forms |= {inside.decode(), inside.translate(bytes.maketrans(b"+/", b"-_")).decode()}
    return any(form in text for form in forms)


def test_what_the_story_searches_for_is_found_however_it_is_wrapped() -> None:
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    for before in ("", "a", "ab", "abc"):
        arguments = json.dumps([[f"{before}{secret}", 7], {}]).encode()
        assert _stands_in(secret, base64.b64encode(arguments).decode())
        assert _stands_in(secret, base64.urlsafe_b64encode(arguments).decode())
    assert _stands_in(secret, urllib.parse.urlencode({"key": secret}))
    assert _stands_in(secret, _as_read("a=20mail\n" + quopri.encodestring(b"=" + secret.encode()).decode()))
    assert not _stands_in(secret, base64.b64encode(b"nothing of the kind, however long it may be").decode())


def _as_read(message: str) -> str:
    """A message as it is sent, as its reader has it, and without the ends of lines that a wrapping put there."""
    decoded = quopri.decodestring(message.encode()).decode(errors="replace")
    return "\n".join((message, decoded, "".join(message.split())))


def _the_record_shows_it(dave: Page, demo: Stack, code: str) -> None:
    with demo.connection() as connection:
        rows = connection.execute(
            "SELECT action FROM requests_app_auditevent e"
            " JOIN requests_app_accessrequest r ON r.id = e.access_request_id WHERE r.code = %s ORDER BY e.id",
            [code],
        ).fetchall()
    actions = [action for (action,) in rows]
    expected = ["request.submitted", "request.approved", "request.granted", "request.started", "delivery.asked"]
    assert actions[:5] == expected
    assert actions.count("session.issued") == 2
    assert actions.count("delivery.handed_over") == 2
    dave.goto(f"/admin/requests_app/auditevent/?q={code}")
    expect(dave.locator("body")).to_contain_text("session.issued")
    expect(dave.locator("body")).to_contain_text(code)


@contextlib.contextmanager
def _overheard(demo: Stack) -> Iterator[list[str]]:
    """Every command that Redis is given meanwhile."""
    heard: list[str] = []
    client = demo.redis.client()
    stop = threading.Event()
    with client.monitor() as monitor:

        def listen() -> None:
            while not stop.is_set():
                with contextlib.suppress(Exception):
                    heard.append(str(monitor.next_command()["command"]))

        threading.Thread(target=listen, daemon=True).start()
        try:
            yield heard
        finally:
            stop.set()


def _dump_of_redis(demo: Stack) -> str:
    client = demo.redis.client()
    read: dict[object, Any] = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
    }
    # A dump may be compressed, so what can be read is read.
    return "\n".join(str(read.get(client.type(key), client.dump)(key)) for key in client.keys("*"))


def _dump_of_postgres(demo: Stack) -> str:
    """Every row of every table; as root also every byte of the cluster's files, its log of writes among them."""
    text: list[str] = []
    with demo.connection(owner=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            with connection.cursor() as cursor, cursor.copy(f'COPY "{table}" TO STDOUT') as rows:
                text.extend(bytes(row).decode(errors="replace") for row in rows)
    with servers.as_superuser("postgres") as connection:
        connection.execute("CHECKPOINT")
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    if os.access(folder, os.R_OK):
        text += [file.read_bytes().decode("latin-1") for file in Path(folder, "pg_wal").iterdir() if file.is_file()]
    return "\n".join(text)
