"""Which open requests the sweeps ask their exact, expensive questions about: all others are surely fine.

Whether a request can still be decided, and whether its beneficiary may still have it, depends on rows that change
without it. Asked of each of ten thousand, the exact question takes seconds. Here the same relations are asked of all at
once: what is in doubt is a candidate. Nothing is decided here, and tests hold that whatever the exact questions find
is among these.
"""

from datetime import datetime
from typing import Any

from django.db import connection


def for_want_of_people(now: datetime) -> list[int]:
    """The keys of pending requests for which too few people may be left."""
    return _keys(_WANT_PEOPLE.format(waiting=_REQUESTS), now)


def for_want_of_people_for_more(now: datetime) -> list[int]:
    """The keys of pending extensions of which the same may be said."""
    return _keys(_WANT_PEOPLE.format(waiting=_EXTENSIONS), now)


def of_no_use(now: datetime) -> list[int]:
    """The keys of open requests whose beneficiary may not have it any more, perhaps."""
    return _keys(_OF_NO_USE, now)


def _keys(sql: str, now: datetime) -> list[int]:
    values: dict[str, Any] = {"now": now}
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return [key for (key,) in cursor.fetchall()]


_REQUESTS = """
    SELECT r.id, r.stage, r.requester_id, r.beneficiary_id, r.terms_document->'stages' AS stages
    FROM requests_app_accessrequest r
    WHERE r.state = 'pending' AND r.stage > 0 AND r.decide_by > %(now)s
"""

_EXTENSIONS = """
    SELECT x.id, x.stage, r.requester_id, r.beneficiary_id, r.terms_document->'stages' AS stages
    FROM requests_app_extension x JOIN requests_app_accessrequest r ON r.id = x.access_request_id
    WHERE x.state = 'pending' AND x.stage > 0 AND x.decide_by > %(now)s
"""

# People are to spare where each stage asks more than all stages need and the two of the asking side, of whom nothing
# keeps any from deciding, whatever they are asked about and whoever has agreed: they have no edit that nobody has
# confirmed, nobody placed them, and of those who ask for anything none had a hand in their membership. Further people
# do not count: it may be too late for them. Alike terms are asked about once, and a group is read no further than is
# needed.
_WANT_PEOPLE = """
WITH waiting AS MATERIALIZED ({waiting}),
hands AS MATERIALIZED (
    SELECT coalesce(array_agg(asking.id), '{{}}') AS of_those_who_ask
    FROM (
        SELECT DISTINCT unnest(ARRAY[pair.requester_id, pair.beneficiary_id]) AS id
        FROM (SELECT DISTINCT requester_id, beneficiary_id FROM waiting) AS pair
    ) AS asking
    WHERE EXISTS (
        SELECT FROM requests_app_edit e WHERE e.editor_id = asking.id AND e.confirmed_at IS NULL OFFSET 0
    )
),
terms AS MATERIALIZED (
    SELECT stages, (SELECT sum((s.stage->>'quorum')::int) + 2 FROM jsonb_array_elements(stages) AS s (stage)) AS enough
    FROM (SELECT DISTINCT stages FROM waiting) AS alike
),
scarce AS (
    SELECT terms.stages, max(s.n) AS up_to
    FROM hands, terms, jsonb_array_elements(terms.stages) WITH ORDINALITY AS s (stage, n)
    WHERE enough IS NULL OR enough > (
        SELECT count(DISTINCT able.person_id)
        FROM (
            SELECT d.person_id FROM requests_app_deciders(s.stage, hands.of_those_who_ask, NULL, NULL) d
            WHERE NOT d.further AND NOT EXISTS (
                SELECT FROM requests_app_edit e WHERE e.editor_id = d.person_id AND e.confirmed_at IS NULL OFFSET 0
            ) AND NOT EXISTS (
                SELECT FROM requests_app_edit e WHERE e.person_id = d.person_id AND e.confirmed_at IS NULL OFFSET 0
            )
            -- Somebody may be asked by name and with each of three groups.
            LIMIT 4 * enough
        ) AS able
    )
    GROUP BY terms.stages
)
SELECT waiting.id FROM waiting JOIN scarce USING (stages) WHERE waiting.stage <= scarce.up_to
"""

# Surely fine: `requests_app_standing`, asked of many at once. What mostly holds is a join: the role is given by name,
# the person is named themselves. What mostly does not is looked for among the few of which it is so. The rest is looked
# up by its index: without OFFSET, the database may read all there are of them once, and of all people there are many.
_OF_NO_USE = """
SELECT r.id
FROM requests_app_accessrequest r
LEFT JOIN requests_app_entitlementuser themselves
    ON themselves.entitlement_id = r.entitlement_id AND themselves.user_id = r.beneficiary_id
LEFT JOIN requests_app_entitlementrole by_name
    ON by_name.entitlement_id = r.entitlement_id AND by_name.role_id = r.role_id
WHERE (r.state = 'pending' AND r.decide_by > %(now)s OR r.state = 'approved' AND r.start_by > %(now)s
       OR r.state = 'active' AND r.expires_at > %(now)s)
  AND NOT (
    NOT EXISTS (SELECT FROM requests_app_entitlement t WHERE t.id = r.entitlement_id AND NOT t.is_active)
    AND NOT EXISTS (SELECT FROM requests_app_user u WHERE u.id = r.beneficiary_id AND u.deactivated_at IS NOT NULL)
    AND NOT EXISTS (SELECT FROM requests_app_role o WHERE o.id = r.role_id AND NOT o.is_active)
    AND NOT EXISTS (
        SELECT FROM requests_app_role o JOIN requests_app_account a ON a.id = o.account_id
        WHERE o.id = r.role_id AND NOT a.is_active
    )
    AND NOT (
        r.beneficiary_id IN (
            SELECT e.editor_id FROM requests_app_edit e WHERE e.member_id IS NULL AND e.confirmed_at IS NULL
        )
        AND EXISTS (
            SELECT FROM requests_app_editors(r.entitlement_id, r.role_id) e
            WHERE e.person_id = r.beneficiary_id OFFSET 0
        )
    )
    AND (themselves.id IS NOT NULL OR EXISTS (
        SELECT FROM requests_app_named_person n
        WHERE n.entitlement_id = r.entitlement_id AND n.person_id = r.beneficiary_id OFFSET 0
    ))
    AND NOT (
        r.entitlement_id IN (
            SELECT x.entitlement_id FROM requests_app_excludeduser x
            UNION SELECT x.entitlement_id FROM requests_app_excludedgroup x
        )
        AND EXISTS (
            SELECT FROM requests_app_excluded_person x
            WHERE x.entitlement_id = r.entitlement_id AND x.person_id = r.beneficiary_id OFFSET 0
        )
    )
    AND (by_name.id IS NOT NULL OR EXISTS (
        SELECT FROM requests_app_given_role g
        WHERE g.entitlement_id = r.entitlement_id AND g.role_id = r.role_id OFFSET 0
    ))
  )
"""
