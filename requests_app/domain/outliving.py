"""Each way to get credentials that outlive a pass, and what was decided about it: the one list.

The rule: what AWS's own calls take as credentials (keys, sign-in and bearer tokens, what a registry takes in their
place) is denied. Where somebody's work needs it, an entitlement may lift the deny by a name that says for how long
results outlive the pass. What opens one thing inside a service (a database, a notebook, an app's own users) is left,
like whatever a pass makes: the role is for it, and the pages say that it does not end.

docs/security.md shows this list; `tests/aws/test_outliving.py` holds it to every call that botocore knows.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from requests_app.domain import narrowing
from requests_app.domain.liftable import Liftable
from requests_app.domain.terms import Terms


@dataclass(frozen=True, slots=True)
class Way:
    """Calls that give credentials, as IAM's patterns: new calls of the same kind shall match, harmless ones not."""

    patterns: tuple[str, ...]
    gives: str
    lifted_by: Liftable | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """Calls whose answers look like credentials and stay possible."""

    patterns: tuple[str, ...]
    why: str


# Further keys of this very session, which nobody recorded, and which a deny of everything issued before a moment
# (`aws:TokenIssueTime`) may not meet.
KEYS_OF_THE_SAME_SESSION = Way(("sts:Get*Cred*",), "further keys of the same session")

# In every session, whatever narrows it. GetCallerIdentity is none of them (and AWS ignores a deny on it). Nor is every
# `signin:Create*`: the console makes its Identity Center application by one. Their length counts: see `OWN_DENIES`.
ALWAYS = (
    Way(("sts:Assume*",), "keys of another role", Liftable.ASSUME_ROLE),
    Way(("sts:*Token",), "tokens by which services and others know the session", Liftable.SERVICE_TOKENS),
    Way(("s3:GetDa*",), "keys from S3 Access Grants", Liftable.S3_DATA_ACCESS),
    Way(("signin:*OAuth*", "signin:*Token"), "`aws login`, and tokens that AWS takes", Liftable.SIGN_IN_TOKENS),
    Way(("iam:CreateA*Key",), "a key of a user", Liftable.LONG_LIVED_KEYS),
    Way(("iam:AcquireR*",), "a role made from a template, open to whom the template says"),
    Way(("iam:SendD*",), "a token by which a vendor acts with the session's rights"),
)

# In every session too, but where its narrowing allows nothing of the kind: no other policy can allow these, since no
# resource of these services has a policy that could. If there is no room for all, the later ones make way, and
# `left_open` says so.
WHERE_ALLOWED = (
    Way(("ecr:GetAuth*",), "the password of a registry, with the session's rights", Liftable.SERVICE_TOKENS),
    Way(("iam:Cre*Cred*", "iam:Res*Cred*"), "a user's password or key for one service", Liftable.LONG_LIVED_KEYS),
    Way(("eks-auth:*",), "keys of a pod's role, as its node gets them"),
    Way(("ssm:GetAccessT*",), "keys for a node, from Systems Manager", Liftable.SERVICE_CREDENTIALS),
    Way(("lakeformation:GetTemp*", "lakeformation:Assume*"), "keys for data", Liftable.SERVICE_CREDENTIALS),
    Way(("datazone:GetEnv*Cred*", "datazone:GetConnection"), "an environment's keys", Liftable.SERVICE_CREDENTIALS),
    Way(("cognito-identity:*ForD*",), "tokens that give an app's users their role", Liftable.SERVICE_CREDENTIALS),
    Way(("deadline:Assume*",), "keys of a farm's roles", Liftable.SERVICE_CREDENTIALS),
    Way(("cloudwatch:GetSpaceC*", "cloudwatch:GetSpaceD*"), "keys for a space", Liftable.SERVICE_CREDENTIALS),
    Way(("gamelift:GetComputeAc*",), "keys for a fleet's machine", Liftable.SERVICE_CREDENTIALS),
    Way(("codepipeline:PollForJ*", "codepipeline:Get*JobD*"), "a pipeline's keys, as its workers get them"),
    Way(("lightsail:Cre*Key",), "a bucket's key", Liftable.LONG_LIVED_KEYS),
    Way(("license-manager:CreateT*",), "a token that gives roles' keys for a year", Liftable.LONG_LIVED_KEYS),
    Way(("license-manager:GetAcc*",), "a token that gives roles' keys", Liftable.SERVICE_TOKENS),
    Way(("sso-oauth:CreateT*",), "Identity Center's tokens for an application", Liftable.SERVICE_TOKENS),
)

