"""What the stand-in for AWS has in it: a hub that Daypass runs in, and three accounts to work in.

ACCOUNTS is plain data, shared with the demo's catalog; `settle` puts it into a stand-in.
"""

import configparser
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import ClientError

from sandbox.caller import Caller

HUB_ACCOUNT = "111111111111"
BOOTSTRAP_USER = "daypass-bootstrap"
ROLE_PATH = "/elevated/"
REVOKER_IN_TARGET = "daypass-revoker"
READ_ONLY_POLICY = "daypass-read-only"
# What the revoker's role may do at AWS Sign-In: look, and end sessions early there too.
SIGN_IN_OF_REVOKER = ("GetConsoleAuthorizationConfiguration", "ListSessions", "BatchRevokeSessions")

Statement = Mapping[str, Any]


def _allow(*actions: str, on: str | list[str] = "*") -> Statement:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on}


READ = _allow(
    *("s3:Get*", "s3:List*", "sqs:Get*", "sqs:List*", "dynamodb:BatchGet*", "dynamodb:Describe*"),
    *("dynamodb:Get*", "dynamodb:List*", "dynamodb:Query", "dynamodb:Scan", "ssm:Describe*", "ssm:Get*"),
    *("iam:Get*", "iam:List*", "ec2:Describe*", "logs:Describe*", "logs:Get*"),
)
EVERYTHING = _allow("*")
# So that STS itself may end what is issued for a role. Whether AWS asks for it is documented nowhere.
MAY_BE_SCOPED = _allow("sts:GetScopedCredentials")


@dataclass(frozen=True)
class Role:
    name: str
    description: str
    statements: tuple[Statement, ...]
    longest_session: int = 3600
    powerful: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Account:
    id: str
    name: str
    description: str
    external_id: str
    roles: tuple[Role, ...]
    # Whether the trust policies let Daypass name the person (sts:SetSourceIdentity).
    source_identity: bool = True
    # Its organisational unit, from the root down.
    unit: tuple[str, ...] = ()
    environment: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    # One of the demo's groups.
    owners: str = ""

    @property
    def read_only_policy_arn(self) -> str:
        """A managed policy of the account, there for narrowing an entitlement to reading."""
        return f"arn:aws:iam::{self.id}:policy/{READ_ONLY_POLICY}"

    def role_arn(self, name: str) -> str:
        return f"arn:aws:iam::{self.id}:role{ROLE_PATH}{name}"


ACCOUNTS = (
    Account(
        "222222222222",
        "payments-prod",
        "Takes money: ledger, payouts, card vault",
        "dp-payments-5f1c08e2b7",
        (
            Role("Administrator", "Everything, in the account that moves money", (EVERYTHING,), powerful=True),
            Role("ReadOnly", "Look at everything, change nothing", (READ,), tags={"access": "read"}),
            Role(
                "DatabaseOperator",
                "Read and repair the payments tables",
                (
                    _allow("dynamodb:*", on="arn:aws:dynamodb:*:222222222222:table/payments*"),
                    _allow("dynamodb:ListTables", "cloudwatch:Get*", "cloudwatch:List*"),
                ),
            ),
        ),
        unit=("Example", "Production", "Payments"),
        environment="prod",
        tags={"team": "payments"},
        owners="Payments leads",
    ),
    Account(
        "333333333333",
        "data-lake-prod",
        "Events and customer data, refined every night",
        "dp-datalake-93ab6d401c",
        (
            Role("ReadOnly", "Look at everything, change nothing", (READ,), tags={"access": "read"}),
            Role(
                "DataEngineer",
                "Own the lake's buckets and their tables",
                (
                    _allow("s3:*", on=["arn:aws:s3:::data-lake-prod-*", "arn:aws:s3:::data-lake-prod-*/*"]),
                    _allow("s3:ListAllMyBuckets", "glue:*", "athena:*", "sqs:*"),
                ),
                longest_session=14_400,
            ),
        ),
        unit=("Example", "Production"),
        environment="prod",
        tags={"team": "data"},
        owners="Data engineers",
    ),
    Account(
        "444444444444",
        "web-staging",
        "The shop, before its customers see it",
        "dp-webstage-2e7740dd9a",
        (
            Role(
                "DeployRole",
                "Ship a build: assets, parameters, the queue of jobs",
                (
                    _allow("s3:*", on=["arn:aws:s3:::web-staging-*", "arn:aws:s3:::web-staging-*/*"]),
                    _allow("ssm:Get*", "ssm:PutParameter", on="arn:aws:ssm:*:444444444444:parameter/web/*"),
                    _allow("s3:ListAllMyBuckets", "ssm:DescribeParameters", "sqs:*"),
                ),
            ),
            Role("Administrator", "Everything, in staging", (EVERYTHING,), powerful=True),
        ),
        unit=("Example", "Staging"),
        environment="staging",
        tags={"team": "web"},
        owners="Engineers",
    ),
)


