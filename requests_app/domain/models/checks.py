from django.db import models
from django.db.models import Q

from requests_app.domain.models.catalog import Role


class Preflight(models.Model):
    """What works and what does not on one role, as our identities last found it: one row a role.

    The findings are lists of `{check, verdict, code, words, advice}`, in which `code` and `words` are mostly AWS's own.
    """

    class Outcome(models.TextChoices):
        GOOD = "good"
        BAD = "bad"
        UNKNOWN = "unknown"

    class Scoping(models.TextChoices):
        UNKNOWN = "", "not known"
        WORKS = "works"
        REFUSED = "refused"

    role = models.OneToOneField(Role, models.PROTECT, related_name="preflight")
    minter_findings = models.JSONField(default=list)
    minter_at = models.DateTimeField(null=True)
    minter_due_at = models.DateTimeField()
    # Looks in a row that did not get in: the next one waits longer.
    minter_attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    revoker_findings = models.JSONField(default=list)
    revoker_at = models.DateTimeField(null=True)
    revoker_due_at = models.DateTimeField()
    revoker_attempts = models.PositiveSmallIntegerField(default=0, db_default=0)
    # Whether somebody could use the role, as far as the minter's findings tell.
    usable = models.CharField(max_length=8, choices=Outcome.choices, default=Outcome.UNKNOWN)
    # Whether everything was found as it should be; what is bad need not keep anybody out.
    verdict = models.CharField(max_length=8, choices=Outcome.choices, default=Outcome.UNKNOWN)
    harmless_action = models.CharField(max_length=100, blank=True)
    # Whether a session of this role may get keys that STS itself ends with the pass.
    scoping = models.CharField(max_length=7, choices=Scoping.choices, blank=True, default="", db_default="")
    # AWS's own id of the role: another one means that the role was made anew.
    aws_role_id = models.CharField(max_length=128, blank=True)
    longest_session_seconds = models.PositiveIntegerField(null=True)
    # What the deny policy may have, in characters.
    room = models.IntegerField(null=True)
    # `{principal, actions, condition}` of everyone else whom the trust policy lets in.
    doors = models.JSONField(default=list)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(usable__in=["good", "bad", "unknown"]), name="preflight_usable_known"),
            models.CheckConstraint(condition=Q(verdict__in=["good", "bad", "unknown"]), name="preflight_verdict_known"),
            models.CheckConstraint(condition=Q(scoping__in=["", "works", "refused"]), name="preflight_scoping_known"),
        ]
        indexes = [
            models.Index(fields=["minter_due_at"], name="preflight_minter_due"),
            models.Index(fields=["revoker_due_at"], name="preflight_revoker_due"),
            models.Index(fields=["role"], condition=Q(verdict="bad"), name="preflight_bad"),
            # What the admin filters by.
            models.Index(fields=["usable", "-id"], name="preflight_by_usable"),
            models.Index(fields=["verdict", "-id"], name="preflight_by_verdict"),
        ]

    def __str__(self) -> str:
        return f"preflight of {self.role_id}"

    @property
    def obstacle(self) -> dict[str, str]:
        """What keeps everybody out of the role, if something does: the finding, with AWS's words."""
        wrong = (finding for finding in self.minter_findings if finding["verdict"] == self.Outcome.BAD)
        kept_out = (finding for finding in wrong if finding["check"] in ("trust", "source identity"))
        return next(kept_out, {}) if self.usable == self.Outcome.BAD else {}


class OwnSession(models.Model):
    """One STS session that Daypass had for itself, to look: nobody was given its keys. Append-only."""

    class Purpose(models.TextChoices):
        PREFLIGHT = "preflight"
        PROBE = "probe"

    role = models.ForeignKey(Role, models.PROTECT, db_index=False, related_name="own_sessions")
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    session_name = models.CharField(max_length=64)
    access_key_id = models.CharField(max_length=128)
    assumed_role_arn = models.CharField(max_length=2048)
    issued_at = models.DateTimeField()
    sts_expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["access_key_id"], name="own_session_key_unique"),
            models.CheckConstraint(condition=Q(purpose__in=["preflight", "probe"]), name="own_session_purpose_known"),
        ]
        indexes = [models.Index(fields=["role", "-id"], name="own_session_of_role")]

    def __str__(self) -> str:
        return self.access_key_id


class Identity(models.Model):
    """Who one of our workers is at AWS, in one region, as AWS last said it."""

    class Worker(models.TextChoices):
        MINTER = "minter"
        REVOKER = "revoker"

    worker = models.CharField(max_length=8, choices=Worker.choices)
    region = models.CharField(max_length=32)
    arn = models.CharField(max_length=2048, blank=True)
    # A role session itself: what it mints lasts an hour at most.
    chained = models.BooleanField(default=False)
    # The STS endpoint that is asked; a global one is slower and goes down with its region.
    endpoint = models.CharField(max_length=300, blank=True)
    regional = models.BooleanField(default=False)
    seen_at = models.DateTimeField(null=True)
    # The last failure, in AWS's words; empty after a success.
    failed_at = models.DateTimeField(null=True)
    aws_code = models.CharField(max_length=100, blank=True)
    aws_message = models.CharField(max_length=2000, blank=True)

    class Meta:
        verbose_name_plural = "identities"
        constraints = [models.UniqueConstraint(fields=["worker", "region"], name="identity_once")]

    def __str__(self) -> str:
        return f"{self.worker} in {self.region}"


class Trouble(models.Model):
    """A task that failed in a way nobody foresaw: how often since when, until it works again.

    Never what the error said: that might hold what must not be stored.
    """

    task = models.CharField(max_length=64)
    subject = models.CharField(max_length=64, blank=True)
    # Of a row that a sweep could not move: which sweep, the row's key, and when it is tried again. It stands here and
    # not in the row, for the database may refuse whatever is written there.
    sweep = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001 - there is none, not an empty one
    row = models.BigIntegerField(null=True, editable=False)
    due_at = models.DateTimeField(null=True, editable=False)
    error = models.CharField(max_length=200)
    where = models.CharField(max_length=200)
    times = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    over_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "subject"], name="trouble_once")]
        indexes = [models.Index(fields=["-last_at"], condition=Q(over_at=None), name="trouble_now")]

    def __str__(self) -> str:
        return f"{self.task} {self.subject}".strip()
