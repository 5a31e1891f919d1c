import uuid
from datetime import datetime, timedelta

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.expressions import RawSQL
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Now

from requests_app.domain import codes, texts
from requests_app.domain.models.catalog import Role
from requests_app.domain.models.entitlements import Entitlement
from requests_app.domain.models.people import User
from requests_app.domain.terms import Terms
from requests_app.domain.transitions import ENDED, OPEN, ExtensionState, State, due

_HOLDS = Func(
    F("entitlement"), F("beneficiary"), F("role"),
    function="requests_app_holds", output_field=models.BooleanField(),
)  # fmt: skip

_WAITING = "SELECT w.id FROM requests_app_waiting(%s, %s, NULL) w"
_WAITING_MORE = "SELECT w.id FROM requests_app_waiting_more(%s, %s, NULL) w"

# How long after it could begin an approved request lapses, as its terms have it.
START_WITHIN = Cast(KeyTextTransform("start_within_seconds", "terms_document"), models.IntegerField())


class AccessRequestQuerySet(models.QuerySet["AccessRequest"]):
    def with_names(self) -> "AccessRequestQuerySet":
        return self.select_related("requester", "beneficiary", "role__account", "ended_by", "revocation")

    def open(self) -> "AccessRequestQuerySet":
        return self.filter(state__in=OPEN)

    def open_at(self, now: datetime) -> "AccessRequestQuerySet":
        """Those that are open by the clock, which a sweep may not have looked at yet."""
        in_time = Q(state=State.PENDING, decide_by__gt=now) | Q(state=State.APPROVED, start_by__gt=now)
        return self.filter(in_time | Q(state=State.ACTIVE, expires_at__gt=now))

    def of_use(self) -> "AccessRequestQuerySet":
        """Those that the beneficiary may still have, as `policy.still_entitled` says it, freezes apart."""
        return self.filter(_HOLDS)

    def of_no_use(self) -> "AccessRequestQuerySet":
        return self.filter(~Q(_HOLDS))

    def wanted(self) -> "AccessRequestQuerySet":
        """Without what somebody else asked for, as long as whom it is for has not accepted it."""
        return self.filter(Q(requester=F("beneficiary")) | Q(accepted_at__isnull=False))

    def waiting_for(self, person: User, now: datetime) -> "AccessRequestQuerySet":
        """What `policy.may_decide` allows this person; a page reads the first few of these by `reading.waiting`."""
        return self.filter(pk__in=RawSQL(_WAITING, [person.pk, now]))  # noqa: S611 - a text of ours


class ExtensionQuerySet(models.QuerySet["Extension"]):
    def waiting_for(self, person: User, now: datetime) -> "ExtensionQuerySet":
        """As of a request."""
        return self.filter(pk__in=RawSQL(_WAITING_MORE, [person.pk, now]))  # noqa: S611 - a text of ours


