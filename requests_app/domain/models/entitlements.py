import uuid
from typing import Any, NamedTuple

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.functions import RandomUUID
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Case, Count, Q, Sum, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Lower

from requests_app.domain import hours, narrowing, patterns
from requests_app.domain.hours import Hours
from requests_app.domain.models.catalog import Role
from requests_app.domain.models.people import Group, User
from requests_app.domain.prepared import Question
from requests_app.domain.terms import STAGED, StageTerms, Terms

HOUR = 3600
DAY = 24 * HOUR


def check_zone(name: str) -> None:
    try:
        hours.zone(name)
    except ValueError as wrong:
        raise ValidationError(str(wrong)) from wrong


def check_pattern(pattern: str) -> None:
    try:
        patterns.check(pattern)
    except ValueError as wrong:
        raise ValidationError(str(wrong)) from wrong


class EntitlementQuerySet(models.QuerySet["Entitlement"]):
    def naming(self, person: User) -> "EntitlementQuerySet":
        """Those in use that name this person or a group of theirs, exclusions apart."""
        by_group = EntitlementGroup.objects.filter(group__memberships__user=person).values("entitlement")
        by_name = EntitlementUser.objects.filter(user=person).values("entitlement")
        return self.filter(Q(pk__in=by_group) | Q(pk__in=by_name), is_active=True)

    def reaching(self, person: User) -> "EntitlementQuerySet":
        """Candidates: what `policy.may_request` could allow this person."""
        theirs = "SELECT c.entitlement_id FROM requests_app_candidate c WHERE c.person_id = %s AND NOT c.for_others"
        return self.filter(pk__in=RawSQL(theirs, [person.pk]))  # noqa: S611 - its value is bound

    def for_role(self, role: Role) -> "EntitlementQuerySet":
        """Those that give the role: by its name, or by a selector that it satisfies now."""
        giving = RawSQL("SELECT g.entitlement_id FROM requests_app_given_role g WHERE g.role_id = %s", [role.pk])
        return self.filter(pk__in=giving)

    def least_demanding_first(self) -> "EntitlementQuerySet":
        """Fewer to agree, fewer stages, then longer."""
        staged = Case(When(approval=Entitlement.Approval.AUTOMATIC, then=0), default=1)
        asked = self.annotate(agreements=Coalesce(Sum("stages__quorum"), 0) + staged, steps=Count("stages"))
        return asked.order_by("agreements", "steps", "-longest_seconds", "pk")

    def with_terms(self) -> "EntitlementQuerySet":
        """With what `Terms.of` reads."""
        return self.prefetch_related("stages__groups", "stages__users", "stages__more_groups", "stages__more_users")


