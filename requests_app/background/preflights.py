"""A look at one role, by the worker that can see: after whatever somebody waits for, and never by many threads."""

import dataclasses
import threading
from collections import OrderedDict

from django.conf import settings

from requests_app.aws import preflight
from requests_app.aws.preflight import Findings, Subject
from requests_app.background.own_sessions import recorder
from requests_app.background.places import CORRECT_IT, place_of
from requests_app.domain import clock, jobs, partitions
from requests_app.domain.models import OwnSession
from requests_app.domain.workflow import preflights
from requests_app.domain.workflow.preflights import Found, Half, Look

# However many are due, the other threads of a worker are for those who wait.
MOST_AT_ONCE = 2
_slots = threading.BoundedSemaphore(MOST_AT_ONCE)
# A sweep wakes for more than look at once. The others come next: dropped, they would wait for another sweep, of which
# only so many would be looked at again.
MOST_KEPT = 30
_kept: OrderedDict[tuple[Half, int], None] = OrderedDict()


def look(role_id: int, half: Half) -> None:
    """Look at this role if that is due and nobody waits; where enough threads do so, after one of them."""
    if not _slots.acquire(blocking=False):
        if len(_kept) < MOST_KEPT:
            _kept[half, role_id] = None
        return
    try:
        task = preflights.take_up(role_id, half)
        if task is not None:
            preflights.note(task, _as_minter(task) if half is Half.MINTER else _as_revoker(task))
    finally:
        _slots.release()
        _wake_for_the_next()


def _wake_for_the_next() -> None:
    """By a message, so that what another look raises is not said of this one, and no thread stays with these."""
    try:
        (half, role_id), _ = _kept.popitem(last=False)
    except KeyError:
        return
    jobs.send(half.job, (role_id,))


def _as_minter(task: Look) -> Found:
    subject = Subject(
        role_arn=task.role_arn,
        region=task.region,
        installation=task.installation,
        longest_session=task.longest_session,
        chained=task.chained,
        external_id=task.external_id or None,
        federation_url=partitions.federation_url(task.partition, settings.FEDERATION_URL) if task.try_console else "",
    )
    return _found(preflight.as_minter(subject, clock.now, recorder(task.role_id, OwnSession.Purpose.PREFLIGHT)))


def _as_revoker(task: Look) -> Found:
    try:
        place = place_of(task)
    except ValueError as error:
        wrong = {"check": "revoker", "verdict": "bad", "code": "", "words": str(error), "advice": CORRECT_IT}
        return Found([wrong])
    return _found(preflight.as_revoker(place, longest_session=task.longest_session, minter_arn=task.minter_arn))


def _found(findings: Findings) -> Found:
    return Found(
        findings=[
            {name: str(value) for name, value in dataclasses.asdict(finding).items()} for finding in findings.findings
        ],
        harmless_action=findings.harmless_action,
        aws_role_id=findings.role_id,
        longest_session=findings.longest_session,
        room=findings.room,
        denies=findings.denies,
        scoping=findings.scoping,
        scoped_console=findings.scoped_console,
        console_authorization=findings.console_authorization,
        doors=[dataclasses.asdict(door) for door in findings.doors],
    )
