"""Deciding stage by stage: the same for a request and for an extension of one."""

from dataclasses import replace
from datetime import datetime, timedelta

from django.db.models import Max

from requests_app.domain import deciders, notices, policy, rows
from requests_app.domain.deciders import Matter
from requests_app.domain.errors import Conflict, Invalid, NotAllowed
from requests_app.domain.models import Decision, User
from requests_app.domain.prepared import Question
from requests_app.domain.texts import LONGEST_COMMENT, can_be_stored


def who_can_decide(matter: Matter, now: datetime) -> list[User]:
    """The people who could decide the present stage now, by name, at most 200; empty when nothing is to be decided."""
    asked = question(matter, _deciders(matter), now)
    return deciders.approvers(asked) if asked else []


def verdict_on_deciding(matter: Matter, by: User, now: datetime) -> policy.Verdict:
    """What deciding would say to this person, for showing the right buttons too."""
    return policy.may_decide(deciders.facts_of_deciding(matter, by, now))


def to_be_asked(matter: Matter, now: datetime, *, is_new: bool = False) -> list[User]:
    """Whom to write to about the present stage: at most 200 of those asked first, and of the further ones as many.

    Where it `is_new`, nobody has had their say yet.
    """
    asked = question(matter, set() if is_new else _deciders(matter), now)
    if asked is None:
        return []
    people = deciders.approvers(asked)
    if len(people) < deciders.MOST_APPROVERS or not asked.further:
        return people
    further = replace(asked.stage, groups=asked.stage.more_groups, users=asked.stage.more_users)
    more = deciders.approvers(replace(asked, stage=further))
    return list({person.pk: person for person in (*people, *more)}.values())


def question(matter: Matter, outside: set[int], now: datetime) -> deciders.Question | None:
    """Who could decide the present stage, if `outside` have had their say; None where nothing is to be decided."""
    if not matter.is_pending or not matter.stage or matter.waits_for_acceptance:
        return None
    access_request, stage = matter.access_request, matter.terms.stage(matter.stage)
    return deciders.Question(
        stage,
        asking=matter.asking_side,
        outside=outside,
        entitlement=access_request.entitlement_id,
        role=access_request.role_id,
        further=stage.is_escalated(matter.stage_began_at, now),
    )


def that_lack_people(matter: Matter, now: datetime) -> list[int]:
    """The positions of the stages, from the present one on, for which too few people are left."""
    if not matter.is_pending or not matter.stage:
        return []
    return deciders.lacking([_left(matter, *_decided(matter), now)])[0]


def _left(matter: Matter, agreed: int, outside: set[int], now: datetime) -> deciders.Left:
    access_request = matter.access_request
    began_at = now if matter.waits_for_acceptance else matter.stage_began_at
    return deciders.Left(
        matter.terms.stages[matter.stage - 1 :],
        asking=matter.asking_side,
        seconds=(matter.decide_by - now).total_seconds(),
        outside=outside,
        entitlement=access_request.entitlement_id,
        role=access_request.role_id,
        agreed=agreed,
        passed=(now - began_at).total_seconds(),
    )


def check_may_decide(matter: Matter, by: User, comment: str, now: datetime, *, stage: int | None) -> None:
    """Raises NotAllowed if `by` may not decide this locked, pending matter, Invalid for the comment.

    `stage`: the one that `by` saw; Conflict if it is another one now. None where none was shown.
    """
    # Where nobody is asked there is no other stage to look at; the rules say so.
    if matter.stage and stage not in (None, matter.stage):
        raise Conflict(
            f"Meanwhile this came to stage {matter.stage}, which is for {matter.terms.stage(matter.stage).in_words()} "
            "to decide. Nothing was stored: look at it again.",
            rule="decision.other_stage",
        )
    verdict_on_deciding(matter, by, now).require()
    if len(comment) > LONGEST_COMMENT or not can_be_stored(comment):
        raise Invalid({"comment": [f"Keep the comment to {LONGEST_COMMENT:,} plain characters at most."]})


def decide(matter: Matter, by: User, verdict: Decision.Answer, comment: str, now: datetime) -> Decision:
    """Record one verdict, which was checked, on the present stage of a locked, pending matter."""
    if verdict == Decision.Answer.APPROVE:
        check_may_agree(matter, by, now)
    decision = Decision(
        access_request=matter.access_request,
        extension=matter.extension,
        stage=matter.stage,
        approver=by,
        approver_name=str(by)[:150],
        verdict=verdict,
        comment=comment,
        decided_at=now,
    )
    rows.insert(decision)
    return decision


