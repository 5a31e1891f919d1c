"""The session policy: what is in it, and what the enforcing stand-in makes of it."""

import dataclasses
import fnmatch
import json
import time
from datetime import UTC, datetime, timedelta, timezone

import botocore.session
import pytest
from botocore.exceptions import ClientError
from hypothesis import event, given, settings
from hypothesis import strategies as st

from requests_app.aws import sts
from requests_app.aws.session_policy import (
    LIFTABLE,
    Liftable,
    layers,
    session_policy,
    session_seconds,
)
from requests_app.domain import narrowing, outliving

from .conftest import PAYMENTS, keys_of

ROLE = PAYMENTS.role_arn("Administrator")
CUT_OFF = datetime(2026, 11, 22, 21, 0, 0, tzinfo=UTC)
# But where a narrowing allows nothing of the kind: `test_outliving.py` says of what.
ALWAYS = [*outliving.KEYS_OF_THE_SAME_SESSION.patterns, *(p for way in outliving.ALWAYS for p in way.patterns)]
ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
LIST_QUEUES = {"Effect": "Allow", "Action": "sqs:ListQueues", "Resource": "*"}


def statements_of(policy: str) -> list[dict]:
    return json.loads(policy)["Statement"]


def refused(call, *args, **kwargs) -> bool:
    try:
        call(*args, **kwargs)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("AccessDenied", "AccessDeniedException"):
            raise
        return True
    return False


# --- what stands in it ---------------------------------------------------------------------------


def test_everything_is_denied_from_the_cut_off_on():
    assert {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"DateGreaterThanEquals": {"aws:CurrentTime": "2026-11-22T21:00:00Z"}},
    } in statements_of(session_policy(cut_off=CUT_OFF, role_arn=ROLE))


def test_the_cut_off_is_taken_down_to_its_second_in_utc():
    berlin = timezone(timedelta(hours=1))
    late = datetime(2026, 11, 22, 22, 0, 0, 999_999, tzinfo=berlin)

    assert session_policy(cut_off=late, role_arn=ROLE) == session_policy(cut_off=CUT_OFF, role_arn=ROLE)


def test_a_naive_cut_off_is_a_fault():
    with pytest.raises(ValueError, match="aware"):
        session_policy(cut_off=CUT_OFF.replace(tzinfo=None), role_arn=ROLE)


@pytest.mark.parametrize(
    ("narrowing", "open_wide"),
    [
        ({}, True),
        ({"statements": [LIST_QUEUES]}, False),
        ({"policy_arns": [PAYMENTS.read_only_policy_arn]}, False),
        ({"statements": [LIST_QUEUES], "policy_arns": [PAYMENTS.read_only_policy_arn]}, False),
    ],
)
def test_allow_all_stands_in_it_only_when_nothing_narrows(narrowing, open_wide):
    assert (ALLOW_ALL in statements_of(session_policy(cut_off=CUT_OFF, role_arn=ROLE, **narrowing))) is open_wide


def test_no_narrowing_and_no_lifting_removes_the_standing_denies():
    bare = session_policy(cut_off=CUT_OFF, role_arn=ROLE, lifted=LIFTABLE)
    denies = [statement for statement in statements_of(bare) if statement["Effect"] == "Deny"]

    assert len(denies) == 3  # the cut-off, the own role and keys of the same session have no name to lift them by
    for how in ({"statements": [LIST_QUEUES]}, {"policy_arns": [PAYMENTS.read_only_policy_arn]}):
        narrowed = statements_of(session_policy(cut_off=CUT_OFF, role_arn=ROLE, **how))
        assert denies[:2] == narrowed[:2]
        assert set(narrowed[2]["Action"]) > set(denies[2]["Action"]) & set(ALWAYS)


def test_an_unknown_name_lifts_nothing():
    with pytest.raises(ValueError, match="the-cut-off"):
        session_policy(cut_off=CUT_OFF, role_arn=ROLE, lifted=["the-cut-off"])


