"""Questions on `sts:GetScopedCredentials` itself: who may call it, and what it gives."""

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from requests_app.aws.errors import AwsError, Refused
from requests_app.aws.proving.asking import (
    SCOPING,
    Answer,
    CannotTell,
    Case,
    Told,
    allow,
    is_refusal_of_scoping,
    no,
    question,
    said,
    second,
    yes,
)
from requests_app.aws.session_policy import MIN_SESSION_SECONDS, layers, session_policy
from requests_app.aws.sts import MintedSession

_LONGEST_WAIT = 60.0  # seconds, for IAM to say everywhere what was written
_PAUSE = 1.0


@question(
    "How roles are to be set up (docs/operations.md). Without the permission Daypass ends their keys by policy.",
)
def the_role_must_allow_it(case: Case) -> Told:
    """Does a role's permissions policy have to allow `sts:GetScopedCredentials`?"""
    parent = case.session()
    try:
        case.scope(parent)
    except Refused as refused:
        if not _may_be_for_want_of_an_allow(refused):
            raise
        before = said(refused)
    else:
        return no("a role whose policy does not name the call was given keys")
    case.roles.put(case.role_name, "scoping", [allow(SCOPING)])
    began = time.monotonic()
    in_a_row = 0
    while in_a_row < 3:
        time.sleep(_PAUSE)
        try:
            case.scope(parent)
            in_a_row += 1
        except Refused as refused:
            if not _may_be_for_want_of_an_allow(refused):
                raise
            in_a_row = 0
            if time.monotonic() - began > _LONGEST_WAIT:
                raise CannotTell(f"AWS refuses it with an Allow too: {said(refused)}") from None
    waited = time.monotonic() - began
    return yes(f"without one, AWS said {before}; some {waited:.0f} s after one was added it gave keys")


@question(
    "Where an entitlement narrows, Daypass adds an Allow for the call to the parent's session policy. "
    "It gives nobody more, whatever the answer."
)
def the_session_policy_must_allow_it(case: Case) -> Told:
    """Does the session policy of the session that calls have to allow it too?"""
    one, other = case.actions
    case.scope(case.session(allow(one, other, SCOPING)))
    try:
        case.scope(case.session(allow(one, other)))
    except Refused as refused:
        if not is_refusal_of_scoping(refused):
            raise
        return yes(f"the control, which allows it, was given keys; without, AWS said {said(refused)}")
    return no("a session whose policy does not name the call was given keys")


@question(
    "Nobody who holds keys makes further ones of the same session, which nobody would have recorded: "
    "scoped keys and those of the older way both carry this deny.",
    counts_on=Answer.YES,
)
def a_deny_of_it_holds(case: Case) -> Told:
    """Does the deny in the policies that Daypass itself writes keep their holder from the call?"""
    both = _daypass_layers(case)
    parent = case.session(policy=both.parent)
    holders = {
        "scoped keys": case.scope(parent, policy=both.scoped),
        "keys of the older way": case.session(policy=session_policy(cut_off=_soon(case), role_arn=case.role_arn)),
    }
    seen = []
    for name, holder in holders.items():
        try:
            case.scope(holder)
        except Refused as refused:
            if not is_refusal_of_scoping(refused):
                raise
            seen.append(f"{name} were refused: {said(refused)}")
        else:
            return no(f"{name} were given further keys")
    return yes(f"their parent was given keys; {', '.join(seen)}")


@question("No keys outlive the session that they are scoped from.", counts_on=Answer.NO)
def it_outlives_its_parent(case: Case) -> Told:
    """Can scoped keys be had for longer than the session that asks for them lasts?"""
    parent = case.session()
    try:
        scoped = case.scope(parent, seconds=2 * MIN_SESSION_SECONDS)
    except Refused as refused:
        if refused.code.removesuffix("Exception") in ("InsufficientSessionLifetime", "ValidationError"):
            return no(f"asked for longer, AWS said {said(refused)}")
        raise
    evidence = f"the session ends at {second(parent.expires_at)}, the keys at {second(scoped.expires_at)}"
    return (yes if scoped.expires_at > parent.expires_at else no)(evidence)


