"""Rows by the hundred thousand, for looking at plans: a grown company, written past every guard, in a second.

Alice asks and has a history; she is in a group that may ask for every role there is. Bob is in several groups
that approve. Carol may ask for a few roles, Dave audits, Olivia operates. Erin asked often, and long ago. Frank may
ask for what selectors give him. Nothing is due.
"""

from dataclasses import asdict, dataclass

import psycopg
from psycopg import sql

ALICE, BOB, CAROL, DAVE, OLIVIA, ERIN = range(1, 7)


@dataclass(frozen=True)
class Crowd:
    """How many of each."""

    accounts: int = 2_000
    roles: int = 200_000
    people: int = 3_000
    groups: int = 50
    entitlements: int = 300
    selecting: int = 12  # entitlements of Frank's, three selectors each
    ended: int = 94_000
    pending: int = 2_000
    approved: int = 1_000
    active: int = 3_000
    deliveries: int = 100_000
    sign_ins: int = 50_000
    placed: int = 100_000  # by Olivia, who was alone at first: people whom she put into groups
    steps: int = 0  # events of each delivery, at most three; without them only requests and sign-ins have events

    @property
    def requests(self) -> int:
        return self.ended + self.pending + self.approved + self.active

    @property
    def events(self) -> int:
        """About."""
        return _EVENTS_OF_REQUEST * self.requests // 10 + self.sign_ins + self.steps * self.deliveries

    def bytes_on_disk(self) -> int:
        """About, with indexes, and with what sorting and the log need while it is filled."""
        return _BYTES["once"] + sum(
            number * _BYTES[name]
            for name, number in (
                ("role", self.roles),
                ("request", self.requests),
                ("event", self.events),
                ("delivery", self.deliveries),
            )
        )


# Measured with PostgreSQL 18, indexes included, and rounded up: a role with its look and who may ask for it, a
# request with its extension, decision and mail, a delivery with its session; and once the log, and what sorting takes.
_BYTES = {"once": 2 << 30, "role": 1_300, "request": 2_100, "event": 400, "delivery": 1_050}
_EVENTS_OF_REQUEST = 28  # for ten of them
# As many are made by one statement: sorting that many wide rows takes some hundred megabytes.
BATCH = 100_000


def fill(connection: psycopg.Connection, crowd: Crowd) -> None:
    """Fill an empty, migrated database. `connection` is a superuser's: triggers and foreign keys sleep meanwhile."""
    numbers = {name: sql.Literal(number) for name, number in asdict(crowd).items()}
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        for statement in _ROWS:
            for first, last in _batches(crowd, statement):
                bounds = {"first": sql.Literal(first), "last": sql.Literal(last)}
                connection.execute(sql.SQL(statement).format(**numbers, **bounds))
        for table in _TABLES:
            connection.execute(_SEQUENCE.format(name=sql.Literal(table), table=sql.Identifier(table)))
    connection.execute("VACUUM (ANALYZE)")


def look_at_roles(connection: psycopg.Connection) -> None:
    """Every role was looked at, few are bad, and none is due to be looked at again."""
    connection.execute(_LOOKED_AT)
    connection.execute("ANALYZE requests_app_preflight")


def _batches(crowd: Crowd, statement: str) -> list[tuple[int, int]]:
    """The keys of requests, or of deliveries, from and to which a statement goes that names {first} and {last}."""
    if "{first}" not in statement:
        return [(1, 1)]
    last = crowd.deliveries if "{deliveries}" in statement else crowd.requests
    return [(first, min(first + BATCH - 1, last)) for first in range(1, last + 1, BATCH)]


_PEOPLE = """
INSERT INTO requests_app_user (id, password, is_superuser, is_operator, public_id, username, email, name, time_zone,
                               source_identity, is_staff)
SELECT i, '!', false, i = 5, gen_random_uuid(), username, username || '@example.com', initcap(username), 'UTC',
       'person-' || i, i IN (4, 5)
FROM generate_series(1, {people}) i,
     LATERAL (SELECT
         coalesce((ARRAY['alice', 'bob', 'carol', 'dave', 'olivia', 'erin'])[i], 'person' || i) AS username) one
"""

_FRANK = """
INSERT INTO requests_app_user (id, password, is_superuser, public_id, username, email, name, time_zone,
                               source_identity, is_staff)
VALUES ({people} + 1, '!', false, gen_random_uuid(), 'frank', 'frank@example.com', 'Frank', 'UTC', 'frank', false)
"""