class AccessRequest(models.Model):
    """One person asking for one role for a duration with a justification: the whole life cycle."""

    class Start(models.TextChoices):
        ON_DEMAND = "on_demand", "when I press Start"
        AT_ONCE = "at_once", "at once"
        AT_TIME = "at_time", "at a time"

    code = models.CharField(max_length=11, editable=False, default=codes.new_code)
    # Where `db_index` is off, an index below begins with that column, or nobody looks by it.
    requester = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="requests_made")
    beneficiary = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="requests")
    role = models.ForeignKey(Role, models.PROTECT, db_index=False, related_name="requests")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, related_name="requests")
    terms_document = models.JSONField(editable=False)
    justification = models.TextField(max_length=2000)
    ticket = models.CharField(max_length=100, blank=True)
    duration_seconds = models.PositiveIntegerField()
    # When it is wanted from, where it was scheduled.
    wanted_start_at = models.DateTimeField(null=True)
    start = models.CharField(max_length=10, choices=Start.choices, default=Start.ON_DEMAND)

    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    asked_at = models.DateTimeField()
    decide_by = models.DateTimeField()
    # The stage that is being decided, from 1; 0 where nobody is asked.
    stage = models.PositiveSmallIntegerField(default=0)
    # Who that stage asks: only to find candidates quickly, the stored terms decide.
    deciding_groups = ArrayField(models.BigIntegerField(), default=list, editable=False)
    deciding_users = ArrayField(models.BigIntegerField(), default=list, editable=False)
    stage_since = models.DateTimeField(null=True, editable=False)
    # When further approvers are to be asked at the present stage; empty when they are, or there are none.
    escalate_at = models.DateTimeField(null=True, editable=False)
    # Where somebody asked for another: when that other one accepted it.
    accepted_at = models.DateTimeField(null=True, editable=False)
    # What approvers made of the wish: begun later, or shortened.
    scheduled_at = models.DateTimeField(null=True, editable=False)
    offered_seconds = models.PositiveIntegerField(null=True, editable=False)
    approved_at = models.DateTimeField(null=True, editable=False)
    approved_seconds = models.PositiveIntegerField(null=True, editable=False)
    start_by = models.DateTimeField(null=True, editable=False)
    activated_at = models.DateTimeField(null=True, editable=False)
    expires_at = models.DateTimeField(null=True, editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)
    ended_by = models.ForeignKey(User, models.PROTECT, null=True, editable=False, db_index=False, related_name="+")
    end_reason = models.CharField(max_length=texts.LONGEST_COMMENT, blank=True, editable=False)
    reminded_at = models.DateTimeField(null=True, editable=False)

    # Set by the verb that asks: it was asked before with the same one-time value, and this is what came of it.
    is_repeat = False
    # Whether the beneficiary may still have it, freezes apart, where `reading` was asked for it of an open one.
    is_of_use: bool | None = None
    # The document that was read last, and what it says.
    _terms: tuple[object, Terms] | None = None

    objects = AccessRequestQuerySet.as_manager()

    class Meta:
        constraints = [
            # Not `unique=True`, which on text makes a second index, for patterns.
            models.UniqueConstraint(fields=["code"], name="request_code_unique"),
            models.CheckConstraint(condition=Q(code__regex=codes.CODE_IN_SQL), name="request_code_form"),
            models.CheckConstraint(condition=Q(duration_seconds__gte=60), name="request_lasts_a_minute"),
            models.CheckConstraint(condition=Q(state__in=list(State)), name="request_state_known"),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "denied"], approved_at=None)
                | Q(state__in=["withdrawn", "lapsed"])
                | Q(
                    state__in=["approved", "active", "expired", "returned", "revoked"],
                    approved_at__isnull=False,
                ),
                name="request_approved_at_fits_state",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["active", "expired", "returned"], activated_at__isnull=False)
                | Q(state__in=["pending", "approved", "denied", "withdrawn", "lapsed"], activated_at=None)
                | Q(state="revoked"),
                name="request_activated_at_fits_state",
            ),
            models.CheckConstraint(
                condition=Q(state__in=list(OPEN), ended_at=None) | Q(state__in=list(ENDED), ended_at__isnull=False),
                name="request_ended_at_fits_state",
            ),
            models.CheckConstraint(
                condition=Q(approved_at=None, approved_seconds=None, start_by=None, activated_at=None)
                | Q(approved_at__isnull=False, approved_seconds__isnull=False, start_by__isnull=False),
                name="request_approval_is_whole",
            ),
            models.CheckConstraint(
                condition=Q(activated_at=None, expires_at=None)
                | Q(activated_at__isnull=False, expires_at__gt=models.F("activated_at")),
                name="request_has_an_end",
            ),
            models.CheckConstraint(
                condition=~Q(state="expired") | Q(ended_at=models.F("expires_at")),
                name="request_expired_at_its_end",
            ),
        ]
        indexes = [
            models.Index(fields=["beneficiary", "-asked_at"], name="request_of_beneficiary"),
            models.Index(fields=["requester", "-asked_at"], name="request_of_requester"),
            models.Index(fields=["role", "-asked_at"], name="request_of_role"),
            # As the admin goes through them.
            models.Index(fields=["beneficiary", "-id"], name="request_newest_of_beneficiary"),
            models.Index(fields=["requester", "-id"], name="request_newest_of_requester"),
            # The sweeps' own: tiny, because few requests are open.
            models.Index(fields=["decide_by"], condition=Q(state="pending"), name="request_pending_due"),
            models.Index(
                fields=["escalate_at"],
                condition=Q(state="pending", escalate_at__isnull=False),
                name="request_escalates",
            ),
            models.Index(fields=["start_by"], condition=Q(state="approved"), name="request_approved_due"),
            models.Index(
                fields=["start_by"], condition=Q(state="approved", start="at_once"), name="request_to_be_started"
            ),
            # Which of those could begin by now: so long before that they are open, if they keep hours.
            models.Index(
                START_WITHIN, "start_by", condition=Q(state="approved", start="at_once"), name="request_begins"
            ),
            models.Index(
                fields=["scheduled_at"], condition=Q(state="approved", start="at_time"), name="request_scheduled_due"
            ),
            models.Index(fields=["expires_at"], condition=Q(state="active"), name="request_active_due"),
            GinIndex(fields=["deciding_groups"], condition=Q(state="pending"), name="request_asks_groups"),
            GinIndex(fields=["deciding_users"], condition=Q(state="pending"), name="request_asks_users"),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def terms(self) -> Terms:
        """As they are stored: read once from each document, for a page asks for them many times."""
        if self._terms is None or self._terms[0] is not self.terms_document:
            self._terms = self.terms_document, Terms.from_document(self.terms_document)
        return self._terms[1]

    @property
    def duration(self) -> timedelta:
        """From start to end, extensions apart, as far as it is settled."""
        return timedelta(seconds=self.approved_seconds or self.offered_seconds or self.duration_seconds)

    # What is decided is a request or an extension of one, and both answer these.
    @property
    def access_request(self) -> "AccessRequest":
        return self

    @property
    def extension(self) -> "Extension | None":
        return None

    @property
    def is_pending(self) -> bool:
        return self.state == State.PENDING

    @property
    def deciding_began_at(self) -> datetime:
        """Since when anybody could decide: what is asked for another waits for that one first."""
        return self.accepted_at or self.asked_at

    @property
    def stage_began_at(self) -> datetime:
        return self.stage_since or self.asked_at

    @property
    def settled_at(self) -> datetime | None:
        """When the last stage that began was decided, or no longer mattered."""
        return self.approved_at or self.ended_at

    @property
    def is_for_another(self) -> bool:
        return self.requester_id != self.beneficiary_id

    @property
    def waits_for_acceptance(self) -> bool:
        return self.is_for_another and self.accepted_at is None

    @property
    def asking_side(self) -> set[int]:
        """The keys of those who asked or benefit: they may take it back, and decide nothing about it."""
        return {self.requester_id, self.beneficiary_id}

    @property
    def decisions(self) -> "models.QuerySet[Decision]":
        """Those on the request itself; those on its extensions are theirs."""
        return self.all_decisions.filter(extension=None)

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    def due(self, now: datetime) -> State | None:
        """The state this request should be in by the clock, if that is another one."""
        return due(self.state, now, decide_by=self.decide_by, start_by=self.start_by, expires_at=self.expires_at)

    def state_at(self, now: datetime) -> State:
        """What is true by the clock, which the sweep may not have recorded yet."""
        return self.due(now) or State(self.state)


class Extension(models.Model):
    """The beneficiary of an active pass asks for more time: a decision of its own, under the pass's terms."""

    public_id = models.UUIDField(default=uuid.uuid4, db_default=RandomUUID(), unique=True, editable=False)
    access_request = models.ForeignKey(AccessRequest, models.PROTECT, db_index=False, related_name="extensions")
    asked_by = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="+")
    seconds = models.PositiveIntegerField()
    justification = models.TextField(max_length=2000)
    state = models.CharField(max_length=10, choices=ExtensionState.choices, default=ExtensionState.PENDING)
    asked_at = models.DateTimeField()
    # Never after the end of the pass: then it is too late.
    decide_by = models.DateTimeField()
    stage = models.PositiveSmallIntegerField(default=0)
    stage_since = models.DateTimeField()
    escalate_at = models.DateTimeField(null=True, editable=False)
    deciding_groups = ArrayField(models.BigIntegerField(), default=list, editable=False)
    deciding_users = ArrayField(models.BigIntegerField(), default=list, editable=False)
    previous_end = models.DateTimeField(null=True, editable=False)
    new_end = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    # As of a request.
    is_repeat = False

    objects = ExtensionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["access_request"], condition=Q(state="pending"), name="extension_one_pending"
            ),
            models.CheckConstraint(condition=Q(state__in=list(ExtensionState)), name="extension_state_known"),
            models.CheckConstraint(
                condition=Q(state="pending", finished_at=None) | ~Q(state="pending") & Q(finished_at__isnull=False),
                name="extension_finished_when_decided",
            ),
            models.CheckConstraint(
                condition=Q(state="granted", previous_end__isnull=False, new_end__gt=models.F("previous_end"))
                | ~Q(state="granted"),
                name="extension_granted_moves_the_end",
            ),
        ]
        indexes = [
            models.Index(fields=["access_request", "id"], name="extension_of_request"),
            # As the admin goes through them; only the beneficiary asks for more.
            models.Index(fields=["asked_by", "-id"], name="extension_newest_of_person"),
            models.Index(fields=["decide_by"], condition=Q(state="pending"), name="extension_pending_due"),
            models.Index(
                fields=["escalate_at"],
                condition=Q(state="pending", escalate_at__isnull=False),
                name="extension_escalates",
            ),
            GinIndex(fields=["deciding_groups"], condition=Q(state="pending"), name="extension_asks_groups"),
            GinIndex(fields=["deciding_users"], condition=Q(state="pending"), name="extension_asks_users"),
        ]

    def __str__(self) -> str:
        return f"{self.seconds} s more for {self.access_request}"

    @property
    def duration(self) -> timedelta:
        return timedelta(seconds=self.seconds)

    @property
    def extension(self) -> "Extension | None":
        return self

    @property
    def is_pending(self) -> bool:
        return self.state == ExtensionState.PENDING

    @property
    def deciding_began_at(self) -> datetime:
        return self.asked_at

    @property
    def stage_began_at(self) -> datetime:
        return self.stage_since

    @property
    def settled_at(self) -> datetime | None:
        return self.finished_at

    @property
    def waits_for_acceptance(self) -> bool:
        """Never: only the beneficiary asks for more."""
        return False

    @property
    def terms(self) -> Terms:
        return self.access_request.terms

    @property
    def asking_side(self) -> set[int]:
        return self.access_request.asking_side


