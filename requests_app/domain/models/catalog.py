import uuid

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Upper

from requests_app.domain import partitions


class Account(models.Model):
    partition = models.CharField(
        max_length=16, choices=[(name, name) for name in partitions.PARTITIONS], default="aws"
    )
    number = models.CharField(
        "account id",
        max_length=12,
        validators=[RegexValidator(r"\A[0-9]{12}\Z", "An account id has 12 digits.")],
    )
    name = models.CharField(max_length=100)
    is_active = models.BooleanField(default=True)
    # Configuration, not a secret: anyone who may read the role sees it. It stops the confused deputy.
    external_id = models.CharField(max_length=1224, blank=True)
    allows_source_identity = models.BooleanField(
        default=False, help_text="The trust policies here allow sts:SetSourceIdentity for Daypass."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["partition", "number"], name="account_number_unique"),
            models.UniqueConstraint(Lower("name"), name="account_name_unique"),
            models.CheckConstraint(
                condition=Q(number__regex=r"^[0-9]{12}$"), name="account_number_12_digits"
            ),
        ]
        # People find a role by typing any part of a name: `icontains` compares upper case.
        indexes = [GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="account_name_search")]

    def __str__(self) -> str:
        return f"{self.name} ({self.grouped_number})"

    @property
    def grouped_number(self) -> str:
        return "-".join((self.number[:4], self.number[4:8], self.number[8:]))


class Role(models.Model):
    class Power(models.TextChoices):
        READ = "read", "reads only"
        CHANGE = "change", "changes things"
        POWERFUL = "powerful", "powerful"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="roles")
    path = models.CharField(
        max_length=512,
        default="/",
        validators=[RegexValidator(r"\A/([\x21-\x7e]+/)?\Z", "A path such as /elevated/.")],
    )
    name = models.CharField(
        max_length=64,
        validators=[RegexValidator(r"\A[A-Za-z0-9_+=,.@-]{1,64}\Z", "As IAM writes role names.")],
    )
    description = models.CharField(max_length=300, blank=True)
    power = models.CharField(max_length=8, choices=Power.choices, default=Power.CHANGE)
    longest_session_seconds = models.PositiveIntegerField(
        default=3600,
        validators=[MinValueValidator(3600), MaxValueValidator(43200)],
        help_text="The role's MaxSessionDuration in IAM.",
    )
    identity_is_access = models.BooleanField(
        default=False,
        help_text="EKS, Vault and the like take sts:GetCallerIdentity as proof, which cannot be denied: "
        "minted only while at least 15 minutes of the pass remain.",
    )
    is_active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            # IAM's names are unique in an account whatever the path and the case, so the ARN is too.
            models.UniqueConstraint(Lower("name"), "account", name="role_name_unique_in_account"),
            models.CheckConstraint(
                condition=Q(longest_session_seconds__gte=3600, longest_session_seconds__lte=43200),
                name="role_longest_session_as_iam",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "name"], name="role_by_account"),
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="role_name_search"),
        ]

    def __str__(self) -> str:
        return f"{self.name} in {self.account.name}"

    @property
    def arn(self) -> str:
        return f"arn:{self.account.partition}:iam::{self.account.number}:role{self.path}{self.name}"

    @property
    def is_powerful(self) -> bool:
        return self.power == self.Power.POWERFUL

    @property
    def can_be_used(self) -> bool:
        return self.is_active and self.account.is_active
