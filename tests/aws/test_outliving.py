"""What gives credentials that outlive a pass: every call that botocore knows is decided, and the decisions hold."""

import fnmatch
import itertools
import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from requests_app.aws.session_policy import session_policy
from requests_app.domain import narrowing, outliving
from requests_app.domain.durations import in_words
from requests_app.domain.liftable import LIFTABLE, Liftable

from .conftest import PAYMENTS
from .test_session_policy import ALLOW_ALL, refused

ROLE = PAYMENTS.role_arn("Administrator")
CUT_OFF = datetime(2026, 11, 22, 21, 0, 0, tzinfo=UTC)
SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
WAYS = (outliving.KEYS_OF_THE_SAME_SESSION, *outliving.ALWAYS, *outliving.WHERE_ALLOWED)

# --- what gives credentials, by what botocore says of the answer ------------------------------------

# How AWS names the fields that carry what proves somebody: secret keys, bearer tokens, generated passwords. Fields
# such as `accessKeyId`, `clientToken` and `nextToken` prove nobody; `token` does at the top of an answer, and deeper
# down it is the name of much else.
SECRETS = {
    *("secretaccesskey", "secretkey", "sessiontoken", "authorizationtoken", "webidentitytoken", "authtoken"),
    *("bearertoken", "idtoken", "refreshtoken", "issuedtoken", "dbpassword", "servicepassword"),
    *("servicecredentialsecret", "token"),
}
# Where what IAM calls an action is not the operation under the service's signing name.
PREFIXES = {"s3control": "s3", "cloudwatchomni": "cloudwatch"}
ACTIONS = {("s3", "CreateSession"): "s3express:CreateSession"}
# Signed by no session: whoever has what these ask for (another token, a browser) needs no pass, and no policy is asked.
UNSIGNED = {"smithy.api#noAuth", "smithy.api#httpBearerAuth"}


def action(service: str, operation: str) -> str:
    metadata = model(service).metadata
    prefix = PREFIXES.get(service, metadata.get("signingName", metadata["endpointPrefix"]))
    return ACTIONS.get((service, operation), f"{prefix}:{operation}")


@cache
def session() -> botocore.session.Session:
    return botocore.session.get_session()


@cache
def model(service: str) -> Any:
    return session().get_service_model(service)


@cache
def every_action() -> frozenset[str]:
    return frozenset(
        action(service, operation)
        for service in session().get_available_services()
        for operation in model(service).operation_names
    )


def secrets(shape: Any, above: frozenset[str] = frozenset()) -> Iterator[str]:
    if shape is None or shape.name in above:
        return
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            carries = name.lower() in SECRETS or name.lower().endswith("accesstoken")
            if carries and member.type_name in ("string", "blob") and (name.lower() != "token" or not above):
                yield name
            yield from secrets(member, above | {shape.name})
    elif shape.type_name in ("list", "map"):
        yield from secrets(shape.member if shape.type_name == "list" else shape.value, above | {shape.name})


@cache
def giving_credentials() -> dict[str, list[str]]:
    """The actions whose answers carry credentials, with the fields that do."""
    found = {}
    for service in session().get_available_services():
        for name in model(service).operation_names:
            operation = model(service).operation_model(name)
            asked = set(operation.auth or model(service).metadata.get("auth", ()))
            if not asked & UNSIGNED and (fields := list(secrets(operation.output_shape))):
                found[action(service, name)] = fields
    return found


def matched(patterns: tuple[str, ...] | list[str], name: str) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def denied(**parts: Any) -> list[str]:
    policy = session_policy(cut_off=CUT_OFF, role_arn=ROLE, **parts)
    (own,) = [one for one in json.loads(policy)["Statement"] if one["Effect"] == "Deny" and len(one["Action"]) > 4]
    return own["Action"]


def test_every_call_that_gives_credentials_is_denied_or_explained():
    """A new botocore brings new calls: put each where it belongs in `domain/outliving.py`."""
    decided = [pattern for one in (*WAYS, *outliving.LEFT) for pattern in one.patterns]

    assert len(giving_credentials()) > 90, "the models are read"
    assert {name: fields for name, fields in giving_credentials().items() if not matched(decided, name)} == {}


def test_whatever_gives_keys_of_aws_is_denied_but_for_the_four_that_are_harmless():
    keys = {name for name, fields in giving_credentials().items() if {"secretaccesskey"} & {f.lower() for f in fields}}

    assert len(keys) > 30
    assert {name for name in keys if not matched(denied(), name)} == {
        "s3express:CreateSession",
        "gamelift:CreateBuild",
        "gamelift:RequestUploadCredentials",
        "lightsail:GetBucketAccessKeys",  # their ids: the model has the field, and AWS leaves it empty
    }


