"""Looking at each role before somebody needs it at night: when it is due, and what was found.

The rows are the work. Each role has two looks, the minter's and the revoker's, about once a day; nobody waits for
them, and they wait for everybody.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from requests_app.domain import clock, jobs
from requests_app.domain.models import (
    Account,
    AwsClock,
    Delivery,
    DenyPolicy,
    Freeze,
    Installation,
    OwnSession,
    Preflight,
    Role,
)
from requests_app.domain.partitions import region
from requests_app.domain.prepared import Question
from requests_app.domain.transitions import DeliveryState
from requests_app.domain.workflow import revocations
from requests_app.domain.workflow.catalog import lock_address

Outcome = Preflight.Outcome

DAY = timedelta(days=1)
# A worker that took one up and was not heard of again is not waited for longer.
LEASE = timedelta(minutes=10)
# Somebody who is refused again and again does not make us look each time.
REFUSED_AGAIN_AFTER = timedelta(minutes=5)
# What did not get in is tried again after 2, 4, 8 … minutes, at last once a day.
FIRST_GAP = timedelta(minutes=2)
# So many roles are looked through for those without a row, each minute.
A_PART = 1500
# A sweep looks at so many that are due, and wakes workers for a few of different accounts.
WINDOW = 500
MOST_DOORS = 50
LONGEST_WORDS = 1000


class Half(StrEnum):
    """Whose look it is: each worker sees what the other cannot."""

    MINTER = "minter"
    REVOKER = "revoker"

    @property
    def due_at(self) -> str:
        return f"{self}_due_at"

    @property
    def job(self) -> str:
        return {"minter": "aws.preflight", "revoker": "revoke.preflight"}[self]

    @property
    def a_sweep(self) -> int:
        """For how many roles a sweep wakes workers, every two seconds: five calls of STS each, or about as many of IAM.

        Six are 259,200 a day, so that a catalog of 200,000 roles is looked at daily. IAM slows an account down, not the
        caller, and each is of another account.
        """
        return {"minter": 10, "revoker": 6}[self]

    @property
    def way_in(self) -> str:
        """The check without which there are no others."""
        return {"minter": TRUST, "revoker": REVOKER}[self]


TRUST, SOURCE_IDENTITY, PROOF, REVOKER = "trust", "source identity", "proof", "revoker"


@dataclass(frozen=True, slots=True)
class Look:
    """What a worker needs to look at one role: plain values. `taken_until` is by when it should have come back."""

    role_id: int
    half: Half
    role_arn: str
    revoker_role_arn: str
    region: str
    external_id: str
    installation: str
    longest_session: int
    minter_arn: str
    chained: bool
    partition: str
    try_console: bool
    taken_until: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """What a look found. `findings` are as `Preflight` has them; the rest only where that look can tell."""

    findings: Sequence[dict[str, str]]
    harmless_action: str = ""
    aws_role_id: str = ""
    longest_session: int | None = None
    room: int | None = None
    doors: Sequence[dict[str, Any]] = ()
    # Our deny policy stands there.
    denies: bool = False
    scoping: bool | None = None
    scoped_console: bool | None = None
    console_authorization: bool | None = None

    def verdict(self, check: str) -> str:
        return _verdict_on(self.findings, check)


def make_missing(limit: int = 1000) -> int:
    """A row for each role in use that has none; returns how many. A whole catalog is spread over a day.

    Looks at those that are newer than any with a row, and at another part of the others each minute: of a catalog of
    200,000 within two hours at each. Whoever changes a role or brings it back into use has made its row already.
    """
    now = clock.now()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(role_id), 0) FROM requests_app_preflight")
        (newest,) = cursor.fetchone()
        parts = min(max(newest // A_PART, 1), 120)
        size = newest // parts + 1
        first = int(now.timestamp()) // 60 % parts * size
        cursor.execute(
            _MAKE_MISSING, {"now": now, "limit": limit, "newest": newest, "first": first, "last": first + size - 1}
        )
        return int(cursor.rowcount)


def sweep_both() -> None:
    """As `sweep`, for those of whom any role is due."""
    minter, revoker = _ARE_DUE.one(shift=clock.shift())
    if minter:
        sweep(Half.MINTER)
    if revoker:
        sweep(Half.REVOKER)


_ARE_DUE = Question(
    "preflights.are_due",
    """
WITH this AS MATERIALIZED (
    SELECT clock_timestamp() + %(shift)s::interval AS moment
)
SELECT EXISTS (SELECT FROM requests_app_preflight p WHERE p.minter_due_at <= (SELECT moment FROM this)),
    EXISTS (SELECT FROM requests_app_preflight p WHERE p.revoker_due_at <= (SELECT moment FROM this))
