import re
import uuid
from collections.abc import Callable, Iterator
from datetime import tzinfo
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, PermissionsMixin, UserManager
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now, Upper

from requests_app.domain import codes, hours, normal_form
from requests_app.domain.database import AUDITORS

# More than any address has, or any user name.
LONGEST_TYPED = 320


# What operators may do in the admin, as Django names it. (Each of its pages says itself what can be changed on it, and
# nothing is ever deleted.)
_OPERATORS_SEE = ("requests_app", "auth")
_OPERATORS_MAY = re.compile(r"requests_app\.(view|add|change)_\w+|auth\.(view|add|change)_group")


class _Normal:
    """For a field: stored, and looked for, in its normal form whatever is given."""

    normal: Callable[[str], str]

    def to_python(self, value: Any) -> Any:
        return self._in_form(super().to_python(value))  # type: ignore[misc]

    def get_prep_value(self, value: Any) -> Any:
        return self._in_form(super().get_prep_value(value))  # type: ignore[misc]

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = self._in_form(super().pre_save(model_instance, add))  # type: ignore[misc]
        setattr(model_instance, self.attname, value)  # type: ignore[attr-defined]
        return value

    def _in_form(self, value: Any) -> Any:
        return type(self).normal(value) if isinstance(value, str) else value


class UserName(_Normal, models.CharField):
    normal = staticmethod(normal_form.user_name)


class Address(_Normal, models.EmailField):
    normal = staticmethod(normal_form.address)


class People(UserManager["User"]):
    @classmethod
    def normalize_email(cls, email: str | None) -> str:
        return normal_form.address(email or "")

    def meant(self, typed: str) -> "User | None":
        """Whose address this is, else whose user name. Never cut, or many spellings would be one name."""
        typed = typed.replace("\0", "")
        if not typed.strip() or len(typed) > LONGEST_TYPED:
            return None
        return self.filter(email=typed).first() or self.filter(username=typed).first()

    def active(self) -> "models.QuerySet[User]":
        """Whoever is not deactivated."""
        return self.filter(deactivated_at=None)

    def operators(self) -> "models.QuerySet[User]":
        """Those who keep Daypass and are not deactivated: in SQL `requests_app_operates`."""
        return self.active().filter(is_operator=True)

    def auditors(self) -> "models.QuerySet[User]":
        """Those who see everything and are not deactivated."""
        return self.active().filter(pk__in=_in_the_group_of_auditors())

    def operators_and_auditors(self) -> "models.QuerySet[User]":
        """Everyone who answers for Daypass itself: told of what stops it."""
        return self.active().filter(Q(is_operator=True) | Q(pk__in=_in_the_group_of_auditors()))


def _in_the_group_of_auditors() -> "models.QuerySet[Any, Any]":
    return User.groups.through.objects.filter(group__name=AUDITORS).values("user")


class User(AbstractBaseUser, PermissionsMixin):
    """A person. Deactivated, never deleted: what they did stays theirs."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    username = UserName(max_length=150, validators=[UnicodeUsernameValidator()])
    email = Address()
    name = models.CharField(max_length=150, blank=True)
    time_zone = models.CharField(max_length=64, default="UTC")
    # They have said so themselves; until then their browser's is offered.
    time_zone_chosen = models.BooleanField(default=False, db_default=False, editable=False)
    # Names this person in CloudTrail for ever; a renamed person keeps it, nobody else gets it.
    source_identity = models.CharField(max_length=64, unique=True, editable=False, default=codes.new_source_identity)
    is_staff = models.BooleanField("may open the admin", default=False)
    # Keeps Daypass. Django's superuser is one too, by a trigger, and may nothing more.
    is_operator = models.BooleanField("operator", default=False, db_default=False)
    date_joined = models.DateTimeField(db_default=Now(), editable=False)
    deactivated_at = models.DateTimeField(null=True, blank=True)
    # How often all their sign-ins were ended. Triggers count, so that no door forgets: when somebody is deactivated or
    # brought back, and when their second factor changes.
    sign_in_epoch = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    # What Django, allauth and the admin ask for; one truth, so that the two cannot disagree.
    is_active = models.GeneratedField(
        expression=models.Case(models.When(deactivated_at__isnull=True, then=True), default=False),
        output_field=models.BooleanField(),
        db_persist=True,
    )

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["email"]
    objects = People()

    class Meta:
        verbose_name = "person"
        verbose_name_plural = "people"
        constraints = [
            models.UniqueConstraint(
                fields=["username"],
                name="user_one_username",
                violation_error_code="unique",
                violation_error_message="Someone has this user name.",
            ),
            models.UniqueConstraint(
                fields=["email"],
                name="user_one_email",
                violation_error_code="unique",
                violation_error_message="Someone has this address.",
            ),
            models.CheckConstraint(
                condition=Q(source_identity__regex=r"^[A-Za-z0-9_+=,.@-]{2,64}$"),
                name="user_source_identity_alphabet",
            ),
        ]
        indexes = [
            # For any part of them, and for the whole in any case: `iexact` compares upper case too.
            GinIndex(OpClass(Upper("username"), name="gin_trgm_ops"), name="user_username_search"),
            GinIndex(OpClass(Upper("email"), name="gin_trgm_ops"), name="user_email_search"),
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="user_name_search"),
        ]

    def __str__(self) -> str:
        return self.name or self.username

    @property
    def zone(self) -> tzinfo:
        """By whose clocks they read."""
        return hours.zone_or_utc(self.time_zone)

    def get_session_auth_hash(self) -> str:
        """What a sign-in carries and must still be the same: it is dead once the password or the epoch is another."""
        return f"{super().get_session_auth_hash()}{self._in_epoch}"

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        for fallback in super().get_session_auth_fallback_hash():
            yield f"{fallback}{self._in_epoch}"

    @property
    def _in_epoch(self) -> str:
        # As it was before there were epochs: nobody is signed out by an upgrade.
        return f".{self.sign_in_epoch}" if self.sign_in_epoch else ""

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """In the admin: operators by this code, everybody else by their admin groups; nobody as Django's superuser."""
        if self.is_operator:
            return bool(self.is_active and _OPERATORS_MAY.fullmatch(perm))
        return super().has_perm(perm, obj)

    def has_module_perms(self, app_label: str) -> bool:
        if self.is_operator:
            return bool(self.is_active and app_label in _OPERATORS_SEE)
        return super().has_module_perms(app_label)

    def get_full_name(self) -> str:
        return str(self)

    def get_short_name(self) -> str:
        return (self.name or self.username).split(" ")[0]


class Group(models.Model):
    """People who are treated alike by entitlements. (Django's own groups only give admin permissions.)"""

    name = models.CharField(max_length=150)
    description = models.CharField(max_length=300, blank=True)
    members = models.ManyToManyField(User, through="Membership", through_fields=("group", "user"), related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("name"), name="group_name_unique", violation_error_message="A group has this name."
            )
        ]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    class Source(models.TextChoices):
        HAND = "hand"
        CLAIM = "claim"
        SCIM = "scim"

    group = models.ForeignKey(Group, models.PROTECT, db_index=False, related_name="memberships")
    user = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="memberships")
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.HAND)
    added_at = models.DateTimeField(db_default=Now(), editable=False)
    added_by = models.ForeignKey(User, models.PROTECT, null=True, blank=True, editable=False, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["group", "user", "source"], name="membership_unique")]
        indexes = [models.Index(fields=["user", "group"], name="membership_of_user")]

    def __str__(self) -> str:
        return f"{self.user} in {self.group}"
