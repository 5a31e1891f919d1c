"""A link to choose a password, in the running product: in the mail, and nowhere else."""

import quopri
import re
from typing import Any

import httpx

from sandbox.employee import until
from sandbox.stack import Stack
from tests import factories
from tests.stack.test_story import _dump_of_postgres, _dump_of_redis, _overheard, _stands_in


def test_a_link_is_in_the_mail_alone(product: Stack) -> None:
    wanda = factories.person("wanda")
    with _overheard(product) as redis_traffic, httpx.Client(base_url=product.url, timeout=20) as stranger:
        known, unknown = (_ask(stranger, one) for one in (wanda.email, "nobody@example.com"))
        assert known == unknown
        until(lambda: bool(_links(product)), 60)
        (link,) = _links(product)
        assert link.startswith(f"{product.url}/accounts/")  # and not where the caller said that we are
        page = stranger.get(link, follow_redirects=True)
        assert "Choose a" in page.text or "Welcome" in page.text
        stranger.post("/accounts/password/choose/", data={"password1": "x", "password2": "y"}, headers=_token(stranger))

        secret = link.rstrip("/").rpartition("-")[2]
        assert len(secret) == 32
        places = {
            "Redis traffic": "\n".join(redis_traffic),
            "Redis": _dump_of_redis(product),
            "PostgreSQL": _dump_of_postgres(product),
            **{str(log): log.read_text(errors="replace") for log in product.logs()},
        }
    assert "new_password" in places["PostgreSQL"], "the dump is empty"
    assert [place for place, text in places.items() if _stands_in(secret, text)] == []


def _ask(stranger: httpx.Client, address: str) -> tuple[Any, ...]:
    stranger.get("/accounts/password/reset/")
    named = {"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"}
    answer = stranger.post("/accounts/password/reset/", data={"email": address}, headers=_token(stranger) | named)
    return answer.status_code, answer.headers.get("location"), answer.text


def _token(stranger: httpx.Client) -> dict[str, str]:
    return {"X-CSRFToken": stranger.cookies["csrftoken"]}


def _links(product: Stack) -> list[str]:
    read = (quopri.decodestring(message.encode()).decode(errors="replace") for message in product.mail())
    return sorted({link for text in read for link in re.findall(r"https?://\S+/password/reset/key/[^\s\"]+", text)})