""",
)


def sweep(half: Half) -> int:
    """Wake workers for a few roles that are due, each of another account; returns for how many."""
    if _is_restored():
        return 0
    now = clock.now()
    due = Preflight.objects.filter(**{f"{half.due_at}__lte": now}).order_by(half.due_at)
    rows = list(due.values_list("pk", "role", "role__account", "role__is_active", "role__account__is_active")[:WINDOW])
    unused = [pk for pk, _, _, *in_use in rows if not all(in_use)]
    if unused:
        Preflight.objects.filter(pk__in=unused).update(**{half.due_at: now + DAY})
    # Of each account the one that is longest due: IAM slows an account down, and one must not hold up the others.
    of_account = {account: role for _, role, account, *in_use in reversed(rows) if all(in_use)}
    chosen = list(reversed(of_account.values()))[: half.a_sweep]
    with transaction.atomic():
        jobs.nudge_each(half.job, chosen)
    return len(chosen)


def take_up(role_id: int, half: Half) -> Look | None:
    """What to look at on this role now; None if that is not due, or if somebody waits for what is more urgent."""
    if _is_restored() or _others_wait(half):
        return None
    with transaction.atomic(durable=True):
        preflight = Preflight.objects.select_for_update(no_key=True, skip_locked=True).filter(role=role_id).first()
        now = clock.now()
        role = Role.objects.select_related("account").get(pk=role_id) if preflight else None
        if preflight is None or role is None or not role.can_be_used or getattr(preflight, half.due_at) > now:
            return None
        # While AWS refuses whatever was issued on it, that of a look too, nothing is found out about the role.
        held_until = DenyPolicy.objects.filter(role=role_id).values_list("held_until", flat=True).first()
        if half is Half.MINTER and held_until is not None and held_until > now:
            Preflight.objects.filter(pk=preflight.pk).update(minter_due_at=held_until)
            return None
        reading = AwsClock.objects.filter(region=region(role.account.partition)).first()
        if reading is None:
            return None  # nobody knows yet who we are there
        installation = Installation.objects.get().code
        taken_until = now + LEASE
        Preflight.objects.filter(pk=preflight.pk).update(**{half.due_at: taken_until})
    account = role.account
    return Look(
        role_id=role_id,
        half=half,
        role_arn=role.arn,
        revoker_role_arn=f"arn:{account.partition}:iam::{account.number}:role/{settings.REVOKER_ROLE_NAME}",
        region=reading.region,
        external_id=account.external_id,
        installation=installation,
        longest_session=role.longest_session_seconds,
        minter_arn=reading.identity_arn,
        chained=reading.chained,
        partition=account.partition,
        # Once for a whole partition.
        try_console=half is Half.MINTER and reading.scoped_console is None,
        taken_until=taken_until,
    )


def note(look: Look, found: Found) -> None:
    """Write down what was found, and when to look again: in a day, or sooner if Daypass did not get in."""
    half = look.half
    if found.console_authorization is not None:
        _note_console_authorization(look, is_on=found.console_authorization)
    with transaction.atomic(durable=True):
        # Nobody corrects it meanwhile; before the preflight, as whoever does that has it.
        if lock_address(look.role_id) != look.role_arn:
            return  # it was corrected: what was found is about another role, and this one is due
        preflight = Preflight.objects.select_for_update(no_key=True).get(role=look.role_id)
        now = clock.now()
        heard = found.verdict(half.way_in) != Outcome.UNKNOWN
        # That AWS did not answer once is no reason to forget what it last said.
        if heard or getattr(preflight, f"{half}_at") is None:
            setattr(preflight, f"{half}_findings", [_storable(finding) for finding in found.findings])
            setattr(preflight, f"{half}_at", now)
            _fill(preflight, half, found)
        names_people = Role.objects.values_list("account__allows_source_identity", flat=True).get(pk=look.role_id)
        preflight.usable = _usable(preflight, names_people=names_people)
        preflight.verdict = _verdict(preflight, names_people=names_people)
        worked = heard and (preflight.usable if half is Half.MINTER else found.verdict(REVOKER)) == Outcome.GOOD
        # What nobody knows yet is asked again soon.
        worked = worked and not (half is Half.MINTER and preflight.scoping == Preflight.Scoping.UNKNOWN)
        attempts = 0 if worked else min(getattr(preflight, f"{half}_attempts") + 1, 30)
        setattr(preflight, f"{half}_attempts", attempts)
        if getattr(preflight, half.due_at) == look.taken_until:  # else somebody wants another look
            setattr(preflight, half.due_at, now + _gap(attempts))
        preflight.save()
        if found.scoped_console is not None:
            note_console(look.region, takes_scoped=found.scoped_console)
        if found.denies:
            revocations.look_after(look.role_id, now)


def note_session(
    role_id: int,
    purpose: OwnSession.Purpose,
    *,
    session_name: str,
    access_key_id: str,
    assumed_role_arn: str,
    sts_expires_at: datetime,
) -> None:
    """AWS has just given Daypass a session for itself: no session is without its record."""
    OwnSession.objects.create(
        role_id=role_id,
        purpose=purpose,
        session_name=session_name,
        access_key_id=access_key_id,
        assumed_role_arn=assumed_role_arn,
        issued_at=clock.now(),
        sts_expires_at=sts_expires_at,
    )


def note_console(region: str, *, takes_scoped: bool | None) -> None:
    """Whether the console's sign-in of that partition takes scoped keys; None: it is to be tried again."""
    AwsClock.objects.filter(region=region).update(scoped_console=takes_scoped)


