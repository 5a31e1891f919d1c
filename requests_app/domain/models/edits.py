from django.db import models
from django.db.models import Q

from requests_app.domain.models.catalog import Account, OrganisationalUnit, Role
from requests_app.domain.models.entitlements import Entitlement
from requests_app.domain.models.people import Group, User

# What an edit can be about.
KINDS = ("entitlement", "role", "account", "unit", "group")


class EditQuerySet(models.QuerySet["Edit"]):
    def unconfirmed(self) -> "EditQuerySet":
        return self.filter(confirmed_at=None)

    def made_by(self, editor: User) -> set[tuple[str, int]]:
        """What does not count for this person, as `("entitlement", 7)`."""
        rows = self.unconfirmed().filter(editor=editor).values_list(*(f"{kind}_id" for kind in KINDS))
        return {(kind, key) for row in rows for kind, key in zip(KINDS, row, strict=True) if key is not None}


class Edit(models.Model):
    """Someone changed the rules: for that person the change does not count until another operator confirmed it.

    Of a group only what people do about their own membership counts as an edit.
    """

    editor = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="edits")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, null=True, related_name="edits")
    role = models.ForeignKey(Role, models.PROTECT, null=True, related_name="edits")
    account = models.ForeignKey(Account, models.PROTECT, null=True, related_name="edits")
    unit = models.ForeignKey(OrganisationalUnit, models.PROTECT, null=True, related_name="edits")
    group = models.ForeignKey(Group, models.PROTECT, null=True, related_name="edits")
    # What was changed, as the record of it has it: for whoever confirms.
    change = models.JSONField(default=dict)
    made_at = models.DateTimeField()
    confirmed_by = models.ForeignKey(User, models.PROTECT, null=True, db_index=False, related_name="+")
    confirmed_at = models.DateTimeField(null=True)

    objects = EditQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(confirmed_at=None, confirmed_by=None)
                | Q(confirmed_at__isnull=False, confirmed_by__isnull=False),
                name="edit_confirmed_by_someone",
            ),
            models.CheckConstraint(condition=~Q(confirmed_by=models.F("editor")), name="edit_confirmed_by_another"),
        ]
        indexes = [
            models.Index(fields=["editor"], condition=Q(confirmed_at=None), name="edit_unconfirmed"),
            # As the admin goes through them.
            models.Index(fields=["editor", "-id"], name="edit_newest_of_editor"),
            models.Index(fields=["confirmed_by", "-id"], name="edit_newest_confirmed_by"),
        ]

    def __str__(self) -> str:
        return str(self.subject)

    @property
    def subject(self) -> Entitlement | Role | Account | OrganisationalUnit | Group | None:
        return self.entitlement or self.role or self.account or self.unit or self.group
