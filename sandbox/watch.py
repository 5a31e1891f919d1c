"""`make watch`: ask the running `make run` for a minute's access, get keys, and watch them end at their second.

Everything goes the way a person's goes: the sign-in page, the form, a key pair of one's own, the envelope opened with
it. Then boto3 uses the keys until AWS refuses them. The times are AWS's own, from its answers' Date.
"""

import html
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sandbox.caller import REGION
from sandbox.employee import Employee

ADDRESSES = Path(__file__).resolve().parent.parent / ".run" / "addresses"
WHO, ACCOUNT, ROLE, MINUTES = "alice", "payments-prod", "ReadOnly", 1
CALLS = (("sts", "get_caller_identity"), ("s3", "list_buckets"), ("iam", "list_roles"))
STEP, RARELY, CLOSE = 0.25, timedelta(seconds=10), timedelta(seconds=5)
LOOKED_AT_AFTERWARDS = timedelta(seconds=2)


class Stopped(Exception):
    """What was in the way, in words."""


@dataclass(frozen=True)
class Look:
    """One try of every call: when AWS answered the first, and what each was told ("" where it worked)."""

    at: datetime
    refusals: tuple[str, ...]

    @property
    def works(self) -> bool:
        return not any(self.refusals)

    def __str__(self) -> str:
        said = (f"{name} {refusal or 'works'}" for (_, name), refusal in zip(CALLS, self.refusals, strict=True))
        return f"  {self.at:%H:%M:%S}  " + "   ".join(said)


def main() -> int:
    try:
        addresses = json.loads(ADDRESSES.read_text())
    except FileNotFoundError:
        print("Daypass does not run from this folder. `make run` in another window first.", file=sys.stderr)
        return 2
    try:
        code, keys = keys_for_a_minute(addresses["portal"])
        return watch(code, keys, addresses["aws"])
    except (Stopped, AssertionError, httpx.HTTPError, BotoCoreError) as wrong:
        print(f"It could not be watched: {wrong}", file=sys.stderr)
        return 2


def keys_for_a_minute(url: str) -> tuple[str, dict[str, Any]]:
    """A pass of a minute and its keys; nobody has to agree to it."""
    with Employee(url, WHO) as person:
        linked = rf'role=([0-9a-f-]+)"[^>]*>\s*<strong>{ROLE}</strong>\s*<span[^>]*>in</span>\s*<span>{ACCOUNT}<'
        role = re.search(linked, person.get("/request/").text)
        if not role:
            raise Stopped(f"{WHO} is offered no {ROLE} in {ACCOUNT}. `make reset` makes the demo anew.")
        form = person.get(f"/request/?role={role[1]}").text
        typed = {
            **{name: value for name, value in _fields(form) if name.startswith(("seen-", "once", "role"))},
            "entitlement": next(value for name, value in _fields(form) if name == "entitlement"),
            "duration": "other",
            "duration_other": str(MINUTES),
            "start": "at_once",
            "justification": "To watch the keys end at their second.",
        }
        answer = person.post("/request/", typed)
        found = re.search(r"/requests/(DP-[0-9A-Z-]+)$", str(answer.url.path))
        if not found:
            errors = re.findall(r'class="[^"]*(?:invalid-feedback|alert)[^"]*"[^>]*>(.*?)</', answer.text, re.DOTALL)
            said = " ".join(re.sub(r"<[^>]+>|\s+", " ", error) for error in errors)
            raise Stopped(html.unescape(said).strip() or f"the form answered {answer.status_code}")
        return found[1], person.ask(found[1]).open()


def _fields(form: str) -> Iterator[tuple[str, str]]:
    for tag in re.findall(r"<input[^>]*>", form):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if "name" in attributes:
            yield attributes["name"], html.unescape(attributes.get("value", ""))


def end_of(keys: dict[str, Any]) -> datetime:
    """When the keys end by themselves, as AWS said when it gave them."""
    return datetime.fromisoformat(keys["sts_expires_at"]).astimezone(UTC)


def watch(code: str, keys: dict[str, Any], aws_url: str | None) -> int:
    ends, agreed = end_of(keys), datetime.fromisoformat(keys["expires_at"]).astimezone(UTC)
    print(f"{code}: {WHO} may use {ROLE} in {ACCOUNT} until {agreed:%H:%M:%S} UTC, {MINUTES} minute from the start.")
    print(f"The key {keys['access_key_id']} ends at {ends:%H:%M:%S} by itself. Used, by AWS's clock:\n", flush=True)
    looks = list(_looks(_clients(keys, aws_url), ends=min(ends, agreed)))
    before, after = [look for look in looks if look.at < ends], [look for look in looks if look.at >= ends]
    if (
        ends <= agreed
        and any(look.works for look in before)
        and all(look.works for look in before)
        and after
        and all(set(look.refusals) == {"ExpiredToken"} for look in after)
    ):
        print(f"\nIt worked before {ends:%H:%M:%S} and was ExpiredToken from then on, to every call, GetCallerIdentity")
        print("included: AWS itself has ended it. Nothing of Daypass had to run for that.")
        return 0
    print(f"\nThat is not what was promised: at {agreed:%H:%M:%S} every call is ExpiredToken.", file=sys.stderr)
    return 1


def _looks(clients: list[tuple[Any, str]], *, ends: datetime) -> Iterator[Look]:
    """Try every call until a moment after the end; shown is what is new, and the last seconds one by one."""
    shown = None
    while True:
        look = _look(clients)
        yield look
        is_close = look.at >= ends - CLOSE and shown is not None and look.at > shown.at
        if shown is None or look.refusals != shown.refusals or look.at >= shown.at + RARELY or is_close:
            print(look, flush=True)
            shown = look
        if look.at >= ends + LOOKED_AT_AFTERWARDS:
            return
        time.sleep(STEP)


def _clients(keys: dict[str, Any], aws_url: str | None) -> list[tuple[Any, str]]:
    session = boto3.session.Session(
        keys["access_key_id"], keys["secret_access_key"], keys["session_token"], region_name=REGION
    )
    config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})
    clients = {
        service: session.client(service, endpoint_url=aws_url, config=config)  # type: ignore[call-overload]
        for service, _ in CALLS
    }
    return [(clients[service], call) for service, call in CALLS]


def _look(clients: list[tuple[Any, str]]) -> Look:
    at: datetime | None = None
    refusals = []
    for client, call in clients:
        try:
            answer, refusal = getattr(client, call)(), ""
        except ClientError as refused:
            answer, refusal = refused.response, refused.response["Error"]["Code"]
        at = at or parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        refusals.append(refusal)
    assert at is not None
    return Look(at, tuple(refusals))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