def _note_console_authorization(look: Look, *, is_on: bool) -> None:
    """Before all else that was found, and by itself: whoever corrects an account has it before its roles."""
    now = Account.ConsoleAuthorization.ON if is_on else Account.ConsoleAuthorization.OFF
    _, partition, _, _, number, _ = look.role_arn.split(":", 5)
    of_account = Account.objects.filter(roles=look.role_id, partition=partition, number=number)
    of_account.exclude(console_authorization=now).update(console_authorization=now)


def harmless_action(role_id: int) -> str:
    """The action that was found to prove an early end on this role; empty if none was."""
    return Preflight.objects.filter(role=role_id).values_list("harmless_action", flat=True).first() or ""


def forget(roles: QuerySet[Role]) -> None:
    """What was found is about other roles at AWS: these were corrected."""
    now = clock.now()
    Preflight.objects.filter(role__in=roles).update(
        minter_findings=[], minter_at=None, minter_due_at=now, minter_attempts=0,
        revoker_findings=[], revoker_at=None, revoker_due_at=now, revoker_attempts=0,
        usable=Outcome.UNKNOWN, verdict=Outcome.UNKNOWN, harmless_action="", aws_role_id="",
        longest_session_seconds=None, room=None, doors=[], scoping="",
    )  # fmt: skip


def look_soon(roles: QuerySet[Role]) -> None:
    """Look at these again, for something about them was changed; many are spread over a second each."""
    ids = list(roles.values_list("pk", flat=True))
    spread = timedelta(seconds=max(len(ids) - 1, 0))
    now = clock.now()
    missing = [Preflight(role_id=pk, minter_due_at=now + spread, revoker_due_at=now + spread) for pk in ids]
    with transaction.atomic(), connection.cursor() as cursor:
        Preflight.objects.bulk_create(missing, ignore_conflicts=True, batch_size=1000)
        values: dict[str, Any] = {"now": now, "ids": ids, "spread": spread}
        cursor.execute(_LOOK_SOON, values)


def look_after_refusal(delivery_id: int) -> None:
    """AWS refused somebody: look at that role, if the last look was not just now."""
    role = Delivery.objects.filter(pk=delivery_id).values("role")
    with transaction.atomic():
        for preflight in Preflight.objects.select_for_update(no_key=True).filter(role__in=role):
            soon = max(clock.now(), (preflight.minter_at or clock.now() - DAY) + REFUSED_AGAIN_AFTER)
            preflight.minter_due_at = min(preflight.minter_due_at, soon)
            preflight.save(update_fields=["minter_due_at"])


def look_at_all() -> int:
    """Make every look due now; the sweeps take them in their own time. Returns how many roles."""
    with transaction.atomic(), connection.cursor() as cursor:
        AwsClock.objects.update(scoped_console=None)
        cursor.execute(_LOOK_AT_ALL, {"now": clock.now()})
        return int(cursor.rowcount)


