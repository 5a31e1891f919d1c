"""What must always be true of the rows: nothing is found in a busy, healthy database, and each break of it is."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection, transaction

from requests_app.background import mail
from requests_app.domain import clock, invariants, workflow
from requests_app.domain.errors import DomainError
from requests_app.domain.models import AccessRequest, Delivery, Notice, Revocation, User
from requests_app.domain.transitions import DeliveryState, State
from requests_app.domain.workflow import deliveries, proofs, revocations, sweeps
from tests import crowd, factories, plans, servers

HOUR = timedelta(hours=1)


class Company:
    """People, roles and terms; each method is one story, told by the product's own verbs."""

    def __init__(self) -> None:
        self.engineers, leads, security = (factories.group(name) for name in ("Engineers", "Leads", "Security"))
        self.alice, self.erin = (factories.person(name, self.engineers) for name in ("alice", "erin"))
        self.bob, self.carol = factories.person("bob", leads), factories.person("carol", leads, security)
        self.olivia = factories.person("olivia", is_staff=True, is_operator=True)
        self.role, self.other = factories.role("Administrator"), factories.role("ReadOnly")
        self.staged = factories.entitlement(self.role, groups=[self.engineers], stages=[(leads, 1)])
        self.twice = factories.entitlement(
            self.role, groups=[self.engineers], stages=[(leads, 1), (security, 1)], longest_seconds=7200
        )
        self.automatic = factories.entitlement(self.other, groups=[self.engineers])
        more: dict[str, Any] = {"extensions_most": 2, "extension_total_seconds": 7200, "schedule_ahead_seconds": 86400}
        self.longer = factories.entitlement(self.role, groups=[self.engineers], stages=[(leads, 1)], **more)
        self.longer_at_once = factories.entitlement(self.other, groups=[self.engineers], **more)
        self.desk = factories.group("Service desk")
        self.dora = factories.person("dora", self.desk)
        self.longer.askers.add(self.desk)

    def asked(self, **values: Any) -> AccessRequest:
        factories.clock_reading()
        return factories.wish(self.alice, self.role, self.staged, **values)

    def approved(self, **values: Any) -> AccessRequest:
        one = self.asked(**values)
        workflow.approve(one, by=self.bob)
        one.refresh_from_db()
        return one

    def active(self, by: User | None = None) -> AccessRequest:
        factories.clock_reading()
        return factories.wish(by or self.alice, self.other, self.automatic, start="at_once")

    def with_keys(self) -> AccessRequest:
        one = self.active()
        wish, envelope = factories.sealed(one)
        deliveries.hand_over(wish, by=one.beneficiary, sign_in="a sign-in", take=lambda _: envelope)
        return one


def _live(company: Company) -> None:
    """A few weeks of everything that can happen."""
    for ago in (timedelta(days=20), 3 * HOUR, timedelta(minutes=25)):
        with clock.moved(-ago):
            _requests(company)
            _richer_terms(company)
            _deliveries(company)
        with clock.moved(timedelta(minutes=15) - ago):
            _early_ends(company)
        with clock.moved(min(timedelta(0), 25 * HOUR - ago)):
            for sweep in (
                *(sweeps.expire_due, sweeps.lapse_due, sweeps.lapse_extensions, sweeps.lapse_hopeless),
                *(sweeps.activate_due, sweeps.escalate_due, sweeps.announce_endings, sweeps.tell_stuck),
                workflow.end_passes_of_deactivated,
            ):
                sweep()
            deliveries.sweep()
            revocations.sweep()
            _revoke_worker()
            while mail.send_due():
                pass


