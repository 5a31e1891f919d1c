"""The facts that `policy` decides on: for each question one statement. Reads; decides nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from requests_app.domain import clock as clock_
from requests_app.domain import deciders, policy
from requests_app.domain.models import AccessRequest, AwsClock, Entitlement, Role, User
from requests_app.domain.prepared import Question
from requests_app.domain.terms import StageTerms, Terms
from requests_app.domain.transitions import State, due

_STANDING = ", ".join(f"s.{field.name}" for field in fields(policy.Standing))
# Of a request and whoever wants something of it.
_HOLDING = f"""{_STANDING},
    r.beneficiary_id = %(by)s::bigint AS is_beneficiary, r.state, r.expires_at,
    clock_timestamp() + %(shift)s::interval AS now"""
_OF_REQUEST = """requests_app_accessrequest r
    CROSS JOIN LATERAL requests_app_stands(r.entitlement_id, r.beneficiary_id, r.role_id) s"""

_STANDING_OF = Question(
    "facts.standing",
    f"""
SELECT {_STANDING}
FROM requests_app_stands(%(entitlement)s::bigint, %(person)s::bigint, %(role)s::bigint) s
""",  # noqa: S608 - texts of ours only
    policy.Standing,
)

_ASKING = Question(
    "facts.asking",
    f"""
SELECT {_STANDING},
    'arn:' || a.partition || ':iam::' || a.number || ':role' || o.path || o.name AS role_arn,
    e.approval,
    k.asker_id = k.person_id OR b.person_is_active AS asker_is_active,
    k.asker_id <> k.person_id AND b.has_own_edit AS asker_has_own_edit,
    k.asker_id <> k.person_id AND k.placed_person AS asker_placed_person,
    k.asker_id = k.person_id OR k.is_named AS asker_is_named
FROM requests_app_stands(%(entitlement)s::bigint, %(person)s::bigint, %(role)s::bigint) s
    CROSS JOIN LATERAL requests_app_stands(s.entitlement_id, %(by)s::bigint, s.role_id) b
    JOIN requests_app_entitlement e ON e.id = s.entitlement_id
    JOIN requests_app_role o ON o.id = s.role_id
    JOIN requests_app_account a ON a.id = o.account_id
    JOIN requests_app_asker k
        ON k.entitlement_id = s.entitlement_id AND k.person_id = s.person_id AND k.asker_id = b.person_id
""",  # noqa: S608 - texts of ours only
    policy.Asking,
)


@dataclass(frozen=True, slots=True)
class MintableRequest(policy.Minting):
    """A request with all that a delivery needs of it and of what belongs to it. `role` and the like are keys."""

    access_request: int
    code: str
    terms_document: dict[str, Any]
    decide_by: datetime
    start_by: datetime | None
    beneficiary: int
    beneficiary_name: str
    username: str
    source_identity: str
    role: int
    role_name: str
    role_arn: str
    role_max_seconds: int
    account_number: str
    partition: str
    external_id: str
    allows_source_identity: bool
    region: str | None
    chained: bool | None

    @property
    def terms(self) -> Terms:
        return Terms.from_document(self.terms_document)

    def due(self) -> State | None:
        """The state in which it should be by the clock, if that is another one."""
        return due(self.state, self.now, decide_by=self.decide_by, start_by=self.start_by, expires_at=self.expires_at)


@dataclass(frozen=True, slots=True)
class NewDelivery(MintableRequest):
    """`asked_by_person`, `asked_of_role`: how often credentials were asked for in the last minute."""

    asked_by_person: int
    asked_of_role: int


@dataclass(frozen=True, slots=True)
class LockedDelivery(MintableRequest):
    """With the delivery."""

    ticket: str
    delivery: int
    public_id: UUID
    kind: str
    destination: str
    recipient_key: Any
    thumbprint: str
    sign_in: str
    delivery_state: str
    asked_at: datetime
    sealed_at: datetime | None
    envelope_sha256: str
    message: str


_MINTABLE = f"""{_HOLDING},
    o.identity_is_access, h.held_until, p.time_zone,
    c.low_seconds AS clock_low, c.high_seconds AS clock_high, c.measured_at AS clock_measured_at,
    r.terms_document->'hours' AS hours_document, coalesce(r.terms_document->>'channels', 'both') AS channels,
    %(console)s::boolean AS console, coalesce(f.scoping, '') AS scoping, c.scoped_console,
    coalesce((r.terms_document->>'ends_by_sts_only')::boolean, false) AS ends_by_sts_only,
    a.console_authorization, coalesce(r.terms_document->'lifted', '[]') AS lifted,
    r.id AS access_request, r.code, r.terms_document, r.decide_by, r.start_by,
    r.beneficiary_id AS beneficiary, coalesce(nullif(p.name, ''), p.username) AS beneficiary_name, p.username,
    p.source_identity,
    r.role_id AS role, o.name AS role_name,
    'arn:' || a.partition || ':iam::' || a.number || ':role' || o.path || o.name AS role_arn,
    o.longest_session_seconds AS role_max_seconds,
    a.number AS account_number, a.partition, a.external_id, a.allows_source_identity,
    c.region, c.chained"""
_OF_MINTABLE = f"""{_OF_REQUEST}
    JOIN requests_app_role o ON o.id = r.role_id
    JOIN requests_app_account a ON a.id = o.account_id
    JOIN requests_app_user p ON p.id = r.beneficiary_id
    LEFT JOIN requests_app_denypolicy h ON h.role_id = r.role_id
    LEFT JOIN requests_app_preflight f ON f.role_id = r.role_id
    LEFT JOIN requests_app_awsclock c ON c.region = %(regions)s::jsonb->>a.partition"""
# As a value of its own, or no index would be used for it.
_A_MINUTE_AGO = "(SELECT clock_timestamp() + %(shift)s::interval - interval '1 minute')"

_NEW_DELIVERY = Question(
    "facts.new_delivery",
    f"""
