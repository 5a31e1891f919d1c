"""Each rule that our launcher adds to MiniStack, seen to refuse and to allow."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import AwsStandIn
from sandbox.caller import Caller
from sandbox.landscape import ACCOUNTS, HUB_ACCOUNT, bootstrap, hub_role_arn, revoker_arn, trust_policy

PAYMENTS, LAKE, WEB = ACCOUNTS
READ_ONLY = PAYMENTS.role_arn("ReadOnly")
ADMINISTRATOR = PAYMENTS.role_arn("Administrator")


@pytest.fixture(scope="module")
def strict() -> Iterator[AwsStandIn]:
    """A stand-in with AWS's own limits; the shared one gives shorter sessions."""
    with AwsStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def assume(strict: AwsStandIn) -> Any:
    """AssumeRole by the minter, with a good call's parameters unless told otherwise."""

    def assume(role_arn: str = READ_ONLY, **parameters: Any) -> dict[str, Any]:
        sts = strict.as_profile("minter").client("sts", checked=False)
        good = {"RoleSessionName": "DP-7K2M9QX4-alice", "ExternalId": PAYMENTS.external_id}
        given = {name: value for name, value in {**good, **parameters}.items() if value is not None}
        answer: dict[str, Any] = sts.assume_role(RoleArn=role_arn, **given)
        return answer

    return assume


def refused(code: str, text: str = "") -> Any:
    return pytest.raises(ClientError, match=rf"\({code}\).*{text}")


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


class TestDuration:
    @pytest.mark.parametrize("seconds", [900, 3600])
    def test_from_fifteen_minutes_to_the_roles_maximum(self, assume, seconds):
        answer = assume(DurationSeconds=seconds)

        left = answer["Credentials"]["Expiration"] - datetime.now(UTC)
        assert timedelta(seconds=seconds - 5) < left <= timedelta(seconds=seconds)

    def test_nothing_shorter_or_longer_than_sts_knows(self, assume):
        with refused("ValidationError", "greater than or equal to 900"):
            assume(DurationSeconds=899)
        with refused("ValidationError", "less than or equal to 43200"):
            assume(DurationSeconds=43_201)

    def test_a_chained_session_lasts_an_hour_at_most_whatever_the_role_allows(self, assume):
        with refused("ValidationError", "1 hour session limit for roles assumed by role chaining"):
            assume(LAKE.role_arn("DataEngineer"), ExternalId=LAKE.external_id, DurationSeconds=3601)

    def test_without_chaining_the_roles_own_maximum_counts(self, strict):
        root = strict.root(HUB_ACCOUNT).client("iam")
        user = f"arn:aws:iam::{HUB_ACCOUNT}:user/daypass-bootstrap"
        trust = policy({"Effect": "Allow", "Principal": {"AWS": user}, "Action": "sts:AssumeRole"})
        root.create_role(RoleName="long", AssumeRolePolicyDocument=trust, MaxSessionDuration=7200)
        role = f"arn:aws:iam::{HUB_ACCOUNT}:role/long"
        root.put_user_policy(UserName="daypass-bootstrap", PolicyName="long", PolicyDocument=policy(ALLOW_ALL))
        sts = bootstrap(strict).client("sts")

        sts.assume_role(RoleArn=role, RoleSessionName="worker", DurationSeconds=7200)
        with refused("ValidationError", "exceeds the MaxSessionDuration set for this role"):
            sts.assume_role(RoleArn=role, RoleSessionName="worker", DurationSeconds=7201)


class TestSessionName:
    @pytest.mark.parametrize("name", ["DP-x", "DP-7K2M9QX4-a.b+c=d,e@f_g", "DP-" + "x" * 61])
    def test_awss_alphabet(self, assume, name):
        assert assume(RoleSessionName=name)["AssumedRoleUser"]["Arn"].endswith("/" + name)

    @pytest.mark.parametrize("name", ["D", "DP-" + "x" * 62, "DP-a b", "DP-a/b", "DP-é", "DP-١"])
    def test_nothing_else(self, assume, name):
        with refused("ValidationError", "roleSessionName"):
            assume(RoleSessionName=name)

    def test_the_trust_policy_may_ask_for_a_prefix(self, assume):
        with refused("AccessDenied"):
            assume(RoleSessionName="alice")


