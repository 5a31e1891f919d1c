"""What the workers found, as operators and auditors see it."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.test import Client

from requests_app.domain import clock
from requests_app.domain.models import Account, Identity, OwnSession, Preflight, Role, Trouble, User
from tests import factories
from tests.admin.filling import save
from tests.admin.test_reading import address
from tests.web.pages import page, signed_in
from tests.web.test_home import queries

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script>"
REFUSED = {
    "check": "trust",
    "verdict": "bad",
    "code": "AccessDenied",
    "words": f"not authorized to perform sts:AssumeRole {HOSTILE}",
    "advice": "The account's owner should check the role.",
}


@pytest.fixture
def operator(olivia: User) -> Client:
    return signed_in(olivia)


@pytest.fixture
def refused(administrator: Role) -> Preflight:
    now = clock.now()
    later = now + timedelta(hours=20)
    return Preflight.objects.create(
        role=administrator, minter_at=now, revoker_at=now, minter_due_at=later, revoker_due_at=later, usable="bad",
        verdict="bad", minter_findings=[REFUSED], minter_attempts=3,
        doors=[{"principal": HOSTILE, "actions": ["sts:AssumeRole"], "condition": '{"Bool": {}}'}],
    )  # fmt: skip


@pytest.mark.parametrize("who", ["dave", "olivia"])
def test_the_roles_page_says_what_was_found_in_awss_words(
    refused: Preflight, who: str, request: pytest.FixtureRequest
) -> None:
    client = signed_in(request.getfixturevalue(who))
    for where in (address(Role, refused.role_id), address(Preflight, refused.pk)):
        answer = client.get(where)
        assert answer.status_code == 200
        text = page(answer).text
        assert "trust : bad. The account's owner should check the role." in text.replace("trust:", "trust :")
        assert "AccessDenied not authorized to perform sts:AssumeRole" in text
        assert "This role has other doors:" in text
        assert HOSTILE.encode() not in answer.content
    listed = page(client.get(address(Role))).text
    assert "no: AWS refuses Daypass" in listed


def test_a_role_that_was_never_looked_at_says_so(administrator: Role, operator: Client) -> None:
    assert "not looked at yet" in page(operator.get(address(Role))).text
    assert "not looked at yet" in page(operator.get(address(Role, administrator.pk))).text
    assert "Look again" not in page(operator.get(address(Role, page="add"))).text


def test_looking_again_is_for_operators(refused: Preflight, operator: Client, dave: User, alice: User) -> None:
    url = f"{address(Role, refused.role_id).removesuffix('change/')}look-again/"
    auditor = signed_in(dave)
    assert b"look-again" not in auditor.get(address(Role, refused.role_id)).content
    assert auditor.post(url).status_code == 403
    assert signed_in(alice).post(url).status_code == 302  # to where one signs in
    assert operator.get(url).status_code == 405
    refused.refresh_from_db()
    assert refused.minter_due_at > clock.now()

    assert url.encode() in operator.get(address(Role, refused.role_id)).content
    answer = operator.post(url, follow=True)

    assert "as soon as nobody waits for them" in page(answer).text
    refused.refresh_from_db()
    assert max(refused.minter_due_at, refused.revoker_due_at) <= clock.now()
    assert refused.minter_attempts == 0
    assert operator.post(url.replace(str(refused.role_id), "999999")).status_code == 404


@pytest.mark.parametrize(
    ("model", "values", "again"),
    [
        (Role, {"longest_session_seconds": "7200"}, True),
        (Role, {}, False),
        (Account, {"external_id": "another"}, True),
        (Account, {"allows_source_identity": "on"}, True),
        (Account, {}, False),
    ],
)
def test_what_is_changed_is_looked_at_again(
    refused: Preflight, operator: Client, model: Any, values: dict[str, str], again: bool
) -> None:
    other = factories.role()
    later = clock.now() + timedelta(hours=20)
    elsewhere = Preflight.objects.create(role=other, minter_due_at=later, revoker_due_at=later)
    pk = refused.role_id if model is Role else refused.role.account_id

    assert save(operator, address(model, pk), **values).status_code == 302

    refused.refresh_from_db()
    elsewhere.refresh_from_db()
    assert (refused.minter_due_at <= clock.now()) == again
    assert (refused.revoker_due_at <= clock.now()) == again
    assert elsewhere.minter_due_at > clock.now()


def test_roles_by_what_was_found(refused: Preflight, read_only: Role, operator: Client) -> None:
    now = clock.now()
    Preflight.objects.create(role=read_only, minter_due_at=now, revoker_due_at=now, usable="good", verdict="good")
    never = factories.role("NeverLookedAt")

    def listed(query: str) -> set[str]:
        text = page(operator.get(f"{address(Role)}?{query}")).text
        return {role.name for role in (refused.role, read_only, never) if role.name in text}

    assert listed("preflight=refused") == listed("preflight=mend") == {"Administrator"}
    assert listed("preflight=good") == {"ReadOnly"}
    assert listed("preflight=unknown") == {"NeverLookedAt"}
    assert listed("preflight=nonsense") == {"Administrator", "ReadOnly", "NeverLookedAt"}


@pytest.mark.parametrize("who", ["dave", "olivia"])
def test_what_is_on_record_can_be_read_and_not_changed(
    refused: Preflight, who: str, request: pytest.FixtureRequest
) -> None:
    now = clock.now()
    since = {"first_at": now, "last_at": now}
    rows = [
        refused,
        factories.own_session(refused.role),
        Identity.objects.create(worker="minter", region="us-east-1", arn="arn:minter", aws_message=HOSTILE),
        Trouble.objects.create(task="revoke.work", subject="7", error="KeyError", where="x:1", **since),
    ]
    client = signed_in(request.getfixturevalue(who))
    for row in rows:
        assert client.get(address(type(row))).status_code == 200
        answer = client.get(address(type(row), row.pk))
        assert answer.status_code == 200
        assert b'name="_save"' not in answer.content
        assert HOSTILE.encode() not in answer.content
        assert client.post(address(type(row), row.pk), {}).status_code == 403
        assert client.get(address(type(row), page="add")).status_code == 403
    found = page(client.get(f"{address(OwnSession)}?q={rows[1]}")).text
    assert "DP-PREFLIGHT-test" in found
    assert "revoke.work" in page(client.get(f"{address(Trouble)}?over=no")).text
    assert "revoke.work" not in page(client.get(f"{address(Trouble)}?over=yes")).text


def test_more_roles_take_no_more_queries(refused: Preflight, operator: Client) -> None:
    def asked() -> list[int]:
        return [queries(partial(operator.get, address(model))) for model in (Role, Preflight, OwnSession)]

    asked()  # whatever is read once per process
    few = asked()
    now = clock.now()
    for _ in range(20):
        role = factories.role()
        factories.own_session(role)
        Preflight.objects.create(role=role, minter_due_at=now, revoker_due_at=now)
    assert asked() == few