def _requests(company: Company) -> None:
    company.asked()
    company.approved()
    company.approved(start="at_once")
    workflow.start(company.approved(), by=company.alice)
    workflow.deny(company.asked(), by=company.carol, comment="not today")
    workflow.withdraw(company.approved(), by=company.alice)
    workflow.revoke(company.approved(), by=company.olivia, reason="the incident is over")
    two = factories.wish(company.erin, company.role, company.twice, duration=2 * HOUR)
    workflow.approve(two, by=company.bob)
    with pytest.raises(DomainError):
        workflow.approve(two, by=company.bob)
    workflow.approve(two, by=company.carol)
    waiting = company.asked()
    with clock.moved(timedelta(minutes=20)):
        workflow.remind(waiting, by=company.alice)
    leaver = factories.person(f"leaver{User.objects.count()}", company.engineers)
    company.active(by=leaver)
    workflow.people.deactivate(leaver, by=company.olivia)


def _richer_terms(company: Company) -> None:
    factories.clock_reading()
    why = "it takes longer than we thought"
    minutes = timedelta(minutes=1)

    def asked(by: User = company.alice, **values: Any) -> AccessRequest:
        return factories.wish(by, company.role, company.longer, **values)

    def running() -> AccessRequest:
        one = asked()
        workflow.approve(one, by=company.bob)
        return workflow.start(one, by=company.alice)

    at_once = factories.wish(company.alice, company.other, company.longer_at_once, start="at_once")
    for more in (20, 40):
        workflow.extend(at_once, by=company.alice, duration=more * minutes, justification=why)
    for end in ("granted", "denied", "withdrawn", "given back", "lapsed"):
        one = running()
        extension = workflow.extend(one, by=company.alice, duration=10 * minutes, justification=why)
        match end:
            case "granted":
                workflow.approve_extension(extension, by=company.carol)
            case "denied":
                workflow.deny_extension(extension, by=company.bob, comment="enough")
            case "withdrawn":
                workflow.withdraw_extension(extension, by=company.alice)
            case "given back":
                workflow.give_back(one, by=company.alice)
    planned = asked(start="at_time", start_at=clock.now() + 5 * minutes)
    workflow.approve(planned, by=company.bob, start_at=clock.now() + 6 * minutes, duration=10 * minutes)
    for_alice = asked(by=company.dora, beneficiary=company.alice)
    asked(by=company.dora, beneficiary=company.erin)
    workflow.approve(workflow.accept(for_alice, by=company.alice), by=company.carol)
    workflow.withdraw(asked(by=company.dora, beneficiary=company.alice), by=company.alice)


def _deliveries(company: Company) -> None:
    company.with_keys()
    one = company.active()
    for state in (DeliveryState.REFUSED, DeliveryState.UNAVAILABLE, DeliveryState.UNKNOWN):
        deliveries.fail(_claimed(one), deliveries.Failure(state, "AWS said no"))
    late = _claimed(one)
    factories.delivery(one)
    with clock.moved(timedelta(minutes=2)):
        deliveries.sweep()
        assert not deliveries.record(late, factories.minted(late), worker="slow")
    lost, _ = factories.sealed(one)
    with pytest.raises(DomainError):
        deliveries.hand_over(lost, by=one.beneficiary, sign_in="a sign-in", take=lambda _: "another")
    waiting, _ = factories.sealed(one)
    unrecorded, unsealed = _claimed(one), _claimed(one)
    deliveries.record(unsealed, factories.minted(unsealed), worker="worker")
    workflow.give_back(one, by=one.beneficiary)
    assert not deliveries.record(unrecorded, factories.minted(unrecorded), worker="worker")
    assert not deliveries.seal_down(unsealed, "an envelope")
    with pytest.raises(DomainError):
        deliveries.hand_over(waiting, by=one.beneficiary, sign_in="a sign-in", take=lambda _: "an envelope")


def _claimed(of: AccessRequest) -> deliveries.Order:
    order = deliveries.claim(factories.delivery(of).pk, worker="worker")
    assert order is not None
    return order


def _early_ends(company: Company) -> None:
    workflow.revoke(company.with_keys(), by=company.olivia, reason="stolen laptop")
    _revoke_worker()
    proved = proofs.take_up(company.other.pk)
    assert proved is not None
    proofs.note(proved, "refused", action="s3:ListAllMyBuckets")
    one = company.with_keys()
    workflow.give_back(one, by=one.beneficiary)