# What each pattern denies of all that botocore knows: too broad a pattern shows here.
EXACTLY = {
    "sts:Get*Cred*": "GetScopedCredentials",
    "sts:Assume*": "AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot",
    "sts:*Token": "GetDelegatedAccessToken GetFederationToken GetSessionToken GetWebIdentityToken",
    "s3:GetDa*": "GetDataAccess",
    "signin:*OAuth*": "CreateOAuth2Token CreateOAuth2TokenWithIAM CreateOAuth2TokenWithTokenExchange "
    "IntrospectOAuth2TokenWithIAM RevokeOAuth2TokenWithIAM",
    "signin:*Token": "CreateBearerToken CreateOAuth2Token",
    "iam:CreateA*Key": "CreateAccessKey",
    "iam:AcquireR*": "AcquireRole",
    "iam:SendD*": "SendDelegationToken",
    "ecr:GetAuth*": "GetAuthorizationToken",
    "iam:Cre*Cred*": "CreateServiceSpecificCredential",
    "iam:Res*Cred*": "ResetServiceSpecificCredential",
    "eks-auth:*": "AssumeRoleForPodIdentity",
    "ssm:GetAccessT*": "GetAccessToken",
    "lakeformation:GetTemp*": "GetTemporaryDataLocationCredentials GetTemporaryGlueFunctionCredentials "
    "GetTemporaryGluePartitionCredentials GetTemporaryGlueTableCredentials",
    "lakeformation:Assume*": "AssumeDecoratedRoleWithSAML",
    "datazone:GetEnv*Cred*": "GetEnvironmentCredentials",
    "datazone:GetConnection": "GetConnection",
    "cognito-identity:*ForD*": "GetOpenIdTokenForDeveloperIdentity",
    "deadline:Assume*": "AssumeFleetRoleForRead AssumeFleetRoleForWorker AssumeQueueRoleForRead "
    "AssumeQueueRoleForUser AssumeQueueRoleForWorker",
    "cloudwatch:GetSpaceC*": "GetSpaceCredentialsForOrganization",
    "cloudwatch:GetSpaceD*": "GetSpaceDataAccess",
    "gamelift:GetComputeAc*": "GetComputeAccess",
    "codepipeline:PollForJ*": "PollForJobs",
    "codepipeline:Get*JobD*": "GetJobDetails GetThirdPartyJobDetails",
    "lightsail:Cre*Key": "CreateBucketAccessKey",
    "license-manager:CreateT*": "CreateToken",
    "license-manager:GetAcc*": "GetAccessToken",
    "sso-oauth:CreateT*": "CreateToken CreateTokenWithIAM",
}


@pytest.mark.parametrize("pattern", [pattern for way in WAYS for pattern in way.patterns])
def test_a_pattern_denies_exactly_these_calls(pattern):
    service = pattern.partition(":")[0]

    assert {name for name in every_action() if matched([pattern], name)} == {
        f"{service}:{operation}" for operation in EXACTLY[pattern].split()
    }


def test_every_pattern_that_leaves_something_still_means_something():
    """What AWS checks by IAM alone has no operation: `rds-db:connect` signs the password itself."""
    idle = {
        pattern
        for left in outliving.LEFT
        for pattern in left.patterns
        if not any(matched([pattern], name) for name in every_action())
    }

    assert idle == {"rds-db:connect"}


# --- what lifts which -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.patterns[0])
def test_a_way_is_closed_and_opened_by_its_own_name_at_most(way):
    for lifted in ((), [name for name in LIFTABLE if name != way.lifted_by]):
        assert set(way.patterns) <= set(denied(lifted=lifted))
    assert (set(way.patterns) & set(denied(lifted=LIFTABLE)) == set()) is (way.lifted_by is not None)


def test_every_name_lifts_something():
    assert {way.lifted_by for way in WAYS} == {*Liftable, None}


# --- room -------------------------------------------------------------------------------------------


def test_a_narrowing_pays_only_for_the_denies_that_it_makes_necessary():
    reads = {"Effect": "Allow", "Action": ["s3:Get*", "ec2:Describe*"], "Resource": "*"}
    always = {pattern for way in outliving.ALWAYS for pattern in way.patterns} | {"sts:Get*Cred*"}

    assert set(denied(statements=[reads])) == always
    assert set(denied(statements=[reads | {"Action": "codepipeline:*"}])) == always | {
        "codepipeline:PollForJ*",
        "codepipeline:Get*JobD*",
    }
    assert set(denied(statements=[reads | {"Action": ["?CR:getauthorization*"]}])) == always | {"ecr:GetAuth*"}
    wide = set(denied())
    for statements, policy_arns in (
        ([reads, ALLOW_ALL], ()),
        ([{"Effect": "Allow", "NotAction": "ec2:*", "Resource": "*"}], ()),
        ([reads], [PAYMENTS.read_only_policy_arn]),  # of which only AWS knows what it allows
    ):
        assert set(denied(statements=statements, policy_arns=policy_arns)) == wide