_AUDITOR = """
INSERT INTO requests_app_user_groups (user_id, group_id) SELECT 4, id FROM auth_group WHERE name = 'Auditors'
"""

_GROUPS = """
INSERT INTO requests_app_group (id, name, description) SELECT i, 'team ' || i, '' FROM generate_series(1, {groups}) i
"""

_MEMBERSHIPS = """
INSERT INTO requests_app_membership (group_id, user_id, source)
SELECT g, p, 'hand'
FROM (SELECT p, 1 + (p * step) % {groups} AS g FROM generate_series(6, {people}) p, unnest(ARRAY[1, 7, 13]) step
      UNION SELECT 1, g FROM generate_series(1, 3) g
      UNION SELECT 2, g FROM generate_series(11, 18) g
      UNION SELECT 3, 20) AS member
ORDER BY p
"""

# A root, twenty below it, ten below each of those.
_UNITS = """
INSERT INTO requests_app_organisationalunit (id, name, parent_id, path)
SELECT i, 'unit ' || i, above, CASE WHEN i = 1 THEN '/1/' WHEN above = 1 THEN '/1/' || i || '/'
                                    ELSE '/1/' || above || '/' || i || '/' END
FROM generate_series(1, 221) i,
     LATERAL (SELECT CASE WHEN i BETWEEN 2 AND 21 THEN 1 WHEN i > 21 THEN 2 + i % 20 END AS above) place
"""

_ACCOUNTS = """
INSERT INTO requests_app_account (id, partition, number, name, is_active, external_id, allows_source_identity, unit_id,
                                  environment, tags)
SELECT i, 'aws', (100000000000 + (i::bigint * 446214177) % 899999999999)::text,
       (ARRAY['payments', 'data-lake', 'web', 'identity', 'search', 'ledger', 'mobile', 'risk', 'billing', 'media',
              'warehouse', 'mail', 'fraud', 'pricing', 'loyalty', 'support', 'network', 'tools', 'hr', 'archive'])
       [1 + i % 20] || '-' || (ARRAY['prod', 'staging', 'dev', 'sandbox'])[1 + (i / 20) % 4] || '-' || i,
       true, '', true, 22 + i % 200, (ARRAY['prod', 'staging', 'dev', 'sandbox'])[1 + (i / 20) % 4],
       jsonb_build_object('team', 'team ' || i % 50)
FROM generate_series(1, {accounts}) i
"""

_ROLES = """
INSERT INTO requests_app_role (id, public_id, account_id, path, name, description, power, longest_session_seconds,
                               identity_is_access, is_active, tags)
SELECT i, gen_random_uuid(), 1 + i % {accounts}, '/elevated/',
       (ARRAY['Administrator', 'ReadOnly', 'PowerUser', 'Billing', 'DatabaseAdmin', 'NetworkOperator', 'Support',
              'Deploy', 'Observer', 'KeyCustodian', 'Backup', 'QueueOperator', 'Auditing', 'Release', 'Migration',
              'Incident', 'Analyst', 'Scaling', 'Certificates', 'Experiments'])
       [1 + (i / {accounts}) % 20] || '-' || (i / {accounts}),
       'For whoever is on call for part ' || i % 977 || ' of it',
       (ARRAY['powerful', 'read', 'change', 'change'])[1 + i % 4], 3600, false, i % 97 > 0,
       jsonb_build_object('access', CASE i % 4 WHEN 1 THEN 'read' ELSE 'change' END)
       || CASE WHEN i % 5000 = 0 THEN '{{"break-glass": "yes"}}'::jsonb ELSE '{{}}' END
FROM generate_series(1, {roles}) i
"""

_ENTITLEMENTS = """
INSERT INTO requests_app_entitlement (id, name, is_active, revision, approval, longest_seconds, session_ceiling_seconds,
                                      pending_seconds, start_within_seconds, ticket, justification_min,
                                      narrowing_statements, narrowing_policy_arns, lifted)
SELECT i, 'terms ' || i, true, 1, CASE WHEN i % 4 = 0 THEN 'automatic' ELSE 'staged' END, 43200, 3600, 86400, 28800,
       'optional', 10, '[]', '[]', '[]'
FROM generate_series(1, {entitlements}) i
"""

