"""What must always be true of the rows, as questions to the database that find what is not.

Each question is one statement, so it sees each change with its audit event and its mail, or neither. All of them only
read, and may be asked of a busy production at any time: open rows are found by their own small indexes, and of what is
over only the newest are looked at, unless all are asked for. A question that takes too long is given up and says so.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import Max

from requests_app.domain import notices, policy
from requests_app.domain.models import AccessRequest, AuditEvent, Decision, Delivery, IssuedSession, Notice
from requests_app.domain.workflow import deliveries

# The sweeps run every few seconds; what is this late was forgotten.
LAG = timedelta(minutes=1)
# So many of the newest rows of each table, unless all are asked for.
NEWEST = 20_000
MOST_EXAMPLES = 20
MOST_COUNTED = 10_000
LONGEST_SECONDS = 10
# One call to AWS may hold a role's policy for this long, and a mail server a batch of mail.
AWS_TAKES = timedelta(minutes=1)
MAIL_TAKES = timedelta(minutes=10)
# As the guards allow: what the clock may have been set back since.
CLOCK_MAY_STEP_BACK = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that some rows break: what an operator reads, what to do, how many, and some of them."""

    rule: str
    sentence: str
    advice: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rule}: {self.sentence} ({self.count}: {', '.join(self.examples)})"


@dataclass(frozen=True, slots=True)
class Rule:
    """`sql` selects one text for each row that breaks it: a request's code, or a role's name."""

    name: str
    sentence: str
    advice: str
    sql: str


def broken(now: datetime, *, lag: timedelta = LAG, newest: int | None = NEWEST) -> list[Broken]:
    """Every rule that does not hold; empty when all is well.

    `now` is the database's time. What is less than `lag` late may still be on its way. `newest` is how many of the
    newest rows of each table are looked at; None for all there ever were, which may take minutes.
    """
    values = _values(now, lag, newest)
    return [found for rule in RULES if (found := _look(rule, values, patient=newest is None))]


def _look(rule: Rule, values: dict[str, Any], *, patient: bool) -> Broken | None:
    seconds = 600 if patient else LONGEST_SECONDS
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{seconds}s"])
            cursor.execute(_FEW.format(rule.sql), values)
            count, examples = cursor.fetchone()
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
    except OperationalError as error:
        if "statement timeout" not in str(error):
            raise
        unknown = f"Not known, for the database did not answer within {seconds} s: {rule.sentence}"
        return Broken(rule.name, unknown, "Ask again at a quiet hour.", 0, ())
    return Broken(rule.name, rule.sentence, rule.advice, count, tuple(map(str, examples))) if count else None


_FEW = """
SELECT count(*), (array_agg(code))[:%(most_examples)s]
FROM (SELECT code FROM ({}) AS found(code) LIMIT %(most_counted)s) AS few
"""


def _values(now: datetime, lag: timedelta, newest: int | None) -> dict[str, Any]:
    late = now - lag
    return {
        "most_examples": MOST_EXAMPLES,
        "most_counted": MOST_COUNTED,
        "now": now,
        "soon": now + CLOCK_MAY_STEP_BACK,
        "step": CLOCK_MAY_STEP_BACK,
        "late": late,
        "late_at_aws": late - AWS_TAKES,
        "late_mail": late - MAIL_TAKES,
        "unclaimed": late - deliveries.CLAIMED_WITHIN,
        "unheard": late - deliveries.HEARD_OF_WITHIN,
        "untaken": late - deliveries.TAKEN_WITHIN,
        "offset": timedelta(seconds=policy.LARGEST_OFFSET_SECONDS),
        # The longest gaps there are: between tries to write a deny policy, between looks at it, between tries to send.
        "next_try": now + timedelta(minutes=5) + lag,
        "next_look": now + timedelta(minutes=15) + lag,
        "next_mail": now + timedelta(minutes=64) + MAIL_TAKES,
        "attempts": notices.MOST_ATTEMPTS + 1,
        **{
            name: (model.objects.aggregate(last=Max("pk"))["last"] or 0) - newest * share if newest is not None else 0
            for name, model, share in (
                ("requests", AccessRequest, 1),
                ("decisions", Decision, 1),
                ("deliveries", Delivery, 1),
                ("sessions", IssuedSession, 1),
                ("notices", Notice, 2),
                ("events", AuditEvent, 5),
            )
        },
    }


