"""The scripts themselves, in Debian's chromium."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
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
    "profile": "payments-prod-administrator",
}
# As AWS gives them.
REAL = {
    "access_key_id": "ASIAQXAMPLEXAMPLE123",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "session_token": "IQoJb3JpZ2luX2VjEHoaCXVzLWVhc3QtMSJHMEUCIQD//+Yx==",
    "expires_at": "2999-11-23T22:00:00+00:00",
    "sts_expires_at": "2999-11-23T17:00:00+00:00",
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
def formats() -> dict[str, dict[str, str]]:
    """What is pasted to set keys, by format, and what unsets them; `real` ones are such as AWS gives."""
    script = """(payload) => import('/static/daypass/credentials.js').then((module) => {
        const keys = { ...payload, ends_at: module.endOf(payload) };
        const made = (formats) => Object.fromEntries(Object.entries(formats).map(([name, make]) => [name, make(keys)]));
        return [made(module.FORMATS), made(module.UNSET)];
    })"""
    with browsing() as site:
        page = site.show("/", blank())
        hostile, unset = page.evaluate(script, KEYS)
        real, _ = page.evaluate(script, KEYS | REAL)
    return {"hostile": hostile, "unset": unset, "real": real}


SHELLS = {"bash": "bash", "zsh": "bash", "dash": "bash", "fish": "fish"}
NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION")
SHOW = "env -0"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_reads_back_what_was_meant_and_forgets_it(formats: dict[str, dict[str, str]], shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"There is no {shell}.")
    text, unset = formats["hostile"][SHELLS[shell]], formats["unset"][SHELLS[shell]]
    assert all(line.startswith(" ") for line in f"{text}\n{unset}".splitlines()), "kept out of histories"
    before = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"}
    done = subprocess.run(
        [program, "-c", f"{text}\n{SHOW}\nprintf '\\0\\0'\n{unset}\n{SHOW}"],
        capture_output=True, text=True, check=True, env=before,
    )  # fmt: skip
    assert done.stderr == ""
    given, gone = (dict(one.split("=", 1) for one in part.split("\0") if one) for part in done.stdout.split("\0\0\0"))
    values = [KEYS[name] for name in ("access_key_id", "secret_access_key", "session_token", "region", "region")]
    assert [given.get(name) for name in NAMES] == values
    # What stayed behind from others' keys would make tools refuse these.
    assert "AWS_CREDENTIAL_EXPIRATION" not in given
    assert not any(name in gone for name in NAMES)


def test_without_a_region_of_the_account_the_persons_own_stays(formats: dict[str, dict[str, str]]) -> None:
    script = """(payload) => import('/static/daypass/credentials.js').then((module) =>
        [...Object.values(module.FORMATS), ...Object.values(module.UNSET)].map((make) => make(payload)))"""
    with browsing() as site:
        made = site.show("/", blank()).evaluate(script, KEYS | {"region": ""})
    assert len(made) == 10
    assert not any("region" in text.lower() for text in made)


def test_the_aws_cli_takes_the_profile_twice(formats: dict[str, dict[str, str]], tmp_path: Path) -> None:
    """And what stood in its files before stays."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[mine]\naws_access_key_id = AKIAMINE\naws_secret_access_key = x\n")
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    for key in ("ASIAFIRST", REAL["access_key_id"]):
        pasted = formats["real"]["profile"].replace(REAL["access_key_id"], key)
        subprocess.run(["dash", "-ec", pasted], env=environment, check=True, capture_output=True)
    session = read_by_the_sdk(tmp_path, KEYS["profile"])
    assert session == [*(REAL[name] for name in ("access_key_id", "secret_access_key", "session_token")), "eu-west-1"]
    assert read_by_the_sdk(tmp_path, "mine")[0] == "AKIAMINE"


def test_the_file_of_a_credential_process_is_read(formats: dict[str, dict[str, str]], tmp_path: Path) -> None:
    """As the page says: saved, and named in ~/.aws/config."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / "keys.json").write_text(formats["real"]["process"])
    profile = KEYS["profile"]
    (tmp_path / ".aws" / "config").write_text(f"[profile {profile}]\ncredential_process = cat {tmp_path}/keys.json\n")
    assert read_by_the_sdk(tmp_path, profile)[:3] == [
        REAL[name] for name in ("access_key_id", "secret_access_key", "session_token")
    ]
    assert json.loads(formats["real"]["process"])["Expiration"] == "2999-11-23T17:00:00Z"


def read_by_the_sdk(home: Path, profile: str) -> list[str]:
    script = (
        "import boto3, json; s = boto3.Session(profile_name=%r); c = s.get_credentials().get_frozen_credentials();"
        "print(json.dumps([c.access_key, c.secret_key, c.token, s.region_name]))"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", script % profile], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_powershell_and_cmd_read_back_what_was_meant(formats: dict[str, dict[str, str]]) -> None:
    """By their own rules: in PowerShell's single quotes two are one, and cmd takes all up to the last quote."""
    *lines, last = formats["hostile"]["powershell"].splitlines()
    quoted = dict(found for line in lines for found in re.findall(r"^\$Env:(\w+) = '((?:[^']|'')*)'$", line))
    assert len(quoted) == len(lines)
    assert quoted["AWS_SECRET_ACCESS_KEY"].replace("''", "'") == KEYS["secret_access_key"]
    assert last == "$Env:AWS_CREDENTIAL_EXPIRATION = $null"
    lines = formats["real"]["cmd"].splitlines()
    taken = dict(found for line in lines for found in re.findall(r'^set "(\w+)=([^"%!]*)"$', line))
    assert taken == {
        "AWS_ACCESS_KEY_ID": REAL["access_key_id"], "AWS_SECRET_ACCESS_KEY": REAL["secret_access_key"],
        "AWS_SESSION_TOKEN": REAL["session_token"], "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CREDENTIAL_EXPIRATION": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("end", "now", "text"),
    [
        ("2026-11-23T16:24:00Z", "2026-11-23T16:00:00Z", "17:24"),
        ("2026-11-23T23:24:00Z", "2026-11-23T16:00:00Z", "24 Nov 00:24"),
        ("2026-11-27T00:24:00Z", "2026-11-23T16:00:00Z", "27 Nov 01:24"),
    ],
)
def test_a_time_has_its_day_when_it_is_another_one(end: str, now: str, text: str) -> None:
    with browsing() as site:
        script = """([end, now]) => import('/static/daypass/credentials.js').then((module) =>
            module.timeIn('Europe/Berlin', Date.parse(end), Date.parse(now)))"""
        assert site.show("/", blank()).evaluate(script, [end, now]) == text


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
