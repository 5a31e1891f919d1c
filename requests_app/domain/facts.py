"""Gathers from the rows the small facts that `policy` decides on. Reads; decides nothing."""

from collections.abc import Iterable

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, Model, OuterRef, Subquery

from requests_app.domain import policy
from requests_app.domain.models import (
    AccessRequest,
    AwsClock,
    Entitlement,
    EntitlementGroup,
    EntitlementRole,
    EntitlementUser,
    ExcludedGroup,
    ExcludedUser,
    Freeze,
    Membership,
    Role,
    RoleSelector,
    User,
)
from requests_app.domain.models.catalog import keys_in
from requests_app.domain.terms import StageTerms, Terms


def person(user: User) -> policy.Person:
    # Never what an older copy of the row says: someone may have been deactivated since.
    active = User.objects.filter(pk=user.pk, deactivated_at=None).exists()
    groups = frozenset(user.memberships.values_list("group_id", flat=True))
    return policy.Person(id=user.pk, active=active, groups=groups)


def reach_of_role(
    entitlement: Entitlement, role: Role, *, outside: Iterable[int] = (), terms: Terms | None = None
) -> policy.Reach:
    """Whom the entitlement reaches, and whether with this role: it may name thousands.

    `outside` are the people who could not decide: requester and beneficiary. Without `terms` nobody is counted.
    """
    # Never what an older copy of the row says.
    row = Entitlement.objects.filter(pk=entitlement.pk, is_active=True).values_list(
        _keys(EntitlementGroup, "group"),
        _keys(EntitlementUser, "user"),
        _keys(EntitlementRole, "role", role=role.pk),
        _keys(ExcludedGroup, "group"),
        _keys(ExcludedUser, "user"),
    )
    now = row.first()
    groups, users, roles, excluded_groups, excluded_users = map(frozenset, now or ([],) * 5)
    return policy.Reach(
        active=now is not None,
        groups=groups,
        users=users,
        roles=roles,
        approval=entitlement.approval,
        stages_with_enough_people=tuple(enough_people(terms, outside=outside)) if terms else (),
        excluded_groups=excluded_groups,
        excluded_users=excluded_users,
        selectors=tuple(selector(one) for one in RoleSelector.objects.filter(entitlement=entitlement.pk)),
    )


def selector(row: RoleSelector) -> policy.Selector:
    return policy.Selector(
        account=row.account_id,
        unit=row.unit_id,
        environment=row.environment,
        account_tag=policy.Tag(row.account_tag_key, row.account_tag_value) if row.account_tag_key else None,
        role_name=row.role_name,
        role_tag=policy.Tag(row.role_tag_key, row.role_tag_value) if row.role_tag_key else None,
    )


def catalog(role: Role) -> policy.Catalog:
    frozen = Freeze.objects.holding(OuterRef("pk"), OuterRef("account")).order_by("pk").values("reason")[:1]
    now = (
        Role.objects.filter(pk=role.pk)
        .select_related("account__unit")
        .annotate(frozen=Subquery(frozen), held_until=F("deny_policy__held_until"))
        .get()
    )
    account = now.account
    return policy.Catalog(
        role=role.pk,
        usable=now.can_be_used,
        frozen=now.frozen or "",
        held_until=now.held_until,
        name=now.name,
        tags=now.tags,
        account=account.pk,
        units=keys_in(account.unit.path) if account.unit else frozenset(),
        environment=account.environment,
        account_tags=account.tags,
    )


def of(access_request: AccessRequest) -> policy.Pass:
    return policy.Pass(
        state=access_request.state,  # type: ignore[arg-type]
        requester=access_request.requester_id,
        beneficiary=access_request.beneficiary_id,
        stage=access_request.stage,
        expires_at=access_request.expires_at,
    )


def clock(region: str) -> policy.Clock | None:
    row = AwsClock.objects.filter(region=region).first()
    return policy.Clock(row.low_seconds, row.high_seconds, row.measured_at) if row else None


def approvers(stage: StageTerms, *, outside: Iterable[int]) -> "list[User]":
    """Who could decide this stage now: active, asked, and not on the asking side. By name, at most 200."""
    able = User.objects.filter(deactivated_at=None).exclude(pk__in=list(outside))
    # A union, so that each side has its index; asked for either at once, the database would read everybody.
    members = Membership.objects.filter(group__in=stage.groups).values("user")
    asked = able.filter(pk__in=members).union(able.filter(pk__in=stage.users))
    return list(asked.order_by("name", "pk")[:200])


def enough_people(terms: Terms, *, outside: Iterable[int]) -> list[bool]:
    """For each stage whether its quorum can be reached by people who satisfy no other stage."""
    able = [{user.pk for user in approvers(stage, outside=outside)} for stage in terms.stages]
    seats = [(number, people) for number, people in enumerate(able) for _ in range(terms.stages[number].quorum)]
    taken: dict[int, int] = {}  # person -> seat

    def seated(seat: int, tried: set[int]) -> bool:
        # Kuhn's matching: someone takes the seat, or moves to another one to free it.
        for one in seats[seat][1] - tried:
            tried.add(one)
            if one not in taken or seated(taken[one], tried):
                taken[one] = seat
                return True
        return False

    enough = [True] * len(able)
    for seat, (number, _) in enumerate(seats):
        if not seated(seat, set()):
            enough[number] = False
    return enough


def _keys(through: type[Model], what: str, **which: int) -> ArraySubquery:
    """Of the rows that belong to an entitlement."""
    rows = through._default_manager.filter(entitlement=OuterRef("pk"), **which)
    return ArraySubquery(rows.values(what))
