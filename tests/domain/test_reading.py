"""What pages read by statements of a fixed text is what the models would say."""

from typing import Any

import pytest
from django.db import connection

from requests_app.domain import clock, reading, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Extension, Role, User
from requests_app.domain.transitions import ENDED, OPEN
from tests.factories import wish

pytestmark = pytest.mark.django_db


def as_stored(found: Any) -> dict[str, Any]:
    return {field.attname: getattr(found, field.attname) for field in found._meta.concrete_fields}


def test_a_request_comes_with_all_that_a_page_says_of_it(
    active_request: AccessRequest, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        found = reading.by_code(active_request.code)
        assert found
        said = (
            str(found.beneficiary),
            found.requester.get_short_name(),
            str(found.role),
            found.role.arn,
            found.ended_by,
        )
        assert not hasattr(found, "revocation")
        assert not hasattr(found.role, "preflight")
        assert found.is_of_use is True
    plain = AccessRequest.objects.get(pk=active_request.pk)
    assert said == (str(plain.beneficiary), plain.requester.get_short_name(), str(plain.role), plain.role.arn, None)
    assert as_stored(found) == as_stored(plain)
    assert as_stored(found.role.account) == as_stored(plain.role.account)
    # What was not read along is read when it is asked for.
    assert found.beneficiary.email == plain.beneficiary.email
    assert reading.by_code("DP-00000000") is None


def test_an_ended_one_comes_with_how_it_ended(active_request: AccessRequest, alice: User) -> None:
    workflow.give_back(active_request, by=alice)
    (found,) = reading.newest_of(alice, ENDED, 10)
    assert found.is_of_use is None
    assert found.ended_by == alice
    assert hasattr(found, "revocation") == hasattr(AccessRequest.objects.get(pk=found.pk), "revocation")
    assert reading.newest_of(alice, OPEN, 10) == []


def test_the_newest_are_those_of_both_sides_once(
    alice: User, bob: User, administrator: Role, staged: Entitlement, django_assert_num_queries: Any
) -> None:
    made = [wish(alice, administrator, staged) for _ in range(4)]
    with django_assert_num_queries(1):
        found = reading.newest_of(alice, OPEN, 3)
    assert found == made[:0:-1]
    assert reading.newest_of(bob, OPEN, 3) == []


@pytest.mark.parametrize("few", [1, 3, 500])
def test_what_waits_is_the_same_whichever_way_it_is_found(
    few: int, alice: User, bob: User, carol: User, administrator: Role, read_only: Role, staged: Entitlement
) -> None:
    """By the indexes of what asks somebody, or, where that is much, by time."""
    for _ in range(5):
        wish(alice, administrator, staged)
    workflow.approve(wish(alice, administrator, staged), by=bob)
    now = clock.now()
    ordered = AccessRequest.objects.filter(state="pending").order_by("decide_by", "pk")
    with connection.cursor() as cursor:
        for person in (alice, bob, carol):
            cursor.execute("SELECT id FROM requests_app_waiting(%s, %s, NULL, few => %s)", [person.pk, now, few])
            found = [key for (key,) in cursor.fetchall()]
            may = "SELECT requests_app_may_decide(%s, %s, NULL, %s)"
            exact = []
            for one in ordered:
                cursor.execute(may, [person.pk, one.pk, now])
                if cursor.fetchone() == (True,):
                    exact.append(one.pk)
            assert found == exact
            assert [one.pk for one in reading.waiting(person, now, 3)] == exact[:3]
            if len(exact) > 3:
                third = AccessRequest.objects.get(pk=exact[2]).code
                assert [one.pk for one in reading.waiting(person, now, 3, after=third)] == exact[3:6]
                assert len(reading.waiting_codes(person, now, 9, last=third)) == 3
            assert reading.count_waiting(person, now, 4) == min(len(exact), 4)
    assert len(reading.waiting(bob, now, 9)) == 5
    assert not Extension.objects.waiting_for(bob, now).exists()