def hub_role_arn(profile: str) -> str:
    """The role Daypass's `minter` or `revoker` workers run as."""
    return f"arn:aws:iam::{HUB_ACCOUNT}:role/daypass-{profile}"


def revoker_arn(account_id: str) -> str:
    """The role in a target account through which the revoker writes deny policies."""
    return f"arn:aws:iam::{account_id}:role/{REVOKER_IN_TARGET}"


class StandIn(Protocol):
    """As much of `sandbox.aws.AwsStandIn` as it takes."""

    config_file: Path

    @property
    def url(self) -> str: ...

    def forget(self) -> None: ...

    def root(self, account: str) -> Caller: ...

    def as_session(self, keys: Mapping[str, Any]) -> Caller: ...


def settle(stand_in: StandIn) -> None:
    """Put the landscape into the stand-in, once, and write the AWS config file that leads to it.

    Of one from before, everything stays but what its roles may do: that is brought up to date.
    """
    if not _settled(stand_in):
        stand_in.forget()
        keys = _make_hub(stand_in)
        for account in ACCOUNTS:
            _make_account(stand_in, account)
        _write_config(stand_in, keys["AccessKeyId"], keys["SecretAccessKey"])  # last: it says all is there
        return
    for account in ACCOUNTS:
        _permit(stand_in, account)
    known = bootstrap(stand_in)
    _write_config(stand_in, known.access_key_id, known.secret_access_key)  # the port may be another


def bootstrap(stand_in: StandIn) -> Caller:
    """The IAM user whose keys stand in the config file: all it may do is become the two hub roles."""
    config = configparser.ConfigParser()
    config.read(stand_in.config_file)
    hub = config["profile hub"]
    keys = {"AccessKeyId": hub["aws_access_key_id"], "SecretAccessKey": hub["aws_secret_access_key"]}
    return stand_in.as_session(keys)


def trust_policy(external_id: str, *, profile: str = "minter", source_identity: bool = True) -> str:
    """What a target account's role says about who may become it."""
    principal = {"AWS": hub_role_arn(profile)}
    assume = {
        "Sid": "Assume",
        "Effect": "Allow",
        "Principal": principal,
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    if profile == "minter":
        assume["Condition"]["StringLike"] = {"sts:RoleSessionName": "DP-*"}  # type: ignore[index]
    # A statement of its own: ExternalId is no documented condition key of this action.
    name = {"Sid": "Name", "Effect": "Allow", "Principal": principal, "Action": "sts:SetSourceIdentity"}
    return _document(assume, *([name] if source_identity else []))


def _settled(stand_in: StandIn) -> bool:
    try:
        bootstrap(stand_in).client("sts").get_caller_identity()
    except (KeyError, ClientError):
        return False
    return True


def _make_hub(stand_in: StandIn) -> dict[str, str]:
    iam = stand_in.root(HUB_ACCOUNT).client("iam")
    user = iam.create_user(UserName=BOOTSTRAP_USER)["User"]["Arn"]
    hub_roles = [hub_role_arn("minter"), hub_role_arn("revoker")]
    become = _document(_allow("sts:AssumeRole", on=hub_roles))
    iam.put_user_policy(UserName=BOOTSTRAP_USER, PolicyName="become-daypass", PolicyDocument=become)
    for profile, target in (("minter", f"role{ROLE_PATH}*"), ("revoker", f"role/{REVOKER_IN_TARGET}")):
        trust = {"Effect": "Allow", "Principal": {"AWS": user}, "Action": "sts:AssumeRole"}
        actions = ["sts:AssumeRole"] + (["sts:SetSourceIdentity"] if profile == "minter" else [])
        may = _document(_allow(*actions, on=f"arn:aws:iam::*:{target}"))
        name = f"daypass-{profile}"
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=_document(trust))
        iam.put_role_policy(RoleName=name, PolicyName="targets", PolicyDocument=may)
    keys: dict[str, str] = iam.create_access_key(UserName=BOOTSTRAP_USER)["AccessKey"]
    return keys