TELL_THE_DEVELOPERS = "Nothing in Daypass does this. Look who wrote to the database, and keep a copy of it."
LOOK_AT_THE_WORKERS = "Look whether beat and the worker `default` run and reach PostgreSQL and Redis."

RULES = (
    Rule(
        "request.overdue",
        "Requests still stand as open though their time is up. (Nobody can use them: the clock is asked everywhere.)",
        LOOK_AT_THE_WORKERS,
        """
        SELECT code FROM requests_app_accessrequest WHERE state = 'active' AND expires_at <= %(late)s
        UNION ALL
        SELECT code FROM requests_app_accessrequest WHERE state = 'approved' AND start_by <= %(late)s
        UNION ALL
        SELECT code FROM requests_app_accessrequest WHERE state = 'pending' AND decide_by <= %(late)s
        """,
    ),
    Rule(
        "request.not_started",
        "Requests that were to start by themselves, at once or at their time, were approved and did not start.",
        LOOK_AT_THE_WORKERS,
        """
        SELECT code FROM requests_app_accessrequest r
        WHERE state = 'approved' AND approved_at <= %(late)s AND start_by > %(now)s
          AND (start = 'at_once' OR start = 'at_time' AND scheduled_at <= %(late)s)
          -- Outside the hours of its terms it waits, and where the person may not have it any more.
          AND coalesce(terms_document->'hours', 'null') = 'null'
          AND requests_app_holds(entitlement_id, beneficiary_id, role_id)
          AND NOT EXISTS (
              SELECT FROM requests_app_freeze f JOIN requests_app_role o ON o.id = r.role_id
              LEFT JOIN requests_app_role held ON held.id = f.role_id
              WHERE (f.lifted_at IS NULL OR f.lifted_at > %(late)s)
                AND (held.account_id = o.account_id AND lower(held.name) = lower(o.name) OR f.account_id = o.account_id
                     OR f.role_id IS NULL AND f.account_id IS NULL))
        """,
    ),
    Rule(
        "request.of_deactivated",
        "People who were deactivated still have a pass. (They get no credentials with it.)",
        LOOK_AT_THE_WORKERS,
        """
        SELECT code FROM (
            SELECT code, beneficiary_id FROM requests_app_accessrequest WHERE state = 'active'
            UNION ALL
            SELECT code, beneficiary_id FROM requests_app_accessrequest WHERE state = 'approved'
        ) AS open JOIN requests_app_user u ON u.id = beneficiary_id
        WHERE u.deactivated_at <= %(late)s
        """,
    ),
    Rule(
        "person.address",
        "People were left without an address when it turned out that another has the same, spelled otherwise.",
        "Enter each one's own address in the admin under People, or deactivate whoever is there twice.",
        """
        SELECT username FROM requests_app_user WHERE email LIKE '%%@duplicate.invalid' AND deactivated_at IS NULL
        """,
    ),
    Rule(
        "request.times",
        "Requests have times that do not fit together: approved, begun or ended too late, too long, or in the future.",
        TELL_THE_DEVELOPERS,
        """
        SELECT code FROM requests_app_accessrequest r
        WHERE id > %(requests)s AND (
            approved_at NOT BETWEEN asked_at AND decide_by
            OR approved_seconds > coalesce(offered_seconds, duration_seconds) OR offered_seconds > duration_seconds
            OR activated_at NOT BETWEEN approved_at AND start_by OR activated_at > %(soon)s
            OR activated_at < scheduled_at OR scheduled_at < wanted_start_at
            OR approved_at IS NOT NULL AND requester_id <> beneficiary_id
               AND (accepted_at IS NULL OR accepted_at > approved_at)
            OR expires_at > activated_at + make_interval(secs => approved_seconds + (
                SELECT coalesce(sum(x.seconds), 0) FROM requests_app_extension x
                WHERE x.access_request_id = r.id AND x.state = 'granted'))
            OR ended_at > %(soon)s OR ended_at < asked_at - %(step)s
            OR state IN ('returned', 'revoked') AND ended_at > expires_at)
        """,
    ),
    Rule(
        "decision.missing",
        "Requests were approved, or denied, without the decisions that their terms demand.",
        TELL_THE_DEVELOPERS,
        """
        SELECT r.code FROM requests_app_accessrequest r
        WHERE r.id > %(requests)s AND (
            r.approved_at IS NOT NULL AND r.terms_document->>'approval' = 'staged' AND (
                jsonb_array_length(r.terms_document->'stages') = 0
                OR EXISTS (
                    SELECT FROM jsonb_array_elements(r.terms_document->'stages') AS s(stage)
                    WHERE (SELECT count(*) FROM requests_app_decision d
                           WHERE d.access_request_id = r.id AND d.extension_id IS NULL AND d.verdict = 'approve'
                             AND d.stage = (s.stage->>'position')::int) < (s.stage->>'quorum')::int))
            OR (r.state = 'denied' OR r.approved_at IS NOT NULL) AND (r.state = 'denied') IS DISTINCT FROM EXISTS (
                SELECT FROM requests_app_decision d
                WHERE d.access_request_id = r.id AND d.extension_id IS NULL AND d.verdict = 'deny'))
        """,
    ),
    Rule(
        "extension.decision_missing",
        "Passes were made longer, or that was denied, without the decisions that their terms demand.",
        TELL_THE_DEVELOPERS,
        """
        SELECT r.code FROM requests_app_extension x JOIN requests_app_accessrequest r ON r.id = x.access_request_id
        WHERE r.id > %(requests)s AND x.state IN ('granted', 'denied') AND (
            x.state = 'granted' AND EXISTS (
                SELECT FROM jsonb_array_elements(r.terms_document->'stages') AS s(stage)
                WHERE (SELECT count(*) FROM requests_app_decision d
                       WHERE d.extension_id = x.id AND d.verdict = 'approve'
                         AND d.stage = (s.stage->>'position')::int) < (s.stage->>'quorum')::int)
            OR (x.state = 'denied') IS DISTINCT FROM EXISTS (
                SELECT FROM requests_app_decision d WHERE d.extension_id = x.id AND d.verdict = 'deny'))
        """,
    ),
    Rule(
        "extension.unexplained_end",
        "Passes do not end when the time last granted to them does, or were given more than their terms allow.",
        TELL_THE_DEVELOPERS,
        """
        SELECT r.code FROM requests_app_accessrequest r
        CROSS JOIN LATERAL (
            SELECT count(*) AS number, sum(x.seconds) AS seconds, max(x.new_end) AS new_end
            FROM requests_app_extension x WHERE x.access_request_id = r.id AND x.state = 'granted') AS granted
        WHERE r.id > %(requests)s AND granted.number > 0 AND (
            r.expires_at IS DISTINCT FROM granted.new_end
            OR granted.number > (r.terms_document->>'extensions_most')::int
            OR r.approved_seconds + granted.seconds > (r.terms_document->>'extension_total_seconds')::bigint)
        """,
    ),
    Rule(
        "extension.pending",
        "More time stands as asked for of passes that have ended, or that is long past its time to be decided.",
        LOOK_AT_THE_WORKERS,
        """
        SELECT r.code FROM requests_app_extension x JOIN requests_app_accessrequest r ON r.id = x.access_request_id
        WHERE x.state = 'pending' AND (r.state <> 'active' OR x.decide_by <= %(late)s)
        """,
    ),
    Rule(
        "decision.own",
        "People decided on requests that they made or benefit from.",
        "End these passes (Revoke), then find out who wrote to the database: Daypass refuses this.",
        """
        SELECT r.code FROM requests_app_decision d JOIN requests_app_accessrequest r ON r.id = d.access_request_id
        WHERE d.id > %(decisions)s AND d.approver_id IN (r.requester_id, r.beneficiary_id)
        """,
    ),
    Rule(
        "session.outlives_its_pass",
        "Sessions were issued whose cut-off is later than the end of their pass.",
        "Revoke what is still active. Then look at the clocks: AWS's, and PostgreSQL's.",
        """
        SELECT r.code FROM requests_app_issuedsession s JOIN requests_app_accessrequest r ON r.id = s.access_request_id
        WHERE s.id > %(sessions)s AND NOT s.discarded
          AND (r.expires_at IS NULL OR s.cut_off > r.expires_at + %(offset)s)
        """,
    ),
    Rule(
        "session.outside_its_pass",
        "Sessions were issued before their pass began or after it had ended, and were not thrown away.",
        "Look at the role's CloudTrail for what these did, and find out who wrote to the database.",
        """
        SELECT r.code FROM requests_app_issuedsession s JOIN requests_app_accessrequest r ON r.id = s.access_request_id
        WHERE s.id > %(sessions)s AND NOT s.discarded
          AND (r.activated_at IS NULL OR s.issued_at < r.activated_at - %(step)s
               OR s.issued_at > least(r.ended_at, r.expires_at))
        """,
    ),
    Rule(
        "session.of_another",
        "Sessions do not belong to the person, the pass or the key of the delivery that they were issued for.",
        TELL_THE_DEVELOPERS,
        """
        SELECT r.code FROM requests_app_issuedsession s JOIN requests_app_delivery d ON d.id = s.delivery_id
        JOIN requests_app_accessrequest r ON r.id = d.access_request_id
        WHERE s.id > %(sessions)s
          AND ((s.access_request_id, s.beneficiary_id, s.thumbprint)
               IS DISTINCT FROM (d.access_request_id, d.beneficiary_id, d.thumbprint)
               OR d.beneficiary_id <> r.beneficiary_id OR d.role_id <> r.role_id OR d.state IN ('asked', 'stale'))
        """,
    ),
    Rule(
        "session.unrecorded",
        "The record tells of sessions of which there is no row, or tells of a session not once.",
        TELL_THE_DEVELOPERS,
        """
        WITH told AS (
            SELECT detail->>'access_key_id' AS key_id, count(*) AS times, max(action) AS action
            FROM requests_app_auditevent
            WHERE action IN ('session.issued', 'session.discarded') AND access_request_id IN (
                SELECT access_request_id FROM requests_app_issuedsession WHERE id > %(sessions)s)
            GROUP BY 1)
        SELECT r.code FROM requests_app_issuedsession s JOIN requests_app_accessrequest r ON r.id = s.access_request_id
        LEFT JOIN told ON told.key_id = s.access_key_id
        WHERE s.id > %(sessions)s AND (told.times IS DISTINCT FROM 1
              OR told.action <> CASE WHEN s.discarded THEN 'session.discarded' ELSE 'session.issued' END)
        UNION ALL
        SELECT e.subject FROM requests_app_auditevent e
        WHERE e.id > %(events)s AND e.action IN ('session.issued', 'session.discarded')
          AND NOT EXISTS (SELECT FROM requests_app_issuedsession s WHERE s.access_key_id = e.detail->>'access_key_id')
        """,
    ),
    Rule(
        "delivery.without_session",
        "Credentials were sealed or handed over of which no session is on record.",
        TELL_THE_DEVELOPERS,
        """
        SELECT r.code FROM requests_app_delivery d JOIN requests_app_accessrequest r ON r.id = d.access_request_id
        WHERE d.id > %(deliveries)s AND d.state IN ('sealed', 'delivered') AND NOT EXISTS (
            SELECT FROM requests_app_issuedsession s WHERE s.delivery_id = d.id AND NOT s.discarded)
        """,
    ),
    Rule(
        "delivery.stuck",
        "Wishes for credentials were neither fulfilled nor given up.",
        LOOK_AT_THE_WORKERS,
        """
        SELECT r.code FROM requests_app_delivery d JOIN requests_app_accessrequest r ON r.id = d.access_request_id
        WHERE d.state IN ('asked', 'claimed', 'sealed') AND d.asked_at < %(unclaimed)s AND (
            d.state = 'asked' OR d.state = 'claimed' AND d.claimed_at < %(unheard)s
            OR d.state = 'sealed' AND d.sealed_at < %(untaken)s)
        """,
    ),
    Rule(
        "event.of_request",
        "What happened to requests is in the record not once: a submission, decision, grant, start or end.",
        TELL_THE_DEVELOPERS,
        """
        SELECT r.code FROM requests_app_accessrequest r
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE action = 'request.submitted') AS submitted,
                   count(*) FILTER (WHERE action = 'request.approved') AS approved,
                   count(*) FILTER (WHERE action = 'request.denied') AS denied,
                   count(*) FILTER (WHERE action = 'request.granted') AS granted,
                   count(*) FILTER (WHERE action = 'request.started') AS started,
                   count(*) FILTER (WHERE action = 'request.accepted') AS accepted,
                   array_agg(action::text) FILTER (
                       WHERE action IN ('request.withdrawn', 'request.lapsed', 'request.expired', 'request.returned',
                                        'request.revoked')) AS ended
            FROM requests_app_auditevent e WHERE e.access_request_id = r.id) AS told
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE verdict = 'approve') AS approved,
                   count(*) FILTER (WHERE verdict = 'deny') AS denied
            FROM requests_app_decision d WHERE d.access_request_id = r.id AND d.extension_id IS NULL) AS decided
        WHERE r.id > %(requests)s AND (
            told.submitted <> 1 OR told.accepted <> (r.accepted_at IS NOT NULL)::int
            OR told.approved <> decided.approved OR told.denied <> decided.denied
            OR told.granted <> (r.approved_at IS NOT NULL)::int OR told.started <> (r.activated_at IS NOT NULL)::int
            OR told.ended IS DISTINCT FROM
               CASE WHEN r.ended_at IS NOT NULL AND r.state <> 'denied' THEN ARRAY['request.' || r.state] END)
        """,
    ),
    Rule(
        "event.of_extension",
        "More time that was asked for, or what became of it, is in the record not once.",
        TELL_THE_DEVELOPERS,
        """
        WITH longer AS (
            SELECT access_request_id AS id, count(*) AS asked,
                   count(*) FILTER (WHERE state = 'granted') AS granted,
                   count(*) FILTER (WHERE state = 'denied') AS denied,
                   count(*) FILTER (WHERE state = 'withdrawn') AS withdrawn,
                   count(*) FILTER (WHERE state = 'lapsed') AS lapsed
            FROM requests_app_extension WHERE access_request_id > %(requests)s GROUP BY 1)
        SELECT r.code FROM longer JOIN requests_app_accessrequest r ON r.id = longer.id
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE action = 'extension.asked') AS asked,
                   count(*) FILTER (WHERE action = 'extension.approved') AS approved,
                   count(*) FILTER (WHERE action = 'extension.granted') AS granted,
                   count(*) FILTER (WHERE action = 'extension.denied') AS denied,
                   count(*) FILTER (WHERE action = 'extension.withdrawn') AS withdrawn,
                   count(*) FILTER (WHERE action = 'extension.lapsed') AS lapsed
            FROM requests_app_auditevent e WHERE e.access_request_id = r.id) AS told
        WHERE (longer.asked, longer.granted, longer.denied, longer.withdrawn, longer.lapsed, (
                   SELECT count(*) FROM requests_app_decision d
                   WHERE d.access_request_id = r.id AND d.extension_id IS NOT NULL AND d.verdict = 'approve'))
              IS DISTINCT FROM
              (told.asked, told.granted, told.denied, told.withdrawn, told.lapsed, told.approved)
        """,
    ),
    Rule(
        "event.of_delivery",
        "Wishes for credentials, or what became of them, are in the record not once.",
        TELL_THE_DEVELOPERS,
        """
        WITH told AS (
            SELECT detail->>'delivery' AS delivery,
                   count(*) FILTER (WHERE action = 'delivery.asked') AS asked,
                   count(*) FILTER (WHERE action = 'delivery.handed_over') AS handed_over,
                   count(*) FILTER (WHERE action = 'delivery.failed') AS failed,
                   count(*) FILTER (WHERE action = 'session.unaccounted') AS unaccounted,
                   count(*) FILTER (WHERE action = 'session.discarded') AS discarded
            FROM requests_app_auditevent
            WHERE access_request_id IN (SELECT access_request_id FROM requests_app_delivery WHERE id > %(deliveries)s)
              AND action IN ('delivery.asked', 'delivery.handed_over', 'delivery.failed', 'session.unaccounted',
                             'session.discarded')
            GROUP BY 1)
        SELECT r.code FROM requests_app_delivery d JOIN requests_app_accessrequest r ON r.id = d.access_request_id
        LEFT JOIN told ON told.delivery = d.public_id::text
        WHERE d.id > %(deliveries)s AND (
            told.asked IS DISTINCT FROM 1 OR told.handed_over <> (d.state = 'delivered')::int
            OR CASE d.state
                   WHEN 'unknown' THEN told.failed + told.unaccounted <> 1
                   WHEN 'discarded' THEN told.failed + told.discarded <> 1 OR told.unaccounted <> 0
                   ELSE told.failed <> (d.state IN ('refused', 'unavailable', 'stale', 'lost'))::int
                        OR told.unaccounted + told.discarded <> 0 END)
        """,
    ),
    Rule(
        "event.of_revocation",
        "Revocations, or their end, are in the record not once.",
        TELL_THE_DEVELOPERS,
        """
        SELECT r.code FROM requests_app_revocation v JOIN requests_app_accessrequest r ON r.id = v.access_request_id
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE action = 'revocation.wanted') AS wanted,
                   count(*) FILTER (WHERE action = 'revocation.over') AS over
            FROM requests_app_auditevent e WHERE e.access_request_id = r.id) AS told
        WHERE r.id > %(requests)s AND (told.wanted <> 1 OR told.over <> (v.state = 'over')::int)
        """,
    ),
    Rule(
        "notice.missing",
        "People were not written to about a decision, an issue of keys or an end, and no mail about it is due.",
        TELL_THE_DEVELOPERS,
        """
        SELECT w.code FROM (
            SELECT id, code, 'ended' AS kind, beneficiary_id AS person,
                   NULL::bigint AS extension, NULL::bigint AS delivery
            FROM requests_app_accessrequest
            WHERE id > %(requests)s
              AND (state IN ('expired', 'lapsed', 'returned') OR state = 'revoked' AND ended_by_id IS NOT NULL)
            UNION ALL
            SELECT id, code, 'decided', side.person, NULL, NULL
            FROM requests_app_accessrequest,
                 LATERAL (SELECT beneficiary_id UNION SELECT requester_id) AS side(person)
            WHERE id > %(requests)s AND (state = 'denied' OR approved_at IS NOT NULL AND stage > 0)
            UNION ALL
            -- What somebody asked for another and one of them took back, or nobody decided: the other one hears of it.
            SELECT id, code, 'ended', CASE WHEN state = 'withdrawn' AND ended_by_id = requester_id
                                           THEN beneficiary_id ELSE requester_id END, NULL, NULL
            FROM requests_app_accessrequest
            WHERE id > %(requests)s AND requester_id <> beneficiary_id AND state IN ('withdrawn', 'lapsed')
            UNION ALL
            SELECT r.id, r.code, 'more_decided', r.beneficiary_id, x.id, NULL
            FROM requests_app_extension x JOIN requests_app_accessrequest r ON r.id = x.access_request_id
            WHERE r.id > %(requests)s AND x.stage > 0 AND x.state IN ('granted', 'denied')
            UNION ALL
            SELECT r.id, r.code, 'issued', r.beneficiary_id, NULL, s.delivery_id
            FROM requests_app_issuedsession s JOIN requests_app_accessrequest r ON r.id = s.access_request_id
            WHERE s.id > %(sessions)s AND NOT s.discarded
        ) AS w
        WHERE NOT EXISTS (
            SELECT FROM requests_app_notice n
            WHERE n.access_request_id = w.id AND n.kind = w.kind AND n.recipient_id = w.person
              AND n.extension_id IS NOT DISTINCT FROM w.extension AND n.delivery_id IS NOT DISTINCT FROM w.delivery)
        """,
    ),
    Rule(
        "notice.stuck",
        "Mail was neither sent nor given up, and is long due or never will be.",
        LOOK_AT_THE_WORKERS + " The rows of the outbox tell what the mail server said.",
        """
        SELECT coalesce(r.code, n.kind) FROM requests_app_notice n
        LEFT JOIN requests_app_accessrequest r ON r.id = n.access_request_id
        WHERE n.sent_at IS NULL AND n.gave_up_at IS NULL
          AND (n.due_at <= %(late_mail)s OR n.due_at > %(next_mail)s OR n.attempts > %(attempts)s)
        """,
    ),
    Rule(
        "notice.given_up_silently",
        "Mail was given up and nothing says why.",
        TELL_THE_DEVELOPERS,
        """
        SELECT coalesce(r.code, n.kind) FROM requests_app_notice n
        LEFT JOIN requests_app_accessrequest r ON r.id = n.access_request_id
        WHERE n.id > %(notices)s AND n.gave_up_at IS NOT NULL AND (n.last_error = '' OR n.sent_at IS NOT NULL)
        """,
    ),
    Rule(
        "revocation.missing",
        "Passes were ended early while sessions of theirs lived, and nobody told AWS to refuse them.",
        "Those sessions end by themselves at their cut-off. If that is too late, revoke the role's sessions at AWS.",
        """
        SELECT r.code FROM requests_app_accessrequest r
        WHERE r.id > %(requests)s AND r.state IN ('returned', 'revoked')
          AND EXISTS (SELECT FROM requests_app_issuedsession s
                      WHERE s.access_request_id = r.id AND s.sts_expires_at > r.ended_at)
          AND NOT EXISTS (SELECT FROM requests_app_revocation v WHERE v.access_request_id = r.id)
        """,
    ),
    Rule(
        "revocation.unattended",
        "Sessions are to be refused by AWS, and nobody will see to it; or it is said that they are, and they are not.",
        "Look whether the worker `revoke` runs. What AWS last said stands on the page of each request.",
        """
        SELECT r.code FROM requests_app_revocation v JOIN requests_app_accessrequest r ON r.id = v.access_request_id
        LEFT JOIN requests_app_denypolicy p ON p.role_id = v.role_id
        WHERE v.state <> 'over' AND v.keep_until > %(now)s
          AND (p.due_at IS NULL OR p.due_at > %(next_look)s
               OR CASE v.state WHEN 'wanted' THEN p.due_at > %(next_try)s
                               ELSE NOT p.denied @> to_jsonb(r.code::text) END)
        """,
    ),
    Rule(
        "revocation.over_at_the_wrong_time",
        "Revocations were let go while a session could still be valid, or are kept though none can be.",
        LOOK_AT_THE_WORKERS,
        """
        SELECT r.code FROM requests_app_revocation v JOIN requests_app_accessrequest r ON r.id = v.access_request_id
        WHERE v.state <> 'over' AND v.keep_until <= %(late_at_aws)s AND NOT EXISTS (
                  -- Of a restored database nothing is let go before operators have looked.
                  SELECT FROM requests_app_freeze f
                  WHERE f.cause = 'restored' AND (f.lifted_at IS NULL OR f.lifted_at > %(late_at_aws)s))
           OR v.state = 'over' AND r.id > %(requests)s AND v.keep_until > %(soon)s
        """,
    ),
    Rule(
        "deny_policy.overdue",
        "A role's deny policy, or the proof that AWS obeys it, should long have been looked at.",
        "Look whether the workers `revoke` and `mint` run, and whether beat wakes them.",
        """
        SELECT a.number || '/' || role.name FROM (
            SELECT role_id FROM requests_app_denypolicy WHERE due_at <= %(late_at_aws)s
            UNION
            SELECT role_id FROM requests_app_denypolicy WHERE probe_due_at <= %(late_at_aws)s
        ) AS late JOIN requests_app_role role ON role.id = late.role_id
        JOIN requests_app_account a ON a.id = role.account_id
        """,
    ),
)
