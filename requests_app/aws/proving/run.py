"""One run: a role, every question, and the role's removal, whatever ends it."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import FrameType

from requests_app.aws import probe, sts
from requests_app.aws.errors import AwsError
from requests_app.aws.probe import End
from requests_app.aws.proving import ends, keys, moments, policies, role, sign_in
from requests_app.aws.proving.asking import Answer, CannotTell, Case, Question, Told, said
from requests_app.aws.proving.record import Asked, Record
from requests_app.aws.proving.role import Roles
from requests_app.domain import partitions

# The first of them lets the role call what the others are about, where AWS wants that.
CHAPTERS: tuple[tuple[str, tuple[Question, ...]], ...] = (
    (
        "GetScopedCredentials",
        (
            keys.the_role_must_allow_it,
            keys.the_session_policy_must_allow_it,
            keys.a_deny_of_it_holds,
            keys.it_outlives_its_parent,
            keys.one_second_is_enough,
            keys.it_counts_from_the_second_of_issue,
            keys.the_longest_narrowing_fits,
        ),
    ),
    (
        "Policies of several layers",
        (
            policies.a_deny_in_the_parent_holds,
            policies.a_deny_in_the_scoped_layer_holds,
            policies.an_allow_in_the_scoped_layer_suffices,
            policies.an_allow_in_the_parent_suffices,
            policies.it_says_which_policy_denied,
        ),
    ),
    (
        "Time",
        (
            moments.scoped_keys_end_at_their_expiration,
            moments.a_proof_signed_before_ends_too,
            moments.the_deny_by_current_time_is_exact,
            moments.the_moment_of_issue_is_the_parents,
        ),
    ),
    (
        "The console",
        (
            sign_in.it_takes_a_form,
            sign_in.it_takes_scoped_keys,
            sign_in.a_link_opens_by_a_form,
            sign_in.a_link_opens_after_the_keys_ended,
        ),
    ),
    ("Ending early", (ends.a_deny_by_userid_reaches_scoped_keys,)),
)
LONGEST_RUN = 600.0  # seconds; what has not been asked by then is not
_LONGEST_SETTLING = 120.0
_IN_A_ROW = 3
_PAUSE = 1.0

Say = Callable[[str], None]


class CannotBegin(Exception):
    """No question was asked: why, as a sentence for whoever typed the command."""


class Interrupted(BaseException):
    """By this signal. If a role was made it is gone, or it was said that it is not."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def prove(*, region: str, federation_url: str | None, say: Say) -> Record:
    """Ask everything, in some minutes. `say` hears what is done meanwhile; whatever ends this, the role is removed.

    Raises CannotBegin, and Interrupted on SIGINT, SIGTERM or SIGHUP; no AwsError.
    """
    began = time.monotonic()
    name = role.new_name()
    with _stoppable():
        roles, record, principal = _look_around(region, federation_url)
        _remove_left_behind(roles, say)
        arn = f"arn:{record.partition}:iam::{record.account}:role{role.PATH}{name}"
        removed = False
        try:
            try:
                case = _open(roles, record, principal, name, say)
                record.actions = case.actions
                for chapter, questions in CHAPTERS:
                    record.asked.append((chapter, asked := []))
                    for question in questions:
                        say(question.words)
                        asked.append(_ask(question, case, began + LONGEST_RUN))
            finally:
                record.left_behind, removed = _remove(roles, name, arn), True
                _say_what_is_left(record.left_behind, say)
        except Interrupted:
            if not removed:  # it came just before that could begin
                _say_what_is_left(_remove(roles, name, arn), say)
            raise
    record.seconds = time.monotonic() - began
    return record


def clean(*, region: str, say: Say) -> None:
    """Remove the roles that earlier runs left behind, and nothing else. Raises CannotBegin and Interrupted."""
    with _stoppable():
        roles, _, _ = _look_around(region, None)
        if not _remove_left_behind(roles, say):
            say("No role of an earlier run is there.")


def _look_around(region: str, federation_url: str | None) -> tuple[Roles, Record, str]:
    try:
        reading = sts.read_clock(region, lambda: datetime.now(UTC))
        roles, endpoint = Roles(region), sts.endpoint(region)
    except AwsError as error:
        raise CannotBegin(f"AWS does not know who is asking: {error.code}: {error.message}") from None
    principal, partition, account = _principal(reading.identity_arn)
    try:
        sign_in_at = partitions.federation_url(partition, federation_url)
    except ValueError as wrong:
        raise CannotBegin(str(wrong)) from None
    at = datetime.now(UTC) + timedelta(seconds=reading.high)
    return roles, Record(at, account, region, partition, endpoint, sign_in_at, reading.chained), principal


