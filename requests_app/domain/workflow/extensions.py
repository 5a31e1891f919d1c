"""More time for an active pass: a fresh decision under the same terms, and the same request goes on without a gap.

Sessions minted before keep their old end; whoever needs longer ones gets new ones.
"""

from datetime import datetime, timedelta

from django.conf import settings

from requests_app.domain import audit, clock, facts, notices, patterns, policy
from requests_app.domain.audit import Action
from requests_app.domain.errors import Conflict, Invalid, NotAllowed
from requests_app.domain.models import AccessRequest, Decision, Extension, User
from requests_app.domain.texts import LONGEST_JUSTIFICATION, can_be_stored
from requests_app.domain.transitions import ExtensionState
from requests_app.domain.workflow import idempotency, operators, stages
from requests_app.domain.workflow.verb import Due, lock, verb


def extend(
    access_request: AccessRequest, *, by: User, duration: timedelta, justification: str, key: str = ""
) -> Extension:
    """The beneficiary asks for so much more; automatic terms grant it at once.

    The same with the same one-time `key` asks for nothing a second time: it returns the first one, as `is_repeat`.
    Raises NotAllowed by the rules of `policy.may_extend`, Invalid for what was typed.
    """
    try:
        return _extend(access_request, by=by, duration=duration, justification=justification, key=key)
    except NotAllowed as refusal:
        operators.tell_of_refusal(access_request.role, access_request.entitlement, refusal)
        raise


@verb(Action.EXTENSION_ASKED)
def _extend(access_request: AccessRequest, *, by: User, duration: timedelta, justification: str, key: str) -> Extension:
    justification = justification.strip()
    contents = (Action.EXTENSION_ASKED, access_request.pk, int(duration.total_seconds()), justification)
    if earlier := idempotency.result_of(key, by=by, contents=contents):
        first = Extension.objects.select_related("access_request").get(public_id=earlier)
        first.is_repeat = True
        return first
    access_request, now = lock(access_request)
    terms = access_request.terms
    _may_extend(access_request, by, duration, now).require()
    if not terms.justification_min <= len(justification) <= LONGEST_JUSTIFICATION or not can_be_stored(justification):
        between = f"{terms.justification_min} to {LONGEST_JUSTIFICATION:,}"
        raise Invalid({"justification": [f"Write {between} plain characters: why it takes longer."]})
    if not patterns.fits(terms.justification_pattern, justification):
        raise Invalid({"justification": [f"These terms want it to look like {terms.justification_pattern}"]})
    extension = Extension(
        access_request=access_request,
        asked_by=by,
        seconds=int(duration.total_seconds()),
        justification=justification,
        asked_at=now,
        decide_by=_decide_by(access_request, now),
    )
    stages.enter(extension, 1 if terms.stages else 0, now)
    extension.save(force_insert=True)
    idempotency.keep(key, by=by, contents=contents, result=str(extension.public_id))
    audit.record(
        Action.EXTENSION_ASKED, access_request, by=by, at=now, seconds=extension.seconds, justification=justification
    )
    if terms.is_automatic:
        _grant(extension, by=None, now=now, rule="approval.automatic")
    else:
        stages.ask(extension, now)
    return extension


@verb(Action.EXTENSION_APPROVED)
def approve_extension(extension: Extension, *, by: User, stage: int | None = None, comment: str = "") -> Decision:
    """Record an approval; the pass goes on when the last stage is satisfied. Raises as `approve` does."""
    extension, now = _lock(extension)
    stages.check_may_decide(extension, by, comment, now, stage=stage)
    _check_still_of_use(extension)
    decision = stages.decide(extension, by, Decision.Answer.APPROVE, comment, now)
    audit.record(
        Action.EXTENSION_APPROVED, extension.access_request, by=by, at=now, stage=decision.stage, comment=comment
    )
    if stages.is_last(extension):
        _grant(extension, by=by, now=now, rule=f"stage.{extension.stage}")
    elif stages.is_satisfied(extension):
        stages.enter(extension, extension.stage + 1, now)
        extension.save(update_fields=stages.FIELDS)
        stages.ask(extension, now)
    return decision


