"""What operators have frozen, for the pages of those whom it stops."""

from collections.abc import Collection, Iterable
from typing import Any

from requests_app.domain.joined import Joined
from requests_app.domain.models import Freeze, Role
from requests_app.domain.prepared import Question

_FREEZE = Joined(Freeze, "f", "role", "role__account", "account")
# The oldest: of several the one that `policy` names.
_FROZEN: Question[Any] = Question(
    "frozen.roles",
    f"""
SELECT {_FREEZE.columns}, v.role_id AS frozen
FROM {_FREEZE.tables}
    JOIN (
        SELECT v.role_id, min(v.freeze_id) AS freeze_id
        FROM requests_app_frozen_role v
        WHERE v.role_id = ANY (%(roles)s::bigint[])
        GROUP BY v.role_id
    ) v ON v.freeze_id = f.id
ORDER BY f.id, v.role_id
""",  # noqa: S608 - texts of ours only
)


def frozen_by(roles: Collection[Role]) -> dict[int, Freeze]:
    """By the role's key, the freeze in force that it is under, and of several the one that `policy` names; one query,
    none for no roles."""
    rows = _FROZEN.all(roles=sorted({role.pk for role in roles})) if roles else []
    freezes = _FREEZE.read(row[:-1] for row in rows)
    return {row[-1]: freeze for row, freeze in zip(rows, freezes, strict=True)}


def each_once(freezes: Iterable[Freeze]) -> list[Freeze]:
    return list({freeze.pk: freeze for freeze in freezes}.values())
