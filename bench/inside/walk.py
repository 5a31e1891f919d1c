"""Every page of the grown company in `tests.crowd`, who opens it, and how: addresses and SQL, no models.

In the checkout that this runs in, after `django.setup()`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from tests import crowd

Act = Callable[[Any], Any]
SIGNED_IN = ("alice", "bob", "carol", "dave", "olivia", "erin", "frank")
ADMIN = "/admin/requests_app"
EMPTY = "an empty page (alice)"
# AWS's clock must have been read lately for a wish; a worker would do that.
CLOCK_READ = "UPDATE requests_app_awsclock SET measured_at = clock_timestamp()"


def signed_in(username: str) -> Any:
    from django.test import Client

    from requests_app.domain.models import User

    with suppress(ImportError):  # an older product, whose cookie is the row's key
        from tests import clients

        clients.use_secrets()
    client = Client(raise_request_exception=True)
    client.force_login(User.objects.get(username=username))
    return client


def walk() -> Iterator[tuple[str, str, Act]]:
    yield "an empty page", "alice", _empty()
    yield "my access", "alice", get("/")
    yield "my access", "bob", get("/")
    yield "my access, long ago", "erin", get("/")
    yield "signing in, by address", "nobody yet", _sign_in()
    yield from _asking()
    yield from _deciding()
    yield from _using()
    yield from _administering()


def get(address: str, **words: Any) -> Act:
    def get_it(client: Any) -> Any:
        answer = client.get(address, words)
        assert answer.status_code == 200, (address, words, answer.status_code)
        return answer

    return get_it


def post(address: str, typed: dict[str, str], status: int = 302) -> Act:
    def post_it(client: Any) -> Any:
        answer = client.post(address, typed)
        assert answer.status_code == status, (address, answer.status_code, answer.content[-2000:])
        return answer

    return post_it


def asked(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def first(statement: str, *values: Any) -> Any:
    return asked(statement, *values)[0][0]


def _empty() -> Act:
    """The floor: the whole middleware, and behind it a view with nothing in it."""
    from django.conf import settings

    product = settings.ROOT_URLCONF

    def get_nothing(client: Any) -> Any:
        settings.ROOT_URLCONF = "bench.inside.bare.site"
        try:
            return get("/")(client)
        finally:
            settings.ROOT_URLCONF = product

    return get_nothing


def _sign_in() -> Act:
    from django.test import Client

    from requests_app.domain.models import User

    someone = User.objects.get(username="person7")
    someone.set_password("correct horse battery staple")
    someone.save(update_fields=["password"])
    typed = {"login": "Person7@Example.com", "password": "correct horse battery staple"}
    return lambda _: post("/accounts/login/", typed)(Client())


def _asking() -> Iterator[tuple[str, str, Act]]:
    yield "request form", "alice", get("/request/")
    for who in ("alice", "carol", "frank"):  # alice may ask for every role, carol for a few, frank by selectors
        for words in (
            *("adm", "4210", "payments prod", "a", "zq", "readonly-17 ledger", "zzzz", "prod", "on call"),
            "prod a b c",
        ):
            yield f"search “{words}”", who, get("/request/roles", q=words)
    alices = first(
        "SELECT r.public_id::text FROM requests_app_role r JOIN requests_app_entitlementrole g ON g.role_id = r.id"
        " WHERE g.entitlement_id = 2 AND r.is_active ORDER BY r.id LIMIT 1"
    )
    yield "form with a role", "alice", get("/request/", role=alices)
    yield "terms of a role", "alice", get("/request/terms", role=alices)
    terms = first("SELECT public_id::text FROM requests_app_entitlement WHERE id = 2")
    yield "ask", "alice", _submit(alices, terms)
    yield "ask again", "alice", get("/request/", again=_code_of("expired"))
    for state in ("pending", "approved", "active", "expired"):
        yield f"a request, {state}", "alice", get(f"/requests/{_code_of(state)}")


def _submit(role: str, entitlement: str) -> Act:
    typed = {"role": role, "entitlement": entitlement, "duration": "30", "start": "on_demand"}
    return post("/request/", {**typed, "justification": "to see what asking costs"})


def _code_of(state: str) -> str:
    return str(
        first(
            "SELECT code FROM requests_app_accessrequest WHERE beneficiary_id = %s AND state = %s"
            " ORDER BY id DESC LIMIT 1",
            crowd.ALICE,
            state,
        )
    )


def _deciding() -> Iterator[tuple[str, str, Act]]:
    shown, codes = _shown_to_decide()
    assert codes, "nothing that Bob can decide"
    last = iter(codes[1:])
    yield "approvals", "bob", get("/approvals/")
    yield "approvals, nothing asked of me", "alice", get("/approvals/")
    yield "approvals, the poll", "bob", get("/approvals/updates", shown=shown[:30])
    yield "a request to decide", "bob", get(f"/requests/{codes[0]}")
    yield "approve, the question", "bob", get(f"/requests/{codes[0]}/approve")
    yield "approve", "bob", lambda client: post(f"/requests/{next(last)}/approve", {})(client)
    yield "deny", "bob", lambda client: post(f"/requests/{next(last)}/deny", {})(client)
    yield "several at once, the question", "bob", get("/approvals/decide", code=shown[:30], verdict="approve")


MOST_DECIDED = 24  # by what measures; each verb takes one each time


def _shown_to_decide() -> tuple[list[str], list[str]]:
    """What Bob's page shows him first; and what ends with his answer, and can be approved, the least urgent first."""
    client = signed_in("bob")
    shown = re.findall(r'id="row-(DP-[0-9A-Z]{8})"', client.get("/approvals/").content.decode())
    found = asked(
        """
        SELECT r.code FROM requests_app_accessrequest r
        JOIN requests_app_role role ON role.id = role_id AND role.is_active
        WHERE state = 'pending' AND jsonb_array_length(terms_document->'stages') = 1
          AND (deciding_users @> ARRAY[%s::bigint]
               OR deciding_groups && ARRAY(SELECT group_id::bigint FROM requests_app_membership WHERE user_id = %s))
          AND (EXISTS (SELECT FROM requests_app_entitlementuser u
                       WHERE u.entitlement_id = r.entitlement_id AND u.user_id = beneficiary_id)
               OR EXISTS (SELECT FROM requests_app_entitlementgroup g JOIN requests_app_membership m USING (group_id)
                          WHERE g.entitlement_id = r.entitlement_id AND m.user_id = beneficiary_id))
        ORDER BY decide_by DESC LIMIT 200
        """,
        *(crowd.BOB, crowd.BOB),
    )
    can_be = (code for (code,) in found if client.get(f"/requests/{code}/approve").status_code == 200)
    return shown, list(islice(can_be, MOST_DECIDED))