class Entitlement(models.Model):
    """Who may request which roles on what terms."""

    class Approval(models.TextChoices):
        AUTOMATIC = "automatic", "automatic (nobody is asked)"
        STAGED = "staged", "staged (each stage must agree)"

    class Channels(models.TextChoices):
        BOTH = "both", "the console and keys"
        CONSOLE = "console", "the console only"
        KEYS = "keys", "keys only"

    class Ticket(models.TextChoices):
        NONE = "none", "not asked for"
        OPTIONAL = "optional", "optional"
        REQUIRED = "required", "required"

    public_id = models.UUIDField(default=uuid.uuid4, db_default=RandomUUID(), unique=True, editable=False)
    name = models.CharField(max_length=150)
    is_active = models.BooleanField(default=True)
    # Counts the edits; a request stores the revision whose terms it follows.
    revision = models.PositiveIntegerField(default=1, editable=False)
    groups = models.ManyToManyField(Group, through="EntitlementGroup", blank=True, related_name="entitlements")
    users = models.ManyToManyField(User, through="EntitlementUser", blank=True, related_name="entitlements")
    # Who is excluded may not ask, whatever else names them.
    excluded_groups = models.ManyToManyField(Group, through="ExcludedGroup", blank=True, related_name="excluded_from")
    excluded_users = models.ManyToManyField(User, through="ExcludedUser", blank=True, related_name="excluded_from")
    # By name; `RoleSelector` gives others by what they are like.
    roles = models.ManyToManyField(Role, through="EntitlementRole", related_name="entitlements")
    # No default: automatic is a choice, never what is left when nobody chose.
    approval = models.CharField(max_length=10, choices=Approval.choices)
    longest_seconds = models.PositiveIntegerField(
        "longest duration (s)", default=HOUR, validators=[MinValueValidator(60), MaxValueValidator(30 * DAY)]
    )
    session_ceiling_seconds = models.PositiveIntegerField(
        "longest STS session (s)",
        default=HOUR,
        validators=[MinValueValidator(900), MaxValueValidator(12 * HOUR)],
    )
    pending_seconds = models.PositiveIntegerField("time to decide (s)", default=DAY, validators=[MinValueValidator(60)])
    start_within_seconds = models.PositiveIntegerField(
        "time to start (s)", default=8 * HOUR, validators=[MinValueValidator(60)]
    )
    default_seconds = models.PositiveIntegerField(
        "usual duration (s)", default=HOUR // 2, db_default=HOUR // 2, validators=[MinValueValidator(60)],
        help_text="What the form offers first.",
    )  # fmt: skip
    schedule_ahead_seconds = models.PositiveIntegerField(
        "may be scheduled ahead (s)", default=0, db_default=0, validators=[MaxValueValidator(90 * DAY)],
        help_text="How far ahead a start may be asked for; 0: not at all.",
    )  # fmt: skip
    # No days: at any time.
    hours_days = ArrayField(
        models.PositiveSmallIntegerField(), verbose_name="days", default=list, db_default=[], blank=True
    )
    hours_begin = models.TimeField("from", null=True, blank=True)
    hours_end = models.TimeField("to", null=True, blank=True)
    hours_zone = models.CharField("time zone", max_length=64, default="UTC", db_default="UTC", validators=[check_zone])
    extensions_most = models.PositiveSmallIntegerField(
        "extensions at most", default=0, db_default=0, validators=[MaxValueValidator(100)]
    )
    extension_total_seconds = models.PositiveIntegerField(
        "longest with extensions (s)", default=0, db_default=0, validators=[MaxValueValidator(90 * DAY)],
        help_text="Of the whole pass, from its start; only counts where extensions are allowed.",
    )  # fmt: skip
    channels = models.CharField(
        "gives", max_length=8, choices=Channels.choices, default=Channels.BOTH, db_default=Channels.BOTH
    )
    most_at_once = models.PositiveSmallIntegerField(
        "at once per person", null=True, blank=True, validators=[MinValueValidator(1)],
        help_text="How many requests and passes of one person may be open together; empty: no limit here.",
    )  # fmt: skip
    not_through_mcp = models.BooleanField(
        "not through AWS's AI gateway", default=False, db_default=False,
        help_text="Denies what comes through AWS's MCP server. That is all it catches: an AI agent that has the keys "
        "and calls AWS by itself looks like the person.",
    )  # fmt: skip
    ends_by_sts_only = models.BooleanField(
        "only where AWS itself ends the keys", default=False, db_default=False,
        help_text="To the second, by STS (sts:GetScopedCredentials): never by the session's policy alone. Where AWS "
        "refuses that, nothing is issued.",
    )  # fmt: skip
    askers = models.ManyToManyField(Group, through="EntitlementAsker", blank=True, related_name="+")
    ticket = models.CharField(max_length=10, choices=Ticket.choices, default=Ticket.OPTIONAL)
    ticket_pattern = models.CharField(max_length=300, blank=True, db_default="", validators=[check_pattern])
    justification_min = models.PositiveSmallIntegerField("shortest justification", default=10)
    justification_pattern = models.CharField(max_length=300, blank=True, db_default="", validators=[check_pattern])
    narrowing_statements = models.JSONField(
        default=list, blank=True, help_text="Session policy statements; with these, nothing else is allowed."
    )
    narrowing_policy_arns = models.JSONField(
        default=list, blank=True, help_text="Managed policies of the role's account, at most 10."
    )
    lifted = models.JSONField(
        "lifted denies",
        default=list,
        blank=True,
        help_text="Names of always-denied ways out that this one allows.",
    )

    objects = EntitlementQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("name"), name="entitlement_name_unique"),
            models.CheckConstraint(
                condition=Q(approval__in=["automatic", "staged"]), name="entitlement_approval_is_chosen"
            ),
            models.CheckConstraint(
                condition=Q(longest_seconds__gte=60, longest_seconds__lte=30 * DAY),
                name="entitlement_longest",
            ),
            models.CheckConstraint(
                condition=Q(channels__in=["both", "console", "keys"]), name="entitlement_channels_known"
            ),
            models.CheckConstraint(
                condition=Q(hours_days=[])
                | Q(hours_days__contained_by=[1, 2, 3, 4, 5, 6, 7], hours_begin__isnull=False, hours_end__isnull=False),
                name="entitlement_hours_are_whole",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def hours(self) -> Hours | None:
        if not self.hours_days or self.hours_begin is None or self.hours_end is None:
            return None
        return Hours(self.hours_zone, tuple(self.hours_days), f"{self.hours_begin:%H:%M}", f"{self.hours_end:%H:%M}")

    @property
    def narrowed_by(self) -> list[dict[str, Any]]:
        """What stands in a session's policy by these terms as they are now, Daypass's own denies apart."""
        return [*self.narrowing_statements, *([narrowing.NOT_THROUGH_MCP] if self.not_through_mcp else [])]

    def terms_now(self, role: Role | None = None) -> Terms:
        """As they are now; `role` is whose owners decide, where a stage asks them."""
        return Terms(
            entitlement=self.pk,
            name=self.name,
            revision=self.revision,
            longest_seconds=self.longest_seconds,
            approval=self.approval,
            stages=tuple(_stages(self, role)) if self.approval == STAGED else (),
            session_ceiling_seconds=self.session_ceiling_seconds,
            pending_seconds=self.pending_seconds,
            start_within_seconds=self.start_within_seconds,
            ticket=self.ticket,
            justification_min=self.justification_min,
            narrowing_statements=tuple(self.narrowing_statements),
            narrowing_policy_arns=tuple(self.narrowing_policy_arns),
            lifted=tuple(self.lifted),
            default_seconds=min(self.default_seconds, self.longest_seconds),
            schedule_ahead_seconds=self.schedule_ahead_seconds,
            hours=self.hours,
            justification_pattern=self.justification_pattern,
            ticket_pattern=self.ticket_pattern,
            extensions_most=self.extensions_most,
            extension_total_seconds=self.extension_total_seconds,
            channels=self.channels,
            most_at_once=self.most_at_once,
            not_through_mcp=self.not_through_mcp,
            ends_by_sts_only=self.ends_by_sts_only,
        )


class EntitlementGroup(models.Model):
    entitlement = models.ForeignKey(Entitlement, models.CASCADE)
    group = models.ForeignKey(Group, models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entitlement", "group"], name="entitlement_group_once")]

    def __str__(self) -> str:
        return str(self.group)


class EntitlementUser(models.Model):
    entitlement = models.ForeignKey(Entitlement, models.CASCADE)
    user = models.ForeignKey(User, models.PROTECT)

    class Meta:
        verbose_name = "entitled person"
        verbose_name_plural = "entitled people"
        constraints = [models.UniqueConstraint(fields=["entitlement", "user"], name="entitlement_user_once")]

    def __str__(self) -> str:
        return str(self.user)


class ExcludedGroup(models.Model):
    entitlement = models.ForeignKey(Entitlement, models.CASCADE, db_index=False)  # the constraint's begins with it
    group = models.ForeignKey(Group, models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entitlement", "group"], name="excluded_group_once")]

    def __str__(self) -> str:
        return str(self.group)


class ExcludedUser(models.Model):
    entitlement = models.ForeignKey(Entitlement, models.CASCADE, db_index=False)  # the constraint's begins with it
    user = models.ForeignKey(User, models.PROTECT)

    class Meta:
        verbose_name = "excluded person"
        verbose_name_plural = "excluded people"
        constraints = [models.UniqueConstraint(fields=["entitlement", "user"], name="excluded_user_once")]

    def __str__(self) -> str:
        return str(self.user)


class EntitlementRole(models.Model):
    entitlement = models.ForeignKey(Entitlement, models.CASCADE, db_index=False)  # the constraint's begins with it
    role = models.ForeignKey(Role, models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entitlement", "role"], name="entitlement_role_once")]

    def __str__(self) -> str:
        return str(self.role)


class EntitlementAsker(models.Model):
    """A group whose members may ask on behalf of those whom the entitlement reaches."""

    entitlement = models.ForeignKey(Entitlement, models.CASCADE)
    group = models.ForeignKey(Group, models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entitlement", "group"], name="entitlement_asker_once")]

    def __str__(self) -> str:
        return str(self.group)


class Stage(models.Model):
    """One step of a staged approval: these approvers, so many of whom must agree; later perhaps further ones."""

    class Owners(models.TextChoices):
        ACCOUNT = "account", "the account's owners"
        ROLE = "role", "the role's owners"

    entitlement = models.ForeignKey(Entitlement, models.CASCADE, related_name="stages")
    position = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    quorum = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    groups = models.ManyToManyField(Group, through="StageGroup", blank=True, related_name="stages")
    users = models.ManyToManyField(User, through="StageUser", blank=True, related_name="stages")
    owners = models.CharField(max_length=8, choices=Owners.choices, blank=True, db_default="")
    # After so long without an agreement, further approvers are asked as well.
    escalate_seconds = models.PositiveIntegerField(
        "ask further ones after (s)", null=True, blank=True, validators=[MinValueValidator(60)]
    )
    more_groups = models.ManyToManyField(Group, through="StageMoreGroup", blank=True, related_name="+")
    more_users = models.ManyToManyField(User, through="StageMoreUser", blank=True, related_name="+")

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["entitlement", "position"], name="stage_position_unique"),
            models.CheckConstraint(condition=Q(position__gte=1, quorum__gte=1), name="stage_asks_someone"),
            models.CheckConstraint(condition=Q(owners__in=["", "account", "role"]), name="stage_owners_known"),
        ]

    def __str__(self) -> str:
        return f"stage {self.position} of {self.entitlement}"

    def owning_group(self, role: Role) -> Group | None:
        """Who owns what is asked for, where this stage asks them."""
        if self.owners == self.Owners.ACCOUNT:
            return role.account.owners
        return role.owners if self.owners == self.Owners.ROLE else None


class StageGroup(models.Model):
    stage = models.ForeignKey(Stage, models.CASCADE)
    group = models.ForeignKey(Group, models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["stage", "group"], name="stage_group_once")]

    def __str__(self) -> str:
        return str(self.group)


class StageUser(models.Model):
    stage = models.ForeignKey(Stage, models.CASCADE)
    user = models.ForeignKey(User, models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["stage", "user"], name="stage_user_once")]

    def __str__(self) -> str:
        return str(self.user)


class StageMoreGroup(models.Model):
    stage = models.ForeignKey(Stage, models.CASCADE)
    group = models.ForeignKey(Group, models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["stage", "group"], name="stage_more_group_once")]

    def __str__(self) -> str:
        return str(self.group)


