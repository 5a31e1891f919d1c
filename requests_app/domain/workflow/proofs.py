"""Showing that AWS refuses: when to look, and what was seen. The rows are those of the revocations."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from requests_app.domain import clock, jobs, notices
from requests_app.domain.audit import Action
from requests_app.domain.models import DenyPolicy, Installation, Revocation, User
from requests_app.domain.partitions import region
from requests_app.domain.texts import shortened
from requests_app.domain.transitions import RevocationState
from requests_app.domain.workflow import sign_ins
from requests_app.domain.workflow.revocations import LOOK_AFTER, MOST_COUNTED, lock, move

# IAM takes some seconds to tell everyone; then it is said that AWS has not confirmed.
PROBE_AFTER = (1, 2, 4, 8, 15, 30, 60)


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """What the minting worker needs to show that AWS refuses. `action` is empty until one is known to work."""

    role_id: int
    role_arn: str
    region: str
    external_id: str
    source_identity_allowed: bool
    installation: str
    generation: int
    action: str


def take_up(role_id: int) -> ProbeTask | None:
    """Claim the next probe of this role, by moving the one after it on; None if none is due."""
    with transaction.atomic(durable=True):
        policy = lock(role_id)
        now = clock.now()
        if policy is None or policy.probe_due_at is None or policy.probe_due_at > now:
            return None
        if policy.held_until is not None and policy.held_until > now:
            return None  # even a session that nobody is to be denied would be
        unproved = (RevocationState.WRITTEN, RevocationState.UNPROVABLE)
        if not Revocation.objects.filter(role_id=role_id, state__in=unproved).exists():
            policy.probe_due_at = None  # nobody is left for whom to show it
            policy.save(update_fields=["probe_due_at"])
            return None
        gap = PROBE_AFTER[min(policy.probes, len(PROBE_AFTER) - 1)]
        policy.probes = min(policy.probes + 1, MOST_COUNTED)
        policy.probe_due_at = now + timedelta(seconds=gap + 20)  # if this worker dies
        policy.save(update_fields=["probes", "probe_due_at"])
        return ProbeTask(
            role_id=role_id,
            role_arn=policy.role.arn,
            region=region(policy.role.account.partition),
            external_id=policy.role.account.external_id,
            source_identity_allowed=policy.role.account.allows_source_identity,
            installation=Installation.objects.get().code,
            generation=policy.generation,
            action=policy.probe_action,
        )


def note(task: ProbeTask, outcome: str, *, action: str, code: str = "", message: str = "") -> None:
    """What the probe showed of this generation: `refused` is the proof, the rest is tried again, `unprovable` later.

    `code` and `message` are AWS's, and kept unless it is the proof.
    """
    with transaction.atomic(durable=True):
        policy = lock(task.role_id)
        assert policy is not None  # noqa: S101
        now = clock.now()
        if policy.generation != task.generation:
            return  # another document stands there by now; it has a probe of its own
        policy.probe_action = action if outcome != "unprovable" else ""
        policy.probe_code, policy.probe_message = (
            ("", "") if outcome == "refused" else (code[:100], shortened(message, 2000))
        )
        of_role = Revocation.objects.filter(role_id=task.role_id, access_request__code__in=policy.denied)
        match outcome:
            case "refused":
                policy.probe_due_at, policy.refused_at = None, now
                unproved = of_role.filter(state__in=(RevocationState.WRITTEN, RevocationState.UNPROVABLE))
                # From now on none of them begins a sign-in session: those that there are can be ended for good.
                if sign_ins.may_have_some(unproved).exists():
                    policy.due_at = now
                    jobs.nudge("revoke.work", task.role_id)
                done = unproved.exclude(pk__in=sign_ins.may_have_some(unproved))
                for state in (RevocationState.WRITTEN, RevocationState.UNPROVABLE):
                    move(done, state, RevocationState.PROVED, Action.REVOCATION_PROVED, now, proved_at=now)
            case "unprovable":
                # That may change: someone gives the role such an action, or AWS refused for another reason.
                policy.probe_due_at = now + timedelta(minutes=LOOK_AFTER[min(policy.probes - 1, len(LOOK_AFTER) - 1)])
                move(of_role, RevocationState.WRITTEN, RevocationState.UNPROVABLE, Action.REVOCATION_UNPROVABLE, now)
            case _:
                gap = PROBE_AFTER[min(policy.probes - 1, len(PROBE_AFTER) - 1)]
                policy.probe_due_at = now + timedelta(seconds=gap)
                _tell_of_no_proof(policy, of_role.filter(state=RevocationState.WRITTEN).count(), now)
        said = ("probe_action", "probe_due_at", "probe_code", "probe_message")
        policy.save(update_fields=[*said, "refused_at", "due_at"])


def unproved(role_id: int, generation: int) -> int:
    """How many ended passes this document denies that AWS was not seen to obey; none once another stands there."""
    policy = DenyPolicy.objects.filter(role=role_id, generation=generation).first()
    if policy is None:
        return 0
    of_document = Revocation.objects.filter(role=role_id, access_request__code__in=policy.denied)
    return of_document.filter(state=RevocationState.WRITTEN).count()


def _tell_of_no_proof(policy: DenyPolicy, number: int, now: datetime) -> None:
    """Once for each document, when AWS has had two minutes for it."""
    if policy.probes < len(PROBE_AFTER) or not number:
        return
    operators = User.objects.operators().order_by("pk")[:50]
    document = {"generation": policy.generation}
    notices.tell(notices.Kind.UNPROVED, at=now, to=operators, role=policy.role_id, detail=document)