def test_every_liftable_deny_says_what_it_costs():
    for name in LIFTABLE:
        longest = f"{int(name.longest / timedelta(hours=1))} hour" if name.longest else "until somebody deletes them"
        assert longest in name.description


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"},
        {"Effect": "Allow", "NotPrincipal": "*", "Action": "*", "Resource": "*"},
        {"Effect": "allow", "Action": "*", "Resource": "*"},
        {"Action": "*", "Resource": "*"},
        {"Effect": "Allow", "Action": "*"},
        {"Effect": "Allow", "Resource": "*"},
        {"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"},
        {"Effect": "Allow", "action": "*", "Resource": "*"},
        "Allow *",
        None,
    ],
)
def test_a_statement_must_be_one_that_narrows(statement):
    with pytest.raises(ValueError, match=r"[Ss]tatement"):
        session_policy(cut_off=CUT_OFF, role_arn=ROLE, statements=[statement])


def test_only_denying_would_allow_nothing_and_is_said():
    deny = {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}

    with pytest.raises(ValueError, match="add a statement that allows"):
        session_policy(cut_off=CUT_OFF, role_arn=ROLE, statements=[deny])
    assert session_policy(cut_off=CUT_OFF, role_arn=ROLE, statements=[deny, ALLOW_ALL])


def test_names_of_statements_cannot_collide():
    twice = [LIST_QUEUES | {"Sid": "Same"}, LIST_QUEUES | {"Sid": "Same"}]

    assert "Same" not in session_policy(cut_off=CUT_OFF, role_arn=ROLE, statements=twice)


def test_what_aws_would_find_too_long_is_refused_with_both_numbers():
    arns = [f"arn:aws:iam::{PAYMENTS.id}:policy/{'x' * 100}{number}" for number in range(10)]
    long = LIST_QUEUES | {"Resource": ["arn:aws:sqs:eu-west-1:222222222222:queue"] * 15}

    assert session_policy(cut_off=CUT_OFF, role_arn=ROLE, policy_arns=arns[:5])
    with pytest.raises(ValueError, match=r"2,\d{3} characters, and AWS takes 2,048"):
        session_policy(cut_off=CUT_OFF, role_arn=ROLE, statements=[long], policy_arns=arns[:7])


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::333333333333:policy/elsewhere",
        "arn:aws-cn:iam::aws:policy/ReadOnlyAccess",
        "arn:aws:iam::222222222222:role/not-a-policy",
        "ReadOnlyAccess",
    ],
)
def test_a_managed_policy_must_be_one_that_aws_finds(arn):
    with pytest.raises(ValueError, match="managed policy"):
        session_policy(cut_off=CUT_OFF, role_arn=ROLE, policy_arns=[arn])


def test_eleven_managed_policies_are_one_too_many():
    arns = [f"arn:aws:iam::aws:policy/p{number}" for number in range(11)]
    with pytest.raises(ValueError, match="at most 10"):
        session_policy(cut_off=CUT_OFF, role_arn=ROLE, policy_arns=arns)


@pytest.mark.parametrize("arn", ["*", "arn:aws:iam::222222222222:role/*", "arn:aws:iam::222222222222:user/x", ""])
def test_the_guard_of_the_own_role_needs_exactly_that_role(arn):
    with pytest.raises(ValueError, match="ARN of a role"):
        session_policy(cut_off=CUT_OFF, role_arn=arn)


def test_only_characters_that_sts_takes():
    umlauts = LIST_QUEUES | {"Condition": {"StringEquals": {"aws:PrincipalTag/Ort": "Köln 東京 🗼"}}}

    policy = session_policy(cut_off=CUT_OFF, role_arn=ROLE, statements=[umlauts])

    assert all(" " <= character <= "~" for character in policy)
    assert json.loads(policy)["Statement"][-1]["Condition"] == umlauts["Condition"]


# --- which calls it means -------------------------------------------------------------------------


def denied_by(policy: str, action: str, resource: str = "*") -> bool:
    """As IAM matches them: without regard to case, and so without the cut-off, which is yet to come."""
    return any(
        fnmatch.fnmatchcase(action.lower(), pattern.lower())
        for statement in statements_of(policy)
        if statement["Effect"] == "Deny" and "Condition" not in statement and statement["Resource"] in ("*", resource)
        for pattern in statement["Action"]
    )


def operations(service: str) -> set[str]:
    model = botocore.session.get_session().get_service_model(service)
    return {f"{service}:{name}" for name in model.operation_names}