class StageMoreUser(models.Model):
    stage = models.ForeignKey(Stage, models.CASCADE)
    user = models.ForeignKey(User, models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["stage", "user"], name="stage_more_user_once")]

    def __str__(self) -> str:
        return str(self.user)


def _stages(entitlement: Entitlement, role: Role | None) -> list[StageTerms]:
    stages = []
    for position, stage in enumerate(_asked(entitlement), start=1):
        owners = Stage(owners=stage.owners).owning_group(role) if role else None
        groups = stage.groups | ({owners.pk: str(owners)} if owners else {})
        stages.append(
            StageTerms(
                position=position,
                quorum=stage.quorum,
                groups=tuple(sorted(groups)),
                users=tuple(sorted(stage.users)),
                asks=_names(groups, stage.users) or (Stage.Owners(stage.owners).label if stage.owners else ""),
                escalate_seconds=stage.escalate_seconds,
                more_groups=tuple(sorted(stage.more_groups)),
                more_users=tuple(sorted(stage.more_users)),
                more_asks=_names(stage.more_groups, stage.more_users),
            )
        )
    return stages


class _Asked(NamedTuple):
    """A stage, with whom it asks: names by their keys."""

    quorum: int
    owners: str
    escalate_seconds: int | None
    groups: dict[int, str]
    users: dict[int, str]
    more_groups: dict[int, str]
    more_users: dict[int, str]


