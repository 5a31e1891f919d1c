"""AssumeRole against the enforcing stand-in."""

import dataclasses
import json
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from requests_app.aws import sts
from requests_app.aws.errors import Refused, Unavailable
from sandbox.landscape import ACCOUNTS, HUB_ACCOUNT, trust_policy

from .conftest import PAYMENTS, keys_of


def test_a_session_is_minted_and_works(minter, order):
    before = datetime.now(UTC)

    session = sts.assume_role(order)

    identity = minter.as_session(keys_of(session)).client("sts").get_caller_identity()
    assert identity["Arn"] == session.assumed_role_arn
    assert session.assumed_role_arn == "arn:aws:sts::222222222222:assumed-role/Administrator/DP-7K2M9QX4-alice"
    assert session.assumed_role_id.endswith(":DP-7K2M9QX4-alice")
    assert session.access_key_id.startswith("ASIA")
    assert session.expires_at.utcoffset() == timedelta(0)
    assert abs(session.expires_at - before - timedelta(seconds=900)) < timedelta(seconds=5)
    assert session.aws_date
    assert abs(session.aws_date - before) < timedelta(seconds=5)
    assert session.asked_duration == 900
    assert session.packed_policy_size
    assert session.packed_policy_size > 0


def test_the_external_id_is_needed_and_aws_code_is_kept(minter, order):
    with pytest.raises(Refused) as refused:
        sts.assume_role(dataclasses.replace(order, external_id=None))

    assert refused.value.code == "AccessDenied"
    assert "not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::222222222222" in refused.value.message
    assert "external id" in refused.value.advice
    assert not refused.value.outcome_unknown


@pytest.mark.parametrize(
    "change",
    [
        {"external_id": "somebody-elses"},
        {"session_name": "XX-7K2M9QX4-alice"},
        {"role_arn": PAYMENTS.role_arn("NoSuchRole")},
        {"role_arn": f"arn:aws:iam::{HUB_ACCOUNT}:role/daypass-revoker"},
    ],
)
def test_what_the_trust_policy_does_not_allow_is_refused(minter, order, change):
    with pytest.raises(Refused) as refused:
        sts.assume_role(dataclasses.replace(order, **change))

    assert refused.value.code == "AccessDenied"


def test_the_source_identity_is_what_aws_sees(minter, order):
    for_alice = deny_when("aws:SourceIdentity", order.source_identity)
    iam = minter.root(PAYMENTS.id).client("iam")
    iam.put_role_policy(RoleName="Administrator", PolicyName="test-source", PolicyDocument=for_alice)
    try:
        alice = minter.as_session(keys_of(sts.assume_role(order)))
        bob = minter.as_session(keys_of(sts.assume_role(dataclasses.replace(order, source_identity="person-bob"))))

        with pytest.raises(Exception, match="AccessDenied"):
            alice.client("s3").list_buckets()
        bob.client("s3").list_buckets()
    finally:
        iam.delete_role_policy(RoleName="Administrator", PolicyName="test-source")


def test_a_trust_policy_without_source_identity_is_named_in_the_advice(minter, order):
    iam = minter.root(PAYMENTS.id).client("iam")
    bare = trust_policy(PAYMENTS.external_id, source_identity=False)
    arn = iam.create_role(Path="/elevated/", RoleName="Unnamed", AssumeRolePolicyDocument=bare)["Role"]["Arn"]

    with pytest.raises(Refused) as refused:
        sts.assume_role(dataclasses.replace(order, role_arn=arn))
    assert "sts:SetSourceIdentity" in refused.value.message
    assert "sts:SetSourceIdentity" in refused.value.advice

    assert sts.assume_role(dataclasses.replace(order, role_arn=arn, source_identity=None))


def test_more_than_an_hour_is_refused_because_the_minter_is_a_role(minter, order):
    engineer = ACCOUNTS[1].role_arn("DataEngineer")
    order = dataclasses.replace(order, role_arn=engineer, external_id=ACCOUNTS[1].external_id)

    with pytest.raises(Refused) as refused:
        sts.assume_role(dataclasses.replace(order, duration_seconds=7200))

    assert refused.value.code == "ValidationError"
    assert "1 hour session limit" in refused.value.message
    assert "3,600" in refused.value.advice


