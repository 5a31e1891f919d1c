"""Before somebody needs it at night: the form and the request say that AWS refuses Daypass on a role."""

from datetime import timedelta

import pytest

from requests_app.domain import clock
from requests_app.domain.models import AccessRequest, Entitlement, Preflight, Role, User
from tests.web.pages import page, signed_in
from tests.web.test_home import queries
from tests.web.test_request_access import typed

pytestmark = pytest.mark.django_db

REFUSED = {
    "check": "trust",
    "verdict": "bad",
    "code": "AccessDenied",
    "words": "is not authorized to perform: sts:AssumeRole <b>",
    "advice": "The account's owner should check the role.",
}
WARNING = "AWS refuses Daypass here"
OTHER_DOORS = {"check": "other doors", "verdict": "bad", "code": "", "words": "other doors: everyone", "advice": ""}


@pytest.fixture
def refused(administrator: Role) -> Preflight:
    now = clock.now()
    return Preflight.objects.create(
        role=administrator, minter_at=now, minter_due_at=now, revoker_due_at=now, usable="bad", verdict="bad",
        minter_findings=[REFUSED], revoker_findings=[OTHER_DOORS], revoker_at=now,
        doors=[{"principal": "everyone", "actions": ["sts:AssumeRole"], "condition": ""}],
    )  # fmt: skip


@pytest.mark.parametrize("where", ["/request/?role={}", "/request/terms?role={}"])
def test_the_form_warns_and_asking_stays_possible(
    refused: Preflight, alice: User, staged: Entitlement, where: str
) -> None:
    client = signed_in(alice)
    answer = client.get(where.format(refused.role.public_id))

    text = page(answer).text
    assert WARNING in text
    assert "AccessDenied . The account's owner should check the role." in text
    assert "is not authorized to perform: sts:AssumeRole <b>" in text
    assert b"sts:AssumeRole <b>" not in answer.content
    assert "You can ask all the same." in text
    assert "doors" not in text, "that concerns operators and auditors"

    client.post("/request/", typed(refused.role, staged))
    asked = AccessRequest.objects.get()
    shown = page(client.get(f"/requests/{asked.code}")).text
    assert WARNING in shown
    assert "You can ask all the same." not in shown


def test_a_request_that_is_over_warns_of_nothing(
    refused: Preflight, pending_request: AccessRequest, alice: User
) -> None:
    address = f"/requests/{pending_request.code}"
    assert WARNING in page(signed_in(alice).get(address)).text
    with clock.moved(timedelta(days=2)):
        assert WARNING not in page(signed_in(alice).get(address)).text


@pytest.mark.parametrize(
    "values",
    [
        {"usable": "good"},
        {"usable": "unknown", "minter_findings": [REFUSED | {"verdict": "unknown"}]},
        {"usable": "good", "verdict": "bad", "minter_findings": [REFUSED | {"check": "external id"}]},
    ],
)
def test_what_keeps_nobody_out_is_no_warning(
    refused: Preflight, alice: User, staged: Entitlement, values: dict[str, object]
) -> None:
    Preflight.objects.update(**values)
    assert WARNING not in page(signed_in(alice).get(f"/request/?role={refused.role.public_id}")).text


def test_it_is_one_query_for_the_form_and_none_without_a_role(
    administrator: Role, alice: User, staged: Entitlement
) -> None:
    client = signed_in(alice)
    chosen, unchosen = f"/request/?role={administrator.public_id}", "/request/"
    client.get(chosen)
    before = queries(lambda: client.get(chosen)), queries(lambda: client.get(unchosen))
    now = clock.now()
    Preflight.objects.create(
        role=administrator, minter_at=now, minter_due_at=now, revoker_due_at=now, usable="bad",
        minter_findings=[REFUSED] * 20,
    )  # fmt: skip
    assert (queries(lambda: client.get(chosen)), queries(lambda: client.get(unchosen))) == before
