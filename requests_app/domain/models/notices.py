from django.db import models
from django.db.models import JSONField, Q, Value
from django.db.models.functions import Now

from requests_app.domain.models.audit import AuditEvent
from requests_app.domain.models.catalog import Role
from requests_app.domain.models.deliveries import Delivery
from requests_app.domain.models.edits import Edit
from requests_app.domain.models.entitlements import Entitlement
from requests_app.domain.models.freezes import Freeze
from requests_app.domain.models.people import User
from requests_app.domain.models.requests import AccessRequest, Extension


class Notice(models.Model):
    """The outbox: one mail that is due to one person, and what it is about.

    What it says stands in no row: it is worked out from these columns when it is sent.
    """

    class Kind(models.TextChoices):
        """Each has a template of its name in `templates/mail`."""

        ASKED = "asked"
        REMINDED = "reminded"
        DECIDED = "decided"
        ISSUED = "issued"
        ENDING_SOON = "ending_soon"
        ENDED = "ended"
        NOT_DENIED = "not_denied"
        UNPROVED = "unproved"
        LIFTED = "lifted"
        UNEXPLAINED = "unexplained"
        HELD = "held"
        ROLE_HELD = "role_held"
        FROZEN = "frozen"
        THAWED = "thawed"
        RESTORED = "restored"
        STOPPED = "stopped"
        TROUBLE = "trouble"
        ONLY_ONE = "only_one"
        ACCEPT = "accept"
        MORE_ASKED = "more_asked"
        MORE_DECIDED = "more_decided"
        STUCK = "stuck"
        NO_USE = "no_use"
        NOBODY = "nobody"
        UNCONFIRMED = "unconfirmed"
        PROXY = "proxy"
        FACTORS = "factors"
        NOT_SCOPED = "not_scoped"
        OPERATOR = "operator"
        # To one person about how they sign in. The first two bring a link, which stands in no row: see
        # `password_links`.
        INVITED = "invited"
        NEW_PASSWORD = "new_password"  # noqa: S105
        ACCOUNT = "account"
        GUESSED = "guessed"

    kind = models.CharField(max_length=12, choices=Kind.choices)
    recipient = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="notices")
    # What it is about: as much of it as its kind has. None of these has an index, because nobody looks for a notice by
    # them, and the rows that they point at are never deleted. (The one of requests begins `notice_told_once`.)
    access_request = models.ForeignKey(AccessRequest, models.PROTECT, null=True, db_index=False, related_name="notices")
    extension = models.ForeignKey(Extension, models.PROTECT, null=True, db_index=False, related_name="+")
    stage = models.PositiveSmallIntegerField(null=True)
    # Of the request, where it is told once in each.
    state = models.CharField(max_length=12, blank=True, default="", db_default="")
    delivery = models.ForeignKey(Delivery, models.PROTECT, null=True, db_index=False, related_name="+")
    freeze = models.ForeignKey(Freeze, models.PROTECT, null=True, db_index=False, related_name="+")
    edit = models.ForeignKey(Edit, models.PROTECT, null=True, db_index=False, related_name="+")
    role = models.ForeignKey(Role, models.PROTECT, null=True, db_index=False, related_name="+")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, null=True, db_index=False, related_name="+")
    # The end that it announces, the day that it is told once in, or when what it tells of happened.
    moment = models.DateTimeField(null=True)
    # What no other row has: which code failed where, and the like. Never words.
    detail = JSONField(default=dict, db_default=Value({}, JSONField()))
    # What the record says of it.
    event = models.ForeignKey(AuditEvent, models.PROTECT, null=True, db_index=False, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    due_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    last_error = models.CharField(max_length=300, blank=True)
    sent_at = models.DateTimeField(null=True)
    gave_up_at = models.DateTimeField(null=True)
    # Written by the version before this one, which may still be at work: both go with the next. A trigger of migration
    # 0006 gives what comes with a key the columns that it has now.
    about = models.TextField(null=True, editable=False)  # noqa: DJ001
    key = models.CharField(max_length=120, null=True, editable=False)  # noqa: DJ001

    class Meta:
        constraints = [
            # So that running a sweep twice, or two at once, tells it once.
            models.UniqueConstraint(
                fields=[
                    *("access_request", "kind", "recipient", "moment", "extension", "stage", "state", "delivery"),
                    *("freeze", "edit", "role", "entitlement", "detail"),
                ],
                nulls_distinct=False,
                name="notice_told_once",
            ),
            # Not `unique=True`, which on text makes a second index, for patterns.
            models.UniqueConstraint(fields=["key"], name="notice_once"),
        ]
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