def test_less_than_sts_issues_never_leaves_the_worker(minter, order):
    with pytest.raises(Refused) as refused:
        sts.assume_role(dataclasses.replace(order, duration_seconds=899))

    assert refused.value.code == "ParamValidationError"
    assert "fault in Daypass" in refused.value.advice


def test_a_managed_policy_that_is_missing_is_named_in_the_advice(minter, order):
    missing = f"arn:aws:iam::{PAYMENTS.id}:policy/no-such-policy"

    with pytest.raises(Refused) as refused:
        sts.assume_role(dataclasses.replace(order, policy_arns=(missing,)))

    assert refused.value.code == "ValidationError"
    assert "managed policy" in refused.value.advice


@pytest.mark.parametrize(
    ("policy", "code", "advice"),
    [
        ('{"Statement":"nonsense"}', "MalformedPolicyDocument", "must correct"),
        ('{"Version":"2012-10-17","Statement":[]}' + " " * 1950, "PackedPolicyTooLarge", "must shorten"),
    ],
)
def test_a_policy_that_aws_does_not_take_is_refused(minter, order, policy, code, advice):
    long_arn = f"arn:aws:iam::{PAYMENTS.id}:policy/" + "x" * 100

    with pytest.raises(Refused) as refused:
        sts.assume_role(dataclasses.replace(order, policy=policy, policy_arns=(long_arn,)))

    assert refused.value.code == code
    assert advice in refused.value.advice


def test_a_refusal_of_our_own_identity_is_not_blamed_on_the_request(as_worker, aws_stand_in, order, tmp_path):
    """AWS_PROFILE's own AssumeRole fails with the same code as the mint's would."""
    config = aws_stand_in.config_file.read_text().replace("role/daypass-minter", "role/somebody-else")
    (tmp_path / "config").write_text(config)
    as_worker(aws_stand_in.profile("minter") | {"AWS_CONFIG_FILE": str(tmp_path / "config")})

    with pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert unavailable.value.code == "AccessDenied"
    assert "operators" in unavailable.value.advice


@pytest.mark.parametrize("key", ["AKIAUNKNOWNKEY000000"])
def test_unknown_keys_are_our_own_trouble(as_worker, aws_stand_in, order, key):
    as_worker({"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "x" * 40, "AWS_ENDPOINT_URL": aws_stand_in.url})

    with pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert "operators" in unavailable.value.advice


@pytest.mark.parametrize(
    "environment",
    [{}, {"AWS_PROFILE": "no-such-profile"}, {"AWS_ACCESS_KEY_ID": "AKIAHALFAKEY00000000"}],
)
def test_no_identity_at_all_is_unavailable(as_worker, order, environment):
    as_worker(environment)

    with pytest.raises(Unavailable) as unavailable:
        sts.assume_role(order)

    assert "operators" in unavailable.value.advice
    assert not unavailable.value.outcome_unknown


def test_secrets_are_in_no_text_of_a_session(minter, order, caplog):
    for logger in (None, "botocore", "urllib3"):  # as somebody hunting a fault would set them
        caplog.set_level(logging.DEBUG, logger)
    sts.forget_clients()

    session = sts.assume_role(order)

    shown = f"{session} {session!r} {dataclasses.fields(session)} {caplog.text}"
    for secret in (session.secret_access_key.reveal(), session.session_token.reveal()):
        assert secret not in shown
    with pytest.raises(TypeError):
        pickle.dumps(session)


def test_one_client_for_each_region_shared_by_all_threads(minter, order):
    names = [f"DP-7K2M9Q{number:02}-alice" for number in range(24)]
    orders = [dataclasses.replace(order, session_name=name) for name in names]
    with ThreadPoolExecutor(8) as threads:
        sessions = list(threads.map(sts.assume_role, orders))

    assert [session.assumed_role_id.split(":")[1] for session in sessions] == names
    assert list(sts._callers) == ["us-east-1"]


def test_the_client_is_patient_enough_and_never_repeats(minter, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("AWS_RETRY_MODE", "legacy")
    sts.forget_clients()

    config: Any = sts._ready("us-east-1").client.meta.config

    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (3, 10, 32)
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}


def deny_when(key: str, value: str) -> str:
    condition = {"StringEquals": {key: value}}
    deny = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}
    return json.dumps({"Version": "2012-10-17", "Statement": [deny]})
