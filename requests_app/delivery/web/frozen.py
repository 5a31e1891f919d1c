"""What operators hold frozen, for the pages of those whom it stops."""

from collections.abc import Collection, Iterable

from django.db.models import Q

from requests_app.domain.models import Freeze, Role


def frozen_by(roles: Collection[Role]) -> dict[int, Freeze]:
    """By the role's key, the freeze in force that it is under, and of several the one that `policy` names; one query,
    none for no roles."""
    if not roles:
        return {}
    accounts = {role.account_id for role in roles}
    # A role's own is that of whatever row stands, or stood, for it: `_covers` compares the names.
    over = Q(role__account__in=accounts) | Q(account__in=accounts) | Q(role=None, account=None)
    in_force = list(Freeze.objects.in_force().filter(over).select_related("role__account", "account").order_by("pk"))
    # The oldest is put down last.
    return {role.pk: one for role in roles for one in reversed(in_force) if _covers(one, role)}


def each_once(freezes: Iterable[Freeze]) -> list[Freeze]:
    return list({one.pk: one for one in freezes}.values())


def _covers(freeze: Freeze, role: Role) -> bool:
    if freeze.role_id is None and freeze.account_id is None:
        return True
    return freeze.account_id == role.account_id or bool(freeze.role and freeze.role.is_alike(role))
