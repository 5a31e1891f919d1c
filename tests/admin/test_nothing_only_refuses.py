"""What a page offers it does: where somebody's own hand is in it, the button is not there and a sentence says why."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse

from requests_app.domain import clock, workflow
from requests_app.domain.audit import Action
from requests_app.domain.models import AccessRequest, AuditEvent, Confirmation, Edit, Entitlement, Group, Role, User
from requests_app.domain.workflow import freezes, own_edits
from requests_app.domain.workflow.freezes import Everything
from tests import factories
from tests.web.pages import Page, page, signed_in
from tests.web.test_lost_factors import with_factor

pytestmark = pytest.mark.django_db
WHY = "operator who has nothing to do with that must"


@pytest.fixture
def peter(db: Any) -> User:
    """Operates too, and is made by nobody here."""
    return factories.person("peter", is_staff=True, is_operator=True)


@pytest.fixture
def puppet(olivia: User) -> User:
    """Operates, and was made by Olivia."""
    person = factories.person("puppet", is_staff=True, is_operator=True)
    own_edits.note(person, by=olivia, change={"is_operator": [False, True]})
    return person


def offered(shown: Page, name: str) -> set[str | None]:
    """The values of the buttons and ticks of this name."""
    found = [*shown.all("button"), *shown.all("input")]
    return {one.get("value") for one in found if one.get("name") == name}


def test_edits_are_confirmed_only_by_who_can(
    olivia: User, peter: User, puppet: User, staged: Entitlement, dave: User
) -> None:
    hers = own_edits.note(staged, by=olivia, change={"name": ["a", "b"]})
    his = own_edits.note(staged, by=peter, change={"name": ["b", "c"]})
    at = reverse("admin:confirm_edits")

    seen = page(signed_in(puppet).get(at))
    assert offered(seen, "only") == offered(seen, "edit") == {str(his.pk)}
    assert f"{WHY} confirm it" in seen.text
    assert "Confirm those ticked" not in {one.get("value") for one in seen.all("input")}
    made = Edit.objects.get(person=puppet)
    assert offered(page(signed_in(peter).get(at)), "only") == {str(made.pk), str(hers.pk)}
    read = page(signed_in(dave).get(at))
    assert (offered(read, "only"), WHY in read.text) == (set(), False), "an auditor is asked for nothing"

    signed_in(puppet).post(at, {"only": [his.pk, hers.pk, made.pk]})
    assert set(Edit.objects.exclude(confirmed_at=None)) == {his}


def test_fifty_that_one_cannot_confirm_hide_nothing(
    olivia: User, peter: User, puppet: User, staged: Entitlement
) -> None:
    for number in range(51):
        own_edits.note(staged, by=olivia, change={"name": [str(number), "b"]})
    his = own_edits.note(staged, by=peter, change={"name": ["b", "c"]})
    first = page(signed_in(puppet).get(reverse("admin:confirm_edits")))
    assert offered(first, "only") == set()
    (later,) = [str(one["href"]) for one in first.all("a") if "after=" in str(one.get("href"))]

    assert offered(page(signed_in(puppet).get(reverse("admin:confirm_edits") + later)), "only") == {str(his.pk)}
    for strange in ("?after=x", "?after=" + "9" * 30, "?after=-1"):
        assert signed_in(puppet).get(reverse("admin:confirm_edits") + strange).status_code == 200


def test_a_freeze_is_lifted_only_by_who_can(olivia: User, peter: User, puppet: User, administrator: Role) -> None:
    for scope in (Everything(), administrator):
        freezes.lift(freezes.freeze(scope, by=olivia, reason="x"), by=olivia)

    seen = page(signed_in(puppet).get(reverse("stop")))
    assert "Lift it" not in seen.text
    assert f"{WHY} lift it" in seen.text
    assert page(signed_in(peter).get(reverse("stop"))).text.count("Lift it") == 2


def test_a_pass_of_a_restored_database_is_confirmed_only_by_who_can(
    active_request: AccessRequest, alice: User, olivia: User, peter: User
) -> None:
    freeze = freezes.freeze_restored("test")
    assert freeze
    own_edits.note(alice, by=olivia, change={"email": ["a", "b"]})
    at = reverse("found_passes", args=[freeze.public_id])

    seen = page(signed_in(olivia).get(at))
    assert offered(seen, "confirm") == set()
    assert offered(seen, "end") == {active_request.code, "ticked"}, "ending is never refused"
    assert f"{WHY} confirm this pass, or end it" in seen.text
    assert offered(page(signed_in(peter).get(at)), "confirm") == {active_request.code, "ticked"}

    signed_in(olivia).post(at, {"confirm": active_request.code, "reason": "nobody knows it"})
    assert not Confirmation.objects.exists()
    says_so = Confirmation(
        freeze=freeze, access_request=active_request, confirmed_by=olivia, confirmed_at=clock.now()
    )  # fmt: skip
    with pytest.raises(IntegrityError, match="nobody confirms a pass"), transaction.atomic():
        says_so.save()
    signed_in(peter).post(at, {"confirm": active_request.code, "reason": "nobody knows it"})
    assert Confirmation.objects.get().confirmed_by == peter


def test_factors_are_removed_only_by_who_can_and_where_there_are_some(
    alice: User, olivia: User, peter: User, puppet: User
) -> None:
    of_alice, of_puppet = (reverse("admin:requests_app_user_change", args=[one.pk]) for one in (alice, puppet))
    assert "Remove second factors" not in page(signed_in(olivia).get(of_alice)).text
    for person in (alice, puppet):
        with_factor(person)
    assert "Remove second factors" in page(signed_in(olivia).get(of_alice)).text
    assert "Remove second factors" in page(signed_in(olivia).get(of_puppet)).text

    removing = reverse("admin:remove_factors", args=[puppet.pk])
    seen = page(signed_in(olivia).get(removing))
    assert f"{WHY} do this" in seen.text
    assert not seen.all("textarea")
    assert page(signed_in(peter).get(removing)).all("textarea")


def test_an_invitation_on_its_way_is_not_sent_again(olivia: User, alice: User) -> None:
    at = reverse("admin:invite_person", args=[alice.pk])
    assert "Invite Alice again" in {one.get("value") for one in page(signed_in(olivia).get(at)).all("input")}
    workflow.accounts.invite([alice], by=olivia)
    seen = page(signed_in(olivia).get(at))
    assert "still to be sent" in seen.text
    assert "Invite Alice again" not in {one.get("value") for one in seen.all("input")}


def test_nobody_is_offered_to_accept_what_their_own_hand_asked(
    olivia: User, puppet: User, alice: User, staged: Entitlement, administrator: Role, engineers: Group
) -> None:
    asker = factories.group("Askers", olivia, alice)
    engineers.members.add(puppet)
    staged.askers.add(asker)
    values: dict[str, Any] = {"entitlement": staged, "beneficiary": puppet, "justification": "because it is needed"}
    by_her, by_alice = (
        workflow.submit(administrator, by=one, duration=timedelta(hours=1), **values) for one in (olivia, alice)
    )
    theirs = signed_in(puppet)
    at_home = page(theirs.get("/"))
    assert at_home.text.count("Accept nothing from them") == 1
    for request, is_offered in ((by_her, False), (by_alice, True)):
        seen = page(theirs.get(reverse("access_request", args=[request.code])))
        forms = {one.get("action") for one in seen.all("form")}
        assert (
            reverse("accept", args=[request.code]) in {one.get("action") for one in at_home.all("form")}
        ) is is_offered
        assert (reverse("accept", args=[request.code]) in forms) is is_offered
        assert reverse("withdraw", args=[request.code]) in forms, "declining is never refused"
        assert ("Accept nothing from them" in seen.text) is not is_offered
    assert not AuditEvent.objects.filter(action=f"{Action.REQUEST_ACCEPTED}.refused").exists()