# By their full names: a new call of these services shall be looked at.
LEFT = (
    Left(
        ("iam:CreateUser", "iam:CreateLoginProfile", "iam:CreateRole", "iam:UpdateAssumeRolePolicy"),
        "what a role that may make users and roles is for: they stay, and whoever approves reads it",
    ),
    Left(
        ("codeartifact:GetAuthorizationToken", "ecr-public:GetAuthorizationToken"),
        "needs `sts:GetServiceBearerToken` too, which `sts:*Token` denies",
    ),
    Left(("s3express:CreateSession",), "keys for one directory bucket, for five minutes"),
    Left(
        ("gamelift:CreateBuild", "gamelift:RequestUploadCredentials"),
        "keys that write one build to GameLift's own bucket, for minutes",
    ),
    Left(
        (
            *("rds-db:connect", "redshift:GetClusterCredentials", "redshift:GetClusterCredentialsWithIAM"),
            *("redshift:GetIdentityCenterAuthToken", "redshift-serverless:GetCredentials"),
            *("redshift-serverless:GetIdentityCenterAuthToken", "athena:CreatePresignedNotebookUrl"),
            *("athena:GetSessionEndpoint", "elasticmapreduce:GetSessionEndpoint", "emr-serverless:GetSessionEndpoint"),
            "glue:GetSessionEndpoint",
        ),
        "opens one database or engine: it must be used within the hour, and open connections stay in any case",
    ),
    Left(
        (
            *("connect:GetFederationToken", "evs:GetDepotUrl", "gamelift:GetComputeAuthToken"),
            *("IoTSecuredTunneling:OpenTunnel", "IoTSecuredTunneling:RotateTunnelAccessToken"),
            *("ivschat:CreateChatToken", "wickr:GetOidcInfo", "workmail:AssumeImpersonationRole"),
        ),
        "opens one service's own door, which is what a role that may call it is for",
    ),
    Left(
        (
            *("amplifyuibuilder:ExchangeCodeForToken", "amplifyuibuilder:RefreshToken"),
            *("bedrock-agentcore:GetResourceOauth2Token", "bedrock-agentcore:GetResourcePaymentToken"),
            *("bedrock-agentcore:GetWorkloadAccessToken", "bedrock-agentcore:GetWorkloadAccessTokenForJWT"),
            *("bedrock-agentcore:GetWorkloadAccessTokenForUserId", "cognito-idp:AdminInitiateAuth"),
            *("cognito-idp:AdminRespondToAuthChallenge", "cognito-idp:GetClientToken", "cognito-idp:GetDerivedToken"),
        ),
        "tokens of an app's own users, of agents and for other firms, which AWS's own calls do not take",
    ),
    Left(
        (
            *("cognito-idp:CreateUserPoolClient", "cognito-idp:DescribeUserPoolClient"),
            *("cognito-idp:UpdateUserPoolClient", "datazone:CreateConnection", "datazone:UpdateConnection"),
            *("datazone:ListConnections", "entityresolution:AddPolicyStatement"),
            *("entityresolution:DeletePolicyStatement", "entityresolution:GetPolicy", "entityresolution:PutPolicy"),
            *("glue:BatchGetJobs", "glue:GetJob", "glue:GetJobs", "iot:CreateTopicRuleDestination"),
            *("iot:GetTopicRuleDestination", "iot:ListTopicRuleDestinations", "lightsail:GetBucketAccessKeys"),
            *("tax:GetTaxRegistration", "tax:ListTaxRegistrations"),
        ),
        "a field of such a name and no secret in it: a unit, an id, where a secret lies, what was typed in before",
    ),
)


