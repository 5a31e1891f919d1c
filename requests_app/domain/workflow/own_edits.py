"""Nobody profits from their own edit: what someone changed in the rules counts for them when another confirmed it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from requests_app.domain import audit, clock, notices
from requests_app.domain.audit import Action
from requests_app.domain.deciders import in_one_hand
from requests_app.domain.errors import Conflict, NotAllowed
from requests_app.domain.models import Account, Edit, Entitlement, Group, OrganisationalUnit, Role, User
from requests_app.domain.workflow import operators
from requests_app.domain.workflow.freezes import of_one_hand, require_operator
from requests_app.domain.workflow.verb import verb

Ruled = Entitlement | Role | Account | OrganisationalUnit | Group | User
_KINDS: dict[type, str] = {
    Entitlement: "entitlement",
    Role: "role",
    Account: "account",
    OrganisationalUnit: "unit",
    Group: "group",
    User: "person",
}


def kind_of(subject: object) -> str | None:
    """What an edit of this would be about; None where nobody's access depends on it."""
    return _KINDS.get(type(subject))


def note(
    subject: Ruled, *, by: User, change: dict[str, Any], member: User | None = None, is_told: bool = False
) -> Edit:
    """`by` changes this now, in the caller's transaction; of a group it is `member` who comes or goes.

    `is_told`: the caller tells whoever has to know, in words of its own.
    Of a person it is how they sign in, or what they may: whoever could act as them has placed them.
    """
    now = clock.now()
    is_more = member is not None and _told_lately(subject, by, now)
    edit = Edit.objects.create(
        **{_KINDS[type(subject)]: subject}, member=member, editor=by, change=audit.storable(change), made_at=now
    )
    if is_told:
        pass
    elif isinstance(subject, User):
        _tell_of_person(edit, subject, now)
    elif not is_more:
        _tell_the_others(edit, now)
    operators.tell_auditors_of_only_one(at=now)
    return edit


def who_placed(person: User) -> list[User]:
    """Who made this person, or changed how they sign in or what they may, where nobody has confirmed that."""
    edits = Edit.objects.unconfirmed().filter(person=person)
    return list(User.objects.filter(pk__in=edits.values("editor")).order_by("pk")[:20])


def _told_lately(group: Ruled, by: User, now: datetime) -> bool:
    """Whoever fills a group makes an edit for each member, and others hear of it once an hour."""
    lately = Edit.objects.unconfirmed().filter(editor=by, group=group.pk, made_at__gt=now - timedelta(hours=1))
    return lately.exists()


def _tell_of_person(edit: Edit, person: User, now: datetime) -> None:
    """Of an operator, all operators and auditors at once; of anybody else the other operators, once an hour."""
    if person.is_operator or "is_operator" in edit.change:
        told = {each.pk: each for each in (*User.objects.operators_and_auditors(), person)}
        notices.tell(notices.Kind.UNCONFIRMED, at=now, to=told.values(), edit=edit.pk)
        return
    lately = Edit.objects.unconfirmed().filter(editor=edit.editor_id, person__isnull=False).exclude(pk=edit.pk)
    if not lately.filter(made_at__gt=now - timedelta(hours=1)).exists():
        _tell_the_others(edit, now)


def _tell_the_others(edit: Edit, now: datetime) -> None:
    concerned = [key for key in (edit.editor_id, edit.member_id, edit.person_id) if key]
    others = User.objects.operators().exclude(pk__in=concerned).order_by("pk")[:50]
    notices.tell(notices.Kind.UNCONFIRMED, at=now, to=others, edit=edit.pk)


def why_not_confirm(edits: Sequence[Edit], by: User) -> dict[int, NotAllowed | None]:
    """For each of these edits, by its key, why this operator cannot confirm it; None where they can. One query."""
    of = {edit.pk: [key for key in (edit.editor_id, edit.member_id, edit.person_id) if key] for edit in edits}
    found: dict[int, NotAllowed | None] = {}
    for edit, one_hand in zip(edits, in_one_hand(by, list(of.values())), strict=True):
        if edit.editor_id == by.pk:
            own = "This is your own change: another operator must confirm it."
            found[edit.pk] = NotAllowed(own, rule="edit.own")
        elif by.pk in of[edit.pk]:
            own = "This is about yourself: another operator must confirm it."
            found[edit.pk] = NotAllowed(own, rule="edit.own")
        else:
            found[edit.pk] = of_one_hand(to="confirm it") if one_hand else None
    return found


@verb(Action.EDIT_CONFIRMED)
def confirm(edit: Edit, *, by: User) -> Edit:
    """Another operator's word that this change is meant, so that it counts for whoever made it too."""
    require_operator(by)
    edit = Edit.objects.select_for_update(no_key=True, of=("self",)).get(pk=edit.pk)
    if edit.confirmed_at is not None:
        raise Conflict("This was confirmed in the meantime.", rule="edit.confirmed")
    if refusal := why_not_confirm([edit], by)[edit.pk]:
        raise refusal
    edit.confirmed_by, edit.confirmed_at = by, clock.now()
    edit.save(update_fields=["confirmed_by", "confirmed_at"])
    audit.record(
        Action.EDIT_CONFIRMED, by=by, at=edit.confirmed_at, subject=str(edit), editor=str(edit.editor), edit=edit.pk
    )
    return edit
