"""The scripts themselves, in Debian's chromium."""

import base64
import configparser
import json
import subprocess
from typing import Any

import pytest

from requests_app.domain import sealing
from tests.web.browsing import blank, browsing, in_browser

pytestmark = in_browser

# What AWS would never give, but a shell would trip over.
KEYS = {
    "kind": "credentials",
    "access_key_id": "ASIAEXAMPLE",
    "secret_access_key": 'it\'s "quoted" $HOME `id` \\ %PATH% !x',
    "session_token": "IQoJb3JpZ2luX2VjE//+=/'; touch /tmp/never #",
    "expires_at": "2026-11-23T22:00:00.917000+00:00",
    "sts_expires_at": "2026-11-23T17:00:00+00:00",
    "account_id": "222222222222",
    "role_name": "Administrator",
    "code": "DP-7K2M9QX4",
    "region": "eu-west-1",
    "profile": "payments-prod-Administrator",
}


def test_what_the_worker_seals_opens_in_the_browser_and_nowhere_else() -> None:
    with browsing() as site:
        page = site.show("/", blank())
        page.evaluate("import('/static/daypass/sealed.js').then((sealed) => { window.sealed = sealed; })")
        public = page.evaluate("(async () => { window.key = await sealed.makeKey(); return key.jwk; })()")
        assert sorted(public) == ["crv", "kty", "x", "y"]
        assert page.evaluate("key.privateKey.extractable") is False

        envelope = sealing.seal({"greeting": "Grüße, 世界", "number": 7}, public)
        opened = page.evaluate("(jwe) => sealed.open(jwe, key.privateKey)", envelope)
        assert opened == {"greeting": "Grüße, 世界", "number": 7}

        other = "(async (jwe) => sealed.open(jwe, (await sealed.makeKey()).privateKey))"
        assert refused(page, other, envelope)
        for touched in spoiled(envelope):
            assert refused(page, "(jwe) => sealed.open(jwe, key.privateKey)", touched), touched[:80]


def refused(page: Any, script: str, envelope: str) -> bool:
    tried = f"async (jwe) => {{ try {{ await ({script})(jwe); return false; }} catch (error) {{ return true; }} }}"
    return bool(page.evaluate(tried, envelope))


def spoiled(envelope: str) -> list[str]:
    header, wrapped, iv, ciphertext, tag = envelope.split(".")
    known = json.loads(base64.urlsafe_b64decode(header + "=="))
    headers = [
        {**known, "alg": "ECDH-ES+A256KW"},
        {**known, "enc": "A128GCM"},
        {**known, "zip": "DEF"},
        {**known, "crit": ["exp"]},
        {**known, "epk": {**known["epk"], "crv": "P-384"}},
        {**known, "epk": {**known["epk"], "x": known["epk"]["y"]}},
        {name: value for name, value in known.items() if name != "epk"},
    ]
    encoded = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in headers]
    flipped = ("A" if tag[0] != "A" else "B") + tag[1:]
    return [
        *(".".join((one, wrapped, iv, ciphertext, tag)) for one in encoded),
        ".".join((header, wrapped, iv, ciphertext, flipped)),
        ".".join((header, "AAAA", iv, ciphertext, tag)),
        ".".join((header, wrapped, iv, ciphertext)),
        "",
    ]


@pytest.fixture(scope="module")
def formats() -> dict[str, str]:
    with browsing() as site:
        page = site.show("/", blank())
        script = """(payload) => import('/static/daypass/credentials.js').then((module) => {
            const keys = { ...payload, ends_at: module.endOf(payload) };
            return Object.fromEntries(Object.entries(module.FORMATS).map(([name, make]) => [name, make(keys)]));
        })"""
        return dict(page.evaluate(script, KEYS))


def test_every_format_says_when_these_keys_stop(formats: dict[str, str]) -> None:
    assert set(formats) == {"bash", "fish", "powershell", "cmd", "profile", "process"}
    for text in formats.values():
        assert "2026-11-23T17:00:00Z" in text  # AWS's own end comes before the pass's


def test_bash_reads_back_what_was_meant(formats: dict[str, str]) -> None:
    show = 'printf "%s\\n" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "$AWS_SESSION_TOKEN" "$AWS_REGION"'
    done = subprocess.run(["bash", "-c", f"{formats['bash']}\n{show}"], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        KEYS["access_key_id"],
        KEYS["secret_access_key"],
        KEYS["session_token"],
        KEYS["region"],
    ]
    assert all(line.startswith(" export ") for line in formats["bash"].splitlines())  # kept out of histories


def test_the_profile_is_one_that_tools_read(formats: dict[str, str]) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(formats["profile"])

    assert dict(parser["payments-prod-Administrator"]) == {
        "aws_access_key_id": KEYS["access_key_id"],
        "aws_secret_access_key": KEYS["secret_access_key"],
        "aws_session_token": KEYS["session_token"],
        "region": KEYS["region"],
    }


def test_credential_process_is_the_json_that_tools_read(formats: dict[str, str]) -> None:
    assert json.loads(formats["process"]) == {
        "Version": 1,
        "AccessKeyId": KEYS["access_key_id"],
        "SecretAccessKey": KEYS["secret_access_key"],
        "SessionToken": KEYS["session_token"],
        "Expiration": "2026-11-23T17:00:00Z",
    }


def test_quotes_end_no_string_in_the_other_shells(formats: dict[str, str]) -> None:
    assert "$Env:AWS_SECRET_ACCESS_KEY = 'it''s" in formats["powershell"]
    assert "set -gx AWS_SECRET_ACCESS_KEY 'it\\'s \"quoted\" $HOME `id` \\\\ %PATH% !x'" in formats["fish"]
    assert 'set "AWS_ACCESS_KEY_ID=ASIAEXAMPLE"' in formats["cmd"]


