from typing import Any

from django.db import models
from django.db.models import Func
from django.db.models.functions import Now

from requests_app.domain.models.people import User
from requests_app.domain.models.requests import AccessRequest


class TransactionIdField(models.Field):
    """PostgreSQL's `xid8`: orders events by the transaction that wrote them, which their ids cannot."""

    def db_type(self, connection: Any) -> str:
        return "xid8"


class CurrentTransactionId(Func):
    function = "pg_current_xact_id"
    template = "%(function)s()"
    output_field = TransactionIdField()


class AuditEvent(models.Model):
    """One immutable fact. Names are copies, so that it reads the same whatever people are called later."""

    at = models.DateTimeField()
    # What the database itself saw; a trigger sets both, whatever is inserted.
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)
    transaction_id = TransactionIdField(db_default=CurrentTransactionId(), editable=False)
    action = models.CharField(max_length=64)
    # Where `db_index` is off, an index below begins with that column.
    actor = models.ForeignKey(User, models.PROTECT, null=True, db_index=False, related_name="+")
    actor_name = models.CharField(max_length=150)
    beneficiary = models.ForeignKey(User, models.PROTECT, null=True, db_index=False, related_name="+")
    beneficiary_name = models.CharField(max_length=150, blank=True)
    access_request = models.ForeignKey(AccessRequest, models.PROTECT, null=True, db_index=False, related_name="events")
    subject = models.CharField(max_length=300, blank=True)
    channel = models.CharField(max_length=16)
    ip = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)
    detail = models.JSONField(default=dict)

    class Meta:
        indexes = [
            models.Index(fields=["access_request", "id"], name="event_of_request"),
            models.Index(fields=["actor", "-id"], name="event_of_actor"),
            models.Index(fields=["beneficiary", "-id"], name="event_of_beneficiary"),
            models.Index(fields=["action", "-id"], name="event_of_action"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}".strip()