def denied(
    lifted: Collection[str], role_arn: str, narrowed: Sequence[Mapping[str, Any]], arns: Sequence[str]
) -> list[str]:
    """What a session is denied of these, further keys of itself apart; `narrowed` and `arns` are what narrows it."""
    return [*_patterns(ALWAYS, lifted), *_fitting(lifted, role_arn, narrowed, arns)[0]]


def sentences(terms: Terms, role_arn: str) -> list[str]:
    """What a pass under these terms may get that outlives it, for those who ask and those who approve."""
    lifted = [Liftable(name).description for name in terms.lifted if name in set(Liftable)]
    narrowed, arns = terms.narrowed_by, terms.narrowing_policy_arns
    still_open = left_open(terms.lifted, role_arn, narrowed, arns) if terms.narrows else []
    if still_open:
        lifted.append(f"The narrowing is so long that these could not be denied: {', '.join(still_open)}. {_AND_SO}")
    return lifted


_AND_SO = "What they give can work after the pass."


def left_open(
    lifted: Collection[str], role_arn: str, narrowed: Sequence[Mapping[str, Any]], arns: Sequence[str]
) -> list[str]:
    """The patterns that this narrowing leaves possible because there is no room to deny them."""
    return _fitting(lifted, role_arn, narrowed, arns)[1]


def _fitting(
    lifted: Collection[str], role_arn: str, narrowed: Sequence[Mapping[str, Any]], arns: Sequence[str]
) -> tuple[list[str], list[str]]:
    room = narrowing.LONGEST_POLICY - narrowing.length_with(narrowed, role_arn) - sum(map(len, arns))
    if not arns and not any(statement["Effect"] == "Allow" for statement in narrowed):
        room -= len(narrowing.compact(narrowing.EVERYTHING)) + 1
    fitting: list[str] = []
    open_: list[str] = []
    for pattern in _patterns(WHERE_ALLOWED, lifted):
        if not _may_allow(pattern, narrowed, arns):
            continue
        length = len(pattern) + len('"",')
        (fitting if length <= room else open_).append(pattern)
        room -= length if length <= room else 0
    return fitting, open_


def _patterns(ways: Sequence[Way], lifted: Collection[str]) -> Iterator[str]:
    for way in ways:
        if way.lifted_by not in lifted:
            yield from way.patterns


def _may_allow(pattern: str, narrowed: Sequence[Mapping[str, Any]], arns: Sequence[str]) -> bool:
    """Whether a session so narrowed may do anything that matches: what managed policies say is known to AWS alone."""
    allows = [statement for statement in narrowed if statement["Effect"] == "Allow"]
    if arns or not allows:
        return True
    for statement in allows:
        actions = statement.get("Action", "*")  # by NotAction: whatever it does not name
        for action in [actions] if isinstance(actions, str) else actions:
            if have_one_in_common(action.lower(), pattern.lower()):
                return True
    return False


def have_one_in_common(one: str, other: str) -> bool:
    """Whether some text matches both patterns of `*` and `?`."""
    # Of `one`, how far each beginning of `other` can have come: character by character of `one`, without recursion,
    # since an action that somebody typed may be long.
    come = [True] + [False] * len(other)
    for character in (*one, ""):
        for at, its in enumerate(other):
            # A star takes what stands beside it, or nothing.
            come[at + 1] = come[at + 1] or (come[at] and "*" in (its, character))
        if not character:
            break
        last = come
        come = [character == "*" and last[0]] + [False] * len(other)
        for at, its in enumerate(other):
            star = "*" in (character, its)
            same = character == its or ("?" in (character, its) and not star)
            come[at + 1] = (last[at] and same) or (last[at + 1] and star)
    return come[-1]
