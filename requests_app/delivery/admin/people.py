from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, UsernameField
from django.contrib.auth.models import Group as AdminGroup
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from requests_app.delivery.admin import shown
from requests_app.delivery.admin.audited import Audited, Changes, Lines, by_admin
from requests_app.delivery.admin.entitlements.lines import EntitlementsOfGroup, EntitlementsOfPerson
from requests_app.delivery.admin.entitlements.revisions import NamedByEntitlements
from requests_app.delivery.admin.site import site
from requests_app.delivery.web.time_zones import TimeZone
from requests_app.domain import clock, normal_form, password_links, texts, workflow
from requests_app.domain.audit import Action
from requests_app.domain.database import AUDITORS
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import AuditEvent, Group, Membership, Notice, User
from requests_app.templatetags.daypass import mark

INVITATION_LASTS = password_links.LASTS[Notice.Kind.INVITED]
MOST_INVITED = 500


class PersonForm(forms.ModelForm):
    time_zone = TimeZone(label="Time zone", initial="UTC")

    class Meta:
        model = User
        fields = ("username", "email", "name", "time_zone", "is_staff", "is_operator", "groups")
        field_classes: ClassVar[dict[str, Any]] = {"username": UsernameField}
        labels: ClassVar[dict[str, str]] = {"is_operator": "Operator", "groups": "Admin groups"}
        help_texts: ClassVar[dict[str, str]] = {
            "is_operator": "Keeps the catalog, the rules and the people, and may revoke any pass but their own.",
            "groups": "What they may look at in the admin. Auditors see everything.",
        }

    def clean_username(self) -> str:
        return normal_form.user_name(self.cleaned_data["username"])

    def clean_email(self) -> str:
        return normal_form.address(self.cleaned_data["email"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("is_operator") and not cleaned.get("is_staff"):
            self.add_error("is_staff", "An operator must be able to open the admin.")
        return cleaned


class NewPersonForm(forms.ModelForm):
    """Without a password: they choose it themselves, with the link in their invitation."""

    class Meta:
        model = User
        fields = ("username", "email", "name")
        field_classes: ClassVar[dict[str, Any]] = {"username": UsernameField}

    clean_username = PersonForm.clean_username
    clean_email = PersonForm.clean_email


class PasswordForm(AdminPasswordChangeForm):
    """Sets one. It takes none away: there is no other way in, and deactivating ends somebody's part."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("usable_password", None)
        for field in self.fields.values():
            field.required = True


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label="Why, and how you know that it is they who ask",
        max_length=texts.LONGEST_REASON,
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class ActiveFilter(admin.SimpleListFilter):
    title = "active"
    parameter_name = "active"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "active"), ("no", "deactivated")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        return queryset.filter(deactivated_at__isnull=self.value() == "yes") if self.value() else queryset


class CameFilter(admin.SimpleListFilter):
    title = "signed in"
    parameter_name = "came"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "has signed in"), ("no", "never")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        return queryset.filter(last_login__isnull=self.value() == "no") if self.value() else queryset


class MembershipLines(Lines):
    model = Membership
    verbose_name = "membership"
    readonly_fields = ("added", "added_by")
    related = ("user", "group", "added_by")
    ordering = ("pk",)

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> type[Any]:
        formset = super().get_formset(request, obj, **kwargs)
        # Shown, and so checked against the others, but not chosen: what is added here is added by hand.
        formset.form.base_fields["source"].disabled = True
        return formset

    @admin.display(description="added at")
    def added(self, membership: Membership) -> SafeString | str:
        return shown.utc(membership.added_at)


class MembersOfGroup(MembershipLines):
    fk_name = "group"
    fields = ("user", "source", "added", "added_by")
    autocomplete_fields = ("user",)
    verbose_name_plural = "members"
    elsewhere = "Take others out on the person's own page."


class GroupsOfPerson(MembershipLines):
    fk_name = "user"
    fields = ("group", "source", "added", "added_by")
    autocomplete_fields = ("group",)
    verbose_name_plural = "groups"
    elsewhere = "Take others out on the group's own page."


class WithMemberships(NamedByEntitlements):
    """A page with `MembershipLines`: each one added or taken out is an event of its own, about that person."""

    def records_lines_itself(self, formset: Any) -> bool:
        return formset.model is Membership or super().records_lines_itself(formset)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        if formset.model is not Membership:
            super().save_formset(request, form, formset, change)
            return
        gone = [(form.instance.group, form.instance.user, form.instance.source) for form in formset.deleted_forms]
        for added in formset.extra_forms:
            added.instance.added_by = request.user
        super().save_formset(request, form, formset, change)
        for group, user, source in gone:
            self._record_membership(request, group, user, removed=source)
        for membership in formset.new_objects:
            self._record_membership(request, membership.group, membership.user, added=membership.source)

    def _record_membership(self, request: HttpRequest, group: Group, user: User, **what: str) -> None:
        changes = {"members": {name: [{"user": user.username, "source": source}] for name, source in what.items()}}
        self.record(request, group, changes, action=Action.GROUP_CHANGED, beneficiary=user)


@admin.register(Group, site=site)
class GroupAdmin(WithMemberships):
    action = Action.GROUP_CHANGED
    fields = ("name", "description")
    inlines = (MembersOfGroup, EntitlementsOfGroup)
    list_display = ("name", "description")
    search_fields = ("name",)
    search_help_text = "Any part of a name"
    ordering = ("name",)


@admin.register(User, site=site)
class PersonAdmin(WithMemberships, UserAdmin):
    """People are made, edited and deactivated here, never deleted."""

    action = Action.PERSON_CHANGED
    decides_nothing = frozenset({"name", "time_zone"})
    form = PersonForm
    add_form = NewPersonForm
    change_password_form = PasswordForm
    change_user_password_template = "admin/set_password.html"  # noqa: S105
    fieldsets = (
        (None, {"fields": ("username", "email", "name", "time_zone")}),
        ("Rights in Daypass", {"fields": ("is_operator", "is_staff", "groups")}),
        ("Keys", {"fields": ("source_identity", "public_id")}),
        ("Times", {"fields": ("joined", "invitation", "signed_in", "deactivated")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "email", "name")}),)
    add_form_template = "admin/new_person.html"
    readonly_fields = ("source_identity", "public_id", "joined", "invitation", "signed_in", "deactivated")
    filter_horizontal = ()
    inlines = (GroupsOfPerson, EntitlementsOfPerson)
    list_display = ("username", "name", "email", "active", "came", "rights")
    list_filter = (ActiveFilter, CameFilter, "is_staff", "is_operator")
    actions = ("invite_again",)
    search_fields = ("username", "email", "name")
    search_help_text = "Any part of a name or an address"
    ordering = ("username",)
    change_form_template = "admin/person.html"

    def get_urls(self) -> list[Any]:
        own = [
            path("<path:object_id>/invite/", self.admin_site.admin_view(self.invite), name="invite_person"),
            path("<path:object_id>/deactivate/", self.admin_site.admin_view(self.deactivate), name="deactivate_person"),
            path("<path:object_id>/sign-out/", self.admin_site.admin_view(self.sign_out), name="sign_out_person"),
            path(
                "<path:object_id>/remove-factors/",
                self.admin_site.admin_view(self.remove_factors),
                name="remove_factors",
            ),
            path("<path:object_id>/bring-back/", self.admin_site.admin_view(self.bring_back), name="bring_back_person"),
        ]
        return [*own, *super().get_urls()]

    def get_inlines(self, request: HttpRequest, obj: Any) -> tuple[Any, ...]:
        return self.inlines if obj else ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fields = super().get_readonly_fields(request, obj)
        # Nobody changes their own rights; another operator does.
        return [*fields, "is_staff", "is_operator", "groups"] if obj == request.user else fields

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(db_field, request, widget=forms.CheckboxSelectMultiple, **kwargs)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        found, _ = super().get_search_results(request, queryset, search_term)
        if request.path.endswith("/autocomplete/"):
            found = found.filter(deactivated_at=None)
        return found, False

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """With when each was last invited, and what became of that mail."""
        last = Notice.objects.filter(recipient=OuterRef("pk"), kind=Notice.Kind.INVITED).order_by("-pk")
        names = ("created_at", "sent_at", "gave_up_at")
        return (
            super()
            .get_queryset(request)
            .annotate(**{f"invited_{name}": Subquery(last.values(name)[:1]) for name in names})
        )

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if not change:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)
        if not change:
            with by_admin(request):
                workflow.accounts.invite([obj], by=request.user)  # type: ignore[arg-type]
            messages.info(request, f"A mail to {obj.email} brings a link to choose a password.")

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if obj := kwargs.get("obj"):
            context["has_factors"] = bool(workflow.factors.of(obj))
        return super().render_change_form(request, context, *args, **kwargs)

    def log_addition(self, request: HttpRequest, obj: User, message: Changes) -> None:  # type: ignore[override]
        self.record(request, obj, message, action=Action.PERSON_MADE, beneficiary=obj)

    def log_change(self, request: HttpRequest, obj: User, message: Changes) -> None:  # type: ignore[override]
        if not message:
            return
        event = self.record(request, obj, message, beneficiary=obj)
        if "password" in message:
            change = workflow.accounts.Change.PASSWORD_BY_OPERATOR
            workflow.accounts.tell_of_operator(obj, change, by=request.user)  # type: ignore[arg-type]
        if "email" in message:
            before = message["email"][0]
            workflow.accounts.tell_of_address(obj, before=before, by=request.user)  # type: ignore[arg-type]
            if obj == request.user:  # of what others do to them operators hear by the edit
                workflow.factors.tell_the_others(obj, event)
        if message.get("is_operator") == [False, True]:
            self.record(request, obj, {}, action=Action.OPERATOR_MADE, beneficiary=obj)
        if message.get("is_operator") == [True, False]:
            workflow.operators.tell_auditors_of_only_one(at=clock.now())

    def events(self, obj: User) -> QuerySet[AuditEvent]:
        about = [
            Action.PERSON_MADE,
            Action.PERSON_INVITED,
            Action.NEW_PASSWORD_SET,
            Action.PERSON_CHANGED,
            Action.PERSON_DEACTIVATED,
            Action.SIGN_INS_ENDED,
            Action.FACTOR_ADDED,
            Action.FACTOR_REMOVED,
            Action.FACTOR_CODES_MADE,
            Action.OPERATOR_MADE,
            Action.GROUP_CHANGED,
        ]
        return AuditEvent.objects.filter(beneficiary=obj, action__in=about)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        # However its number is written: Django finds the same person by `014`.
        if request.user.pk in _keys(unquote(id)):
            return redirect("account_change_password")  # which asks for the one they have
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)

    @admin.action(description="Invite again (who never signed in)", permissions=["change"])
    def invite_again(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        chosen = list(queryset.order_by("pk")[: MOST_INVITED + 1])
        if len(chosen) > MOST_INVITED:
            messages.error(request, f"Choose {MOST_INVITED} people at most. Nobody was invited.")
            return
        with by_admin(request):
            invited = workflow.accounts.invite(chosen, by=request.user)  # type: ignore[arg-type]
        _say_invited(request, invited, left_out=len(chosen) - len(invited))

    def invite(self, request: HttpRequest, object_id: str) -> HttpResponse:
        person = self._person_for(request, object_id)
        if request.method != "POST":
            waits = workflow.accounts.invitation_waits(person)
            title = f"Invite {person} again?"
            return self._ask(request, person, "admin/invite.html", title, days=INVITATION_LASTS.days, waits=waits)
        with by_admin(request):
            invited = workflow.accounts.invite([person], by=request.user)  # type: ignore[arg-type]
        _say_invited(request, invited, left_out=1 - len(invited))
        return redirect("admin:requests_app_user_change", person.pk)

    def deactivate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        person = self._person_for(request, object_id)
        if request.method != "POST":
            return self._ask(request, person, "admin/deactivate.html", f"Deactivate {person}?")
        with by_admin(request):
            workflow.people.deactivate(person, by=request.user)  # type: ignore[arg-type]
        messages.success(request, f"{person} is deactivated: no signing in, no decisions, no new credentials.")
        return redirect("admin:requests_app_user_change", person.pk)

    def sign_out(self, request: HttpRequest, object_id: str) -> HttpResponse:
        person = self._person_for(request, object_id)
        if request.method != "POST":
            return self._ask(request, person, "admin/sign_out.html", f"Sign {person} out everywhere?")
        with by_admin(request):
            workflow.people.end_sign_ins(person, by=request.user)  # type: ignore[arg-type]
        messages.success(request, f"{person} is signed out everywhere and can sign in again.")
        return redirect("admin:requests_app_user_change", person.pk)

    def remove_factors(self, request: HttpRequest, object_id: str) -> HttpResponse:
        person = self._person_for(request, object_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                with by_admin(request):
                    workflow.factors.remove(person, by=request.user, reason=form.cleaned_data["reason"])  # type: ignore[arg-type]
            except Invalid as wrong:
                form.add_error("reason", wrong.fields["reason"])
            except DomainError as refusal:
                messages.error(request, refusal.message)
                return redirect("admin:requests_app_user_change", person.pk)
            else:
                messages.success(
                    request, f"{person} has no second factor any more and is signed out everywhere. All operators know."
                )
                return redirect("admin:requests_app_user_change", person.pk)
        factors = sorted(set(workflow.factors.of(person).values()))
        title = f"Remove the second factors of {person}?"
        why_not = workflow.factors.why_not_remove(person, by=request.user)  # type: ignore[arg-type]
        return self._ask(
            request, person, "admin/remove_factors.html", title, form=form, factors=factors, why_not=why_not
        )

    def bring_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        person = self._person_for(request, object_id)
        if request.method != "POST":
            return self._ask(request, person, "admin/bring_back.html", f"Bring {person} back?")
        with transaction.atomic():
            person = User.objects.select_for_update(no_key=True).get(pk=person.pk)
            if before := person.deactivated_at:
                person.deactivated_at = None
                person.save(update_fields=["deactivated_at"])
                self.record(request, person, {"deactivated_at": [before.isoformat(), None]}, beneficiary=person)
        messages.success(request, f"{person} is active again, with the groups and rights they still have.")
        return redirect("admin:requests_app_user_change", person.pk)

    def _person_for(self, request: HttpRequest, object_id: str) -> User:
        """Whom an operator acts on: anyone but themselves."""
        key = unquote(object_id)
        person = User.objects.filter(pk=key).first() if key.isascii() and key.isdigit() else None
        if not self.has_change_permission(request, person) or person == request.user:
            raise PermissionDenied
        if person is None:
            raise Http404
        return person

    def _ask(self, request: HttpRequest, person: User, template: str, title: str, **more: Any) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": title, "person": person, "opts": self.opts, **more}
        return TemplateResponse(request, template, context)

    @admin.display(description="active", boolean=True)
    def active(self, person: User) -> bool:
        return person.deactivated_at is None

    @admin.display(description="made at")
    def joined(self, person: User) -> SafeString | str:
        return shown.utc(person.date_joined)

    @admin.display(description="last signed in at")
    def signed_in(self, person: User) -> SafeString | str:
        return shown.utc(person.last_login)

    @admin.display(description="rights", ordering="is_operator")
    def rights(self, person: User) -> str:
        return "operator" if person.is_operator else "may open the admin" if person.is_staff else shown.NOTHING

    @admin.display(description="signed in", ordering="last_login")
    def came(self, person: User) -> SafeString | str:
        if person.last_login:
            return shown.utc(person.last_login)
        invited = self.invitation(person)
        since = "" if invited == shown.NOTHING else format_html('<br><span class="nowrap">invited {}</span>', invited)
        return format_html("{}{}", mark("never", "circle-dashed", "amber"), since)

    @admin.display(description="invited")
    def invitation(self, person: Any) -> str:
        """When, and whether that mail could be sent."""
        invited_at = getattr(person, "invited_created_at", None)
        if invited_at is None:
            return shown.NOTHING
        lot = ", mail on its way"
        if person.invited_sent_at or person.invited_gave_up_at:
            lot = "" if person.invited_sent_at else ", mail could not be sent"
        return f"{invited_at:%Y-%m-%d}{lot}"

    @admin.display(description="deactivated at")
    def deactivated(self, person: User) -> SafeString | str:
        return shown.utc(person.deactivated_at)


@admin.register(AdminGroup, site=site)
class AdminGroupAdmin(Audited):
    """Django's own groups: who may look at what in the admin, and nothing else."""

    action = Action.ADMIN_GROUP_CHANGED
    NOTE = (
        "These groups say who may look at what in the admin. Who may ask for access, and who approves, "
        "is said by Daypass's own groups. Only operators change anything."
    )
    fieldsets = ((None, {"fields": ("name", "permissions"), "description": NOTE}),)
    filter_horizontal = ("permissions",)
    list_display = ("name",)
    search_fields = ("name",)
    ordering = ("name",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fields = [*super().get_readonly_fields(request, obj)]
        # By its name those are found who are told.
        return [*fields, "name", "permissions"] if obj is not None and obj.name == AUDITORS else fields

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"subtitle": self.NOTE, **(extra_context or {})})

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "permissions":
            ours = Q(content_type__app_label="requests_app", codename__startswith="view_")
            kwargs["queryset"] = Permission.objects.filter(ours).select_related("content_type")
        return super().formfield_for_manytomany(db_field, request, **kwargs)


def _keys(written: str) -> list[int]:
    try:
        return [int(written)]
    except ValueError:
        return []


def _say_invited(request: HttpRequest, invited: list[User], *, left_out: int) -> None:
    if invited:
        whom = invited[0].email if len(invited) == 1 else f"{len(invited)} people"
        messages.success(request, f"An invitation is on its way to {whom}.")
    if left_out:
        whom = "1 person was" if left_out == 1 else f"{left_out} people were"
        messages.warning(
            request,
            f"{whom} left out: they have signed in (and can ask for a new password themselves), are deactivated, "
            "or their last invitation is still to be sent.",
        )
