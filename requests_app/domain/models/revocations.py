from django.db import models
from django.db.models import Q, Value

from requests_app.domain.models.catalog import Role
from requests_app.domain.models.requests import AccessRequest
from requests_app.domain.transitions import RevocationState


class Installation(models.Model):
    """This Daypass's own name in AWS, for ever: two that reach one role never touch each other's policy."""

    code = models.CharField(max_length=24, unique=True)
    # Which PostgreSQL cluster and which database in it this was when the owner last said so: `restored` compares.
    home = models.CharField(max_length=64, blank=True, db_default="")
    # Only the owner writes this: while a history is made (the demo's, a test's), the guards take moments from here on
    # for now. Empty in every installation that people use.
    history_from = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="installation_is_one")]

    def __str__(self) -> str:
        return self.code


class DenyPolicy(models.Model):
    """What a role's deny policy should hold and what AWS was last seen to have: one row a role.

    A role with nothing to deny and nothing at AWS has `due_at` empty.
    """

    role = models.OneToOneField(Role, models.PROTECT, related_name="deny_policy")
    generation = models.PositiveIntegerField(default=0)
    # The documents that may rightly stand at AWS: the last one written and drafts of unknown outcome.
    # None stands for no policy at all.
    expected = models.JSONField(default=list)
    # The codes that the last one written denies.
    denied = models.JSONField(default=list)
    # Where the role has no room for everyone: every session that AWS issued before then is denied too, and nothing is
    # minted on this role before `held_until`, so that no new one is among them.
    denied_before = models.DateTimeField(null=True)
    held_until = models.DateTimeField(null=True)
    # Codes of returned passes that made way: their keys work until their own end.
    left_out = models.JSONField(default=list, db_default=Value([], models.JSONField()))
    # Codes found at AWS that we do not know, and when they were first seen.
    unknown = models.JSONField(default=dict)
    written_at = models.DateTimeField(null=True)
    looked_at = models.DateTimeField(null=True)
    # How often it was read back since it was written: 1, 5, 15 minutes later and then every 15.
    looks = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    changed_outside_at = models.DateTimeField(null=True)
    aws_code = models.CharField(max_length=100, blank=True)
    aws_message = models.CharField(max_length=2000, blank=True)
    advice = models.CharField(max_length=1000, blank=True)
    # The action by which a probe shows that AWS refuses; empty until one was found to work on this role.
    probe_action = models.CharField(max_length=100, blank=True)
    probe_due_at = models.DateTimeField(null=True)
    probes = models.PositiveSmallIntegerField(default=0)
    # What AWS said to the last probe, where it showed nothing; empty where it showed that AWS refuses.
    probe_code = models.CharField(max_length=100, blank=True, db_default="")
    probe_message = models.CharField(max_length=2000, blank=True, db_default="")
    # When AWS was seen to refuse what this generation denies: from then on nobody of these begins a sign-in session.
    refused_at = models.DateTimeField(null=True)
    # The codes, among those that may have sign-in sessions, of which AWS had none left when it was last asked.
    signed_out = models.JSONField(default=list, db_default=Value([], models.JSONField()))
    # What AWS said last where it did not list or revoke them; empty where it did.
    sign_in_code = models.CharField(max_length=100, blank=True, db_default="")
    sign_in_message = models.CharField(max_length=2000, blank=True, db_default="")
    sign_in_advice = models.CharField(max_length=1000, blank=True, db_default="")
    sign_in_attempts = models.PositiveSmallIntegerField(default=0, db_default=0)

    class Meta:
        verbose_name_plural = "deny policies"
        indexes = [
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="deny_policy_due"),
            models.Index(
                fields=["probe_due_at"], condition=Q(probe_due_at__isnull=False), name="deny_policy_probe_due"
            ),
        ]

    def __str__(self) -> str:
        return f"deny policy of {self.role_id}"


class Revocation(models.Model):
    """The wanted state "the sessions of this request are denied", and whether AWS has it yet."""

    access_request = models.OneToOneField(AccessRequest, models.PROTECT, related_name="revocation")
    role = models.ForeignKey(Role, models.PROTECT, related_name="revocations")
    asked_at = models.DateTimeField()
    # From here on no session of the request, recorded or not, can still be valid: the entry may go.
    keep_until = models.DateTimeField()
    state = models.CharField(max_length=12, choices=RevocationState.choices, default=RevocationState.WANTED)
    written_at = models.DateTimeField(null=True)
    proved_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(state__in=list(RevocationState)), name="revocation_state_known"),
            models.CheckConstraint(
                condition=~Q(state="written") | Q(written_at__isnull=False), name="revocation_written_when"
            ),
            models.CheckConstraint(
                condition=~Q(state="proved") | Q(written_at__isnull=False, proved_at__isnull=False),
                name="revocation_proved_when",
            ),
        ]
        indexes = [
            models.Index(fields=["role"], condition=~Q(state="over"), name="revocation_of_role"),
            models.Index(fields=["keep_until"], condition=~Q(state="over"), name="revocation_ends"),
        ]

    def __str__(self) -> str:
        return f"{self.state}: {self.access_request_id}"
