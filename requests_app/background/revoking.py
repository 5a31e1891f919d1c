"""Making AWS hold a role's deny policy, and showing that it refuses."""

import structlog

from requests_app.aws import deny_policy, probe
from requests_app.aws.errors import AwsError
from requests_app.aws.iam import Place
from requests_app.background.own_sessions import recorder
from requests_app.domain import clock
from requests_app.domain.models import OwnSession
from requests_app.domain.workflow import preflights, revocations
from requests_app.domain.workflow.revocations import ProbeTask, Task

log = structlog.get_logger(__name__)


def work(role_id: int) -> None:
    """Bring what AWS has for this role to what is wanted, if something is due and no other worker is at it."""
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
            advice = "An operator must correct the role or the account in the catalog."
            revocations.note_failure(task, code="", message=str(error), advice=advice)


def prove(role_id: int) -> None:
    """Look whether AWS refuses by now, if a look is due."""
    task = revocations.take_up_probe(role_id)
    if task is None:
        return
    for action in [task.action] if task.action else _harmless(role_id):
        proof = probe.prove(_probe_order(task, action), clock.now, recorder(role_id, OwnSession.Purpose.PROBE))
        if proof.outcome is not probe.Outcome.UNPROVABLE:
            break
    revocations.note_proof(task, proof.outcome.value, action=action)


def _harmless(role_id: int) -> list[str]:
    """What to try, first what a preflight found to work here."""
    found = preflights.harmless_action(role_id)
    return sorted(probe.HARMLESS, key=lambda action: action != found)


def _bring_about(task: Task) -> None:
    place = Place(
        role_arn=task.role_arn,
        revoker_role_arn=task.revoker_role_arn,
        region=task.region,
        installation=task.installation,
        external_id=task.external_id or None,
    )
    if not task.wanted:
        removed = deny_policy.remove(place, task.expected)
        revocations.note_removed(task, removed=removed.removed, unknown=removed.unknown)
        return
    if not task.rewrite:
        seen = deny_policy.read(place).seen(task.expected)
        if seen is deny_policy.Seen.AS_WRITTEN:
            revocations.note_look(task)
            return
        revocations.note_lifted(task, str(seen))
    written = deny_policy.write(
        place,
        generation=task.generation + 1,
        entries=[deny_policy.Entry(one.code, one.returned) for one in task.wanted],
        expected=task.expected,
        about_to_put=lambda draft: revocations.note_draft(task, generation=draft.generation, document=draft.document),
    )
    draft = written.draft
    if task.rewrite and task.generation and draft.seen is not deny_policy.Seen.AS_WRITTEN:
        revocations.note_lifted(task, str(draft.seen))
    revocations.note_written(
        task,
        generation=draft.generation,
        document=draft.document,
        denied=[entry.code for entry in draft.fit.kept],
        unknown=draft.unknown,
        left_out=bool(draft.fit.dropped),
    )


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