@verb(Action.EXTENSION_DENIED)
def deny_extension(extension: Extension, *, by: User, stage: int | None = None, comment: str = "") -> Decision:
    """Record a denial: the pass ends when it would have ended. Raises as `approve_extension` does."""
    extension, now = _lock(extension)
    stages.check_may_decide(extension, by, comment, now, stage=stage)
    decision = stages.decide(extension, by, Decision.Answer.DENY, comment, now)
    _finish(extension, ExtensionState.DENIED, now)
    audit.record(
        Action.EXTENSION_DENIED, extension.access_request, by=by, at=now, stage=decision.stage, comment=comment
    )
    notices.announce(notices.Kind.MORE_DECIDED, [extension.access_request], at=now, extension=extension.pk)
    return decision


@verb(Action.EXTENSION_WITHDRAWN)
def withdraw_extension(extension: Extension, *, by: User) -> Extension:
    """Whoever asked for more takes that back."""
    extension, now = _lock(extension)
    if by.pk != extension.asked_by_id:
        raise NotAllowed("Only the person who asked can take it back.", rule="withdraw.not_yours")
    _finish(extension, ExtensionState.WITHDRAWN, now)
    audit.record(Action.EXTENSION_WITHDRAWN, extension.access_request, by=by, at=now)
    return extension


def may_extend(access_request: AccessRequest, by: User, duration: timedelta) -> policy.Verdict:
    """What `extend` would say to so much more, whatever is typed."""
    return _may_extend(access_request, by, duration, clock.now())


def _may_extend(access_request: AccessRequest, by: User, duration: timedelta, now: datetime) -> policy.Verdict:
    left = (_decide_by(access_request, now) - now).total_seconds()
    enough = facts.stages_with_enough_people(
        access_request.terms.stages,
        asking=access_request.asking_side,
        seconds=left,
        entitlement=access_request.entitlement_id,
        role=access_request.role_id,
    )
    return policy.may_extend(
        facts.more_time(
            access_request,
            by=by,
            seconds=int(duration.total_seconds()),
            most_in_vain=settings.EXTENSIONS_IN_VAIN_PER_PASS,
            enough=enough,
        )
    )


def _decide_by(access_request: AccessRequest, now: datetime) -> datetime:
    in_time = now + timedelta(seconds=access_request.terms.pending_seconds)
    return min(access_request.expires_at or in_time, in_time)


def _lock(extension: Extension) -> tuple[Extension, datetime]:
    """The extension as it is now, pending, with its request, both held: the request first, as every verb does."""
    access_request, _ = lock(extension.access_request)
    extension = Extension.objects.select_for_update(no_key=True).get(pk=extension.pk)
    extension.access_request = access_request
    now = clock.now()
    if access_request.due(now):
        raise Due
    if extension.state != ExtensionState.PENDING or extension.decide_by <= now:
        raise Conflict("This was decided in the meantime, or its time ran out.", rule="extension.not_pending")
    return extension, now


def _check_still_of_use(extension: Extension) -> None:
    """The rule that let someone have the pass must still hold when it is made longer."""
    access_request = extension.access_request
    verdict = policy.still_entitled(facts.standing(access_request))
    if verdict.rule == "freeze":
        raise Conflict(verdict.message, rule=verdict.rule)
    if not verdict:
        raise Conflict(
            f"{access_request.beneficiary} may not have this role on these terms any more. Deny it, or let it end.",
            rule=verdict.rule,
        )


def _grant(extension: Extension, *, by: User | None, now: datetime, rule: str) -> None:
    access_request = extension.access_request
    assert access_request.expires_at is not None  # noqa: S101 - an active one has an end
    extension.previous_end = access_request.expires_at
    extension.new_end = access_request.expires_at + extension.duration
    _finish(extension, ExtensionState.GRANTED, now)
    access_request.expires_at = extension.new_end
    access_request.save(update_fields=["expires_at"])
    audit.record(
        Action.EXTENSION_GRANTED, access_request, by=by, at=now, rule=rule, expires_at=extension.new_end.isoformat()
    )
    if by is not None:
        notices.announce(notices.Kind.MORE_DECIDED, [access_request], at=now, extension=extension.pk)


def _finish(extension: Extension, state: ExtensionState, now: datetime) -> None:
    extension.state, extension.finished_at = state, now
    extension.save(update_fields=["state", "finished_at", "previous_end", "new_end"])
