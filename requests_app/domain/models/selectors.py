"""What an entitlement gives besides roles by name: those that are like this, now and later."""

from collections.abc import Collection, Mapping
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
    Scattered,
)
from requests_app.domain.models.entitlements import Entitlement

# What IAM allows in a role's name, and its two wildcards.
ROLE_NAME_PATTERN = r"\A[A-Za-z0-9_+=,.@*?-]+\Z"


FEW_SELECTORS = 4
SAYS = (
    *("account_id", "unit_id", "environment", "account_tag_key", "account_tag_value"),
    *("role_name", "role_tag_key", "role_tag_value"),
)


class RoleSelectorQuerySet(models.QuerySet["RoleSelector"]):
    def questions(self) -> list[Q]:
        """To the roles, which of them at least one of these selects: a few questions, which are answered by different
        indexes. Values throughout, so that the database knows how many roles to expect.
        """
        selectors = list(self.select_related("unit").order_by(*SAYS).distinct(*SAYS))
        of_accounts: list[Q] = []
        of_roles: list[Q] = []
        for selector, question in zip(selectors, in_questions(selectors), strict=True):
            (of_roles if selector.asks_of_the_role else of_accounts).append(question)
        # How many roles have some name or tag is guessed less well, and guessed worst for many at once.
        few = of_roles if len(of_roles) <= FEW_SELECTORS else _one(of_roles)
        return _one(of_accounts) + [Scattered(question) for question in few]


class RoleSelector(models.Model):
    """All that a row says must hold of a role and its account; what it leaves empty is not asked.

    Resolved when somebody asks: `requests_app_given_role` of the database says which roles it means, and `as_question`
    the same for lists.
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
    account_tag_value = models.CharField(  # noqa: DJ001
        "account tag's value", max_length=LONGEST_TAG_VALUE, null=True, blank=True, help_text="Left empty, any value."
    )
    role_name = models.CharField(
        "role name",
        max_length=64,
        blank=True,
        validators=[RegexValidator(ROLE_NAME_PATTERN, "As IAM writes role names; * is any text, ? one character.")],
        help_text="* is any text, ? one character.",
    )
    role_tag_key = models.CharField("role tag", max_length=LONGEST_TAG_KEY, blank=True)
    role_tag_value = models.CharField(  # noqa: DJ001
        "role tag's value", max_length=LONGEST_TAG_VALUE, null=True, blank=True, help_text="Left empty, any value."
    )

    objects = RoleSelectorQuerySet.as_manager()

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
        return self.in_words()

    def in_words(self) -> str:
        """Such as: roles named Read*, in accounts below Root / Workloads."""
        of_roles = []
        if self.role_name:
            of_roles.append(f"named {self.role_name}")
        if self.role_tag_key:
            of_roles.append(_tag_in_words(self.role_tag_key, self.role_tag_value))
        of_accounts = [f"in {self.account}"] if self.account else []
        if self.unit:
            of_accounts.append(f"in or below the unit {self.unit}")
        if self.environment:
            of_accounts.append(f"of the environment {self.environment}")
        if self.account_tag_key:
            of_accounts.append(f"whose account is {_tag_in_words(self.account_tag_key, self.account_tag_value)}")
        kind = "roles" if of_roles else "all roles"
        return ", ".join([" ".join([kind, " and ".join(of_roles)]).strip(), *of_accounts])

    @property
    def asks_of_the_role(self) -> bool:
        """What few roles are, or some; a name that any has asks nothing."""
        return bool(self.role_name.strip("*") or self.role_tag_key)

    def as_question(self, below: Mapping[int, Collection[int]]) -> Q:
        """To the roles: which of them it selects. `below` is what there is below its unit."""
        asked = Q()
        if self.account_id is not None:
            asked &= Q(account=self.account_id)
        if self.unit_id is not None:
            asked &= Q(account__unit__in=below[self.unit_id])
        if self.environment:
            asked &= Q(account__environment=self.environment)
        if self.role_name:
            asked &= Q(_Like(F("name"), like(self.role_name)))
        asked &= _has_tag("account__tags", self.account_tag_key, self.account_tag_value)
        return asked & _has_tag("tags", self.role_tag_key, self.role_tag_value)


def in_questions(selectors: Collection[RoleSelector]) -> list[Q]:
    """For each what it asks of the roles; one query for all their units."""
    below = OrganisationalUnit.objects.below(selector.unit for selector in selectors if selector.unit is not None)
    return [selector.as_question(below) for selector in selectors]


def _one(questions: list[Q]) -> list[Q]:
    return [Q(*questions, _connector=Q.OR)] if questions else []


def like(pattern: str) -> str:
    """The pattern as SQL's LIKE has it. Of what LIKE reads otherwise, `_` alone can stand in a role's name."""
    return pattern.replace("_", r"\_").replace("?", "_").replace("*", "%")


def _has_tag(field: str, key: str, value: str | None) -> Q:
    if not key:
        return Q()
    return Q(**{f"{field}__has_key": key}) if value is None else Q(**{f"{field}__contains": {key: value}})


def _tag_in_words(key: str, value: str | None) -> str:
    return f"tagged {key}" if value is None else f"tagged {key} = {value or 'nothing'}"


class _Like(Lookup):
    """Without regard to case, as the index for searching has the names."""

    lookup_name = "like"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        name, name_params = self.process_lhs(compiler, connection)
        pattern, pattern_params = self.process_rhs(compiler, connection)
        return f"UPPER({name}::text) LIKE UPPER({pattern})", (*name_params, *pattern_params)
