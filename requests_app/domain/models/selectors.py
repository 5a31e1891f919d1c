"""What an entitlement gives besides roles by name: those that are like this, now and later."""

from typing import Any

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Lookup, Q

from requests_app.domain.models.catalog import (
    ENVIRONMENT,
    LONGEST_TAG_KEY,
    LONGEST_TAG_VALUE,
    Account,
    OrganisationalUnit,
)
from requests_app.domain.models.entitlements import Entitlement

# What IAM allows in a role's name, and its two wildcards.
ROLE_NAME_PATTERN = r"\A[A-Za-z0-9_+=,.@*?-]+\Z"


class RoleSelector(models.Model):
    """All that a row says must hold of a role and its account; what it leaves empty is not asked.

    Resolved when it is asked. `requests_app_gives`, `policy.Selector` and `as_question` say the same thing.
    """

    entitlement = models.ForeignKey(Entitlement, models.CASCADE, related_name="selectors")
    account = models.ForeignKey(Account, models.PROTECT, null=True, blank=True, db_index=False, related_name="+")
    unit = models.ForeignKey(
        OrganisationalUnit,
        models.PROTECT,
        null=True,
        blank=True,
        db_index=False,
        related_name="+",
        help_text="With everything below it.",
    )
    environment = models.CharField(
        max_length=32, blank=True, validators=[RegexValidator(ENVIRONMENT, "Lower case, such as prod or staging-eu.")]
    )
    account_tag_key = models.CharField("account tag", max_length=LONGEST_TAG_KEY, blank=True)
    # None is any value; an empty one is a value.
    account_tag_value = models.CharField("its value", max_length=LONGEST_TAG_VALUE, null=True, blank=True)  # noqa: DJ001
    role_name = models.CharField(
        "role name",
        max_length=64,
        blank=True,
        validators=[RegexValidator(ROLE_NAME_PATTERN, "As IAM writes role names; * is any text, ? one character.")],
        help_text="* is any text, ? one character.",
    )
    role_tag_key = models.CharField("role tag", max_length=LONGEST_TAG_KEY, blank=True)
    role_tag_value = models.CharField("its value ", max_length=LONGEST_TAG_VALUE, null=True, blank=True)  # noqa: DJ001

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(account__isnull=False)
                | Q(unit__isnull=False)
                | ~Q(environment="", account_tag_key="", role_name="", role_tag_key=""),
                name="selector_says_something",
                violation_error_message="Say at least one thing: a selector that says nothing would give every role.",
            ),
            models.CheckConstraint(
                condition=(Q(account_tag_value=None) | ~Q(account_tag_key=""))
                & (Q(role_tag_value=None) | ~Q(role_tag_key="")),
                name="selector_value_of_a_tag",
                violation_error_message="A tag's value needs the tag's name.",
            ),
            models.CheckConstraint(
                condition=Q(role_name="") | Q(role_name__regex=ROLE_NAME_PATTERN), name="selector_role_name_as_iam"
            ),
            models.CheckConstraint(
                condition=Q(environment="") | Q(environment__regex=ENVIRONMENT), name="selector_environment_lower_case"
            ),
        ]

    def __str__(self) -> str:
        return f"selector {self.pk}"

    def as_question(self) -> Q:
        """To the roles: which of them it selects. With values, so that the database can plan for them."""
        return self.about_the_account() & self.about_the_role()

    def about_the_account(self) -> Q:
        asked = Q()
        if self.account_id is not None:
            asked &= Q(account=self.account_id)
        if self.unit is not None:
            asked &= Q(account__unit__path__startswith=self.unit.path)
        if self.environment:
            asked &= Q(account__environment=self.environment)
        return asked & _has_tag("account__tags", self.account_tag_key, self.account_tag_value)

    def about_the_role(self) -> Q:
        named = Q(_Like(F("name"), like(self.role_name))) if self.role_name else Q()
        return named & _has_tag("tags", self.role_tag_key, self.role_tag_value)


def like(pattern: str) -> str:
    """The pattern as SQL's LIKE has it. Of what LIKE reads otherwise, `_` alone can stand in a role's name."""
    return pattern.replace("_", r"\_").replace("?", "_").replace("*", "%")


def _has_tag(field: str, key: str, value: str | None) -> Q:
    if not key:
        return Q()
    return Q(**{f"{field}__has_key": key}) if value is None else Q(**{f"{field}__contains": {key: value}})


class _Like(Lookup):
    """Without regard to case, as the index for searching has the names."""

    lookup_name = "like"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, list[Any]]:
        name, name_params = self.process_lhs(compiler, connection)
        pattern, pattern_params = self.process_rhs(compiler, connection)
        return f"UPPER({name}::text) LIKE UPPER({pattern})", [*name_params, *pattern_params]