def calls_about_a_role() -> set[str]:
    """What can have a role as its resource: all the others are about users, groups, policies."""
    model = botocore.session.get_session().get_service_model("iam")
    inputs = ((name, model.operation_model(name).input_shape) for name in model.operation_names)
    return {f"iam:{name}" for name, asked in inputs if asked and "RoleName" in asked.members}


# Some are newer than the pinned botocore, and the last of each kind AWS has yet to think of.
@pytest.mark.parametrize(
    ("action", "lifted_by"),
    [
        ("sts:GetScopedCredentials", None),
        ("sts:GetNarrowerCredentials", None),
        ("sts:AssumeRole", Liftable.ASSUME_ROLE),
        ("sts:AssumeRoot", Liftable.ASSUME_ROLE),
        ("sts:AssumeRoleWithPasskey", Liftable.ASSUME_ROLE),
        ("sts:GetSessionToken", Liftable.SERVICE_TOKENS),
        ("sts:GetServiceBearerToken", Liftable.SERVICE_TOKENS),
        ("sts:GetWebIdentityToken", Liftable.SERVICE_TOKENS),
        ("s3:GetDataAccess", Liftable.S3_DATA_ACCESS),
        ("signin:AuthorizeOAuth2Access", Liftable.SIGN_IN_TOKENS),
        ("signin:CreateOAuth2Token", Liftable.SIGN_IN_TOKENS),
        ("signin:CreateOAuth2TokenWithIAM", Liftable.SIGN_IN_TOKENS),
        ("signin:ExchangeToken", Liftable.SIGN_IN_TOKENS),
        ("signin:CreateBearerToken", Liftable.SIGN_IN_TOKENS),
        ("signin:CreateRefreshToken", Liftable.SIGN_IN_TOKENS),
    ],
)
def test_what_buys_credentials_is_denied_and_opened_by_its_own_name_at_most(action, lifted_by):
    for lifted in ([], [name for name in LIFTABLE if name != lifted_by]):
        assert denied_by(session_policy(cut_off=CUT_OFF, role_arn=ROLE, lifted=lifted), action)
    opened = session_policy(cut_off=CUT_OFF, role_arn=ROLE, lifted=LIFTABLE)
    assert denied_by(opened, action) is (lifted_by is None)


def test_of_sts_only_what_gives_no_credentials_stays_open():
    policy = session_policy(cut_off=CUT_OFF, role_arn=ROLE)

    assert {action for action in operations("sts") if not denied_by(policy, action)} == {
        "sts:GetCallerIdentity",
        "sts:GetAccessKeyInfo",
        "sts:DecodeAuthorizationMessage",
    }


def test_the_console_keeps_what_it_needs_of_the_sign_in_service():
    policy = session_policy(cut_off=CUT_OFF, role_arn=ROLE)

    for action in ("Authenticate", "CreateTrustedIdentityPropagationApplicationForConsole", "GetResourcePolicy"):
        assert not denied_by(policy, f"signin:{action}")


def test_of_its_own_role_exactly_these_calls_are_denied():
    policy = session_policy(cut_off=CUT_OFF, role_arn=ROLE)

    elsewhere = {action for action in operations("iam") if denied_by(policy, action)}
    assert {action for action in calls_about_a_role() if denied_by(policy, action, ROLE)} == {
        f"iam:{call}Role{what}"
        for call, what in (
            *(("Put", "Policy"), ("Put", "PermissionsBoundary")),
            *(("Delete", ""), ("Delete", "Policy"), ("Delete", "PermissionsBoundary")),
            *(("Attach", "Policy"), ("Detach", "Policy")),
            ("UpdateAssume", "Policy"),
        )
    } | {"iam:DeleteServiceLinkedRole"}  # which no pass is of
    assert {action for action in operations("iam") if denied_by(policy, action, f"{ROLE}2")} == elsewhere
    assert not elsewhere & calls_about_a_role()


# --- how long STS is asked for -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "ceiling", "role_max", "chained", "expected"),
    [
        (60, 3600, 3600, True, 900),
        (0.001, 3600, 3600, True, 900),
        (900.2, 3600, 3600, True, 901),
        (1800, 3600, 3600, True, 1800),
        (8 * 3600, 3600, 43_200, False, 3600),
        (8 * 3600, 14_400, 43_200, False, 14_400),
        (8 * 3600, 14_400, 43_200, True, 3600),
        (8 * 3600, 43_200, 7200, False, 7200),
        (8 * 3600, 43_200, 43_200, False, 28_800),
    ],
)
def test_session_seconds(left, ceiling, role_max, chained, expected):
    assert session_seconds(left, ceiling=ceiling, role_max=role_max, chained=chained) == expected