_SELECTING = """
INSERT INTO requests_app_entitlement (id, name, is_active, revision, approval, longest_seconds, session_ceiling_seconds,
                                      pending_seconds, start_within_seconds, ticket, justification_min,
                                      narrowing_statements, narrowing_policy_arns, lifted)
SELECT {entitlements} + i, 'selected ' || i, true, 1, 'automatic', 43200, 3600, 86400, 28800, 'optional', 10,
       '[]', '[]', '[]'
FROM generate_series(1, {selecting}) i
"""

_SELECTING_FRANK = """
INSERT INTO requests_app_entitlementuser (entitlement_id, user_id)
SELECT {entitlements} + i, {people} + 1 FROM generate_series(1, {selecting}) i
"""

# Some give much, such as reading in a whole environment, and most give little.
_SELECTORS = """
INSERT INTO requests_app_roleselector (entitlement_id, account_id, unit_id, environment, account_tag_key,
                                       account_tag_value, role_name, role_tag_key, role_tag_value)
SELECT {entitlements} + i, CASE WHEN i % 6 = 0 AND n = 0 THEN i END, CASE WHEN i % 6 = 1 AND n = 0 THEN 21 + i END,
       CASE WHEN i % 20 = 2 AND n = 0 THEN 'dev' ELSE '' END,
       CASE WHEN i % 6 = 3 AND n = 0 THEN 'team' ELSE '' END, CASE WHEN i % 6 = 3 AND n = 0 THEN 'team ' || i END,
       CASE WHEN n = 1 THEN 'Key?ustodian-' || i || '*'
            WHEN i % 6 IN (2, 4, 5) AND i % 20 <> 2 THEN 'analyst-*' || i ELSE '' END,
       CASE WHEN n = 2 THEN 'break-glass' ELSE '' END, CASE WHEN n = 2 AND i % 2 = 0 THEN 'yes' END
FROM generate_series(1, {selecting}) i, generate_series(0, 2) n
"""

_ENTITLED_GROUPS = """
INSERT INTO requests_app_entitlementgroup (entitlement_id, group_id)
SELECT e, 1 + e % {groups} FROM generate_series(1, {entitlements}) e
"""

# The first gives every role, nine give a fiftieth of all, each of the others a hundred.
_ENTITLED_ROLES = """
INSERT INTO requests_app_entitlementrole (entitlement_id, role_id)
SELECT e, 1 + (e * 7919 + k * 37) % {roles}
FROM generate_series(1, {entitlements}) e,
     generate_series(0, CASE WHEN e = 1 THEN {roles} WHEN e <= 10 THEN {roles} / 50 ELSE 100 END - 1) k
"""

_ENTITLED_PEOPLE = """
INSERT INTO requests_app_entitlementuser (entitlement_id, user_id)
SELECT e, 6 + (e * 31 + k * 7) % ({people} - 5)
FROM generate_series(7, {entitlements}, 7) e, generate_series(1, least(200, {people} / 10)) k
ON CONFLICT DO NOTHING
"""

_STAGES = """
INSERT INTO requests_app_stage (id, entitlement_id, position, quorum)
SELECT 2 * e + position, e, position, 1
FROM generate_series(1, {entitlements}) e, generate_series(1, 2) position
WHERE e % 4 > 0 AND (position = 1 OR e % 5 = 0)
"""

_STAGE_GROUPS = """
INSERT INTO requests_app_stagegroup (stage_id, group_id)
SELECT id, 1 + (entitlement_id * 3 + position * 8) % {groups} FROM requests_app_stage
"""

_STAGE_USERS = """
INSERT INTO requests_app_stageuser (stage_id, user_id)
SELECT id, 2 FROM requests_app_stage WHERE entitlement_id % 25 = 1 AND position = 1
"""

_TERMS = """
CREATE TEMPORARY TABLE terms ON COMMIT DROP AS
SELECT e.id, e.approval,
       (SELECT coalesce(jsonb_agg(stage || '{{"asks": "a team"}}' ORDER BY n), '[]')
        FROM jsonb_array_elements(requests_app_stages_for(e.id, NULL)) WITH ORDINALITY s(stage, n)) AS stages,
       ARRAY(SELECT group_id FROM requests_app_stagegroup g JOIN requests_app_stage s ON s.id = g.stage_id
             WHERE s.entitlement_id = e.id AND position = 1) AS groups,
       ARRAY(SELECT user_id FROM requests_app_stageuser u JOIN requests_app_stage s ON s.id = u.stage_id
             WHERE s.entitlement_id = e.id AND position = 1) AS users,
       to_jsonb(e) - '{{id,is_active,hours_days,hours_begin,hours_end,hours_zone}}'::text[]
       || jsonb_build_object('entitlement', e.id) AS document
FROM requests_app_entitlement e
"""