class TestTrust:
    def test_external_id_must_be_there_and_right(self, assume):
        for wrong in (None, "another", LAKE.external_id):
            with refused("AccessDenied", "sts:AssumeRole"):
                assume(ExternalId=wrong)

    def test_minter_and_revoker_cannot_take_each_others_roles(self, strict):
        with refused("AccessDenied"):
            strict.assume("revoker", READ_ONLY, ExternalId=PAYMENTS.external_id)
        with refused("AccessDenied"):
            strict.assume("minter", revoker_arn(PAYMENTS.id), ExternalId=PAYMENTS.external_id)

        revoker = strict.assume("revoker", revoker_arn(PAYMENTS.id), ExternalId=PAYMENTS.external_id)
        assert revoker.client("iam").get_role(RoleName="ReadOnly")["Role"]["Arn"] == READ_ONLY


class TestSourceIdentity:
    def test_is_echoed_and_a_condition_key_of_every_later_call(self, strict, assume):
        deny = {**ALLOW_ALL, "Effect": "Deny", "Condition": {"StringEquals": {"aws:SourceIdentity": "mallory"}}}
        iam = strict.root(PAYMENTS.id).client("iam")
        iam.put_role_policy(RoleName="ReadOnly", PolicyName="deny", PolicyDocument=policy(deny))
        alice, mallory = (assume(SourceIdentity=name) for name in ("alice", "mallory"))

        assert alice["SourceIdentity"] == "alice"
        strict.as_session(alice["Credentials"]).client("sqs").list_queues()
        with refused("AccessDenied|AccessDeniedException"):
            strict.as_session(mallory["Credentials"]).client("sqs").list_queues()
        iam.delete_role_policy(RoleName="ReadOnly", PolicyName="deny")

    def test_needs_an_action_of_its_own_in_the_trust_policy(self, strict, assume):
        iam = strict.root(PAYMENTS.id).client("iam")
        without = trust_policy(PAYMENTS.external_id, source_identity=False)
        iam.create_role(RoleName="Unnamed", Path="/elevated/", AssumeRolePolicyDocument=without)

        assume(PAYMENTS.role_arn("Unnamed"))
        with refused("AccessDenied", "sts:SetSourceIdentity"):
            assume(PAYMENTS.role_arn("Unnamed"), SourceIdentity="alice")

    def test_is_a_condition_key_of_the_trust_policy(self, strict, assume):
        trust = json.loads(trust_policy(PAYMENTS.external_id))
        trust["Statement"][1]["Condition"] = {"StringLike": {"sts:SourceIdentity": "person-*"}}
        iam = strict.root(PAYMENTS.id).client("iam")
        iam.create_role(RoleName="People", Path="/elevated/", AssumeRolePolicyDocument=json.dumps(trust))

        assume(PAYMENTS.role_arn("People"), SourceIdentity="person-1")
        with refused("AccessDenied", "sts:SetSourceIdentity"):
            assume(PAYMENTS.role_arn("People"), SourceIdentity="robot-1")

    def test_external_id_is_no_condition_key_of_it(self, strict, assume):
        trust = json.loads(trust_policy(PAYMENTS.external_id, source_identity=False))
        trust["Statement"][0]["Action"] = ["sts:AssumeRole", "sts:SetSourceIdentity"]
        iam = strict.root(PAYMENTS.id).client("iam")
        iam.create_role(RoleName="OneStatement", Path="/elevated/", AssumeRolePolicyDocument=json.dumps(trust))

        assume(PAYMENTS.role_arn("OneStatement"))
        with refused("AccessDenied", "sts:SetSourceIdentity"):
            assume(PAYMENTS.role_arn("OneStatement"), SourceIdentity="alice")

    def test_the_caller_must_be_allowed_to_set_it_too(self, strict, assume):
        iam = strict.root(HUB_ACCOUNT).client("iam")
        before = iam.get_role_policy(RoleName="daypass-minter", PolicyName="targets")["PolicyDocument"]
        only_assume = policy({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"})
        iam.put_role_policy(RoleName="daypass-minter", PolicyName="targets", PolicyDocument=only_assume)

        assume()
        with refused("AccessDenied", "sts:SetSourceIdentity"):
            assume(SourceIdentity="alice")
        iam.put_role_policy(RoleName="daypass-minter", PolicyName="targets", PolicyDocument=json.dumps(before))

    def test_sticks_to_whatever_the_session_becomes_next(self, strict, assume):
        administrator = strict.as_session(assume(ADMINISTRATOR, SourceIdentity="alice")["Credentials"])
        iam = strict.root(PAYMENTS.id).client("iam")
        own = [
            {"Effect": "Allow", "Principal": {"AWS": ADMINISTRATOR}, "Action": action}
            for action in ("sts:AssumeRole", "sts:SetSourceIdentity")
        ]
        iam.create_role(RoleName="next", AssumeRolePolicyDocument=policy(*own))
        sts = administrator.client("sts")
        next_role = f"arn:aws:iam::{PAYMENTS.id}:role/next"

        assert sts.assume_role(RoleArn=next_role, RoleSessionName="next")["SourceIdentity"] == "alice"
        with refused("AccessDenied", "sts:SetSourceIdentity"):
            sts.assume_role(RoleArn=next_role, RoleSessionName="next", SourceIdentity="bob")

    @pytest.mark.parametrize("name", ["a", "x" * 65, "a b", "aws:alice", "é" * 3])
    def test_awss_alphabet(self, assume, name):
        with refused("ValidationError", "sourceIdentity"):
            assume(SourceIdentity=name)


class TestSessionPolicies:
    def test_policy_and_arns_together_have_room_for_2048_characters(self, assume):
        arn = PAYMENTS.read_only_policy_arn
        exactly = policy(ALLOW_ALL).ljust(2048 - len(arn))

        assert assume(Policy=exactly, PolicyArns=[{"arn": arn}])["PackedPolicySize"] == 100
        with refused("PackedPolicyTooLarge"):
            assume(Policy=exactly + " ", PolicyArns=[{"arn": arn}])

    def test_ten_arns_at_most_and_only_those_that_exist_in_the_account(self, assume):
        arn = {"arn": PAYMENTS.read_only_policy_arn}

        assume(PolicyArns=[arn] * 10)
        with refused("ValidationError", "policyArns"):
            assume(PolicyArns=[arn] * 11)
        for missing in (f"arn:aws:iam::{PAYMENTS.id}:policy/none", LAKE.read_only_policy_arn):
            with refused("ValidationError", "does not match an existing IAM Managed Policy"):
                assume(PolicyArns=[{"arn": missing}])

    def test_narrowing_by_statement_by_arn_and_by_both(self, strict, assume):
        list_queues = policy({"Effect": "Allow", "Action": "sqs:ListQueues", "Resource": "*"})
        arns = [{"arn": PAYMENTS.read_only_policy_arn}]
        by_statement, by_arn, by_both = (
            strict.as_session(assume(ADMINISTRATOR, **narrowing)["Credentials"])
            for narrowing in (
                {"Policy": list_queues},
                {"PolicyArns": arns},
                {"Policy": list_queues, "PolicyArns": arns},
            )
        )

        for caller in (by_statement, by_arn, by_both):
            caller.client("sqs").list_queues()
            assert denied(caller, "sqs", "create_queue", QueueName="more")
        assert denied(by_statement, "s3", "list_objects_v2", Bucket="payments-prod-ledger")
        for caller in (by_arn, by_both):  # session policies are added together
            caller.client("s3").list_objects_v2(Bucket="payments-prod-ledger")

    def test_cannot_give_what_the_role_lacks(self, strict, assume):
        caller = strict.as_session(assume(Policy=policy(ALLOW_ALL))["Credentials"])

        caller.client("sqs").list_queues()
        assert denied(caller, "sqs", "create_queue", QueueName="more")

    def test_current_time_denies_from_its_second_on(self, strict, assume):
        cut_off = (datetime.now(UTC) + timedelta(seconds=5)).replace(microsecond=0)
        over = {"DateGreaterThanEquals": {"aws:CurrentTime": cut_off.strftime("%Y-%m-%dT%H:%M:%SZ")}}
        document = policy(ALLOW_ALL, {**ALLOW_ALL, "Effect": "Deny", "Condition": over})
        caller = strict.as_session(assume(Policy=document)["Credentials"])
        s3 = caller.client("s3")

        sleep_until(cut_off - timedelta(milliseconds=900))
        s3.list_objects_v2(Bucket="payments-prod-ledger")
        sleep_until(cut_off)
        with refused("AccessDenied"):
            s3.list_objects_v2(Bucket="payments-prod-ledger")
        caller.client("sts").get_caller_identity()  # nobody can deny this one

    def test_a_refusal_says_whether_the_session_or_the_role_denied(self, strict, assume):
        deny = {"Effect": "Deny", "Action": "sqs:*", "Resource": "*"}
        by_session = strict.as_session(assume(Policy=policy(ALLOW_ALL, deny))["Credentials"]).client("sqs")
        by_role = strict.as_session(assume()["Credentials"]).client("sqs")

        with refused("AccessDenied", "with an explicit deny in a session policy"):
            by_session.list_queues()
        by_role.list_queues()
        iam = strict.root(PAYMENTS.id).client("iam")
        iam.put_role_policy(RoleName="ReadOnly", PolicyName="deny", PolicyDocument=policy(deny))
        for caller in (by_role, by_session):
            with refused("AccessDenied", "with an explicit deny in an identity-based policy"):
                caller.list_queues()
        iam.delete_role_policy(RoleName="ReadOnly", PolicyName="deny")


class TestScopedCredentials:
    """As AWS documents GetScopedCredentials; what it does not say is a switch."""

    def test_further_keys_of_the_same_session_that_end_at_their_own_second(self, strict, assume):
        parent = strict.as_session(assume(ADMINISTRATOR, SourceIdentity="person-1")["Credentials"])
        answer = scope(parent, DurationSeconds=3)
        scoped = strict.as_session(answer["Credentials"])
        ends = answer["Credentials"]["Expiration"].timestamp()

        assert identity(scoped) == identity(parent)
        assert scoped.access_key_id != parent.access_key_id
        assert (answer["SessionInfo"]["Arn"], answer["SessionInfo"]["ScopedSessionId"]) == identity(parent)
        assert (answer["SourceIdentity"], answer["ScopedPoliciesCount"]) == ("person-1", 0)
        assert 0 < answer["SessionTokenUtilization"] < 100
        scoped.client("sqs").list_queues()
        time.sleep(max(0, ends - time.time()) + 0.1)
        for service, operation in (("sqs", "list_queues"), ("sts", "get_caller_identity"), ("iam", "list_roles")):
            with refused("ExpiredToken"):
                getattr(scoped.client(service), operation)()
        assert "ExpiredToken" in by_cli(scoped, "sts", "get-caller-identity").stderr
        parent.client("sqs").list_queues()
        assert by_cli(parent, "sts", "get-caller-identity").returncode == 0

    def test_the_sessions_own_policy_still_binds(self, strict, assume):
        list_queues = policy({"Effect": "Allow", "Action": ["sqs:ListQueues", "sts:Get*"], "Resource": "*"})
        parent = strict.as_session(assume(ADMINISTRATOR, Policy=list_queues)["Credentials"])
        scoped = strict.as_session(scope(parent, DurationSeconds=60)["Credentials"])

        scoped.client("sqs").list_queues()
        assert denied(scoped, "s3", "list_objects_v2", Bucket="payments-prod-ledger")

    def test_each_layer_narrows_further_and_there_are_three(self, strict, assume):
        both = policy({"Effect": "Allow", "Action": ["sqs:*", "s3:*", "sts:*"], "Resource": "*"})
        queues = policy({"Effect": "Allow", "Action": ["sqs:*", "iam:*", "sts:*"], "Resource": "*"})
        no_list = policy(ALLOW_ALL, {"Effect": "Deny", "Action": "sqs:ListQueues", "Resource": "*"})
        caller = strict.as_session(assume(ADMINISTRATOR)["Credentials"])
        for number, layer in enumerate((both, queues, no_list), 1):
            answer = scope(caller, Policy=layer)
            assert answer["ScopedPoliciesCount"] == number
            caller = strict.as_session(answer["Credentials"])
            assert denied(caller, "iam", "list_roles")  # what one allows and another does not
            assert denied(caller, "sqs", "list_queues") is (number == 3)
        with refused("AccessDenied"):
            scope(caller, Policy=both)
        scope(caller, DurationSeconds=60)

    def test_never_longer_than_the_session_they_come_from(self, strict, assume):
        parent = strict.as_session(assume(ADMINISTRATOR, DurationSeconds=900)["Credentials"])

        assert scope(parent, DurationSeconds=890)
        with refused("InsufficientSessionLifetime"):
            scope(parent, DurationSeconds=910)
        for wrong in ("0", "129601", "soon"):
            assert "ValidationError" in parent.post("sts", "GetScopedCredentials", DurationSeconds=wrong)[1]

    @pytest.mark.parametrize(
        ("parameters", "code"),
        [
            ({}, "ValidationError"),
            ({"Policy": "{}"}, "MalformedPolicyDocument"),
            ({"Policy": "not JSON"}, "MalformedPolicyDocument"),
            ({"Policy": "x" * 2049}, "ValidationError"),
            ({"Policy": '{"Statement": [{"Sid": "Łódź"}]}'}, "ValidationError"),
            ({"Policy": '{"Statement": [{"Sid": "\x00"}]}'}, "ValidationError"),
            ({"DurationSeconds": "60", "MinimumSessionTokenSize": "4097"}, "ValidationError"),
            ({"DurationSeconds": "60", "MinimumSessionTokenSize": "-1"}, "ValidationError"),
            ({"DurationSeconds": "60", "ScopedSessionDescription": "x"}, "ValidationError"),
            ({"DurationSeconds": "60", "ScopedSessionDescription": "x" * 257}, "ValidationError"),
            ({"DurationSeconds": "60", "ScopedSessionDescription": "Łódź"}, "ValidationError"),
        ],
    )
    def test_what_is_malformed_is_refused(self, strict, assume, parameters, code):
        parent = strict.as_session(assume(ADMINISTRATOR)["Credentials"])

        assert f"<Code>{code}" in parent.post("sts", "GetScopedCredentials", **parameters)[1]

    def test_a_policy_may_have_any_character_of_latin_1(self, strict, assume):
        parent = strict.as_session(assume(ADMINISTRATOR)["Credentials"])
        assert scope(parent, Policy=json.dumps(json.loads(policy(ALLOW_ALL)) | {"Id": "Größe\t"}, ensure_ascii=False))

    def test_a_token_is_as_large_as_it_is_asked_to_be(self, strict, assume):
        parent = strict.as_session(assume(ADMINISTRATOR)["Credentials"])
        for size in (0, 2_000, 4_096):
            answer = scope(parent, DurationSeconds=60, MinimumSessionTokenSize=size)
            token = answer["Credentials"]["SessionToken"]
            assert len(token) == answer["SessionTokenSize"] >= size
            assert answer["SessionTokenUtilization"] == -(-len(token) * 100 // 4_096)
            strict.as_session(answer["Credentials"]).client("sqs").list_queues()

    def test_policies_that_make_it_too_large_are_refused_and_nothing_is_given(self, strict, assume):
        long = policy(ALLOW_ALL, {"Effect": "Deny", "Action": [f"s3:{n:040}" for n in range(40)], "Resource": "*"})
        assert 1_800 < len(long) <= 2_048
        caller = strict.as_session(assume(ADMINISTRATOR, Policy=long)["Credentials"])
        sizes = [0]
        with refused("PackedPolicyTooLarge", "exceeds the maximum allowed size of 4096 bytes"):
            for _ in range(3):
                answer = scope(caller, Policy=long)
                sizes.append(answer["SessionTokenSize"])
                caller = strict.as_session(answer["Credentials"])
        assert sizes == sorted(set(sizes))
        assert len(sizes) > 1
        caller.client("sqs").list_queues()

    def test_a_deny_refuses_it_and_so_does_a_role_that_does_not_allow_it(self, strict, assume):
        deny = {"Effect": "Deny", "Action": "sts:GetScopedCredentials", "Resource": "*"}
        by_session = strict.as_session(assume(ADMINISTRATOR, Policy=policy(ALLOW_ALL, deny))["Credentials"])
        with refused("AccessDenied", "explicit deny in a session policy"):
            scope(by_session, DurationSeconds=60)

        only_queues = policy({"Effect": "Allow", "Action": "sqs:*", "Resource": "*"})
        narrowed = strict.as_session(assume(ADMINISTRATOR, Policy=only_queues)["Credentials"])
        with refused("AccessDenied", "sts:GetScopedCredentials"):
            scope(narrowed, DurationSeconds=60)
        with strict.scoping(needs_allow=False):
            assert scope(narrowed, DurationSeconds=60)
            with refused("AccessDenied", "explicit deny in a session policy"):
                scope(by_session, DurationSeconds=60)

    def test_a_place_may_not_know_it_and_an_organisation_may_deny_it(self, strict, assume):
        parent = strict.as_session(assume(ADMINISTRATOR)["Credentials"])
        with strict.scoping(known=False), refused("InvalidAction"):
            scope(parent, DurationSeconds=60)
        with strict.scoping(refused=["Administrator"]), refused("AccessDenied", "service control policy"):
            scope(parent, DurationSeconds=60)
        with strict.scoping(refused=["ReadOnly"]):
            assert scope(parent, DurationSeconds=60)

    def test_what_nobody_knows_of_it_can_be_otherwise(self, strict, assume):
        deny_listing = {"Effect": "Deny", "Action": "iam:ListRoles", "Resource": "*"}
        old = {"Effect": "Deny", "Action": "iam:ListUsers", "Resource": "*"}
        parent = strict.as_session(assume(ADMINISTRATOR, Policy=policy(ALLOW_ALL, deny_listing))["Credentials"])
        time.sleep(1.1)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        old_is_denied = policy(ALLOW_ALL, {**old, "Condition": {"DateLessThan": {"aws:TokenIssueTime": now}}})
        for issued in ("own", "parent"):
            with strict.scoping(issued=issued):
                scoped = strict.as_session(scope(parent, Policy=old_is_denied)["Credentials"])
            assert denied(scoped, "iam", "list_users") is (issued == "parent")
        with strict.scoping(layers="scoped"):
            assert not denied(scoped, "iam", "list_roles")
        with strict.scoping(layers="session"):
            assert not denied(scoped, "iam", "list_users")
            assert denied(scoped, "iam", "list_roles")
        with strict.scoping(lingers=60):
            lingering = strict.as_session(scope(parent, DurationSeconds=1)["Credentials"])
        time.sleep(2)
        assert identity(lingering)

    def test_only_for_temporary_credentials_and_not_at_the_global_endpoint(self, strict, assume):
        with refused("AccessDenied"):
            scope(bootstrap(strict), DurationSeconds=60)
        client = strict.as_session(assume(ADMINISTRATOR)["Credentials"]).client("sts", checked=False)
        client.meta.events.register("before-sign.sts", lambda request, **_: request.headers.add_header("Host", GLOBAL))
        with refused("InvalidAction"):
            client.get_scoped_credentials(DurationSeconds=60)


GLOBAL = "sts.amazonaws.com"


def scope(caller: Caller, **parameters: Any) -> dict[str, Any]:
    return caller.client("sts", checked=False).get_scoped_credentials(**parameters)


def by_cli(caller: Caller, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "aws"), *arguments, "--endpoint-url", caller.endpoint],
        env={**caller.environment(), "PATH": os.defpath, "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def identity(caller: Caller) -> tuple[str, str]:
    answer = caller.client("sts").get_caller_identity()
    return answer["Arn"], answer["UserId"]


def test_inline_policies_of_a_role_have_room_for_10240_characters_together(strict):
    iam = strict.root(PAYMENTS.id).client("iam")
    iam.create_role(RoleName="Full", AssumeRolePolicyDocument=trust_policy("x"))

    def put(name: str, length: int) -> None:
        bare = policy({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::"}).replace(" ", "")
        document = bare.replace("s3:::", "s3:::" + "x" * (length - len(bare))).replace(",", ",\n  ")  # blanks are free
        iam.put_role_policy(RoleName="Full", PolicyName=name, PolicyDocument=document)

    put("one", 6_000)
    put("two", 4_240)
    with refused("LimitExceeded", "Maximum policy size of 10240 bytes exceeded for role Full"):
        put("two", 4_241)
    put("one", 5_999)  # in the place of what it was
    put("two", 4_241)


def test_iam_judges_a_role_by_its_whole_arn(strict, assume):
    """Without the path, a deny on the session's own role would not meet it."""
    own = {"Effect": "Deny", "Action": "iam:PutRolePolicy", "Resource": ADMINISTRATOR}
    caller = strict.as_session(assume(ADMINISTRATOR, Policy=policy(ALLOW_ALL, own))["Credentials"])
    document = policy(ALLOW_ALL)

    assert denied(
        caller, "iam", "put_role_policy", RoleName="Administrator", PolicyName="more", PolicyDocument=document
    )
    caller.client("iam").put_role_policy(RoleName="ReadOnly", PolicyName="more", PolicyDocument=document)
    caller.client("iam").delete_role_policy(RoleName="ReadOnly", PolicyName="more")

    here = {"Effect": "Deny", "Action": "iam:CreateRole", "NotResource": "arn:aws:iam::*:role/here/*"}
    caller = strict.as_session(assume(ADMINISTRATOR, Policy=policy(ALLOW_ALL, here))["Credentials"])
    for path in ("/", "/there/"):
        made = {"RoleName": "Made", "Path": path, "AssumeRolePolicyDocument": trust_policy("x")}
        assert denied(caller, "iam", "create_role", **made)
    caller.client("iam").create_role(**made | {"Path": "/here/"})
    caller.client("iam").delete_role(RoleName="Made")


def test_a_session_ends_with_its_duration(aws_stand_in):
    caller = aws_stand_in.assume("minter", READ_ONLY, ExternalId=PAYMENTS.external_id, DurationSeconds=5)
    over = time.monotonic() + 5.1

    # No other: making one takes a second where much else goes on.
    caller.client("sts").get_caller_identity()
    time.sleep(max(over - time.monotonic(), 0))
    with refused("ExpiredToken"):
        caller.client("sts").get_caller_identity()


def test_an_outage_loses_neither_sessions_nor_data(strict, assume):
    caller = strict.as_session(assume(SourceIdentity="alice")["Credentials"])

    strict.stop()
    strict.start()

    assert caller.client("sts").get_caller_identity()["Arn"].endswith("/DP-7K2M9QX4-alice")
    assert caller.client("s3").list_objects_v2(Bucket="payments-prod-ledger")["KeyCount"] == 1
    assume()


def test_every_role_of_the_landscape_can_be_had(strict, assume):
    assert hub_role_arn("minter") in trust_policy("x")
    for account in ACCOUNTS:
        for role in account.roles:
            arn = account.role_arn(role.name)
            answer = assume(arn, ExternalId=account.external_id, SourceIdentity="alice")
            identity = strict.as_session(answer["Credentials"]).client("sts").get_caller_identity()
            assert identity["Account"] == account.id


def denied(caller: Caller, service: str, call: str, **parameters: Any) -> bool:
    try:
        getattr(caller.client(service), call)(**parameters)
    except ClientError as error:
        return "AccessDenied" in error.response["Error"]["Code"]
    return False


def sleep_until(moment: datetime) -> None:
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))
