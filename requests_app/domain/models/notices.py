from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from requests_app.domain.models.people import User
from requests_app.domain.models.requests import AccessRequest


class Notice(models.Model):
    """The outbox: one mail that is due to one person, about one request or, without one, about `about`."""

    class Kind(models.TextChoices):
        ASKED = "asked"
        REMINDED = "reminded"
        DECIDED = "decided"
        ISSUED = "issued"
        ENDING_SOON = "ending_soon"
        ENDED = "ended"
        NOT_DENIED = "not_denied"
        LIFTED = "lifted"
        HELD = "held"
        FROZEN = "frozen"
        THAWED = "thawed"
        RESTORED = "restored"
        STOPPED = "stopped"
        TROUBLE = "trouble"
        ACCEPT = "accept"
        MORE_ASKED = "more_asked"
        MORE_DECIDED = "more_decided"
        STUCK = "stuck"
        NOBODY = "nobody"
        UNCONFIRMED = "unconfirmed"
        # To one person about how they sign in. The first two bring a link, which stands in no row: see
        # `password_links`.
        INVITED = "invited"
        NEW_PASSWORD = "new_password"  # noqa: S105
        ACCOUNT = "account"

    kind = models.CharField(max_length=12, choices=Kind.choices)
    recipient = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="notices")
    access_request = models.ForeignKey(AccessRequest, models.PROTECT, null=True, related_name="notices")
    about = models.TextField(blank=True, db_default="")
    # Says which occasion this is, so that running a sweep twice announces it once.
    key = models.CharField(max_length=120)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    due_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    last_error = models.CharField(max_length=300, blank=True)
    sent_at = models.DateTimeField(null=True)
    gave_up_at = models.DateTimeField(null=True)

    class Meta:
        # Not `unique=True`, which on text makes a second index, for patterns.
        constraints = [models.UniqueConstraint(fields=["key"], name="notice_once")]
        indexes = [
            models.Index(fields=["recipient", "-id"], name="notice_of_person"),
            models.Index(fields=["due_at"], condition=Q(sent_at=None, gave_up_at=None), name="notice_due"),
            models.Index(fields=["-gave_up_at"], condition=Q(gave_up_at__isnull=False), name="notice_given_up"),
            models.Index(
                fields=["recipient", "kind", "-id"],
                condition=Q(kind__in=["invited", "new_password"]),
                name="notice_of_link",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.recipient_id}"