def _make_account(stand_in: StandIn, account: Account) -> None:
    root = stand_in.root(account.id)
    iam = root.client("iam")
    trust = trust_policy(account.external_id, source_identity=account.source_identity)
    for role in account.roles:
        iam.create_role(
            RoleName=role.name,
            Path=ROLE_PATH,
            Description=role.description,
            MaxSessionDuration=role.longest_session,
            AssumeRolePolicyDocument=trust,
        )
    iam.create_policy(PolicyName=READ_ONLY_POLICY, PolicyDocument=_document(READ))
    # PutRolePolicy on a role is power over all the role may do, so minting and revoking stay apart.
    trust = trust_policy(account.external_id, profile="revoker", source_identity=False)
    iam.create_role(RoleName=REVOKER_IN_TARGET, AssumeRolePolicyDocument=trust)
    _permit(stand_in, account)
    _CONTENTS[account.name](root)


def _permit(stand_in: StandIn, account: Account) -> None:
    """Let the account's roles do what they are for: as today's Daypass needs it, whatever the day they were made."""
    iam = stand_in.root(account.id).client("iam")
    for role in account.roles:
        document = _document(*role.statements, MAY_BE_SCOPED)
        iam.put_role_policy(RoleName=role.name, PolicyName="permissions", PolicyDocument=document)
    actions = ("GetRole", "GetRolePolicy", "ListRolePolicies", "PutRolePolicy", "DeleteRolePolicy")
    may = _allow(*(f"iam:{action}" for action in actions), on=f"arn:aws:iam::{account.id}:role{ROLE_PATH}*")
    sign_in = _allow(*(f"signin:{action}" for action in SIGN_IN_OF_REVOKER))
    document = _document(may, sign_in)
    iam.put_role_policy(RoleName=REVOKER_IN_TARGET, PolicyName="deny-policies", PolicyDocument=document)


def _fill_payments(root: Caller) -> None:
    _bucket(root, "payments-prod-ledger", {"2026/10/summary.csv": "day,payments,eur\n2026-10-31,18211,904223.10\n"})
    root.client("sqs").create_queue(QueueName="payouts-failed")
    table = root.client("dynamodb")
    table.create_table(
        TableName="payments",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number, state in ((4711, "settled"), (4712, "stuck"), (4713, "settled")):
        item = {"id": {"S": f"pay-{number}"}, "state": {"S": state}, "eur": {"N": str(number % 97)}}
        table.put_item(TableName="payments", Item=item)
    root.client("ssm").put_parameter(Name="/payments/payout-batch-size", Value="250", Type="String")


def _fill_data_lake(root: Caller) -> None:
    _bucket(root, "data-lake-prod-raw", {"events/2026-11-01.json": '{"event": "order", "count": 5123}\n'})
    _bucket(root, "data-lake-prod-refined", {"orders/part-0000.csv": "order,country\n1,DE\n2,FR\n"})
    root.client("sqs").create_queue(QueueName="refine-jobs")
    root.client("ssm").put_parameter(Name="/lake/last-refined", Value="2026-11-01", Type="String")


def _fill_web(root: Caller) -> None:
    _bucket(root, "web-staging-assets", {"index.html": "<h1>The shop, build 812</h1>\n"})
    root.client("sqs").create_queue(QueueName="deploys")
    root.client("ssm").put_parameter(Name="/web/build", Value="812", Type="String")


_CONTENTS = {"payments-prod": _fill_payments, "data-lake-prod": _fill_data_lake, "web-staging": _fill_web}


def _bucket(root: Caller, name: str, files: Mapping[str, str]) -> None:
    s3 = root.client("s3")
    s3.create_bucket(Bucket=name)
    for key, body in files.items():
        s3.put_object(Bucket=name, Key=key, Body=body.encode())


def _write_config(stand_in: StandIn, access_key_id: str, secret_access_key: str) -> None:
    config = configparser.ConfigParser()
    shared = {"region": "us-east-1", "endpoint_url": stand_in.url}
    config["profile hub"] = {
        "aws_access_key_id": access_key_id,
        "aws_secret_access_key": secret_access_key,
        **shared,
    }
    for profile in ("minter", "revoker"):
        role = {"role_arn": hub_role_arn(profile), "source_profile": "hub", "role_session_name": profile}
        config[f"profile {profile}"] = {**role, **shared}
    stand_in.config_file.touch(mode=0o600)
    with stand_in.config_file.open("w") as file:
        config.write(file)


def _document(*statements: Statement) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