SELECT {_MINTABLE},
    (
        SELECT count(*) FROM requests_app_delivery l
        WHERE l.beneficiary_id = %(by)s::bigint AND l.asked_at > {_A_MINUTE_AGO}
    ) AS asked_by_person,
    (
        SELECT count(*) FROM requests_app_delivery l WHERE l.role_id = r.role_id AND l.asked_at > {_A_MINUTE_AGO}
    ) AS asked_of_role
FROM {_OF_MINTABLE}
WHERE r.id = %(access_request)s::bigint
""",  # noqa: S608 - texts of ours only
    NewDelivery,
)

_LOCKED_DELIVERY = Question(
    "facts.locked_delivery",
    f"""
SELECT {_MINTABLE.replace("%(by)s::bigint", "d.beneficiary_id").replace("%(console)s::boolean", "d.kind = 'console'")},
    r.ticket,
    d.id AS delivery, d.public_id, d.kind, d.destination, d.recipient_key, d.thumbprint, d.sign_in,
    d.state AS delivery_state, d.asked_at, d.sealed_at, d.envelope_sha256, d.message
FROM {_OF_MINTABLE}
    JOIN requests_app_delivery d ON d.access_request_id = r.id
WHERE d.id = %(delivery)s::bigint
""",  # noqa: S608 - texts of ours only
    LockedDelivery,
)

_EXTENDED = Question(
    "facts.extended",
    f"""
SELECT {_HOLDING},
    coalesce(r.approved_seconds, r.offered_seconds, r.duration_seconds) + x.seconds AS lasts,
    x.granted, x.in_vain, x.is_pending
FROM {_OF_REQUEST}
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(x.seconds) FILTER (WHERE x.state = 'granted'), 0)::int AS seconds,
            count(*) FILTER (WHERE x.state = 'granted') AS granted,
            count(*) FILTER (WHERE x.state NOT IN ('granted', 'pending')) AS in_vain,
            count(*) FILTER (WHERE x.state = 'pending') > 0 AS is_pending
        FROM requests_app_extension x
        WHERE x.access_request_id = r.id
    ) x
WHERE r.id = %(access_request)s::bigint
""",  # noqa: S608 - texts of ours only
    policy.Extended,
)


def standing(access_request: AccessRequest) -> policy.Standing:
    """How the beneficiary stands now to what they asked for. What these three are never changes."""
    return standing_of(access_request.entitlement_id, access_request.beneficiary_id, access_request.role_id)


def standing_of(entitlement: int, person: int, role: int) -> policy.Standing:
    return _STANDING_OF.one(entitlement=entitlement, person=person, role=role)


def asking(entitlement: Entitlement, role: Role, *, by: User, beneficiary: User) -> policy.Asking:
    """How these two stand to it; what is asked for besides, whoever asks that knows."""
    return _ASKING.one(entitlement=entitlement.pk, role=role.pk, person=beneficiary.pk, by=by.pk)


def new_delivery(access_request: int, *, by: int, console: bool, regions: dict[str, str]) -> NewDelivery:
    """For whoever asks for credentials of a request, after its lock. `regions`: by partition, where STS is asked."""
    return _NEW_DELIVERY.one(
        access_request=access_request, by=by, console=console, regions=regions, shift=clock_.shift()
    )


def locked_delivery(delivery: int, *, regions: dict[str, str]) -> LockedDelivery:
    """For the next step of a delivery, after its lock."""
    return _LOCKED_DELIVERY.one(delivery=delivery, regions=regions, shift=clock_.shift())


def more_time(
    access_request: AccessRequest, *, by: User, seconds: int, most_in_vain: int, enough: tuple[bool, ...]
) -> policy.MoreTime:
    """`enough`: for each stage that decides on more time, whether enough people could."""
    known = _EXTENDED.one(access_request=access_request.pk, by=by.pk, shift=clock_.shift())
    return policy.MoreTime(
        **{field.name: getattr(known, field.name) for field in fields(known)},
        terms=access_request.terms,
        wanted=seconds,
        most_in_vain=most_in_vain,
        stages_with_enough_people=enough,
    )


def stages_with_enough_people(
    stages: Sequence[StageTerms], *, asking: Iterable[int], seconds: float, entitlement: int, role: int
) -> tuple[bool, ...]:
    """For each of these whether enough people could decide it. `asking`: requester and beneficiary, who could not.
    `seconds`: how long others have for that.
    """
    left = [deciders.Left(stages, asking, seconds, entitlement=entitlement, role=role)] if stages else []
    too_few = {position for positions in deciders.lacking(left) for position in positions}
    return tuple(stage.position not in too_few for stage in stages)


def may_use(access_request: AccessRequest, channel: str) -> policy.Verdict:
    """Whether a pass gives this channel: `console` or `keys`."""
    terms = access_request.terms
    closed = policy.console_is_closed(access_request.role.account.console_authorization, terms.lifted)
    return policy.may_use(terms.channels, channel, console_is_closed=closed)


def of(access_request: AccessRequest) -> policy.Pass:
    """What is known of a request, its extensions apart."""
    return policy.Pass(
        state=access_request.state,  # type: ignore[arg-type]
        requester=access_request.requester_id,
        beneficiary=access_request.beneficiary_id,
        stage=access_request.stage,
        expires_at=access_request.expires_at,
        scheduled_at=access_request.scheduled_at,
    )


def clock(region: str) -> policy.Clock | None:
    row = AwsClock.objects.filter(region=region).first()
    return policy.Clock(row.low_seconds, row.high_seconds, row.measured_at) if row else None