# The newer ones in their order, or some of them would be behind the newest at the next look. As many as fit: there are
# more of them, and all that time.
_MAKE_MISSING = """
INSERT INTO requests_app_preflight (
    role_id, minter_findings, minter_due_at, revoker_findings, revoker_due_at, usable, verdict, harmless_action,
    aws_role_id, doors)
SELECT id, '[]', %(now)s + random() * spread, '[]', %(now)s + random() * spread, 'unknown', 'unknown', '', '', '[]'
FROM (SELECT id, CASE WHEN count(*) OVER () < %(limit)s THEN count(*) OVER () * interval '1 second'
                      ELSE interval '1 day' END AS spread
      FROM (SELECT id FROM (
                (SELECT r.id FROM requests_app_role r JOIN requests_app_account a ON a.id = r.account_id
                 WHERE r.is_active AND a.is_active AND r.id > %(newest)s
                 ORDER BY r.id LIMIT %(limit)s)
                UNION ALL
                (SELECT r.id FROM requests_app_role r JOIN requests_app_account a ON a.id = r.account_id
                 WHERE r.is_active AND a.is_active AND r.id BETWEEN %(first)s AND least(%(last)s, %(newest)s)
                   AND NOT EXISTS (SELECT FROM requests_app_preflight p
                                   WHERE p.role_id = r.id AND p.role_id BETWEEN %(first)s AND %(last)s)
                 LIMIT %(limit)s)) either LIMIT %(limit)s) missing) spread_out
ON CONFLICT DO NOTHING
"""

_LOOK_SOON = """
UPDATE requests_app_preflight
SET minter_due_at = least(minter_due_at, %(now)s + random() * %(spread)s), minter_attempts = 0,
    revoker_due_at = least(revoker_due_at, %(now)s + random() * %(spread)s), revoker_attempts = 0
WHERE role_id = ANY(%(ids)s)
"""

# In no order: else the roles of one account would come one after another.
_LOOK_AT_ALL = """
UPDATE requests_app_preflight
SET minter_due_at = least(minter_due_at, %(now)s - random() * interval '1 minute'),
    revoker_due_at = least(revoker_due_at, %(now)s - random() * interval '1 minute')
"""


def _is_restored() -> bool:
    """What operators hold themselves is looked at all the same; from a restored database nothing is minted."""
    return Freeze.objects.in_force().filter(cause=Freeze.Cause.RESTORED).exists()


def _others_wait(half: Half) -> bool:
    if half is Half.MINTER:
        return Delivery.objects.filter(state=DeliveryState.ASKED).exists()
    return DenyPolicy.objects.filter(due_at__lte=clock.now()).exists()


def _fill(preflight: Preflight, half: Half, found: Found) -> None:
    preflight.aws_role_id = found.aws_role_id[:128] or preflight.aws_role_id
    if half is Half.REVOKER:
        preflight.longest_session_seconds, preflight.room = found.longest_session, found.room
        preflight.doors = [_storable(door) for door in found.doors[:MOST_DOORS]]
        return
    if found.verdict(PROOF) != Outcome.UNKNOWN:
        preflight.harmless_action = found.harmless_action
    # That AWS did not answer this once is no reason to forget it.
    if found.scoping is not None:
        preflight.scoping = Preflight.Scoping.WORKS if found.scoping else Preflight.Scoping.REFUSED


def _usable(preflight: Preflight, *, names_people: bool) -> str:
    """Whether somebody could use the role now."""
    trust = _verdict_on(preflight.minter_findings, TRUST)
    nameless = names_people and _verdict_on(preflight.minter_findings, SOURCE_IDENTITY) == Outcome.BAD
    return Outcome.BAD if nameless else trust


def _verdict(preflight: Preflight, *, names_people: bool) -> str:
    counted = [
        finding["verdict"]
        for finding in (*preflight.minter_findings, *preflight.revoker_findings)
        # The catalog says that nobody is named there, and so it is.
        if names_people or finding["check"] != SOURCE_IDENTITY
    ]
    if Outcome.BAD in counted:
        return Outcome.BAD
    looked = preflight.minter_at is not None and preflight.revoker_at is not None
    return Outcome.GOOD if looked and set(counted) == {Outcome.GOOD} else Outcome.UNKNOWN


def _verdict_on(findings: Sequence[dict[str, str]], check: str) -> str:
    return next((finding["verdict"] for finding in findings if finding["check"] == check), Outcome.UNKNOWN)


def _gap(attempts: int) -> timedelta:
    gap = min(FIRST_GAP * 2 ** (attempts - 1), DAY) if attempts else DAY
    return gap * random.uniform(0.9, 1.1)  # noqa: S311 - so that they stay spread out


def _storable(value: Any) -> Any:
    """Without what PostgreSQL refuses, and not endless: these are AWS's words, or a trust policy's."""
    if isinstance(value, dict):
        return {key: _storable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(part) for part in value]
    return str(value).replace("\x00", "").encode("utf-8", "replace").decode()[:LONGEST_WORDS]