@question("In its last seconds a pass still gives keys, for as long as is left.", counts_on=Answer.YES)
def one_second_is_enough(case: Case) -> Told:
    """Does AWS give keys for a single second?"""
    parent = case.session()
    case.scope(parent)  # the control: for longer it does
    try:
        scoped = case.scope(parent, seconds=1)
    except Refused as refused:
        return no(f"AWS said {said(refused)}")
    return yes(f"they end at {second(scoped.expires_at)}")


@question(
    "Daypass reckons from the second in which STS issued how many to ask for, and reads AWS's clock there.",
    counts_on=Answer.YES,
)
def it_counts_from_the_second_of_issue(case: Case) -> Told:
    """Is an expiration the second of issue plus the seconds that were asked for, for both calls?"""
    parent = case.session()
    given = [("AssumeRole", parent)] + [(SCOPING, case.scope(parent, seconds=seconds)) for seconds in (7, 61, 600)]
    apart = {f"{name} of {keys.asked_duration} s": _after_issue(keys) for name, keys in given}
    evidence = ", ".join(f"{name}: answered {late:.0f} s after" for name, late in apart.items())
    return (yes if all(0 <= late <= 2 for late in apart.values()) else no)(evidence)


@question(
    "Nothing that fits in the older way stops fitting: where there is no room for both policies, Daypass falls back "
    "to it. The preflight warns when a token is used by 80 %."
)
def the_longest_narrowing_fits(case: Case) -> Told:
    """Is there room for the longest narrowing that AWS takes, beside Daypass's denies, in both layers?"""
    both = _daypass_layers(case, _longest_narrowing(case))
    characters = f"{len(both.parent):,} and {len(both.scoped):,} characters"
    try:
        parent = case.session(policy=both.parent)
        scoped = case.scope(parent, policy=both.scoped)
    except AwsError as error:
        if error.code.removesuffix("Exception") != "PackedPolicyTooLarge":
            raise
        return no(f"of {characters} AWS said {said(error)}")
    shares = [keys.session_token_utilization for keys in (parent, scoped)]
    used = " and ".join("an unknown share" if share is None else f"{share} %" for share in shares)
    return yes(f"{characters} took {used} of a session token, the newer measure, and {_packed(parent)} of the older")


def _may_be_for_want_of_an_allow(refused: Refused) -> bool:
    return is_refusal_of_scoping(refused) and "explicit deny" not in refused.message


def _daypass_layers(case: Case, *statements: Any) -> Any:
    both = layers(cut_off=_soon(case), role_arn=case.role_arn, statements=statements)
    assert both is not None  # noqa: S101 - made to fit
    return both


def _soon(case: Case) -> Any:
    return case.now() + timedelta(minutes=5)


def _longest_narrowing(case: Case) -> Any:
    """As much as leaves both layers within AWS's limit, of names that cannot be packed into less."""
    buckets: list[str] = []
    while True:
        longer = [*buckets, f"arn:aws:s3:::{secrets.token_hex(16)}"]
        statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": longer}
        both = layers(cut_off=datetime.max.replace(tzinfo=UTC), role_arn=case.role_arn, statements=[statement])
        if both is None or not both.parent_is_narrowed:
            return {**statement, "Resource": buckets}
        buckets = longer


def _packed(session: MintedSession) -> str:
    return "an unknown share" if session.packed_policy_size is None else f"{session.packed_policy_size} %"


def _after_issue(keys: MintedSession) -> float:
    if keys.aws_date is None:
        raise CannotTell("the answer has no Date")
    return (keys.aws_date - keys.expires_at + timedelta(seconds=keys.asked_duration)).total_seconds()
