"""Someone who uses the running product over HTTP, as their browser would."""

import json
import time
from collections.abc import Callable
from typing import Any, Self

import httpx
from joserfc import jwe
from joserfc.jwk import ECKey

from sandbox.story import PASSWORD


class Employee:
    """Signed in through the sign-in page. A context manager."""

    def __init__(self, url: str, username: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=20, follow_redirects=True)
        page = self.get("/accounts/login/")
        assert page.status_code == 200
        answer = self.post("/accounts/login/", {"login": username, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        assert str(answer.url.path) == "/", f"{username} was not let in"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> httpx.Response:
        return self._http.get(path)

    def post(self, path: str, data: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        token = {"X-CSRFToken": self._http.cookies["csrftoken"]}
        return self._http.post(path, data=data or {}, headers=token | headers)

    def ask(self, code: str, kind: str = "credentials", *, waits: bool = False, **more: str) -> "Wish":
        """Wish for credentials with a fresh key; the answer comes at once, or `waits` a moment as the page does."""
        answer, key = self.try_to_ask(code, kind, waits=waits, **more)
        assert answer.status_code == 201, answer.text
        return Wish(self, answer.json()["id"], key, answer.json().get("envelope"))

    def ask_when_redis_is_back(self, code: str) -> "Wish":
        """As who presses again while the page says that Daypass cannot reach its queue."""
        asked: list[tuple[httpx.Response, ECKey]] = []

        def answered() -> bool:
            asked.append(self.try_to_ask(code))
            return asked[-1][0].status_code != 503

        until(answered, 20)
        answer, key = asked[-1]
        assert answer.status_code == 201, answer.text
        return Wish(self, answer.json()["id"], key)

    def try_to_ask(
        self, code: str, kind: str = "credentials", *, waits: bool = False, **more: str
    ) -> tuple[httpx.Response, ECKey]:
        key = ECKey.generate_key("P-256")
        jwk = json.dumps(key.as_dict(private=False))
        prefers = {"Prefer": "wait"} if waits else {}
        return self.post("/deliveries/", {"code": code, "kind": kind, "jwk": jwk, **more}, **prefers), key


class Wish:
    def __init__(self, employee: Employee, public_id: str, key: ECKey, envelope: str | None = None) -> None:
        self._employee, self.public_id, self.key, self.envelope = employee, public_id, key, envelope

    def state(self) -> dict[str, Any]:
        return dict(self._employee.get(f"/deliveries/{self.public_id}").json())

    def settle(self, seconds: float = 30) -> str:
        """Poll until it is sealed or has failed; the state."""
        waiting = ("asked", "claimed")
        until(lambda: self.state()["state"] not in waiting, seconds, self.state)
        return str(self.state()["state"])

    def take(self) -> httpx.Response:
        return self._employee.post(f"/deliveries/{self.public_id}/envelope")

    def open(self) -> dict[str, Any]:
        """What the envelope holds, opened with the key that never left here."""
        assert self.settle() == "sealed", self.state()
        answer = self.take()
        assert answer.status_code == 200, answer.text
        sealed = jwe.decrypt_compact(answer.json()["envelope"], self.key, algorithms=["ECDH-ES", "A256GCM"])
        assert sealed.plaintext is not None
        return dict(json.loads(sealed.plaintext))


def until(true: Callable[[], bool], seconds: float, otherwise: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so within {seconds} s: {otherwise()}"
        time.sleep(0.1)
