from dataclasses import dataclass
from datetime import datetime

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from requests_app.delivery.web.access import PersonRequest, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.dossiers import Dossier, dossiers, left_out, sign_ins_of
from requests_app.delivery.web.frozen import each_once, frozen_by
from requests_app.delivery.web.passes import More, begins, more
from requests_app.domain import facts, reading, workflow
from requests_app.domain.models import AccessRequest, User
from requests_app.domain.terms import CONSOLE
from requests_app.domain.transitions import ENDED, OPEN, RevocationState, State
from requests_app.domain.workflow import live_sessions
from requests_app.domain.workflow.asking import REMIND_EVERY

MOST_OPEN = 50
MOST_RECENT = 10


@dataclass(frozen=True, slots=True)
class ActivePass:
    """A pass that runs, and what its reader may do with it."""

    access_request: AccessRequest
    more: More | None
    reader: User

    @property
    def is_mine(self) -> bool:
        return self.access_request.beneficiary_id == self.reader.pk

    @property
    def may_extend(self) -> bool:
        return self._may_use and self.more is not None and self.more.possible

    @property
    def may_open_console(self) -> bool:
        return self._may_use and bool(facts.may_use(self.access_request, CONSOLE))

    @property
    def _may_use(self) -> bool:
        return self.is_mine and bool(self.access_request.is_of_use)


@dataclass(frozen=True, slots=True)
class ReadyPass:
    """A pass that is approved; `begins` where it can be or will be started later."""

    access_request: AccessRequest
    begins: datetime | None
    reader: User

    @property
    def may_start(self) -> bool:
        mine = self.access_request.beneficiary_id == self.reader.pk
        return mine and self.begins is None and bool(self.access_request.is_of_use)


@require_safe
@signed_in
def home(request: PersonRequest) -> HttpResponse:
    """My access: what runs, what can be started, what waits, what was."""
    now = now_of(request)
    open_ = reading.newest_of(request.user, OPEN, MOST_OPEN)[::-1]
    by_clock: dict[State, list[AccessRequest]] = {state: [] for state in State}
    for access_request in open_:
        by_clock[access_request.state_at(now)].append(access_request)
    over = [access_request for access_request in open_ if access_request.state_at(now) in ENDED]
    recent = over + reading.newest_of(request.user, ENDED, MOST_RECENT)
    still = live_sessions.may_work_until(
        [access_request for access_request in recent if not access_request.is_open], now
    )
    going_on = [access_request for access_request in open_ if access_request not in over]
    active = sorted(by_clock[State.ACTIVE], key=lambda access_request: access_request.expires_at or now)
    longer = more([access_request for access_request in active if access_request.terms.may_be_extended], now)
    frozen = frozen_by([access_request.role for access_request in going_on])
    pending = dossiers(by_clock[State.PENDING], now, history=False, frozen=frozen)
    to_accept = [dossier.access_request for dossier in pending if _is_asked(request, dossier)]
    waiting = [(dossier, _may_remind(dossier, now)) for dossier in pending if not _is_asked(request, dossier)]
    not_accept = workflow.why_not_accept(to_accept, request.user)
    # The one primary button of the page belongs to the first of these.
    first = next(iter([*active, *by_clock[State.APPROVED], *to_accept]), None)
    return render(
        request,
        "home.html",
        {
            "freezes": each_once(frozen.values()),
            "first": first,
            "active": [
                ActivePass(access_request, longer.get(access_request.pk), request.user) for access_request in active
            ],
            "ready": [
                ReadyPass(access_request, begins(access_request, now), request.user)
                for access_request in by_clock[State.APPROVED]
            ],
            "to_accept": [(access_request, not_accept[access_request.pk]) for access_request in to_accept],
            "waiting": waiting,
            "nothing_open": first is None and not waiting,
            "left_out": left_out(recent),
            "sign_ins": sign_ins_of(recent),
            "recent": [
                (access_request, None if _is_refused(access_request) else still.get(access_request.pk))
                for access_request in recent
            ],
        },
    )


def _is_asked(request: PersonRequest, dossier: Dossier) -> bool:
    """Whether somebody asked for this person, who has not said yet that they want it."""
    access_request = dossier.access_request
    return access_request.waits_for_acceptance and access_request.beneficiary_id == request.user.pk


def _may_remind(dossier: Dossier, now: datetime) -> bool:
    access_request = dossier.access_request
    return (
        not access_request.waits_for_acceptance
        and (access_request.reminded_at or access_request.asked_at) + REMIND_EVERY <= now
    )


def _is_refused(access_request: AccessRequest) -> bool:
    """Whether AWS was seen to refuse what was issued."""
    revocation = getattr(access_request, "revocation", None)
    return revocation is not None and revocation.state == RevocationState.PROVED
