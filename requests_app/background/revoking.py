"""Making AWS hold a role's deny policy, and showing that it refuses."""

from collections.abc import Sequence
from datetime import datetime

import structlog

from requests_app.aws import deny_policy, probe
from requests_app.aws import sign_ins as at_aws
from requests_app.aws.deny_policy import Draft, Entry, Fit, NoRoom, Seen, Standing
from requests_app.aws.errors import AwsError, Refused
from requests_app.aws.iam import Place
from requests_app.aws.sign_ins import SignIn
from requests_app.background.own_sessions import recorder
from requests_app.background.places import CORRECT_IT, place_of
from requests_app.domain import clock, restored
from requests_app.domain.models import OwnSession
from requests_app.domain.workflow import preflights, proofs, revocations, sign_ins
from requests_app.domain.workflow.proofs import ProbeTask
from requests_app.domain.workflow.revocations import Task
from requests_app.domain.workflow.sign_ins import SignInTask

log = structlog.get_logger(__name__)


def work(role_id: int) -> None:
    """Bring what AWS has for this role to what is wanted, if something is due and no other worker is at it."""
    restored.look()
    with revocations.only_one(role_id) as mine:
        task = revocations.take_up(role_id) if mine else None
        if task is None:
            return
        try:
            _bring_about(task)
        except AwsError as error:
            log.warning("revoke.failed", role=task.role_arn, aws_code=error.code)
            revocations.note_failure(task, code=error.code, message=error.message, advice=error.advice)
        except ValueError as error:
            # What the catalog says cannot be a role's address.
            revocations.note_failure(task, code="", message=str(error), advice=CORRECT_IT)
        # Whatever became of the denies: it is another service, and a wall of its own.
        _end_sign_ins(role_id)


def prove(role_id: int) -> None:
    """Look whether AWS refuses by now, if a look is due."""
    task = proofs.take_up(role_id)
    if task is None:
        return
    for action in [task.action] if task.action else _harmless(role_id):
        proof = probe.prove(_probe_order(task, action), clock.now, recorder(role_id, OwnSession.Purpose.PROBE))
        if proof.outcome is not probe.Outcome.UNPROVABLE:
            break
    proofs.note(task, proof.outcome.value, action=action, code=proof.code, message=proof.words)


def _harmless(role_id: int) -> list[str]:
    """What to try, first what a preflight found to work here."""
    found = preflights.harmless_action(role_id)
    return sorted(probe.HARMLESS, key=lambda action: action != found)


def _end_sign_ins(role_id: int) -> None:
    """End what `aws login` and the like made of passes that were ended early, if their terms let it."""
    task = sign_ins.take_up(role_id)
    if task is None:
        return
    try:
        doubtful, complete = _end_listed(task)
    except AwsError as error:
        log.warning("revoke.sign_ins_failed", role=task.role_arn, aws_code=error.code)
        refused = isinstance(error, Refused)
        sign_ins.note_failure(task, refused=refused, code=error.code, message=error.message, advice=error.advice)
    except ValueError as error:
        sign_ins.note_failure(task, refused=True, code="", message=str(error), advice=CORRECT_IT)
    else:
        sign_ins.note(task, doubtful=doubtful, complete=complete)


def _end_listed(task: SignInTask) -> tuple[set[str], bool]:
    """The codes of those passes that have sign-in sessions which may be others'; and whether that is all there is."""
    if task.since is None:
        return set(), True  # nobody was given anything
    place = place_of(task)
    listed = at_aws.active(place, since=task.since - revocations.OFFSET)
    to_end = [sign_in for sign_in in listed.sign_ins if task.is_to_end(sign_in.begun_at)]

    def done(revoked: Sequence[SignIn]) -> None:
        sign_ins.record(task, [(sign_in.arn, sign_in.begun_at) for sign_in in revoked])

    reason = f"Ended early by Daypass: {', '.join(sorted(task.codes))}"
    at_aws.revoke(place, to_end, reason=reason[: at_aws.LONGEST_REASON], done=done)
    left = [sign_in for sign_in in listed.sign_ins if sign_in not in to_end]
    return {code for sign_in in left for code in task.codes_of(sign_in.begun_at)}, listed.complete


def _bring_about(task: Task) -> None:
    place = place_of(task)
    try:
        _look_or_put(task, place)
    except _MoreThanWeKnow as found:
        if not task.restored and not revocations.is_explained(task):
            restored.found_at_aws(task.role_arn)
        there = found.standing
        task = revocations.keep(task, codes=there.codes, since=_plausible(there), generation=there.generation)
        _look_or_put(task, place)