def test_where_there_is_no_room_it_is_said_what_stays_open_and_everything_else_is_denied():
    wide = {"Effect": "Allow", "Action": "*", "Resource": "x"}
    room = narrowing.LONGEST_POLICY - narrowing.length_with([wide], ROLE)
    for spare in (0, 14, 15, 40, 200, 500):
        statements = [wide | {"Resource": "x" * (1 + room - spare)}]
        policy = session_policy(cut_off=CUT_OFF, role_arn=ROLE, statements=statements)

        left_open = outliving.left_open((), ROLE, statements, ())
        closed = {pattern for way in outliving.WHERE_ALLOWED for pattern in way.patterns} - set(left_open)
        assert len(policy) <= narrowing.LONGEST_POLICY
        assert closed <= set(denied(statements=statements))
        assert bool(left_open) is (spare < 500)
        assert ("ecr:GetAuth*" in left_open) is (spare < 15)


def test_two_patterns_have_a_text_in_common_if_one_can_be_found():
    def matches(pattern: str, text: str) -> bool:
        return re.fullmatch("".join({"*": ".*", "?": "."}.get(one, one) for one in pattern), text) is not None

    texts = ["".join(text) for length in range(7) for text in itertools.product("ab", repeat=length)]
    dice = random.Random(7)
    for _ in range(800):
        one, other = ("".join(dice.choices("ab*?", k=dice.randint(0, 4))) for _ in range(2))
        common = any(matches(one, text) and matches(other, text) for text in texts)
        assert outliving.have_one_in_common(one, other) is common, (one, other)


# --- as it is written -------------------------------------------------------------------------------


def test_the_documentation_shows_what_was_decided():
    def calls(patterns: tuple[str, ...]) -> str:
        return ", ".join(f"`{pattern}`" for pattern in patterns)

    lines = []
    for way in WAYS:
        decision, outlives = "denied always", "–"
        if way.lifted_by:
            decision = f"unless `{way.lifted_by}` is lifted"
            longest = way.lifted_by.longest
            outlives = in_words(longest) if longest else "until somebody deletes it"
        lines.append(f"| {calls(way.patterns)} | {way.gives} | {decision} | {outlives} |")
    lines += [f"| {calls(left.patterns)} | {left.why} | left | |" for left in outliving.LEFT]

    assert "\n".join(lines) in SECURITY.read_text()


# --- what the stand-in makes of it ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "call", "asked", "name"),
    [
        ("iam", "create_access_key", {"UserName": "robot"}, Liftable.LONG_LIVED_KEYS),
        ("ecr", "get_authorization_token", {}, Liftable.SERVICE_TOKENS),
    ],
)
def test_a_session_gets_none_of_it_but_by_its_name(mint, minter, service, call, asked, name):
    root = minter.root(PAYMENTS.id).client("iam")
    root.create_user(UserName="robot")

    for caller in (mint(), mint(lifted=[one for one in LIFTABLE if one != name]), mint(statements=[ALLOW_ALL])):
        assert refused(getattr(caller.client(service), call), **asked)
    # Only our deny stood in the way:
    for caller in (mint(lifted=[name]), mint(lifted=[name], statements=[ALLOW_ALL])):
        assert not refused(getattr(caller.client(service), call), **asked)

    for key in root.list_access_keys(UserName="robot")["AccessKeyMetadata"]:
        root.delete_access_key(UserName="robot", AccessKeyId=key["AccessKeyId"])
    root.delete_user(UserName="robot")


@pytest.mark.parametrize(
    ("service", "call", "asked", "lifted_by"),
    [
        ("iam", "acquire_role", {"TemplateArn": "arn:aws:iam::aws:role-template/x-or-y"}, None),
        ("iam", "send_delegation_token", {"DelegationRequestId": "x" * 16}, None),
        ("ssm", "get_access_token", {"AccessRequestId": "oi-1234567890123"}, Liftable.SERVICE_CREDENTIALS),
        ("iam", "create_service_specific_credential", {"UserName": "robot", "ServiceName": "bedrock.amazonaws.com"},
         Liftable.LONG_LIVED_KEYS),
    ],
)  # fmt: skip
def test_what_the_stand_in_may_not_know_is_denied_before_that_is_found(mint, service, call, asked, lifted_by):
    for caller in (mint(), mint(statements=[ALLOW_ALL])):
        client = caller.client(service)
        with pytest.raises(ClientError, match="with an explicit deny in a session policy"):
            getattr(client, call)(**asked)
    try:
        getattr(mint(lifted=LIFTABLE).client(service), call)(**asked)
        denied_too = False
    except ClientError as error:
        denied_too = "explicit deny in a session policy" in str(error)
    assert denied_too is (lifted_by is None)
