from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Lower

from requests_app.domain.models.catalog import Role
from requests_app.domain.models.people import Group, User

HOUR = 3600
DAY = 24 * HOUR


class EntitlementQuerySet(models.QuerySet["Entitlement"]):
    def reaching(self, person: User) -> "EntitlementQuerySet":
        """Candidates: what `policy.may_request` could allow this person."""
        by_group = EntitlementGroup.objects.filter(group__memberships__user=person).values("entitlement")
        by_name = EntitlementUser.objects.filter(user=person).values("entitlement")
        not_by_group = ExcludedGroup.objects.filter(group__memberships__user=person).values("entitlement")
        not_by_name = ExcludedUser.objects.filter(user=person).values("entitlement")
        reached = self.filter(Q(pk__in=by_group) | Q(pk__in=by_name), is_active=True)
        return reached.exclude(Q(pk__in=not_by_group) | Q(pk__in=not_by_name))

    def for_role(self, role: Role) -> "EntitlementQuerySet":
        """Those that give the role: by its name, or by a selector that it satisfies now."""
        named = EntitlementRole.objects.filter(role=role).values("entitlement")
        selecting = RawSQL("SELECT requests_app_selecting(%s)", [role.pk])
        return self.filter(Q(pk__in=named) | Q(pk__in=selecting))

    def with_terms(self) -> "EntitlementQuerySet":
        """With what `Terms.of` reads."""
        return self.prefetch_related("stages__groups", "stages__users")


class Entitlement(models.Model):
    """Who may request which roles on what terms."""

    class Approval(models.TextChoices):
        AUTOMATIC = "automatic", "automatic (nobody is asked)"
        STAGED = "staged", "staged (each stage must agree)"

    class Ticket(models.TextChoices):
        NONE = "none", "not asked for"
        OPTIONAL = "optional", "optional"
        REQUIRED = "required", "required"

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
    ticket = models.CharField(max_length=10, choices=Ticket.choices, default=Ticket.OPTIONAL)
    justification_min = models.PositiveSmallIntegerField("shortest justification", default=10)
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
        ]

    def __str__(self) -> str:
        return self.name


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


class Stage(models.Model):
    """One step of a staged approval: these approvers, so many of whom must agree."""

    entitlement = models.ForeignKey(Entitlement, models.CASCADE, related_name="stages")
    position = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    quorum = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    groups = models.ManyToManyField(Group, through="StageGroup", blank=True, related_name="stages")
    users = models.ManyToManyField(User, through="StageUser", blank=True, related_name="stages")

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["entitlement", "position"], name="stage_position_unique"),
            models.CheckConstraint(condition=Q(position__gte=1, quorum__gte=1), name="stage_asks_someone"),
        ]

    def __str__(self) -> str:
        return f"stage {self.position} of {self.entitlement}"


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
