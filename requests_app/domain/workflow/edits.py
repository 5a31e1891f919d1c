"""Nobody profits from their own edit: what someone changed in the rules counts for them when another confirmed it."""

from typing import Any

from requests_app.domain import audit, clock, notices
from requests_app.domain.audit import Action
from requests_app.domain.errors import Conflict, NotAllowed
from requests_app.domain.models import Account, Edit, Entitlement, Group, OrganisationalUnit, Role, User
from requests_app.domain.workflow import operators
from requests_app.domain.workflow.freezes import require_operator
from requests_app.domain.workflow.verb import verb

Ruled = Entitlement | Role | Account | OrganisationalUnit | Group
_KINDS: dict[type, str] = {
    Entitlement: "entitlement",
    Role: "role",
    Account: "account",
    OrganisationalUnit: "unit",
    Group: "group",
}


def kind_of(subject: object) -> str | None:
    """What an edit of this would be about; None where nobody's access depends on it."""
    return _KINDS.get(type(subject))


def note(subject: Ruled, *, by: User, change: dict[str, Any]) -> Edit:
    """`by` changes this now, in the caller's transaction. Of a group only for a change of their own membership."""
    now = clock.now()
    edit = Edit.objects.create(
        **{_KINDS[type(subject)]: subject}, editor=by, change=audit.storable(change), made_at=now
    )
    others = User.objects.filter(is_superuser=True, deactivated_at=None).exclude(pk=by.pk).order_by("pk")[:50]
    notices.tell(
        notices.Kind.UNCONFIRMED,
        f"{by} changed {subject}. For {by} this does not count until another operator has confirmed it.",
        at=now,
        to=others,
        occasion=f"edit {edit.pk}",
    )
    operators.tell_auditors_of_only_one(at=now)
    return edit


@verb(Action.EDIT_CONFIRMED)
def confirm(edit: Edit, *, by: User) -> Edit:
    """Another operator's word that this change is meant, so that it counts for whoever made it too."""
    require_operator(by)
    edit = Edit.objects.select_for_update(no_key=True, of=("self",)).get(pk=edit.pk)
    if edit.confirmed_at is not None:
        raise Conflict("This was confirmed in the meantime.", rule="edit.confirmed")
    if edit.editor_id == by.pk:
        raise NotAllowed("This is your own change: another operator must confirm it.", rule="edit.own")
    edit.confirmed_by, edit.confirmed_at = by, clock.now()
    edit.save(update_fields=["confirmed_by", "confirmed_at"])
    audit.record(
        Action.EDIT_CONFIRMED, by=by, at=edit.confirmed_at, subject=str(edit), editor=str(edit.editor), edit=edit.pk
    )
    return edit