class _MoreThanWeKnow(AwsError):
    """AWS denies what this database knows nothing of. Should that happen twice in a row, it is tried again later."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(
            "Changing", "What AWS denies on this role changed while Daypass looked.", "Daypass looks again."
        )
        self.standing = standing


def _look_or_put(task: Task, place: Place) -> None:
    if task.rewrite and task.wanted and task.since is None:
        _put(task, place, None)
        return
    standing = deny_policy.read(place)
    _require_no_news(task, standing)
    if task.rewrite and task.wanted:
        _put(task, place, _since(task, standing.room))
        return
    if not task.wanted and not task.restored:
        removed = deny_policy.remove(place, task.expected)
        revocations.note_removed(task, removed=removed.removed, unknown=removed.unknown)
        return
    seen = standing.seen(task.expected)
    if seen is not Seen.AS_WRITTEN:
        revocations.note_lifted(task, str(seen))
    elif not task.wanted or not _can_do_better(task, standing.room):
        revocations.note_look(task)
        return
    _put(task, place, _since(task, standing.room))


def _put(task: Task, place: Place, since: datetime | None) -> None:
    """Put it, if need be with the fallback: then that is committed before."""
    try:
        _write(task, place, since)
    except NoRoom as full:
        if not _has_room_for_fallback(task, full.room):
            raise
        known = {wanted.code for wanted in task.wanted}
        unknown = [entry.code for entry in (*full.fit.kept, *full.fit.dropped) if entry.code not in known]
        task = revocations.deny_before(task, unknown=unknown)
        _write(task, place, task.since)


def _write(task: Task, place: Place, since: datetime | None) -> None:
    def about_to_put(draft: Draft) -> None:
        _require_no_news(task, draft.before)
        ours = draft.before.document if draft.seen is Seen.AS_WRITTEN else None
        revocations.note_draft(task, generation=draft.generation, document=draft.document, standing=ours)

    written = deny_policy.write(
        place,
        generation=task.generation + 1,
        entries=_entries(task),
        expected=task.expected,
        since=since,
        about_to_put=about_to_put,
    )
    draft = written.draft
    if task.rewrite and task.generation and draft.seen is not Seen.AS_WRITTEN:
        revocations.note_lifted(task, str(draft.seen))
    left_out = _left_out(draft.fit, since)
    revocations.note_written(
        task,
        generation=draft.generation,
        document=draft.document,
        denied=[entry.code for entry in (*draft.fit.kept, *draft.fit.dropped) if entry.code not in left_out],
        unknown=draft.unknown,
        left_out=left_out,
        since=since,
    )


def _require_no_news(task: Task, standing: Standing) -> None:
    """Nothing that AWS denies is taken away by a database which may have forgotten it."""
    since = _plausible(standing)
    if task.restored:
        forgotten = standing.codes - {wanted.code for wanted in task.wanted}
        news = bool(forgotten) or (since is not None and (task.since is None or since > task.since))
    else:
        unknown = standing.unknown(task.expected, _entries(task))
        news = revocations.is_news(task, generation=standing.generation, unknown=unknown)
    if news:
        raise _MoreThanWeKnow(standing)


def _plausible(standing: Standing) -> datetime | None:
    """The moment before which everything there is denied, if it is one that Daypass would have written."""
    latest = clock.now() + revocations.HELD_AHEAD + 2 * revocations.OFFSET
    return standing.since if standing.since is not None and standing.since <= latest else None


def _since(task: Task, room: int) -> datetime | None:
    """The fallback stays until there is room to name everyone."""
    return task.since if task.keep_since or _fit(task, room, None).dropped else None


def _can_do_better(task: Task, room: int) -> bool:
    since = _since(task, room)
    return since != task.since or len(_left_out(_fit(task, room, since), since)) < len(task.left_out)


def _fit(task: Task, room: int, since: datetime | None) -> Fit:
    generation = task.generation + 1
    return deny_policy.fit(_entries(task), room, installation=task.installation, generation=generation, since=since)


def _has_room_for_fallback(task: Task, room: int) -> bool:
    empty = deny_policy.document(
        installation=task.installation, generation=task.generation + 1, entries=(), since=clock.now()
    )
    return deny_policy.characters(empty) <= room


def _entries(task: Task) -> list[Entry]:
    return [
        Entry(wanted.code, wanted.returned, wanted.issued_before, by_name_only=wanted.by_name_only)
        for wanted in task.wanted
    ]


def _left_out(fitting: Fit, since: datetime | None) -> list[str]:
    """Those whom nothing denies for sure: named neither, nor issued before `since`."""
    return [entry.code for entry in fitting.dropped if not deny_policy.is_denied_by(since, entry)]


def _probe_order(task: ProbeTask, action: str) -> probe.ProbeOrder:
    return probe.ProbeOrder(
        role_arn=task.role_arn,
        region=task.region,
        installation=task.installation,
        generation=task.generation,
        action=action,
        external_id=task.external_id or None,
        source_identity=f"daypass-{task.installation}" if task.source_identity_allowed else None,
    )
