"""Which open requests the sweeps ask their exact, expensive questions about: all others are surely fine.

Whether a request can still be decided, and whether its beneficiary may still have it, depends on rows that change
without it. Asked of each of ten thousand, the exact question takes seconds. Asked of all at once it is coarse and takes
a moment: with people to spare, or named and with nothing unconfirmed about them. What is in doubt is a candidate.
Nothing is decided here, and tests hold that whatever the exact questions find is among these.
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

# People are to spare where a stage asks more than all stages need, the asking side apart, of whom nothing keeps any
# from deciding, whatever they are asked about. Further people do not count: it may be too late for them.
_WANT_PEOPLE = """
WITH waiting AS MATERIALIZED ({waiting}),
asking AS MATERIALIZED (
    SELECT requester_id AS id FROM waiting UNION SELECT beneficiary_id FROM waiting
),
placers AS MATERIALIZED (
    SELECT DISTINCT e.editor_id AS id FROM requests_app_edit e JOIN asking ON asking.id = e.member_id
    WHERE e.confirmed_at IS NULL
),
terms AS MATERIALIZED (
    SELECT stages, (SELECT sum((s.stage->>'quorum')::int) + 2 FROM jsonb_array_elements(stages) AS s(stage)) AS enough
    FROM (SELECT DISTINCT stages FROM waiting) AS alike
),
scarce AS (
    SELECT terms.stages, max(s.n) AS up_to
    FROM terms, jsonb_array_elements(terms.stages) WITH ORDINALITY AS s(stage, n)
    WHERE enough IS NULL OR enough > (
        SELECT count(DISTINCT able.id)
        FROM (SELECT member.id
              FROM jsonb_array_elements_text(s.stage->'groups') AS g(id),
                   LATERAL (SELECT DISTINCT m.user_id AS id
                            FROM requests_app_membership m JOIN requests_app_user u ON u.id = m.user_id
                            WHERE m.group_id = g.id::bigint AND u.deactivated_at IS NULL
                              AND m.user_id NOT IN (SELECT id FROM placers)
                              AND NOT EXISTS (SELECT FROM requests_app_edit e
                                              WHERE e.editor_id = m.user_id AND e.member_id IS NULL
                                                AND e.confirmed_at IS NULL)
                              AND NOT EXISTS (SELECT FROM requests_app_edit e
                                              WHERE e.member_id = m.user_id AND e.group_id = m.group_id
                                                AND e.confirmed_at IS NULL
                                                AND (e.editor_id = m.user_id
                                                     OR e.editor_id IN (SELECT id FROM asking)))
                            LIMIT enough) AS member
              UNION ALL
              SELECT u.id
              FROM jsonb_array_elements_text(s.stage->'users') AS named(id)
              JOIN requests_app_user u ON u.id = named.id::bigint
              WHERE u.deactivated_at IS NULL AND u.id NOT IN (SELECT id FROM placers)
                AND NOT EXISTS (SELECT FROM requests_app_edit e
                                WHERE e.editor_id = u.id AND e.member_id IS NULL
                                  AND e.confirmed_at IS NULL)) AS able)
    GROUP BY terms.stages
)
SELECT waiting.id FROM waiting JOIN scarce USING (stages) WHERE waiting.stage <= scarce.up_to
"""

# Surely fine: the role is given by its name or a selector, the person is named or in a group that is, not by their own
# doing, nothing excludes them, and they changed no rule that nobody has confirmed. Each is looked up by its index:
# without OFFSET, the database may read all there are of them once, and of all people there are many.
_OF_NO_USE = """
SELECT r.id
FROM requests_app_accessrequest r
JOIN requests_app_entitlement t ON t.id = r.entitlement_id
JOIN requests_app_user u ON u.id = r.beneficiary_id
JOIN requests_app_role o ON o.id = r.role_id
JOIN requests_app_account a ON a.id = o.account_id
WHERE (r.state = 'pending' AND r.decide_by > %(now)s OR r.state = 'approved' AND r.start_by > %(now)s
       OR r.state = 'active' AND r.expires_at > %(now)s)
  AND NOT (
    t.is_active AND u.deactivated_at IS NULL AND o.is_active AND a.is_active
    AND NOT EXISTS (SELECT FROM requests_app_edit e
                    WHERE e.editor_id = r.beneficiary_id AND e.member_id IS NULL AND e.confirmed_at IS NULL
                    OFFSET 0)
    AND NOT EXISTS (SELECT FROM requests_app_excludeduser x
                    WHERE x.entitlement_id = r.entitlement_id AND x.user_id = r.beneficiary_id
                    OFFSET 0)
    AND NOT EXISTS (SELECT FROM requests_app_excludedgroup x
                    WHERE x.entitlement_id = r.entitlement_id
                      AND (EXISTS (SELECT FROM requests_app_membership m
                                   WHERE m.group_id = x.group_id AND m.user_id = r.beneficiary_id)
                           OR EXISTS (SELECT FROM requests_app_edit e
                                      WHERE e.member_id = r.beneficiary_id AND e.group_id = x.group_id
                                        AND e.confirmed_at IS NULL))
                    OFFSET 0)
    AND (EXISTS (SELECT FROM requests_app_entitlementuser n
                 WHERE n.entitlement_id = r.entitlement_id AND n.user_id = r.beneficiary_id OFFSET 0)
         OR EXISTS (SELECT FROM requests_app_entitlementgroup n
                    JOIN requests_app_membership m ON m.group_id = n.group_id
                    WHERE n.entitlement_id = r.entitlement_id AND m.user_id = r.beneficiary_id
                      AND NOT EXISTS (SELECT FROM requests_app_edit e
                                      WHERE e.member_id = m.user_id AND e.group_id = m.group_id
                                        AND e.editor_id = m.user_id AND e.confirmed_at IS NULL)
                    OFFSET 0))
    AND (EXISTS (SELECT FROM requests_app_entitlementrole n
                 WHERE n.entitlement_id = r.entitlement_id AND n.role_id = r.role_id OFFSET 0)
         OR requests_app_gives(r.entitlement_id, r.role_id)))
"""