# In the order of asking: two years of ended ones, then those of today that are still open.
_REQUESTS = """
WITH numbered AS (
    SELECT i, CASE WHEN i > {ended} + {pending} + {approved} THEN 'active'
                   WHEN i > {ended} + {pending} THEN 'approved'
                   WHEN i > {ended} THEN 'pending'
                   ELSE (ARRAY['expired', 'expired', 'expired', 'expired', 'expired', 'expired', 'returned',
                               'denied', 'revoked', 'lapsed', 'withdrawn'])[1 + i % 11] END AS state
    FROM generate_series({first}::int, {last}::int) i
), placed AS (
    SELECT i, state, state IN ('active', 'expired', 'returned', 'revoked') AS began,
           -- For their hours to open, in three days.
           state = 'approved' AND i % 2 = 0 AS waits,
           CASE WHEN i % 300 = 0 THEN 1 WHEN i % 30 = 0 AND i < {ended} / 5 THEN 6
                ELSE 7 + i % ({people} - 6) END AS person,
           -- Only staged terms are waited for.
           1 + CASE WHEN state = 'pending' THEN (i * 4) % {entitlements} ELSE i % {entitlements} END AS terms,
           CASE state WHEN 'active' THEN now() - interval '2 h' - i % 240 * interval '1 min'
                      WHEN 'approved' THEN now() - i % 180 * interval '1 min' - interval '1 h'
                      WHEN 'pending' THEN now() - i % 900 * interval '1 min'
                      ELSE now() - interval '2 days' - ({ended} - i) * (interval '2 years' / {ended}) END AS asked_at
    FROM numbered
)
INSERT INTO requests_app_accessrequest (
    id, code, requester_id, beneficiary_id, role_id, entitlement_id, terms_document, justification, ticket,
    duration_seconds, start, state, asked_at, decide_by, stage, deciding_groups, deciding_users,
    escalate_at, approved_at, approved_seconds, start_by, activated_at, expires_at, ended_at, end_reason)
SELECT i, 'DP-' || upper(lpad(to_hex(i::bigint * 2654435761 % 4294967296), 8, '0')), person, person,
       1 + (terms * 7919 + i % 100 * 37) % {roles}, terms,
       document || jsonb_build_object('stages', stages) || CASE WHEN waits THEN jsonb_build_object('hours',
           jsonb_build_object('zone', 'UTC', 'days', ARRAY[extract(isodow FROM now() + interval '3 days')::int],
                              'begin', '08:00', 'end', '18:00')) ELSE '{{}}' END,
       'replay the failed settlement batch of night ' || i, 'INC-' || i,
       28800, CASE WHEN waits THEN 'at_once' ELSE 'on_demand' END, state, asked_at, asked_at + interval '1 day',
       least(1, jsonb_array_length(stages)),
       groups, users,
       CASE WHEN state = 'pending' AND i % 3 = 0 THEN now() + interval '1 day' END,
       CASE WHEN began OR state = 'approved' THEN asked_at + interval '5 min' END,
       CASE WHEN began OR state = 'approved' THEN 28800 END,
       CASE WHEN waits THEN now() + interval '3 days' WHEN began OR state = 'approved'
            THEN asked_at + interval '8 h 5 min' END,
       CASE WHEN began THEN asked_at + interval '6 min' END,
       CASE WHEN began THEN asked_at + interval '8 h 6 min' END,
       CASE WHEN state = 'expired' THEN asked_at + interval '8 h 6 min'
            WHEN i <= {ended} THEN asked_at + interval '30 min' END,
       ''
FROM placed JOIN terms ON terms.id = placed.terms
ORDER BY i
"""