@pytest.mark.parametrize("left", [0, -1])
def test_nothing_is_asked_for_once_the_pass_is_over(left):
    with pytest.raises(ValueError, match="over"):
        session_seconds(left, ceiling=3600, role_max=3600, chained=False)


# --- what the stand-in makes of it ---------------------------------------------------------------


def test_the_session_stops_at_the_second_though_sts_issued_it_for_longer(mint):
    cut_off = (datetime.now(UTC) + timedelta(seconds=4)).replace(microsecond=0)
    alice = mint(cut_off=cut_off)
    s3 = alice.client("s3")

    calls = []
    while (started := datetime.now(UTC)) < cut_off + timedelta(seconds=1.5):
        calls.append((started, refused(s3.list_buckets), datetime.now(UTC)))
        time.sleep(0.02)

    before = [was_refused for _, was_refused, ended in calls if ended < cut_off]
    after = [was_refused for started, was_refused, _ in calls if started >= cut_off]
    assert len(before) > 10
    assert not any(before)
    assert len(after) > 10
    assert all(after)
    for service, operation in (("sqs", "list_queues"), ("iam", "list_roles"), ("dynamodb", "list_tables")):
        assert refused(getattr(alice.client(service), operation)), operation
    # Cannot be denied, on AWS neither: so it is no proof that a session lives.
    assert alice.client("sts").get_caller_identity()["Arn"].endswith("/DP-7K2M9QX4-alice")


def test_a_cut_off_in_the_past_never_works(mint):
    assert refused(mint(cut_off=datetime.now(UTC) - timedelta(seconds=1)).client("s3").list_buckets)