class Decision(models.Model):
    """One approver's verdict on one stage of one request, or of an extension of it. Append-only."""

    class Answer(models.TextChoices):
        APPROVE = "approve"
        DENY = "deny"

    access_request = models.ForeignKey(AccessRequest, models.PROTECT, db_index=False, related_name="all_decisions")
    extension = models.ForeignKey(Extension, models.PROTECT, null=True, related_name="decisions")
    stage = models.PositiveSmallIntegerField()
    approver = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="decisions")
    approver_name = models.CharField(max_length=150)
    verdict = models.CharField(max_length=8, choices=Answer.choices)
    comment = models.CharField(max_length=texts.LONGEST_COMMENT, blank=True)
    decided_at = models.DateTimeField()
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["decided_at", "pk"]
        constraints = [
            # One person has one say, so the same person cannot satisfy two stages either.
            models.UniqueConstraint(
                fields=["access_request", "extension", "approver"], nulls_distinct=False, name="decision_once"
            ),
            models.CheckConstraint(condition=Q(verdict__in=["approve", "deny"]), name="decision_verdict_known"),
        ]
        indexes = [models.Index(fields=["approver", "-id"], name="decision_of_approver")]

    def __str__(self) -> str:
        return f"{self.verdict} by {self.approver_name}"


class Transition(models.Model):
    """The copy of `transitions.TRANSITIONS` that the triggers read. Written by `after_migrate` only."""

    machine = models.CharField(max_length=16)
    before = models.CharField(max_length=16)
    after = models.CharField(max_length=16)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["machine", "before", "after"], name="transition_unique")]

    def __str__(self) -> str:
        return f"{self.machine}: {self.before} to {self.after}"
