import uuid

from django.db import models
from django.db.models import Q

from requests_app.domain.models.people import User
from requests_app.domain.models.requests import AccessRequest
from requests_app.domain.partitions import LONGEST_DESTINATION
from requests_app.domain.transitions import DeliveryState


class Delivery(models.Model):
    """One wish for credentials or a console link by the beneficiary, and what became of it."""

    class Kind(models.TextChoices):
        CREDENTIALS = "credentials"
        CONSOLE = "console"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    # Where `db_index` is off, an index below begins with that column.
    access_request = models.ForeignKey(AccessRequest, models.PROTECT, db_index=False, related_name="deliveries")
    beneficiary = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="deliveries")
    role = models.ForeignKey("requests_app.Role", models.PROTECT, db_index=False, related_name="deliveries")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    destination = models.CharField(max_length=LONGEST_DESTINATION, blank=True)
    # The recipient's public key; the private half never leaves the tab.
    recipient_key = models.JSONField()
    thumbprint = models.CharField(max_length=64)
    # A hash of the sign-in session that asked: only that one may take the envelope.
    sign_in = models.CharField(max_length=64)

    state = models.CharField(max_length=12, choices=DeliveryState.choices, default=DeliveryState.ASKED)
    asked_at = models.DateTimeField()
    claimed_at = models.DateTimeField(null=True)
    claimed_by = models.CharField(max_length=100, blank=True)
    sealed_at = models.DateTimeField(null=True)
    envelope_sha256 = models.CharField(max_length=64, blank=True)
    finished_at = models.DateTimeField(null=True)
    # What the person reads when it did not work; AWS's own code and words beside ours.
    message = models.CharField(max_length=1000, blank=True)
    advice = models.CharField(max_length=1000, blank=True)
    aws_code = models.CharField(max_length=100, blank=True)
    aws_message = models.CharField(max_length=2000, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["credentials", "console"]), name="delivery_kind_known"),
            models.CheckConstraint(condition=Q(state__in=list(DeliveryState)), name="delivery_state_known"),
            models.CheckConstraint(
                condition=~Q(state__in=["sealed", "delivered"])
                | Q(sealed_at__isnull=False, envelope_sha256__regex="^[0-9a-f]{64}$"),
                name="delivery_sealed_is_hashed",
            ),
        ]
        indexes = [
            models.Index(fields=["beneficiary", "-asked_at"], name="delivery_of_person"),
            models.Index(fields=["beneficiary", "-id"], name="delivery_newest_of_person"),
            models.Index(fields=["role", "-asked_at"], name="delivery_of_role"),
            models.Index(fields=["access_request", "-asked_at"], name="delivery_of_request"),
            models.Index(
                fields=["asked_at"],
                condition=Q(state__in=["asked", "claimed", "sealed"]),
                name="delivery_unfinished",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.access_request_id}"


class IssuedSession(models.Model):
    """One STS session a worker minted for a delivery: metadata only, append-only.

    With a parent, what was handed over are keys scoped from it, or those of another session of the same name after AWS
    refused to scope; the parent's keys were given to nobody.
    """

    class EndsBy(models.TextChoices):
        STS = "sts", "STS, to the second"
        POLICY = "policy", "its policy"

    delivery = models.OneToOneField(Delivery, models.PROTECT, related_name="issued_session")
    access_request = models.ForeignKey(AccessRequest, models.PROTECT, db_index=False, related_name="issued_sessions")
    beneficiary = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="+")
    role_arn = models.CharField(max_length=2048)
    session_name = models.CharField(max_length=64)
    source_identity = models.CharField(max_length=64, blank=True)
    access_key_id = models.CharField(max_length=128)
    assumed_role_id = models.CharField(max_length=200)
    minted_by = models.CharField(max_length=100)
    thumbprint = models.CharField(max_length=64)
    issued_at = models.DateTimeField()
    # From here on the session's own policy denies everything, by AWS's clock.
    cut_off = models.DateTimeField()
    sts_expires_at = models.DateTimeField()
    # What ends it with the pass: its own expiration, for GetCallerIdentity too, or what its policy denies from then on.
    ends_by = models.CharField(max_length=6, choices=EndsBy.choices, default=EndsBy.POLICY, db_default=EndsBy.POLICY)
    parent_access_key_id = models.CharField(max_length=128, blank=True, db_default="")
    parent_expires_at = models.DateTimeField(null=True)
    # AWS's code, where it refused to scope and the older way was gone instead.
    fell_back = models.CharField(max_length=100, blank=True, db_default="")
    packed_policy_size = models.PositiveSmallIntegerField(null=True)
    session_token_utilization = models.PositiveSmallIntegerField(null=True)
    # Minted, but the pass had ended while AWS was thinking: nobody was given it.
    discarded = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["access_key_id"], name="session_key_unique"),
            # Across both columns a trigger looks.
            models.UniqueConstraint(
                fields=["parent_access_key_id"],
                condition=~Q(parent_access_key_id=""),
                name="session_parent_key_unique",
            ),
            models.CheckConstraint(
                condition=~Q(ends_by="sts") | ~Q(parent_access_key_id="") & Q(parent_expires_at__isnull=False),
                name="session_ended_by_sts_has_parent",
            ),
            models.CheckConstraint(condition=Q(ends_by__in=["sts", "policy"]), name="session_end_known"),
        ]
        indexes = [
            models.Index(fields=["access_request", "-issued_at"], name="session_of_request"),
            models.Index(fields=["beneficiary", "-id"], name="session_of_person"),
        ]

    def __str__(self) -> str:
        return self.access_key_id


class AwsClock(models.Model):
    """AWS's clock minus the database's, as the worker last measured it, with who it was there."""

    region = models.CharField(max_length=32, unique=True)
    low_seconds = models.FloatField()
    high_seconds = models.FloatField()
    measured_at = models.DateTimeField()
    identity_arn = models.CharField(max_length=2048)
    chained = models.BooleanField()
    # Whether the console's sign-in takes scoped keys in this partition, as a preflight last saw it.
    scoped_console = models.BooleanField(null=True)

    class Meta:
        verbose_name = "AWS clock"

    def __str__(self) -> str:
        return f"{self.region}: {self.low_seconds:+.3f} to {self.high_seconds:+.3f} s"