def _principal(identity: str) -> tuple[str, str, str]:
    """Whom alone the role is to trust: this user, or this very session; and its partition and account."""
    found = re.fullmatch(r"arn:([\w-]+):(?:iam::(\d{12}):user/.+|sts::(\d{12}):assumed-role/.+)", identity, re.ASCII)
    if not found:
        raise CannotBegin(
            f"{identity} cannot become a role, as the root user and federated users cannot: give the profile of a user "
            "or of a role."
        )
    return identity, found[1], found[2] or found[3]


def _remove_left_behind(roles: Roles, say: Say) -> int:
    try:
        names = roles.left_behind()
        for name in names:
            roles.remove(name)
            say(f"Removed {role.PATH}{name}, which an earlier run had left behind.")
    except AwsError as error:
        raise _may_not("look for what an earlier run left behind, and remove it", error) from None
    return len(names)


def _open(roles: Roles, record: Record, principal: str, name: str, say: Say) -> Case:
    say(f"Making the role {role.PATH}{name}.")
    try:
        with _undisturbed():  # or one could be made that nobody knows of
            arn = roles.make(name, principal)
    except AwsError as error:
        raise _may_not("make a role and give it a policy", error) from None
    case = Case(roles, name, arn, record.region, record.partition, record.federation_url, ("", ""))
    until, in_a_row, actions = time.monotonic() + _LONGEST_SETTLING, 0, list(probe.HARMLESS)
    while True:  # until what was made is known wherever AWS looks
        working, why = _working(case, actions)
        if len(working) == 2:
            in_a_row, actions = in_a_row + 1, working
        else:
            in_a_row = 0
        if in_a_row == _IN_A_ROW:
            return replace(case, actions=(actions[0], actions[1]))
        if time.monotonic() > until:
            raise CannotBegin(f"The role was made, and cannot be used after {_LONGEST_SETTLING:.0f} s: {why}")
        time.sleep(_PAUSE)


def _working(case: Case, actions: list[str]) -> tuple[list[str], str]:
    """Two harmless calls that work on the role, or why there are fewer."""
    try:
        session = case.session()
    except AwsError as error:
        return [], said(error)
    working, why = [], ""
    for action in actions:
        reply = probe.try_action(session, action, case.region)
        if reply.end is End.WORKED:
            working.append(action)
        else:
            why = f"{action} is answered {said(reply)}"
        if len(working) == 2:
            break
    return working, why


def _ask(question: Question, case: Case, until: float) -> Asked:
    """One question, whose failure is none of the others' business."""
    try:
        if time.monotonic() > until:
            raise CannotTell(f"the run had lasted {LONGEST_RUN / 60:.0f} minutes")
        return Asked(question, question.ask(case))
    except CannotTell as reason:
        why = str(reason)
    except AwsError as error:
        why = f"AWS said {said(error)}"
    except Exception as error:  # noqa: BLE001 - its text may hold anything
        why = f"of a fault in Daypass ({type(error).__name__})"
    return Asked(question, Told(Answer.UNTOLD, why))


def _remove(roles: Roles, name: str, arn: str) -> str:
    """What is left: nothing, or the role's ARN and why. Says nothing itself, for nobody may be listening any more."""
    with _undisturbed():
        try:
            roles.remove(name)
        except AwsError as error:
            return f"{arn} ({said(error)})"
    return ""


def _say_what_is_left(left: str, say: Say) -> None:
    say(f"THE ROLE COULD NOT BE REMOVED: {left}. Try --clean, or delete it by hand." if left else "Removed the role.")


def _may_not(what: str, error: AwsError) -> CannotBegin:
    return CannotBegin(
        f"AWS did not let this profile {what}: {said(error)} What it needs stands in docs/operations.md under "
        "“Proving on AWS”. It should be an administrator's, neither the minter's nor the revoker's."
    )


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _stoppable() -> Iterator[None]:
    """The first signal ends what is under way; no further one gets in the way of what has to be done then."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {each: signal.signal(each, stop) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No signal but SIGKILL gets in before this is done."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
