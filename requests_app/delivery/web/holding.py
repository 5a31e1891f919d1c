"""What operators hold frozen, for the pages of those whom it stops."""

from collections.abc import Collection, Iterable

from django.db.models import Q

from requests_app.domain.models import Freeze, Role


def holds(roles: Collection[Role]) -> dict[int, Freeze]:
    """By the role's key, the freeze in force that it is under, and of several the one that `policy` names; one query,
    none for no roles."""
    if not roles:
        return {}
    over = Q(role__in=roles) | Q(account__in={role.account_id for role in roles}) | Q(role=None, account=None)
    in_force = list(Freeze.objects.in_force().filter(over).select_related("role__account", "account").order_by("pk"))
    # The oldest is put down last.
    return {role.pk: one for role in roles for one in reversed(in_force) if _holds(one, role)}


def each_once(freezes: Iterable[Freeze]) -> list[Freeze]:
    return list({one.pk: one for one in freezes}.values())


def _holds(freeze: Freeze, role: Role) -> bool:
    if freeze.role_id is None and freeze.account_id is None:
        return True
    return freeze.role_id == role.pk or freeze.account_id == role.account_id