COUNTDOWN = """<!doctype html><html lang="en" data-now="2026-11-23T16:00:00.000Z"><body>
<div data-pass class="tone-green"><span data-in="2026-11-23T16:16:00.000Z"></span>
<time data-countdown data-ends-at="2026-11-23T16:16:00.000Z" data-what="Administrator"></time>
<button data-while-active>Open</button><p data-when-over hidden>over</p></div><div id="spoken"></div>
<script type="module" src="/static/daypass/countdown.js"></script></body></html>"""


def test_the_countdown_follows_the_servers_clock_and_speaks_three_times() -> None:
    response = blank()
    response.content = COUNTDOWN.encode()
    with browsing() as site:
        # This machine's clock is wrong by years; the server's is what counts.
        site.page.clock.install(time="2031-01-01T00:00:00Z")
        page = site.show("/", response)
        page.evaluate("""() => { window.said = []; new MutationObserver(() => said.push(spoken.textContent))
            .observe(document.getElementById("spoken"), { childList: true, characterData: true, subtree: true }); }""")
        clock = page.locator("time")
        assert clock.inner_text().startswith("15:5") or clock.inner_text().startswith("16:0")
        assert "soon" not in (clock.get_attribute("class") or "")

        left = page.locator("[data-in]")
        assert left.text_content() == "(in 16\N{NO-BREAK SPACE}min)"
        for _ in range(17 * 12):
            page.clock.run_for(5_000)
        assert page.evaluate("window.said") == [
            "Administrator ends in 15 minutes.",
            "Administrator ends in 5 minutes.",
            "Administrator ends in 1 minute.",
            "Administrator has ended.",
        ]
        assert clock.inner_text() == "ended"
        assert left.text_content() == ""  # nothing goes on saying how long is left
        assert page.locator("[data-pass]").get_attribute("class") == "tone-grey"
        assert page.locator("button").is_hidden()
        assert page.locator("p").is_visible()
        assert site.wrong == []


def test_under_fifteen_minutes_it_is_amber() -> None:
    response = blank()
    response.content = COUNTDOWN.replace("16:16:00", "16:14:00").encode()
    with browsing() as site:
        page = site.show("/", response)

        assert "soon" in (page.locator("time").get_attribute("class") or "")
        assert page.locator("#spoken").inner_text() == ""  # only what changes while one looks is spoken


@pytest.mark.parametrize(("seconds", "text"), [(59, "0:59"), (3134, "52:14"), (3723, "1:02:03"), (190000, "2 d 4 h")])
def test_how_what_is_left_reads(seconds: int, text: str) -> None:
    with browsing() as site:
        page = site.show("/", blank())
        script = "(seconds) => import('/static/daypass/countdown.js').then((module) => module.clockText(seconds))"
        assert page.evaluate(script, seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(1, "1 min"), (3600, "1 h"), (3601, "1 h 1 min"), (183600, "2 d 3 h")])
def test_lengths_read_as_on_the_page_itself(seconds: int, text: str) -> None:
    with browsing() as site:
        page = site.show("/", blank())
        script = "(seconds) => import('/static/daypass/countdown.js').then((module) => module.spanText(seconds))"
        assert page.evaluate(script, seconds).replace("\N{NO-BREAK SPACE}", " ") == text


DELIVERING = """
(async () => {
  const { deliver } = await import("/static/daypass/delivery.js");
  const calls = [];
  const answers = ANSWERS;
  window.fetch = async (address, { method, headers }) => {
    calls.push([method, String(address), headers.Prefer ?? ""]);
    const [status, body] = answers.shift();
    return new Response(JSON.stringify(body), { status });
  };
  const panel = { dataset: { url: "/deliveries/", csrf: "t", code: "DP-7K2M9QX4", kind: "credentials" } };
  let said = "";
  try { await deliver(panel); } catch (error) { said = error.message; }
  return { calls, said, left: answers.length };
})()
"""


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([[201, {"id": "7", "envelope": "x"}]], [["POST", "/deliveries/", "wait"]]),
        (
            # A worker takes longer; and what was just recorded is on its way for a moment.
            [
                [201, {"id": "7"}],
                [200, {"state": "claimed"}],
                [200, {"state": "sealed"}],
                [409, {"rule": "delivery.not_yet", "message": "Sealed for your browser."}],
                [200, {"state": "sealed"}],
                [200, {"envelope": "x"}],
            ],
            [
                ["POST", "/deliveries/", "wait"],
                ["GET", "/deliveries/7", ""],
                ["GET", "/deliveries/7", ""],
                ["POST", "/deliveries/7/envelope", ""],
                ["GET", "/deliveries/7", ""],
                ["POST", "/deliveries/7/envelope", ""],
            ],
        ),
    ],
    ids=["with the answer", "by polling"],
)
def test_the_envelope_comes_with_the_answer_or_is_taken_when_it_is_there(answers: Any, asked: Any) -> None:
    with browsing() as site:
        page = site.show("/", blank())
        done = page.evaluate(DELIVERING.replace("ANSWERS", json.dumps(answers)))
    assert (done["calls"], done["left"]) == (asked, 0)
    assert "could not be opened" in done["said"], "what nobody sealed is not shown"


def test_another_refusal_ends_the_wait() -> None:
    answers = [[201, {"id": "7"}], [200, {"state": "sealed"}], [409, {"rule": "delivery.lost", "message": "Gone."}]]
    with browsing() as site:
        page = site.show("/", blank())
        done = page.evaluate(DELIVERING.replace("ANSWERS", json.dumps(answers)))
    assert (done["said"], done["left"]) == ("Gone.", 0)
