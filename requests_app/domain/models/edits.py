from django.db import models
from django.db.models import Q

from requests_app.domain.models.catalog import Account, OrganisationalUnit, Role
from requests_app.domain.models.entitlements import Entitlement
from requests_app.domain.models.people import Group, User


class EditQuerySet(models.QuerySet["Edit"]):
    def unconfirmed(self) -> "EditQuerySet":
        return self.filter(confirmed_at=None)


class Edit(models.Model):
    """Someone changed the rules: for that person the change does not count until another operator confirmed it.

    Of a group it is always about one member: who was put in, or taken out. Of a `person` it is how they sign in or what
    they may: whoever made somebody, or could have signed in as them since, is not another one than they.
    """

    editor = models.ForeignKey(User, models.PROTECT, db_index=False, related_name="edits")
    entitlement = models.ForeignKey(Entitlement, models.PROTECT, null=True, related_name="edits")
    role = models.ForeignKey(Role, models.PROTECT, null=True, related_name="edits")
    account = models.ForeignKey(Account, models.PROTECT, null=True, related_name="edits")
    unit = models.ForeignKey(OrganisationalUnit, models.PROTECT, null=True, related_name="edits")
    group = models.ForeignKey(Group, models.PROTECT, null=True, related_name="edits")
    member = models.ForeignKey(User, models.PROTECT, null=True, db_index=False, related_name="+")
    person = models.ForeignKey(User, models.PROTECT, null=True, db_index=False, related_name="edits_of")
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
            models.CheckConstraint(
                condition=Q(group=None, member=None) | Q(group__isnull=False, member__isnull=False),
                name="edit_of_a_group_names_the_member",
            ),
        ]
        indexes = [
            # An operator who is alone may have put in a hundred thousand people, whom nobody confirms.
            models.Index(fields=["editor"], condition=Q(confirmed_at=None, member=None), name="edit_unconfirmed_rules"),
            models.Index(
                fields=["member", "group", "editor"], condition=Q(confirmed_at=None), name="edit_unconfirmed_of_member"
            ),
            models.Index(fields=["group", "editor", "-id"], condition=Q(confirmed_at=None), name="edit_unconfirmed_in"),
            models.Index(fields=["id"], condition=Q(confirmed_at=None), name="edit_to_confirm"),
            # Who placed whom, either way round.
            models.Index(
                fields=["person", "editor"],
                condition=Q(confirmed_at=None, person__isnull=False),
                name="edit_unconfirmed_of_person",
            ),
            models.Index(
                fields=["editor", "person"],
                condition=Q(confirmed_at=None, person__isnull=False),
                name="edit_unconfirmed_placing",
            ),
            # As the admin goes through them.
            models.Index(fields=["editor", "-id"], name="edit_newest_of_editor"),
            models.Index(fields=["confirmed_by", "-id"], name="edit_newest_confirmed_by"),
        ]

    def __str__(self) -> str:
        return f"{self.member} in {self.group}" if self.member else str(self.subject)

    @property
    def subject(self) -> Entitlement | Role | Account | OrganisationalUnit | Group | User | None:
        return self.entitlement or self.role or self.account or self.unit or self.group or self.person