_EXTENSIONS = """
INSERT INTO requests_app_extension (access_request_id, asked_by_id, seconds, justification, state, asked_at, decide_by,
                                    stage, stage_since, escalate_at, deciding_groups, deciding_users, finished_at)
SELECT id, beneficiary_id, 3600, 'it takes longer', CASE state WHEN 'active' THEN 'pending' ELSE 'lapsed' END,
       activated_at + interval '1 h', expires_at, stage, activated_at + interval '1 h',
       CASE WHEN state = 'active' AND id % 2 = 0 THEN expires_at END, deciding_groups, deciding_users,
       CASE WHEN state <> 'active' THEN expires_at END
FROM requests_app_accessrequest WHERE activated_at IS NOT NULL AND id % 5 = 0 AND stage > 0
ORDER BY id
"""

_EDITS = """
INSERT INTO requests_app_edit (editor_id, entitlement_id, change, made_at, confirmed_by_id, confirmed_at)
SELECT 6 + i % ({people} - 5), 1 + i % {entitlements}, '{{}}', now() - interval '1 day',
       6 + (i + 1) % ({people} - 5), now()
FROM generate_series(1, 5000) i
"""

# Of what Olivia did, nobody has confirmed anything.
_UNCONFIRMED = """
INSERT INTO requests_app_edit (editor_id, entitlement_id, change, made_at)
SELECT 5, 1 + i % {entitlements}, '{{}}', now() - interval '1 day' FROM generate_series(1, {placed} / 30) i
"""

_PLACED = """
INSERT INTO requests_app_edit (editor_id, group_id, member_id, change, made_at)
SELECT 5, group_id, user_id, '{{}}', now() - interval '1 day'
FROM generate_series(1, {placed}) i
JOIN (SELECT row_number() OVER (ORDER BY id) AS nth, group_id, user_id FROM requests_app_membership) AS member
     ON nth = 1 + i % (SELECT count(*) FROM requests_app_membership)
ORDER BY i
"""

_DECISIONS = """
INSERT INTO requests_app_decision (access_request_id, stage, approver_id, approver_name, verdict, comment, decided_at)
SELECT id, 1, CASE WHEN id % 50 = 0 THEN 2 ELSE 6 + (id * 7) % ({people} - 5) END, 'somebody',
       CASE state WHEN 'denied' THEN 'deny' ELSE 'approve' END, '', asked_at + interval '5 min'
FROM requests_app_accessrequest WHERE stage > 0 AND (approved_at IS NOT NULL OR state = 'denied')
ORDER BY id
"""

_EVENTS = """
INSERT INTO requests_app_auditevent (at, action, actor_id, actor_name, beneficiary_id, beneficiary_name,
                                     access_request_id, subject, channel, user_agent, detail)
SELECT at, action, actor, 'somebody', person, 'somebody', request, code, 'web', '', '{{}}'
FROM (SELECT asked_at AS at, 'request.submitted' AS action, requester_id AS actor, beneficiary_id AS person,
             id AS request, code FROM requests_app_accessrequest
      UNION ALL SELECT approved_at, 'request.granted', 2, beneficiary_id, id, code
                FROM requests_app_accessrequest WHERE approved_at IS NOT NULL
      UNION ALL SELECT ended_at, 'request.' || state, NULL, beneficiary_id, id, code
                FROM requests_app_accessrequest WHERE ended_at IS NOT NULL
      UNION ALL SELECT now() - i * interval '15 min', 'sign_in.succeeded', 1 + i % {people}, NULL, NULL, ''
                FROM generate_series(1, {sign_ins}) i) AS event
ORDER BY at
"""

# Of every pass the same number, the newest passes' last.
_PASSES = """
CREATE TEMPORARY TABLE passes ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY id) AS nth, id, code, beneficiary_id, role_id, activated_at
FROM requests_app_accessrequest WHERE activated_at IS NOT NULL
"""

_DELIVERIES = """
INSERT INTO requests_app_delivery (id, public_id, access_request_id, beneficiary_id, role_id, kind, destination,
                                   recipient_key, thumbprint, sign_in, state, asked_at, claimed_at, claimed_by,
                                   sealed_at, envelope_sha256, finished_at, message, advice, aws_code, aws_message)
SELECT i, gen_random_uuid(), id, beneficiary_id, role_id, 'credentials', '', '{{}}',
       repeat('t', 43), repeat('s', 64), 'delivered', activated_at, activated_at, 'worker', activated_at,
       repeat('0', 64), activated_at, '', '', '', ''
FROM generate_series({first}::int, {last}::int) i
JOIN passes ON nth = 1 + (i - 1)::bigint * (SELECT count(*) FROM passes) / {deliveries}
ORDER BY i
"""

