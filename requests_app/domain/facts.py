"""Gathers from the rows the small facts that `policy` decides on. Reads; decides nothing."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from django.db.models import Count, Exists, F, Model, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import JSONObject

from requests_app.domain import policy
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
    Extension,
    Freeze,
    Membership,
    Role,
    RoleSelector,
    User,
)
from requests_app.domain.models.arrays import ArraySubquery
from requests_app.domain.models.catalog import keys_in
from requests_app.domain.terms import StageTerms, Terms
from requests_app.domain.transitions import ExtensionState, State

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
    entitlement: Entitlement, role: Role, *, asking: Iterable[int] = (), terms: Terms | None = None
) -> policy.Reach:
    """Whom the entitlement reaches, and whether with this role: it may name thousands.

    `asking`: requester and beneficiary, who could not decide. Without `terms` nobody is counted.
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
    of_entitlement = frozenset({("entitlement", entitlement.pk)})
    rules = of_entitlement | rules_of_role(role) if terms else of_entitlement
    return policy.Reach(
        active=now is not None,
        groups=groups,
        users=users,
        roles=roles,
        approval=entitlement.approval,
        stages_with_enough_people=tuple(enough_people(terms, asking=asking, rules=rules)) if terms else (),
        askers=askers,
        rules=of_entitlement,
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
        rules=rules_of(access_request),
        accepted=not access_request.waits_for_acceptance,
        stage_since=access_request.stage_since or access_request.asked_at,
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


def of_extension(extension: Extension) -> policy.Pass:
    """What is known of an extension that is decided."""
    access_request = extension.access_request
    return policy.Pass(
        state=State.PENDING if extension.state == ExtensionState.PENDING else access_request.state,  # type: ignore[arg-type]
        requester=access_request.requester_id,
        beneficiary=access_request.beneficiary_id,
        stage=extension.stage,
        expires_at=access_request.expires_at,
        rules=rules_of(access_request),
        stage_since=extension.stage_since,
    )


def known_of(matter: AccessRequest | Extension) -> policy.Pass:
    return of_extension(matter) if isinstance(matter, Extension) else of(matter)


def to_be_decided(matter: AccessRequest | Extension) -> policy.Pass:
    """What is known of it, as `may_decide` looks at it."""
    one = matter.access_request if isinstance(matter, Extension) else matter
    placing = Edit.objects.placing(*one.asking_side, under=one.entitlement_id)
    return replace(known_of(matter), placed_by=frozenset(placing.values_list("editor", flat=True).distinct()))


def rules_of(access_request: AccessRequest) -> frozenset[policy.Rule]:
    """Whatever decides who may have what was asked for, and could be edited."""
    return frozenset({("entitlement", access_request.entitlement_id)}) | rules_of_role(access_request.role)


def rules_of_role(role: Role) -> frozenset[policy.Rule]:
    unit = role.account.unit
    units = frozenset(("unit", key) for key in keys_in(unit.path)) if unit else frozenset()
    return frozenset({("role", role.pk), ("account", role.account_id)}) | units


def clock(region: str) -> policy.Clock | None:
    row = AwsClock.objects.filter(region=region).first()
    return policy.Clock(row.low_seconds, row.high_seconds, row.measured_at) if row else None


def approvers(
    stage: StageTerms,
    *,
    asking: Iterable[int],
    outside: Iterable[int] = (),
    rules: frozenset[policy.Rule] = frozenset(),
    escalated: bool = False,
) -> "list[User]":
    """Who could decide this stage now: active, asked, not on the asking side or `outside`, and by no edit of `rules` or
    of a membership that is theirs or the asking side's.

    By name, at most `MOST_APPROVERS`.
    """
    asking = list(asking)
    groups, users = stage.asked(escalated=escalated)
    able = User.objects.filter(deactivated_at=None).exclude(pk__in=[*asking, *outside])
    if rules:
        able = able.exclude(pk__in=editors_of(rules)).exclude(pk__in=_placers_of(asking, rules))
    own = Edit.objects.unconfirmed().filter(
        Q(editor=OuterRef("user")) | Q(editor__in=asking), member=OuterRef("user"), group=OuterRef("group")
    )
    # A union, so that each side has its index; asked for either at once, the database would read everybody.
    members = Membership.objects.filter(~Exists(own), group__in=groups).values("user")
    asked = able.filter(pk__in=members).union(able.filter(pk__in=users))
    return list(asked.order_by("name", "pk")[:MOST_APPROVERS])


def editors_of(rules: frozenset[policy.Rule]) -> QuerySet[Any]:
    """The keys of the people whose edit of one of these nobody has confirmed."""
    about = Q()
    for kind in RULES:
        about |= Q(**{f"{kind}__in": [key for of, key in rules if of == kind]})
    return Edit.objects.unconfirmed().filter(about).values("editor")


def _placers_of(asking: Iterable[int], rules: frozenset[policy.Rule]) -> QuerySet[Any]:
    """The keys of the people who put these into a group of the entitlement, or took them out."""
    (entitlement,) = (key for kind, key in rules if kind == "entitlement")
    return Edit.objects.placing(*asking, under=entitlement).values("editor")


def enough_people(
    terms: Terms,
    *,
    asking: Iterable[int],
    outside: Iterable[int] = (),
    rules: frozenset[policy.Rule] = frozenset(),
) -> list[bool]:
    """For each stage whether its quorum can be reached by people who satisfy no other stage, further ones included."""
    able = [
        {
            user.pk
            for user in approvers(
                stage, asking=asking, outside=outside, rules=rules, escalated=stage.escalate_seconds is not None
            )
        }
        for stage in terms.stages
    ]
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
