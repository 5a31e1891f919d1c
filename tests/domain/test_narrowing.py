"""What may narrow a session. That it does is shown in tests/aws/."""

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from requests_app.aws.session_policy import LIFTABLE, session_policy
from requests_app.domain import narrowing

ROLE = "arn:aws:iam::222222222222:role/elevated/Administrator"
READ = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "*"}


def test_the_form_counts_as_the_worker_does() -> None:
    """What it allows is denied by none of the further denies, which take room where there is some."""
    statements = [READ, READ | {"Effect": "Deny", "Action": "s3:*"}]

    policy = session_policy(cut_off=datetime(2026, 11, 23, tzinfo=UTC), role_arn=ROLE, statements=statements)

    assert narrowing.length_with(statements, ROLE) == len(policy)


def test_the_longest_narrowing_that_ever_fitted_still_fits_whatever_is_lifted() -> None:
    """Entitlements are stored with it: what AWS refused from then on would fail at night, when someone asks."""
    room = 2048 - 431 - len(ROLE)  # since the first release
    shortest: dict[str, Any] = {**READ, "Resource": "x"}
    longest = {**shortest, "Resource": "x" * (room - len(narrowing.compact(shortest)))}  # and a comma before it

    assert narrowing.problem([longest], [], ROLE) == ""
    for number in range(len(LIFTABLE) + 1):
        for lifted in itertools.combinations(LIFTABLE, number):
            cut_off = datetime(2026, 11, 23, tzinfo=UTC)
            assert session_policy(cut_off=cut_off, role_arn=ROLE, statements=[longest], lifted=lifted)
    longer = {**longest, "Resource": longest["Resource"] + "x"}
    assert "2,049 characters" in narrowing.problem([longer], [], ROLE)


@pytest.mark.parametrize(
    "parts",
    [
        {"Action": 5},
        {"Action": []},
        {"Action": [""]},
        {"Action": {"s3": "*"}},
        {"Resource": None},
        {"Resource": ["*", 1]},
        {"Condition": "never"},
    ],
)
def test_a_part_of_the_wrong_kind_is_refused_in_a_sentence(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="narrowing statement"):
        narrowing.check([READ | parts], [])


def test_a_managed_policy_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="ARN of a managed policy"):
        narrowing.check_policy_arns([5])  # type: ignore[list-item]