def _revoke_worker() -> None:
    """What the worker does for each role that is due, as if AWS took everything."""
    for role_id in list(Revocation.objects.values_list("role_id", flat=True).distinct()):
        while (task := revocations.take_up(role_id)) is not None:
            if not task.wanted:
                revocations.note_removed(task, removed=True, unknown=[])
                continue
            generation, codes = task.generation + 1, [one.code for one in task.wanted]
            revocations.note_draft(task, generation=generation, document="{}")
            revocations.note_written(task, generation=generation, document="{}", denied=codes, unknown=[], left_out=[])


@pytest.fixture(scope="module")
def company(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """A database of its own, in which a lot has happened."""
    name = f"invariants_daypass_{servers.worker()}"
    with django_db_blocker.unblock():
        servers.make_filled_database(name, like="invariants_daypass", fill=lambda: _live(Company()))
    yield name
    servers.drop_database(name)


@pytest.fixture
def in_company(company: str, django_db_blocker: Any) -> Iterator[None]:
    """Django in that database as its superuser: past every guard, in a transaction that is rolled back."""
    settings = connection.settings_dict
    before = {name: settings[name] for name in ("USER", "PASSWORD")}
    superuser = urlsplit(servers.database_url("superuser", company))
    with django_db_blocker.unblock():
        servers.point_django_at(company)
        settings |= {"USER": superuser.username, "PASSWORD": superuser.password}
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")
                yield
                transaction.set_rollback(True)
        finally:
            settings |= before
            servers.point_django_at(servers.database_name())


def rules_broken(**options: Any) -> set[str]:
    return {one.rule for one in invariants.broken(clock.now(), **options)}


def test_nothing_is_found_in_a_busy_healthy_database(in_company: None) -> None:
    assert [str(one) for one in invariants.broken(clock.now())] == []
    assert [str(one) for one in invariants.broken(clock.now(), newest=None)] == []
    # And it was busy: everything that can become of a request, a delivery or a revocation is in it.
    assert set(AccessRequest.objects.values_list("state", flat=True)) == set(State)
    assert set(Delivery.objects.values_list("state", flat=True)) >= set(DeliveryState) - {"asked", "claimed", "sealed"}
    assert set(Revocation.objects.values_list("state", flat=True)) >= {"written", "proved", "over"}
    assert {True, False} == {bool(sent) for sent in Notice.objects.values_list("sent_at", flat=True)}


# Each breaks one row of a table and nothing else. `any_` names one of the rows that have what the rest of it needs.
BREAKS = [
    ("request.overdue", "UPDATE accessrequest SET expires_at = now() - interval '2 min' WHERE {active}"),
    ("request.overdue", "UPDATE accessrequest SET start_by = now() - interval '2 min' WHERE {approved}"),
    ("request.overdue", "UPDATE accessrequest SET decide_by = now() - interval '2 min' WHERE {pending}"),
    (
        "request.not_started",
        "UPDATE accessrequest SET start = 'at_once', approved_at = now() - interval '2 min' WHERE {approved}",
    ),
    (
        "request.of_deactivated",
        "UPDATE \"user\" SET deactivated_at = now() - interval '2 min'"
        " WHERE id = (SELECT beneficiary_id FROM accessrequest WHERE {active})",
    ),
    ("person.address", 'UPDATE "user" SET email = \'x@duplicate.invalid\' WHERE id = (SELECT min(id) FROM "user")'),
    ("request.times", "UPDATE accessrequest SET expires_at = expires_at + interval '1 s' WHERE {active}"),
    ("request.times", "UPDATE accessrequest SET approved_seconds = duration_seconds + 1 WHERE {approved}"),
    ("request.times", "UPDATE accessrequest SET ended_at = now() + interval '9 y' WHERE {denied}"),
    ("request.times", "UPDATE accessrequest SET ended_at = expires_at + interval '1 s' WHERE {returned}"),
    ("request.times", "UPDATE accessrequest SET activated_at = approved_at - interval '1 s' WHERE {active}"),
    (
        "decision.missing",
        "DELETE FROM decision WHERE access_request_id = (SELECT id FROM accessrequest WHERE {agreed})",
    ),
    (
        "decision.missing",
        "UPDATE decision SET verdict = 'deny' WHERE access_request_id = (SELECT id FROM accessrequest WHERE {agreed})",
    ),
    (
        "decision.missing",
        'UPDATE accessrequest SET terms_document = terms_document || \'{{"approval": "staged"}}\' WHERE {active}'
        " AND stage = 0",
    ),
    (
        "decision.missing",
        "UPDATE decision SET verdict = 'approve'"
        " WHERE access_request_id = (SELECT id FROM accessrequest WHERE {denied})",
    ),
    ("decision.missing", "UPDATE decision SET verdict = 'deny' WHERE {decision}"),
    ("decision.missing", "UPDATE decision SET stage = 9 WHERE {decision}"),
    ("request.times", "UPDATE accessrequest SET accepted_at = NULL WHERE {accepted}"),
    ("request.times", "UPDATE accessrequest SET accepted_at = approved_at + interval '1 s' WHERE {accepted}"),
    ("request.times", "UPDATE accessrequest SET scheduled_at = activated_at + interval '1 s' WHERE {scheduled}"),
    ("request.times", "UPDATE accessrequest SET scheduled_at = wanted_start_at - interval '1 s' WHERE {scheduled}"),
    ("request.times", "UPDATE accessrequest SET offered_seconds = approved_seconds - 1 WHERE {scheduled}"),
    ("request.times", "UPDATE extension SET seconds = seconds - 1 WHERE {granted}"),
    (
        "request.not_started",
        "UPDATE accessrequest SET start = 'at_time', scheduled_at = now() - interval '2 min',"
        " approved_at = now() - interval '2 min' WHERE {approved}",
    ),
    ("extension.decision_missing", "DELETE FROM decision WHERE {of_granted}"),
    ("extension.decision_missing", "UPDATE decision SET verdict = 'deny' WHERE {of_granted}"),
    ("extension.decision_missing", "UPDATE decision SET verdict = 'approve' WHERE {of_denied}"),
    ("extension.unexplained_end", "UPDATE extension SET new_end = new_end + interval '1 s' WHERE {granted}"),
    ("extension.unexplained_end", "UPDATE accessrequest SET expires_at = expires_at - interval '1 s' WHERE {extended}"),
    *(
        (
            "extension.unexplained_end",
            f"UPDATE accessrequest SET terms_document = terms_document || '{{{{\"{term}\": 0}}}}' WHERE {{extended}}",
        )
        for term in ("extensions_most", "extension_total_seconds")
    ),
    ("extension.pending", "UPDATE extension SET state = 'pending', finished_at = NULL WHERE {lapsed_with_its_pass}"),
    ("extension.pending", "UPDATE extension SET decide_by = now() - interval '2 min' WHERE {undecided}"),
    *(
        (
            "event.of_extension",
            f"DELETE FROM auditevent WHERE id = (SELECT max(id) FROM auditevent WHERE action = 'extension.{one}')",
        )
        for one in ("asked", "approved", "granted", "denied", "withdrawn", "lapsed")
    ),
    (
        "decision.own",
        "UPDATE decision SET approver_id = (SELECT beneficiary_id FROM accessrequest r WHERE r.id = access_request_id)"
        " WHERE id = (SELECT max(id) FROM decision)",
    ),
    (
        "session.outlives_its_pass",
        "UPDATE issuedsession SET cut_off = cut_off + interval '32 s' WHERE {kept}",
    ),
    (
        "session.outside_its_pass",
        "UPDATE issuedsession s SET issued_at = r.ended_at + interval '1 ms' FROM accessrequest r"
        " WHERE r.id = s.access_request_id AND s.id = (SELECT max(s.id) FROM issuedsession s JOIN accessrequest r"
        " ON r.id = s.access_request_id WHERE r.ended_at IS NOT NULL AND NOT s.discarded)",
    ),
    ("session.outside_its_pass", "UPDATE issuedsession SET issued_at = issued_at - interval '1 d' WHERE {kept}"),
    ("session.of_another", "UPDATE issuedsession SET thumbprint = 'another' WHERE {kept}"),
    ("session.of_another", "UPDATE issuedsession SET beneficiary_id = beneficiary_id + 1 WHERE {kept}"),
    ("session.unrecorded", "DELETE FROM auditevent WHERE {issued}"),
    ("session.unrecorded", "UPDATE auditevent SET action = 'session.discarded' WHERE {issued}"),
    (
        "session.unrecorded",
        "INSERT INTO auditevent (at, action, actor_name, beneficiary_name, access_request_id, subject, channel,"
        " user_agent, detail) SELECT at, action, actor_name, beneficiary_name, access_request_id, subject, channel,"
        " user_agent, detail FROM auditevent WHERE {issued}",
    ),
    ("delivery.without_session", "UPDATE issuedsession SET discarded = true WHERE {delivered}"),
    ("delivery.stuck", "UPDATE delivery SET state = 'asked', asked_at = now() - interval '82 s' WHERE {failed}"),
    ("delivery.stuck", "UPDATE delivery SET state = 'claimed', claimed_at = now() - interval '122 s' WHERE {failed}"),
    (
        "delivery.stuck",
        "UPDATE delivery SET state = 'sealed', sealed_at = now() - interval '122 s' WHERE {handed_over}",
    ),
    *(
        (
            "event.of_request",
            f"DELETE FROM auditevent WHERE id = (SELECT max(id) FROM auditevent WHERE action = '{one}')",
        )
        for one in (
            *("request.submitted", "request.approved", "request.granted", "request.denied", "request.withdrawn"),
            *("request.started", "request.lapsed", "request.expired", "request.returned", "request.revoked"),
            "request.accepted",
        )
    ),
    *(
        ("event.of_request", f"UPDATE auditevent SET action = '{one}' WHERE {{remembered}}")
        for one in ("request.submitted", "request.granted", "request.started", "request.expired", "request.denied")
    ),
    *(
        (
            "event.of_delivery",
            f"DELETE FROM auditevent WHERE id = (SELECT max(id) FROM auditevent WHERE action = '{one}')",
        )
        for one in ("delivery.asked", "delivery.failed", "delivery.handed_over", "session.unaccounted")
    ),
    ("event.of_delivery", "UPDATE delivery SET state = 'unavailable' WHERE {handed_over}"),
    *(
        (
            "event.of_revocation",
            f"DELETE FROM auditevent WHERE id = (SELECT max(id) FROM auditevent WHERE action = '{one}')",
        )
        for one in ("revocation.wanted", "revocation.over")
    ),
    *(
        ("notice.missing", f"DELETE FROM notice WHERE id = (SELECT max(id) FROM notice WHERE kind = '{one}')")
        for one in ("ended", "decided", "issued", "more_decided")
    ),
    ("notice.stuck", "UPDATE notice SET sent_at = NULL, due_at = now() - interval '12 min' WHERE {sent}"),
    ("notice.stuck", "UPDATE notice SET sent_at = NULL, due_at = now() + interval '2 h' WHERE {sent}"),
    ("notice.stuck", "UPDATE notice SET sent_at = NULL, due_at = now(), attempts = 10 WHERE {sent}"),
    ("notice.given_up_silently", "UPDATE notice SET sent_at = NULL, gave_up_at = now() WHERE {sent}"),
    ("revocation.missing", "DELETE FROM revocation WHERE id = (SELECT max(id) FROM revocation)"),
    ("revocation.unattended", "UPDATE denypolicy SET due_at = NULL"),
    ("revocation.unattended", "UPDATE denypolicy SET due_at = now() + interval '1 h'"),
    ("revocation.unattended", "UPDATE denypolicy SET denied = '[]'"),
    ("revocation.unattended", "DELETE FROM denypolicy"),
    (
        "revocation.over_at_the_wrong_time",
        "UPDATE revocation SET keep_until = now() - interval '3 min' WHERE id = (SELECT max(id) FROM revocation)",
    ),
    (
        "revocation.over_at_the_wrong_time",
        "UPDATE revocation SET keep_until = now() + interval '1 h'"
        " WHERE id = (SELECT max(id) FROM revocation WHERE state = 'over')",
    ),
    ("deny_policy.overdue", "UPDATE denypolicy SET due_at = now() - interval '3 min'"),
    ("deny_policy.overdue", "UPDATE denypolicy SET probe_due_at = now() - interval '3 min'"),
]
# Breaking one thing may break another in the same breath.
ALSO = {
    "decision.missing": {"event.of_request"},
    "extension.decision_missing": {"event.of_extension", "decision.missing"},
    "extension.unexplained_end": {"request.times", "session.outlives_its_pass"},
    "extension.pending": {"event.of_extension"},
    "request.times": {"event.of_request", "extension.unexplained_end", "session.outlives_its_pass"},
    "delivery.without_session": {"session.unrecorded"},
    "delivery.stuck": {"event.of_delivery"},
    "event.of_request": {"decision.missing", "request.times"},
    "session.unrecorded": {"event.of_delivery"},
    "revocation.over_at_the_wrong_time": {"event.of_revocation", "revocation.unattended"},
    "deny_policy.overdue": {"revocation.unattended"},
    "request.of_deactivated": {"request.times"},
    "request.not_started": {"request.times"},
    "request.overdue": {"request.times", "session.outlives_its_pass"},
}
_REQUEST = "id = (SELECT max(id) FROM accessrequest WHERE {})"
_SESSION = "id = (SELECT max(id) FROM issuedsession WHERE {})"
_DELIVERY = "id = (SELECT max(id) FROM delivery WHERE {})"
_EVENT = "id = (SELECT max(id) FROM auditevent WHERE {})"
ANY = {
    **{state: _REQUEST.format(f"state = '{state}'") for state in State.values},
    "agreed": _REQUEST.format("stage = 1 AND approved_at IS NOT NULL"),
    "accepted": _REQUEST.format("accepted_at IS NOT NULL AND approved_at IS NOT NULL"),
    "scheduled": _REQUEST.format("wanted_start_at IS NOT NULL AND activated_at IS NOT NULL"),
    "extended": "id = (SELECT max(access_request_id) FROM extension WHERE state = 'granted')",
    "granted": "id = (SELECT max(id) FROM extension WHERE state = 'granted')",
    "undecided": "id = (SELECT max(id) FROM extension WHERE state = 'pending')",
    "lapsed_with_its_pass": "id = (SELECT max(x.id) FROM extension x JOIN accessrequest r"
    " ON r.id = x.access_request_id WHERE x.state = 'lapsed' AND r.state = 'returned')",
    "decision": "id = (SELECT max(id) FROM decision WHERE extension_id IS NULL AND verdict = 'approve')",
    "of_granted": "id = (SELECT max(d.id) FROM decision d JOIN extension x ON x.id = d.extension_id"
    " WHERE x.state = 'granted')",
    "of_denied": "id = (SELECT max(d.id) FROM decision d JOIN extension x ON x.id = d.extension_id"
    " WHERE x.state = 'denied')",
    "kept": _SESSION.format("NOT discarded"),
    "delivered": "delivery_id = (SELECT max(id) FROM delivery WHERE state = 'delivered')",
    "handed_over": _DELIVERY.format("state = 'delivered'"),
    "failed": _DELIVERY.format("state = 'unavailable'"),
    "issued": _EVENT.format("action = 'session.issued'"),
    "remembered": _EVENT.format("action = 'request.reminded'"),
    "sent": "id = (SELECT max(id) FROM notice WHERE sent_at IS NOT NULL)",
}
TABLES = (
    *("accessrequest", "decision", "issuedsession", "delivery", "auditevent", "notice", "revocation", "denypolicy"),
    *('"user"', "extension"),
)


@pytest.mark.parametrize(("rule", "sql"), BREAKS, ids=[f"{number}-{rule}" for number, (rule, _) in enumerate(BREAKS)])
def test_what_is_broken_is_found(rule: str, sql: str, in_company: None) -> None:
    assert _break(sql) == 1

    found = {one.rule: one for one in invariants.broken(clock.now())}

    assert rule in found
    assert set(found) <= {rule, *ALSO.get(rule, ())}
    assert found[rule].count >= 1
    assert found[rule].examples
    assert found[rule].sentence
    assert found[rule].advice


def test_every_rule_was_broken() -> None:
    assert {rule for rule, _ in BREAKS} == {rule.name for rule in invariants.RULES}


def _break(sql: str) -> int:
    sql = sql.format(**ANY)
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA short")
        for table in TABLES:
            name = f"requests_app_{table.strip(chr(34))}"
            cursor.execute(f"CREATE VIEW short.{table} AS SELECT * FROM {name}")
        cursor.execute("SET LOCAL search_path = public, short")
        cursor.execute(sql)
        rows: int = cursor.rowcount
    return rows


def test_the_codes_are_named_and_there_are_not_too_many(in_company: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM requests_app_notice")

    (found,) = invariants.broken(clock.now())

    assert found.rule == "notice.missing"
    assert found.count > invariants.MOST_EXAMPLES == len(found.examples)
    assert set(found.examples) <= set(AccessRequest.objects.values_list("code", flat=True))
    assert found.examples[0] in str(found)


def test_what_is_late_by_less_than_the_lag_is_on_its_way(in_company: None) -> None:
    _break("UPDATE accessrequest SET decide_by = now() - interval '2 min' WHERE {pending}")
    assert rules_broken(lag=timedelta(minutes=3)) == set()
    assert rules_broken(lag=timedelta(minutes=1)) == {"request.overdue"}


def test_what_is_old_is_looked_at_only_when_all_is_asked_for(in_company: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM requests_app_auditevent WHERE id = (SELECT min(id) FROM requests_app_auditevent"
                       " WHERE action = 'request.submitted')")  # fmt: skip
    assert rules_broken(newest=5) == set()
    assert rules_broken(newest=None) == {"event.of_request"}


def test_a_question_that_takes_too_long_is_given_up(in_company: None, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = invariants.Rule("slow", "Something is wrong.", "", "SELECT pg_sleep(30)::text")
    monkeypatch.setattr(invariants, "RULES", (slow, invariants.RULES[0]))
    monkeypatch.setattr(invariants, "LONGEST_SECONDS", 1)

    (found,) = invariants.broken(clock.now())

    assert (found.rule, found.count) == ("slow", 0)
    assert found.sentence.startswith("Not known")
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


def test_the_application_may_ask_and_nothing_is_written(company: str, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock():
        servers.point_django_at(company)
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")
                assert rules_broken() == set()
        finally:
            servers.point_django_at(servers.database_name())


SOME = crowd.Crowd(
    accounts=100, roles=1_000, people=500, entitlements=40, ended=30_000, pending=200, approved=100, active=300,
    deliveries=40_000, sign_ins=2_000,
)  # fmt: skip


def test_with_much_of_everything_only_the_newest_and_the_open_are_read(
    django_db_setup: None, django_db_blocker: Any
) -> None:
    name = f"invariants_crowd_{servers.worker()}"
    with django_db_blocker.unblock():
        servers.make_test_database(name)
        try:
            with servers.as_superuser(name) as superuser:
                crowd.fill(superuser, SOME)
            servers.point_django_at(name)
            with plans.watched() as statements:
                invariants.broken(clock.now(), newest=200)
            looks = [plans.plan(one, carried_out=True) for one in statements if "AS found(code)" in one.sql]
        finally:
            servers.point_django_at(servers.database_name())
            servers.drop_database(name)
    assert len(looks) == len(invariants.RULES)
    big = {f"requests_app_{table}" for table in ("accessrequest", "auditevent", "delivery", "issuedsession", "notice")}
    assert {
        rule.name: whole
        for rule, plan in zip(invariants.RULES, looks, strict=True)
        if (whole := plan.read_whole() & big)
    } == {}