@pytest.fixture
def deeper_role(minter):
    """A role that payments-prod's Administrator could well assume."""
    iam = minter.root(PAYMENTS.id).client("iam")
    actions = ["sts:AssumeRole", "sts:SetSourceIdentity"]  # the source identity comes along
    trust = {"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": actions}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    yield iam.create_role(RoleName="Deeper", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    iam.delete_role(RoleName="Deeper")


def test_a_session_cannot_assume_a_further_role(mint, deeper_role):
    ask = {"RoleArn": deeper_role, "RoleSessionName": "onwards"}

    assert refused(mint().client("sts").assume_role, **ask)
    # Only our deny stood in the way:
    assert not refused(mint(lifted=[Liftable.ASSUME_ROLE]).client("sts").assume_role, **ask)


def test_a_session_gets_no_further_keys_of_itself(mint, minter):
    for caller in (mint(), mint(lifted=LIFTABLE), mint(statements=[ALLOW_ALL])):
        status, text = caller.post("sts", "GetScopedCredentials", DurationSeconds="60")

        assert status == 403
        assert "not authorized to perform: sts:GetScopedCredentials" in text
        assert "with an explicit deny in a session policy" in text
    # Only our deny stood in the way:
    without_ours = minter.assume("minter", ROLE, ExternalId=PAYMENTS.external_id)
    assert without_ours.post("sts", "GetScopedCredentials", DurationSeconds="60")[0] == 200


def test_a_session_cannot_edit_its_own_role(mint, minter):
    iam = mint().client("iam")
    own, other = "Administrator", "ReadOnly"
    anything = json.dumps({"Version": "2012-10-17", "Statement": [ALLOW_ALL]})
    readable = f"arn:aws:iam::{PAYMENTS.id}:policy/daypass-read-only"
    trust = minter.root(PAYMENTS.id).client("iam").get_role(RoleName=other)["Role"]["AssumeRolePolicyDocument"]

    edits = [
        (iam.put_role_policy, {"PolicyName": "mine", "PolicyDocument": anything}),
        (iam.delete_role_policy, {"PolicyName": "mine"}),
        (iam.attach_role_policy, {"PolicyArn": readable}),
        (iam.detach_role_policy, {"PolicyArn": readable}),
        (iam.update_assume_role_policy, {"PolicyDocument": json.dumps(trust)}),
        (iam.put_role_permissions_boundary, {"PermissionsBoundary": readable}),
        (iam.delete_role_permissions_boundary, {}),
    ]
    for edit, parameters in edits:
        assert refused(edit, RoleName=own, **parameters), edit.__name__
        assert not refused(edit, RoleName=other, **parameters), edit.__name__
    assert refused(iam.delete_role, RoleName=own)
    assert not refused(iam.get_role, RoleName=own)


def test_narrowed_by_statement(mint):
    alice = mint(statements=[LIST_QUEUES])

    assert not refused(alice.client("sqs").list_queues)
    assert refused(alice.client("s3").list_buckets)
    assert refused(alice.client("iam").create_user, UserName="backdoor")


def test_narrowed_by_managed_policy(mint):
    alice = mint(policy_arns=[PAYMENTS.read_only_policy_arn])

    assert not refused(alice.client("s3").list_buckets)
    assert not refused(alice.client("sqs").list_queues)
    assert refused(alice.client("sqs").create_queue, QueueName="mine")
    assert refused(alice.client("iam").create_user, UserName="backdoor")


def test_narrowed_by_both_allows_what_either_allows_and_nothing_else(mint):
    create = {"Effect": "Allow", "Action": "sqs:CreateQueue", "Resource": "*"}
    alice = mint(statements=[create], policy_arns=[PAYMENTS.read_only_policy_arn])

    assert not refused(alice.client("s3").list_buckets)
    assert not refused(alice.client("sqs").create_queue, QueueName="narrowed-by-both")
    assert refused(alice.client("sqs").delete_queue, QueueUrl="http://127.0.0.1/222222222222/narrowed-by-both")
    assert refused(alice.client("iam").create_user, UserName="backdoor")


def test_allow_all_beside_a_narrowing_would_undo_it(minter, order):
    """Why `Allow *` must be absent: the stand-in adds session policies together, as AWS does."""
    narrowed = json.loads(session_policy(cut_off=CUT_OFF.replace(year=2099), role_arn=ROLE, statements=[LIST_QUEUES]))
    narrowed["Statement"].append(ALLOW_ALL)
    order = dataclasses.replace(order, policy=json.dumps(narrowed), policy_arns=(PAYMENTS.read_only_policy_arn,))

    undone = minter.as_session(keys_of(sts.assume_role(order)))

    assert not refused(undone.client("sqs").create_queue, QueueName="undone")


def through_mcp(client):
    """The same client, as AWS's MCP server passes its calls on."""
    mark = {"X-Sandbox-Via-AWS-MCP": "1"}
    client.meta.events.register("before-send", lambda request, **_: request.headers.update(mark))
    return client


@pytest.mark.parametrize(
    "narrowing", [{}, {"statements": [LIST_QUEUES]}, {"policy_arns": [PAYMENTS.read_only_policy_arn]}]
)
def test_what_comes_through_the_ai_gateway_is_refused_where_terms_say_so(mint, narrowing):
    for said in (True, False):
        alice = mint(not_through_mcp=said, **narrowing)
        assert not refused(alice.client("sqs").list_queues)
        assert refused(through_mcp(alice.client("sqs")).list_queues) is said
    assert refused(mint(not_through_mcp=True, statements=[LIST_QUEUES]).client("s3").list_buckets)


def test_what_is_not_said_of_the_ai_gateway_costs_nothing():
    without = session_policy(cut_off=CUT_OFF, role_arn=ROLE, statements=[LIST_QUEUES])
    said = session_policy(cut_off=CUT_OFF, role_arn=ROLE, statements=[LIST_QUEUES], not_through_mcp=True)

    assert "ViaAWSMCPService" not in without
    assert len(said) - len(without) == len(narrowing.compact(narrowing.NOT_THROUGH_MCP)) + 1
    assert len(said) == narrowing.length_with([LIST_QUEUES, narrowing.NOT_THROUGH_MCP], ROLE)


# --- two policies for one session -------------------------------------------------------------------------

_ACTIONS = st.lists(
    st.sampled_from(["sqs:*", "sts:*", "iam:Get*", "ecr:*", "*", *(f"s3:{'x' * 60}{n}" for n in range(9))]),
    min_size=1,
    max_size=25,
)
_STATEMENT = st.fixed_dictionaries(
    {"Effect": st.sampled_from(["Allow", "Allow", "Deny"]), "Resource": st.just("*")},
    optional={"Condition": st.just({"Bool": {"aws:MultiFactorAuthPresent": "false"}}), "Sid": st.just("One")},
)
_NARROWING = st.fixed_dictionaries(
    {
        "statements": st.lists(
            st.tuples(_STATEMENT, st.sampled_from(["Action", "NotAction"]), _ACTIONS).map(
                lambda parts: parts[0] | {parts[1]: parts[2]}
            ),
            max_size=3,
        ),
        "policy_arns": st.sampled_from([0, 0, 0, 1, 3]).map(lambda many: [PAYMENTS.read_only_policy_arn] * many),
        "lifted": st.sets(st.sampled_from(LIFTABLE)),
        "not_through_mcp": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None)
@given(_NARROWING)
def test_two_layers_hold_what_one_policy_would_whatever_narrows(narrowed_by):
    try:
        alone = statements_of(session_policy(cut_off=CUT_OFF, role_arn=ROLE, **narrowed_by))
    except ValueError:
        alone = None
    try:
        both = layers(cut_off=CUT_OFF, role_arn=ROLE, **narrowed_by)
    except ValueError:
        assert alone is None
        return
    event("no way to scope" if both is None else f"the parent is narrowed: {both.parent_is_narrowed}")
    if both is None:
        return
    assert alone is not None, "where AWS refuses to scope there is the older way"
    parent, scoped = statements_of(both.parent), statements_of(both.scoped)
    narrowed = [{part: value for part, value in one.items() if part != "Sid"} for one in narrowed_by["statements"]]
    arns = list(both.policy_arns)

    # Both fit.
    assert len(both.parent) + sum(map(len, arns)) <= narrowing.LONGEST_POLICY >= len(both.scoped)
    # Every deny of ours stands in both, but what would refuse the call to the parent.
    for policy in (parent, scoped):
        for deny in alone[:2] + [narrowing.NOT_THROUGH_MCP] * narrowed_by["not_through_mcp"]:
            assert deny in policy
    assert set(alone[2]["Action"]) <= set(scoped[2]["Action"])
    assert set(alone[2]["Action"]) - set(outliving.KEYS_OF_THE_SAME_SESSION.patterns) <= set(parent[2]["Action"])
    assert set(outliving.KEYS_OF_THE_SAME_SESSION.patterns) <= set(scoped[2]["Action"])
    # The narrowing stands whole in one of them, and nothing beside it opens that one again.
    if narrowed or narrowed_by["policy_arns"]:
        whole = parent if both.parent_is_narrowed else scoped
        assert arns == (narrowed_by["policy_arns"] if both.parent_is_narrowed else [])
        assert both.parent_is_narrowed or not narrowed_by["policy_arns"]
        ours = [_MAY_BE_SCOPED] if both.parent_is_narrowed else []
        denies = 3 + narrowed_by["not_through_mcp"]
        assert whole[denies:] == [*narrowed, *ours]
    # And in the parent nothing refuses the call, not even under a condition, but the cut-off and what is said of a
    # gateway through which it does not come.
    for one in (*parent[1:3], *parent[3 + narrowed_by["not_through_mcp"] :]):
        if one["Effect"] == "Deny" and one["Resource"] == "*":
            named = "Action" in one
            patterns = one["Action"] if named else one["NotAction"]
            assert any(fnmatch.fnmatchcase("sts:getscopedcredentials", p.lower()) for p in patterns) is not named


_MAY_BE_SCOPED = {"Effect": "Allow", "Action": "sts:GetScopedCredentials", "Resource": "*"}


def test_narrowing_adds_no_right_that_the_role_lacks(mint):
    alice = mint(role="ReadOnly", statements=[ALLOW_ALL])

    assert not refused(alice.client("s3").list_buckets)
    assert refused(alice.client("iam").create_user, UserName="backdoor")


def test_the_denies_hold_beside_a_narrowing(mint, deeper_role):
    alice = mint(statements=[ALLOW_ALL])

    assert refused(alice.client("sts").assume_role, RoleArn=deeper_role, RoleSessionName="onwards")
    assert refused(alice.client("iam").delete_role_policy, RoleName="Administrator", PolicyName="x")