def is_last(matter: Matter) -> bool:
    """Whether the last stage has agreed."""
    return is_satisfied(matter) and matter.stage == len(matter.terms.stages)


def is_satisfied(matter: Matter) -> bool:
    return _agreed(matter) >= matter.terms.stage(matter.stage).quorum


def _agreed(matter: Matter) -> int:
    return _decided(matter)[0]


def _decided(matter: Matter) -> tuple[int, set[int]]:
    """How many have agreed at the present stage, and who has had their say at any."""
    extension = matter.extension.pk if matter.extension else None
    agreed, deciders = _DECIDED.one(request=matter.access_request.pk, extension=extension, stage=matter.stage)
    return agreed, set(deciders)


_DECIDED = Question(
    "stages.decided",
    """
SELECT count(*) FILTER (WHERE d.stage = %(stage)s::int AND d.verdict = 'approve'),
    coalesce(array_agg(d.approver_id), '{}')
FROM requests_app_decision d
WHERE d.access_request_id = %(request)s::bigint AND d.extension_id IS NOT DISTINCT FROM %(extension)s::bigint
""",
)


def enter(matter: Matter, number: int, now: datetime) -> None:
    """Ask whoever decides this stage. Sets the fields; the caller stores them with `FIELDS` and announces."""
    matter.stage, matter.stage_since, matter.escalate_at = number, now, None
    matter.deciding_groups, matter.deciding_users = [], []
    if number:
        stage = matter.terms.stage(number)
        matter.deciding_groups, matter.deciding_users = list(stage.groups), list(stage.users)
        if stage.escalate_seconds is not None:
            matter.escalate_at = now + timedelta(seconds=stage.escalate_seconds)


FIELDS = ["stage", "stage_since", "escalate_at", "deciding_groups", "deciding_users"]


def ask(matter: Matter, now: datetime, *, is_new: bool = False) -> None:
    """Mail whoever can decide now and was not written to about this stage."""
    people = to_be_asked(matter, now, is_new=is_new)
    about: notices.About = {"stage": matter.stage}
    if matter.extension:
        about["extension"] = matter.extension.pk
    kind = notices.Kind.MORE_ASKED if matter.extension else notices.Kind.ASKED
    notices.announce(kind, [matter.access_request], at=now, to=people, **about)


def asked_so_far(matter: Matter, now: datetime) -> list[tuple[frozenset[int], frozenset[int]]]:
    """For each stage that has begun, the groups and people who may or could decide it: further ones if it took so long
    that they were asked too."""
    agreed = matter.decisions.order_by().values("stage").annotate(last=Max("decided_at"))
    agreed_at = dict(agreed.values_list("stage", "last"))
    begun, asked = matter.deciding_began_at, []
    for stage in matter.terms.stages[: matter.stage]:
        over = agreed_at[stage.position] if stage.position < matter.stage else matter.settled_at or now
        asked.append(stage.asked(escalated=stage.is_escalated(begun, over)))
        begun = over
    return asked


def _deciders(matter: Matter) -> set[int]:
    return _decided(matter)[1]


def check_may_agree(matter: Matter, by: User, now: datetime) -> None:
    """Raises NotAllowed where a no is possible and a yes is not.

    One person has one say: not another one through somebody whom they made, and whoever is needed for a later stage
    must not spend it on this one.
    """
    if sum(stage.quorum for stage in matter.terms.stages) == 1:
        return
    agreed, outside = _decided(matter)
    if outside and deciders.has_agreed_through_another(matter, by):
        raise NotAllowed(policy.ONE_HAND, rule="decision.same_hand")
    if matter.stage == len(matter.terms.stages):
        return
    # As if this approval were recorded already, and as it is.
    after, before = deciders.lacking(
        [_left(matter, agreed + 1, outside | {by.pk}, now), _left(matter, agreed, outside, now)]
    )
    # If it could not go on without this approval either, then it is not this approval's fault.
    if after and not before:
        raise NotAllowed(
            "You are needed for a later stage of this, and each person decides once. Let somebody else decide now.",
            rule="decision.needed_later",
        )