# In their order, which is that of time as far as what was asked earlier ended earlier.
_STEPS = """
INSERT INTO requests_app_auditevent (at, action, actor_id, actor_name, beneficiary_id, beneficiary_name,
                                     access_request_id, subject, channel, user_agent, detail)
SELECT activated_at, (ARRAY['delivery.asked', 'session.issued', 'delivery.handed_over'])[step],
       CASE WHEN step <> 2 THEN beneficiary_id END, 'somebody', beneficiary_id, 'somebody', id, code, 'web', '', '{{}}'
FROM generate_series({first}::int, {last}::int) i
JOIN passes ON nth = 1 + (i - 1)::bigint * (SELECT count(*) FROM passes) / {deliveries},
     generate_series(1, least({steps}, 3)) step
ORDER BY i, step
"""

_SESSIONS = """
INSERT INTO requests_app_issuedsession (delivery_id, access_request_id, beneficiary_id, role_arn, session_name,
                                        source_identity, access_key_id, assumed_role_id, minted_by, thumbprint,
                                        issued_at, cut_off, sts_expires_at, discarded)
SELECT d.id, access_request_id, d.beneficiary_id, 'arn:aws:iam::222222222222:role/elevated/Administrator',
       code || '-somebody', 'person', 'ASIA' || lpad(d.id::text, 16, '0'), 'AROA:somebody', 'worker', d.thumbprint,
       d.asked_at, expires_at, d.asked_at + interval '1 h', false
FROM requests_app_delivery d JOIN requests_app_accessrequest r ON r.id = d.access_request_id
WHERE d.id BETWEEN {first} AND least({last}, {deliveries})
ORDER BY d.id
"""

_NOTICES = """
INSERT INTO requests_app_notice (kind, recipient_id, access_request_id, due_at, attempts, last_error, sent_at)
SELECT 'ended', beneficiary_id, id, ended_at, 1, '', ended_at
FROM requests_app_accessrequest WHERE ended_at IS NOT NULL
ORDER BY id
"""

_CLOCK = """
INSERT INTO requests_app_awsclock (region, low_seconds, high_seconds, measured_at, identity_arn, chained)
VALUES ('us-east-1', 0, 0, now(), 'arn:aws:sts::111111111111:assumed-role/daypass-minter/worker', true)
"""

_LOOKED_AT = """
INSERT INTO requests_app_preflight (role_id, minter_findings, minter_at, minter_due_at, revoker_findings, revoker_at,
                                    revoker_due_at, usable, verdict, harmless_action, aws_role_id, doors)
SELECT id, '[]', now(), now() + random() * interval '1 day' + interval '1 h', '[]', now(),
       now() + random() * interval '1 day' + interval '1 h', CASE WHEN id % 500 = 0 THEN 'bad' ELSE 'good' END,
       CASE WHEN id % 100 = 0 THEN 'bad' ELSE 'good' END, 'sqs:ListQueues', '', '[]'
FROM requests_app_role
"""

_ROWS = (
    *(_PEOPLE, _FRANK, _AUDITOR, _GROUPS, _MEMBERSHIPS, _UNITS, _ACCOUNTS, _ROLES),
    *(_SELECTING, _SELECTING_FRANK, _SELECTORS),
    *(_ENTITLEMENTS, _ENTITLED_GROUPS, _ENTITLED_PEOPLE, _ENTITLED_ROLES, _STAGES, _STAGE_GROUPS, _STAGE_USERS, _TERMS),
    *(
        _EDITS,
        _UNCONFIRMED,
        _PLACED,
        _REQUESTS,
        _EXTENSIONS,
        _DECISIONS,
        _EVENTS,
        _PASSES,
        _DELIVERIES,
        _STEPS,
        _SESSIONS,
        _NOTICES,
        _CLOCK,
    ),
)

# Those whose keys were given above.
_TABLES = tuple(
    f"requests_app_{name}"
    for name in (
        "user",
        "group",
        "organisationalunit",
        "account",
        "role",
        "entitlement",
        "stage",
        "accessrequest",
        "delivery",
    )
)
_SEQUENCE = sql.SQL("SELECT setval(pg_get_serial_sequence({name}, 'id'), max(id)) FROM {table}")