def _asked(entitlement: Entitlement) -> list[_Asked]:
    if "stages" in getattr(entitlement, "_prefetched_objects_cache", {}):
        return [
            _Asked(
                stage.quorum, stage.owners, stage.escalate_seconds,
                *(
                    {each.pk: str(each) for each in asked.all()}
                    for asked in (stage.groups, stage.users, stage.more_groups, stage.more_users)
                ),
            )
            for stage in entitlement.stages.all()
        ]  # fmt: skip
    return [
        _Asked(*plain, *({int(key): name for key, name in names.items()} for names in named))
        for *plain, groups, users, more_groups, more_users in _STAGES.all(entitlement=entitlement.pk)
        for named in [(groups, users, more_groups, more_users)]
    ]


# A person's name is `User.__str__`.
_STAGES = Question(
    "entitlements.stages",
    """
SELECT s.quorum, s.owners, s.escalate_seconds,
    (
        SELECT coalesce(jsonb_object_agg(g.id, g.name), '{}')
        FROM requests_app_stagegroup n JOIN requests_app_group g ON g.id = n.group_id WHERE n.stage_id = s.id
    ),
    (
        SELECT coalesce(jsonb_object_agg(u.id, coalesce(nullif(u.name, ''), u.username)), '{}')
        FROM requests_app_stageuser n JOIN requests_app_user u ON u.id = n.user_id WHERE n.stage_id = s.id
    ),
    (
        SELECT coalesce(jsonb_object_agg(g.id, g.name), '{}')
        FROM requests_app_stagemoregroup n JOIN requests_app_group g ON g.id = n.group_id WHERE n.stage_id = s.id
    ),
    (
        SELECT coalesce(jsonb_object_agg(u.id, coalesce(nullif(u.name, ''), u.username)), '{}')
        FROM requests_app_stagemoreuser n JOIN requests_app_user u ON u.id = n.user_id WHERE n.stage_id = s.id
    )
FROM requests_app_stage s
WHERE s.entitlement_id = %(entitlement)s::bigint
ORDER BY s.position
""",
)


def _names(*named: dict[int, str]) -> str:
    return " or ".join(sorted(name for names in named for name in names.values()))
