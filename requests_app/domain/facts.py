"""Gathers from the rows the small facts that `policy` decides on. Reads; decides nothing."""

from collections.abc import Iterable
from dataclasses import replace

from django.db.models import Count, F, Model, OuterRef, Q, Subquery, Sum
from django.db.models.functions import JSONObject

from requests_app.domain import deciders, policy
from requests_app.domain.models import (
    AccessRequest,
    AwsClock,
    Edit,
    Entitlement,
    EntitlementAsker,
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
from requests_app.domain.models.arrays import ArraySubquery
from requests_app.domain.models.catalog import keys_in
from requests_app.domain.terms import Terms
from requests_app.domain.transitions import ExtensionState

# What decides who may have what, memberships apart, and can be edited.
RULES = ("entitlement", "role", "account", "unit")
MOST_APPROVERS = 200


def person(user: User) -> policy.Person:
    # Never what an older copy of the row says: someone may have been deactivated since.
    groups = Membership.objects.filter(user=OuterRef("pk")).values("group")
    edits = Edit.objects.unconfirmed().filter(editor=OuterRef("pk"), member=None)
    placed = Edit.objects.unconfirmed().filter(member=OuterRef("pk"))
    found = User.objects.filter(pk=user.pk).values_list(
        "deactivated_at",
        "time_zone",
        ArraySubquery(groups),
        ArraySubquery(edits.values(json=JSONObject(**{kind: kind for kind in RULES})).distinct()),
        ArraySubquery(placed.values(json=JSONObject(editor="editor", group="group")).distinct()),
    )
    deactivated_at, time_zone, member_of, edited, placed_by = found.get()
    return policy.Person(
        id=user.pk,
        active=deactivated_at is None,
        groups=frozenset(member_of),
        edits=frozenset((kind, key) for edit in edited for kind, key in edit.items() if key is not None),
        placed=frozenset((edit["editor"], edit["group"]) for edit in placed_by),
        zone=User(time_zone=time_zone).zone,
    )


def reach_of_role(
    entitlement: Entitlement,
    role: Role,
    *,
    asking: Iterable[int] = (),
    terms: Terms | None = None,
    seconds: float = 0,
) -> policy.Reach:
    """Whom the entitlement reaches, and whether with this role: it may name thousands.

    `asking`: requester and beneficiary, who could not decide. `seconds`: how long others have for that. Without `terms`
    nobody is counted.
    """
    # Never what an older copy of the row says.
    row = Entitlement.objects.filter(pk=entitlement.pk, is_active=True).values_list(
        _keys(EntitlementGroup, "group"),
        _keys(EntitlementUser, "user"),
        _keys(EntitlementRole, "role", role=role.pk),
        _keys(ExcludedGroup, "group"),
        _keys(ExcludedUser, "user"),
        _keys(EntitlementAsker, "group"),
    )
    now = row.first()
    groups, users, roles, excluded_groups, excluded_users, askers = map(frozenset, now or ([],) * 6)
    stages = terms.stages if terms else ()
    left = [deciders.Left(stages, asking, seconds, entitlement=entitlement.pk, role=role.pk)] if stages else []
    too_few = {position for positions in deciders.lacking(left) for position in positions}
    return policy.Reach(
        active=now is not None,
        groups=groups,
        users=users,
        roles=roles,
        approval=entitlement.approval,
        stages_with_enough_people=tuple(stage.position not in too_few for stage in stages),
        askers=askers,
        rules=frozenset({("entitlement", entitlement.pk)}),
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
    frozen = Freeze.objects.holding(OuterRef("name"), OuterRef("account")).order_by("pk").values("reason")[:1]
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
        addressable=now.is_addressable,
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
    """What is known of a request, its extensions apart."""
    return policy.Pass(
        state=access_request.state,  # type: ignore[arg-type]
        requester=access_request.requester_id,
        beneficiary=access_request.beneficiary_id,
        stage=access_request.stage,
        expires_at=access_request.expires_at,
        scheduled_at=access_request.scheduled_at,
        seconds=int(access_request.duration.total_seconds()),
    )


def of_extended(access_request: AccessRequest) -> policy.Pass:
    """What is known of a request, with its extensions."""
    granted, pending = Q(state=ExtensionState.GRANTED), Q(state=ExtensionState.PENDING)
    found = access_request.extensions.aggregate(
        more=Sum("seconds", filter=granted, default=0),
        extensions=Count("pk", filter=granted),
        extensions_in_vain=Count("pk", filter=~granted & ~pending),
        pending=Count("pk", filter=pending),
    )
    known = of(access_request)
    seconds, pending_now = known.seconds + found.pop("more"), found.pop("pending") > 0
    return replace(known, seconds=seconds, extension_pending=pending_now, **found)


def clock(region: str) -> policy.Clock | None:
    row = AwsClock.objects.filter(region=region).first()
    return policy.Clock(row.low_seconds, row.high_seconds, row.measured_at) if row else None


def _keys(through: type[Model], what: str, **which: int) -> ArraySubquery:
    """Of the rows that belong to an entitlement."""
    rows = through._default_manager.filter(entitlement=OuterRef("pk"), **which)
    return ArraySubquery(rows.values(what))
