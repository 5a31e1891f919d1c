"""Of whom a second factor is demanded (SECOND_FACTOR_FOR, SECOND_FACTOR_GROUPS), and until when they may go without."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from requests_app.domain import clock
from requests_app.domain.models import User
from requests_app.domain.prepared import Question

NOBODY, OPERATORS_AND_APPROVERS, EVERYBODY = "nobody", "operators-and-approvers", "everybody"


@dataclass(frozen=True, slots=True)
class Demand:
    """`is_first`: an operator, where no operator has a factor; a lock would shut a fresh installation for all."""

    is_concerned: bool
    has_factor: bool
    is_first: bool
    since: datetime
    now: datetime

    @property
    def until(self) -> datetime:
        return self.since + timedelta(days=settings.SECOND_FACTOR_GRACE_DAYS)

    @property
    def is_over(self) -> bool:
        """Whether whoever signed in without a factor may do nothing but set one up, or use the one they have."""
        return self.is_concerned and (self.has_factor or (self.now >= self.until and not self.is_first))


@dataclass(frozen=True, slots=True)
class Lacking:
    """How far it is met: of operators, and of the groups that the setting names."""

    operators: int
    without: int
    unknown_groups: list[str]


def is_any() -> bool:
    return settings.SECOND_FACTOR_FOR != NOBODY or bool(settings.SECOND_FACTOR_GROUPS)


def of(person: User) -> Demand:
    """One statement, which begins their period of grace at the first time that it finds them concerned."""
    return _DEMAND.one(
        person=person.pk,
        everybody=settings.SECOND_FACTOR_FOR == EVERYBODY,
        deciders=settings.SECOND_FACTOR_FOR == OPERATORS_AND_APPROVERS,
        groups=list(settings.SECOND_FACTOR_GROUPS),
        shift=clock.shift().total_seconds(),
    )


def lacking() -> Lacking:
    return _LACKING.one(groups=list(settings.SECOND_FACTOR_GROUPS))


# Whoever is asked by any stage of an entitlement in use: by name, in a group, as a further one, or as an owner (of
# whatever account or role it may be). It begins at the person, so that it costs as much as they have groups.
_DEMAND = Question(
    "factor_demand.of",
    """
WITH mine AS (
    SELECT u.id, u.is_operator,
           %(everybody)s::boolean
           OR %(deciders)s::boolean AND (
               u.is_operator
               OR EXISTS (
                   SELECT FROM (
                       SELECT x.stage_id FROM requests_app_stageuser x WHERE x.user_id = u.id
                       UNION ALL
                       SELECT x.stage_id FROM requests_app_stagemoreuser x WHERE x.user_id = u.id
                       UNION ALL
                       SELECT x.stage_id FROM requests_app_membership g
                       JOIN requests_app_stagegroup x ON x.group_id = g.group_id WHERE g.user_id = u.id
                       UNION ALL
                       SELECT x.stage_id FROM requests_app_membership g
                       JOIN requests_app_stagemoregroup x ON x.group_id = g.group_id WHERE g.user_id = u.id
                   ) asked
                   JOIN requests_app_stage s ON s.id = asked.stage_id
                   JOIN requests_app_entitlement e ON e.id = s.entitlement_id
                   WHERE e.is_active AND e.approval = 'staged')
               OR EXISTS (
                   SELECT FROM (
                       SELECT false AS is_of_role FROM requests_app_membership g
                       JOIN requests_app_account a ON a.owners_id = g.group_id WHERE g.user_id = u.id
                       UNION ALL
                       SELECT true FROM requests_app_membership g
                       JOIN requests_app_role r ON r.owners_id = g.group_id WHERE g.user_id = u.id
                   ) owned
                   JOIN requests_app_stage s ON s.owners = 'role' OR s.owners = 'account' AND NOT owned.is_of_role
                   JOIN requests_app_entitlement e ON e.id = s.entitlement_id
                   WHERE e.is_active AND e.approval = 'staged'))
           OR EXISTS (
               SELECT FROM requests_app_membership m JOIN requests_app_group n ON n.id = m.group_id
               WHERE m.user_id = u.id AND n.name = ANY(%(groups)s::text[]))
           AS is_concerned,
           clock_timestamp() + make_interval(secs => %(shift)s::float8) AS now
    FROM requests_app_user u WHERE u.id = %(person)s::bigint
), begun AS (
    INSERT INTO requests_app_factordemand (person_id, since)
    SELECT m.id, m.now FROM mine m
    WHERE m.is_concerned AND NOT EXISTS (SELECT FROM requests_app_factordemand d WHERE d.person_id = m.id)
    ON CONFLICT DO NOTHING
)
SELECT m.is_concerned,
       EXISTS (SELECT FROM mfa_authenticator a WHERE a.user_id = m.id AND a.type <> 'recovery_codes') AS has_factor,
       m.is_operator AND NOT EXISTS (
           SELECT FROM requests_app_user o JOIN mfa_authenticator a ON a.user_id = o.id
           WHERE o.is_operator AND o.deactivated_at IS NULL AND a.type <> 'recovery_codes') AS is_first,
       coalesce((SELECT d.since FROM requests_app_factordemand d WHERE d.person_id = m.id), m.now) AS since,
       m.now
FROM mine m
""",
    Demand,
)
_LACKING = Question(
    "factor_demand.lacking",
    """
SELECT count(*)::int AS operators,
       (count(*) FILTER (WHERE NOT EXISTS (
           SELECT FROM mfa_authenticator a WHERE a.user_id = u.id AND a.type <> 'recovery_codes')))::int AS without,
       ARRAY(SELECT n FROM unnest(%(groups)s::text[]) n
             WHERE NOT EXISTS (SELECT FROM requests_app_group g WHERE g.name = n))::text[] AS unknown_groups
FROM requests_app_user u WHERE u.is_operator AND u.deactivated_at IS NULL
""",
    Lacking,
)
