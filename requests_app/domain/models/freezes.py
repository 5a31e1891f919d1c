import uuid

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import Q

from requests_app.domain.models.catalog import Account, Role
from requests_app.domain.models.people import User
from requests_app.domain.models.requests import AccessRequest


class FreezeQuerySet(models.QuerySet["Freeze"]):
    def in_force(self) -> "FreezeQuerySet":
        return self.filter(lifted_at=None)


class Freeze(models.Model):
    """Nothing is asked for, approved, started or minted until it is lifted: everywhere, in an account, or on a role.

    What runs already goes on until its own end; ending it is always possible. Where there are two operators, one
    asks to lift it and another lifts it.
    """

    class Cause(models.TextChoices):
        OPERATOR = "operator", "by an operator"
        # Found by Daypass itself: the database is not the one it was. See `Confirmation`.
        RESTORED = "restored", "the database was restored"

    public_id = models.UUIDField(default=uuid.uuid4, db_default=RandomUUID(), unique=True, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, null=True, related_name="freezes")
    role = models.ForeignKey(Role, models.PROTECT, null=True, related_name="freezes")
    cause = models.CharField(max_length=10, choices=Cause.choices, default=Cause.OPERATOR)
    reason = models.CharField(max_length=500)
    begun_at = models.DateTimeField()
    begun_by = models.ForeignKey(User, models.PROTECT, null=True, db_index=False, related_name="+")
    lift_asked_at = models.DateTimeField(null=True)
    lift_asked_by = models.ForeignKey(User, models.PROTECT, null=True, db_index=False, related_name="+")
    lifted_at = models.DateTimeField(null=True)
    lifted_by = models.ForeignKey(User, models.PROTECT, null=True, db_index=False, related_name="+")

    objects = FreezeQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(account=None) | Q(role=None), name="freeze_has_one_scope"),
            models.CheckConstraint(condition=Q(cause__in=["operator", "restored"]), name="freeze_cause_known"),
            models.CheckConstraint(
                condition=Q(cause="operator", begun_by__isnull=False) | Q(cause="restored", account=None, role=None),
                name="freeze_begun_by_someone",
            ),
            models.CheckConstraint(
                condition=Q(lifted_at=None, lifted_by=None)
                | Q(lifted_at__isnull=False, lifted_by__isnull=False, lift_asked_by__isnull=False),
                name="freeze_lifted_by_someone",
            ),
            models.UniqueConstraint(
                fields=["account", "role", "cause"],
                condition=Q(lifted_at=None),
                nulls_distinct=False,
                name="freeze_once_in_force",
            ),
        ]

    def __str__(self) -> str:
        return str(self.role or self.account or "everything")


class Confirmation(models.Model):
    """An operator's word that a pass found in a restored database is to live on. Append-only."""

    freeze = models.ForeignKey(Freeze, models.PROTECT, db_index=False, related_name="confirmations")
    access_request = models.ForeignKey(AccessRequest, models.PROTECT, db_index=False, related_name="confirmations")
    confirmed_by = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="+")
    confirmed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["freeze", "access_request"], name="confirmation_once"),
        ]
        indexes = [models.Index(fields=["access_request"], name="confirmation_of_request")]

    def __str__(self) -> str:
        return f"{self.access_request_id} lives on"
