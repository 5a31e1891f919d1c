"""What operators hold frozen, for the pages of those whom it stops."""

from collections.abc import Collection, Iterable

from requests_app.domain.models import Freeze, Role
from requests_app.domain.prepared import Question

# The oldest: of several the one that `policy` names.
_FROZEN = Question(
    "frozen.roles",
    """
SELECT f.role_id, min(f.freeze_id) AS freeze_id
FROM requests_app_frozen_role f
WHERE f.role_id = ANY (%(roles)s::bigint[])
GROUP BY f.role_id
""",
)


def frozen_by(roles: Collection[Role]) -> dict[int, Freeze]:
    """By the role's key, the freeze in force that it is under, and of several the one that `policy` names; one query
    where nothing is frozen, none for no roles."""
    held = dict(_FROZEN.all(roles=sorted({role.pk for role in roles}))) if roles else {}
    freezes = Freeze.objects.select_related("role__account", "account").in_bulk(set(held.values())) if held else {}
    return {role: freezes[freeze] for role, freeze in held.items()}


def each_once(freezes: Iterable[Freeze]) -> list[Freeze]:
    return list({one.pk: one for one in freezes}.values())