def _using() -> Iterator[tuple[str, str, Act]]:
    from joserfc.jwk import ECKey

    active = [
        code
        for (code,) in asked(
            "SELECT code FROM requests_app_accessrequest WHERE beneficiary_id = %s AND state = 'active' ORDER BY id",
            crowd.ALICE,
        )
    ]
    key = dict(ECKey.generate_key("P-256").as_dict(private=False))
    wish = {"code": active[0], "kind": "credentials", "jwk": key}

    def ask(client: Any) -> Any:
        answer = client.post("/deliveries/", wish, content_type="application/json")
        assert answer.status_code == 201, (answer.status_code, answer.content)
        return answer

    yield "credentials", "alice", get(f"/requests/{active[0]}/credentials")
    yield "a wish for credentials", "alice", ask
    yield "I'm done, the question", "alice", get(f"/requests/{active[0]}/give-back")
    last = iter(active[1:])
    yield "I'm done", "alice", lambda client: post(f"/requests/{next(last)}/give-back", {})(client)


def _administering() -> Iterator[tuple[str, str, Act]]:
    key, code = asked(
        "SELECT id, code FROM requests_app_accessrequest WHERE beneficiary_id = %s AND state = 'expired'"
        " ORDER BY id DESC LIMIT 1",
        crowd.ALICE,
    )[0]
    for name, searches in {
        "accessrequest": ({"state__exact": "lapsed"}, {"q": "alice"}, {"q": "erin"}, {"q": code}),
        "auditevent": (
            {"action": "request.denied"},
            {"action": "sign_in.ended"},
            {"q": "bob"},
            {"q": "erin request.granted"},
        ),
        "issuedsession": ({"q": "alice"}, {"q": "erin"}, {"q": "ASIA0000000000001234"}),
        "delivery": ({"q": "alice"}, {"q": "erin"}),
        "decision": ({"q": "bob"}, {"q": "olivia"}),
        "notice": ({"q": "alice"}, {"q": "erin"}),
        "role": ({"q": "adm"}, {"q": "4210"}, {"q": "payments prod"}, {"q": "zq"}, {"power__exact": "read"}),
        "account": ({"q": "prod"},),
        "user": ({"q": "person29"}, {"active": "no"}),
        "group": ({"q": "team"},),
        "entitlement": ({"q": "terms"},),
    }.items():
        yield f"admin: {name}", "dave", get(f"{ADMIN}/{name}/")
        for search in searches:
            words = "&".join(f"{key}={value}" for key, value in search.items())
            yield f"admin: {name}?{words}", "dave", get(f"{ADMIN}/{name}/", **search)
    yield "admin: requests, older", "dave", get(f"{ADMIN}/accessrequest/", id__lt="5000")
    yield "admin: a request", "dave", get(f"{ADMIN}/accessrequest/{key}/change/")
    yield "admin: a role", "olivia", get(f"{ADMIN}/role/77/change/")
    yield "admin: what was done to a role", "dave", get(f"{ADMIN}/role/77/history/")
    yield "admin: what was done to a person", "dave", get(f"{ADMIN}/user/77/history/")
    yield "admin: terms that give every role", "olivia", get(f"{ADMIN}/entitlement/1/change/")
    yield "admin: a group", "olivia", get(f"{ADMIN}/group/2/change/")
    yield "admin: a person", "olivia", get(f"{ADMIN}/user/1/change/")
    names = {"app_label": "requests_app", "model_name": "entitlementrole", "field_name": "role"}
    yield "admin: choosing a role, “adm”", "olivia", get("/admin/autocomplete/", **names, term="adm")
