"""The two kinds of "no", apart from any wire."""

import pickle
from typing import Any

import pytest
from botocore import exceptions as botocore

from requests_app.aws.errors import AwsError, Refused, Unavailable, own_identity, scrub, translate


def client_error(code: str, message: str = "", status: int = 400) -> botocore.ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.ClientError(answer, "AssumeRole")


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", "longest session"),
        (
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
            "one hour",
        ),
        (
            "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: "
            "Member must have value greater than or equal to 900",
            "fault in Daypass",
        ),
        ("1 validation error detected: Value 'a b' at 'roleSessionName' failed", "fault in Daypass"),
    ],
)
def test_validation_errors_are_told_apart_by_what_they_say(message, advice):
    failure = translate(client_error("ValidationError", message))

    assert isinstance(failure, Refused)
    assert failure.message == message
    assert advice in failure.advice


@pytest.mark.parametrize(
    ("action", "advice"),
    [
        ("sts:AssumeRole", "trust policy"),
        ("sts:SetSourceIdentity", "do not allow sts:SetSourceIdentity"),
        ("sts:TagSession", "session tags"),
    ],
)
def test_the_advice_depends_on_the_action_that_was_denied(action, advice):
    message = f"User: arn:x is not authorized to perform: {action} on resource: arn:y"

    failure = translate(client_error("AccessDenied", message, 403))

    assert isinstance(failure, Refused)
    assert advice in failure.advice


@pytest.mark.parametrize("suffix", ["", "Exception"])
def test_a_code_is_known_with_and_without_its_suffix(suffix):
    failure = translate(client_error(f"PackedPolicyTooLarge{suffix}", "Packed size consumes 112%"))

    assert isinstance(failure, Refused)
    assert failure.code == f"PackedPolicyTooLarge{suffix}"
    assert "shorten" in failure.advice


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), KeyError("Credentials"), client_error(""), botocore.ClientError({}, "AssumeRole")],
)
def test_what_nobody_foresaw_is_an_aws_error_too(error):
    assert isinstance(translate(error), AwsError)


def test_an_unforeseen_error_does_not_bring_its_text_along():
    assert "hidden" not in str(translate(RuntimeError("hidden")))


def test_our_own_errors_pass_unchanged():
    mine = Refused("A", "b", "c")

    assert translate(mine) is mine


def test_trouble_with_our_own_identity_is_never_a_refusal():
    for error in (client_error("AccessDenied", "no", 403), botocore.NoCredentialsError()):
        assert isinstance(own_identity(error), Unavailable)
        assert "operators" in own_identity(error).advice


def test_errors_survive_a_pickle():
    again = pickle.loads(pickle.dumps(Unavailable("A", "b", "c.", outcome_unknown=True)))

    assert (again.code, again.message, again.advice, again.outcome_unknown) == ("A", "b", "c.", True)
    assert str(again) == "A: b c."


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:iam::222222222222:role/elevated/Administrator",
        "arn:aws:sts::111111111111:assumed-role/AWSReservedSSO_AdministratorAccess_0123456789abcdef/alice@example.com",
        "1 validation error detected: Value '899' at 'durationSeconds' failed",
    ],
)
def test_ordinary_messages_are_not_scrubbed(text):
    assert scrub(text) == text


@pytest.mark.parametrize(
    "secret", ["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjE" * 10, "aB3%2F" * 30]
)
def test_what_looks_like_a_secret_is_scrubbed(secret):
    assert scrub(f"before '{secret}' after") == "before '…' after"
