from functools import reduce
from operator import or_
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from requests_app.delivery.admin import shown
from requests_app.delivery.admin.audited import Audited
from requests_app.delivery.admin.checks import OutcomeFilter, doors, findings
from requests_app.delivery.admin.entitlements.lines import EntitlementsOfRole
from requests_app.delivery.admin.entitlements.revisions import NamedByEntitlements
from requests_app.delivery.admin.fields import HOUR, AccountNumber, Duration, RolePath, Tags
from requests_app.delivery.admin.site import site
from requests_app.domain import arns, narrowing_fit, pasted, workflow
from requests_app.domain.audit import Action
from requests_app.domain.models import Account, Entitlement, OrganisationalUnit, Preflight, Role
from requests_app.domain.models.catalog import account_has, account_is_named, is_named, ways_to_match
from requests_app.domain.workflow import preflights

MOST_SHOWN = 20
LONGEST_ARN = 2048


class Corrected(forms.ModelForm):
    """A form in which `fixed` can be corrected while nothing depends on it."""

    fixed: ClassVar[tuple[str, ...]]
    too_late: ClassVar[str]

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        corrected = [name for name in self.fixed if name in self.changed_data and name in self.cleaned_data]
        if self.instance.pk and corrected:
            workflow.catalog.lock_to_correct(self.instance)
            if why := workflow.catalog.depended_on(self.instance):
                self.add_error(corrected[0], self.too_late.format(why=why))
        return cleaned


class AccountForm(Corrected):
    fixed = ("partition", "number")
    too_late = (
        "This cannot be corrected any more, because {why}. Take the account out of use, give it another name, and "
        "enter the right one."
    )
    number = AccountNumber(label="Account id")
    tags = Tags()

    class Meta:
        help_texts: ClassVar[dict[str, str]] = {
            "external_id": "What the trust policies of its roles ask for as sts:ExternalId.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "unit" in self.fields:  # who may only look has none
            self.fields["unit"].queryset = OrganisationalUnit.objects.with_place()  # type: ignore[attr-defined]


class RoleForm(Corrected):
    fixed = ("account", "path", "name")
    too_late = "This cannot be corrected any more, because {why}. Take the role out of use, and enter the right one."
    arn = forms.CharField(
        label="ARN",
        required=False,
        max_length=LONGEST_ARN,
        help_text="As IAM shows it on the role's page. It fills in account, path and name, whatever stands there.",
        widget=forms.TextInput(attrs={"size": 80, "placeholder": "arn:aws:iam::123456789012:role/elevated/Name"}),
    )
    path = RolePath()
    longest_session_seconds = Duration(
        label="Longest session", least=HOUR, most=12 * HOUR, initial=HOUR,
        help_text="The role's MaxSessionDuration in IAM.",
    )  # fmt: skip
    tags = Tags()

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        self.wrong_arn: SafeString | str = ""
        super().__init__(self._split(data) if data else data, *args, **kwargs)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.wrong_arn:
            self.add_error("arn", self.wrong_arn)
        elif not self.errors.keys() & {*self.fixed, "is_active"}:
            self._check_that_none_stands_for_it()
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.wrong_arn:
            # Said once, where it is: the fields that it would have filled in may be empty.
            for name in self.fixed:
                self.errors.pop(name, None)

    def _split(self, data: Any) -> Any:
        """What is posted, with the parts of the ARN in the fields that they belong to."""
        typed = str(data.get("arn") or "").strip()[:LONGEST_ARN]
        if not typed:
            return data
        data = data.copy()
        try:
            arn = arns.split(typed)
        except ValueError as wrong:
            self.wrong_arn = str(wrong)
            return data
        data["path"], data["name"] = arn.path, arn.name
        account = Account.objects.filter(partition=arn.partition, number=arn.account).first()
        if account is None:
            self.wrong_arn = _unknown_account(arn)
            return data
        data["account"], data["arn"] = str(account.pk), ""
        return data

    def _check_that_none_stands_for_it(self) -> None:
        now = {name: self.cleaned_data.get(name, getattr(self.instance, name, None)) for name in self.fixed}
        role = Role(pk=self.instance.pk, **now)
        same = Role.objects.filter(account=role.account, path=role.path, name=role.name).exclude(pk=role.pk).first()
        is_active = self.cleaned_data.get("is_active", self.instance.is_active)
        field = "name" if "name" in self.fields else None
        if same is not None:
            how = "" if same.is_active else ", out of use: bring it back there"
            self.add_error(field, _about(same, f"is in the catalog already{how}."))
        elif is_active and (found := workflow.catalog.standing_for(role)):
            other, why = found
            self.add_error(
                field,
                _about(
                    other,
                    f"is the same role at AWS, where a name is unique in an account whatever its path, and {why}.",
                ),
            )


def _unknown_account(arn: arns.RoleName) -> SafeString:
    query = urlencode({"partition": arn.partition, "number": arn.account})
    return format_html(
        'Its account {} is not in the catalog. <a href="{}?{}" target="_blank">Add the account</a> in a new tab, then '
        "save here again.",
        Account(number=arn.account).grouped_number, reverse("admin:requests_app_account_add"), query,
    )  # fmt: skip


def _about(role: Role, words: str) -> SafeString:
    address = reverse("admin:requests_app_role_change", args=[role.pk])
    return format_html('<a href="{}">{}</a> {}', address, role.arn, words)


@admin.register(Account, site=site)
class AccountAdmin(Audited):
    form = AccountForm
    action = Action.CATALOG_CHANGED
    fixed = AccountForm.fixed
    decides_nothing = frozenset({"name", "region"})
    fields = (
        *("name", "partition", "number", "is_active", "external_id", "allows_source_identity"),
        *("region", "unit", "environment", "tags", "owners", "console", "its_roles"),
    )
    autocomplete_fields = ("unit", "owners")
    readonly_fields = ("console", "its_roles")
    list_display = ("name", "number", "partition", "environment", "unit", "is_active", "allows_source_identity")
    list_select_related = ("unit",)
    list_filter = ("partition", "is_active", "allows_source_identity", "console_authorization")
    search_fields = ("name", "number")
    search_help_text = "Any part of a name or a number, or the ARN of anything in it"
    ordering = ("name",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Account], search_term: str
    ) -> tuple[QuerySet[Account], bool]:
        named = pasted.understood(search_term)
        if named and named.certain and (named.number or named.account):
            return queryset.filter(account_is_named(named)), False
        for word in (named.account if named else pasted.words(search_term)).split():
            queryset = queryset.filter(account_has(word))
        return queryset, False

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        corrected = change and {*self.fixed} & {*form.changed_data}
        if corrected:
            obj.console_authorization = Account.ConsoleAuthorization.UNKNOWN
        super().save_model(request, obj, form, change)
        if corrected:
            preflights.forget(Role.objects.filter(account=obj))
        if change and form.changed_data:
            preflights.look_soon(Role.objects.filter(account=obj))
            warn_of_narrowing(request, Q(account=obj))

    @admin.display(description="console authorization")
    def console(self, obj: Account) -> str:
        match obj.console_authorization:
            case Account.ConsoleAuthorization.ON:
                return (
                    "On: AWS asks each sign-in to this account's console for what passes are denied, so there is no "
                    "console here but under entitlements that lift “sign-in-tokens”."
                )
            case Account.ConsoleAuthorization.OFF:
                return "Off: the console asks for nothing that a pass is denied."
        return (
            "Not known: the account's revoker role may not read it yet, or no preflight has. If it is on, AWS refuses "
            "the console to those who sign in there."
        )

    @admin.display(description="roles")
    def its_roles(self, obj: Account) -> SafeString | str:
        if obj.pk is None:
            return "Save the account first."
        address = reverse("admin:requests_app_role_changelist") + f"?account__id__exact={obj.pk}"
        return format_html('<a href="{}">See its roles</a>', address)


@admin.register(Role, site=site)
class RoleAdmin(NamedByEntitlements):
    form = RoleForm
    action = Action.CATALOG_CHANGED
    # What was approved for one role must not become a pass for another.
    fixed = RoleForm.fixed
    decides_nothing = frozenset({"description"})
    fields = (
        "arn",
        "account",
        "path",
        "name",
        "description",
        "power",
        "longest_session_seconds",
        "identity_is_access",
        "is_active",
        "tags",
        "owners",
        "selected_by",
        "can_be_used",
        "minter_found",
        "revoker_found",
        "other_doors",
        "look_again",
    )
    readonly_fields = ("selected_by", "can_be_used", "minter_found", "revoker_found", "other_doors", "look_again")
    inlines = (EntitlementsOfRole,)
    autocomplete_fields = ("account", "owners")
    list_display = ("name", "account", "path", "power", "is_active", "identity_is_access", "can_be_used")
    list_select_related = ("account", "preflight")
    list_filter = ("power", "is_active", "identity_is_access", OutcomeFilter)
    search_fields = ("name", "account__name", "account__number")
    search_help_text = "Any part of a role's name or description, or of its account's name or number, or its ARN"
    sortable_by = ()
    # As the index has them: 200,000 roles are not sorted for a page.
    ordering = ("account_id", "name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Role]:
        return super().get_queryset(request).select_related("account", "preflight")

    def get_urls(self) -> list[Any]:
        own = path("<path:object_id>/look-again/", self.admin_site.admin_view(self.look_at), name="look_again_at_role")
        return [own, *super().get_urls()]

    def save_model(self, request: HttpRequest, obj: Role, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and {*self.fixed} & {*form.changed_data}:
            preflights.forget(Role.objects.filter(pk=obj.pk))
        if form.changed_data and obj.is_active:
            preflights.look_soon(Role.objects.filter(pk=obj.pk))
            warn_of_narrowing(request, Q(pk=obj.pk))

    def look_at(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let both workers look at this role now."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        with transaction.atomic():  # where something is posted, the row is held
            role = self.get_object(request, unquote(object_id))
            if role is None:
                raise Http404
            preflights.look_soon(Role.objects.filter(pk=role.pk))
        messages.success(request, "The workers look at it as soon as nobody waits for them: reload in some seconds.")
        return redirect("admin:requests_app_role_change", role.pk)

    @admin.display(description="can be used")
    def can_be_used(self, role: Role) -> SafeString | str:
        found = _preflight(role)
        if found is None or found.minter_at is None:
            return "not looked at yet"
        words = {"good": "yes", "bad": "no: AWS refuses Daypass", "unknown": "not known: AWS did not answer"}
        sentence = words[found.usable]
        if found.usable == "good" and found.verdict == "bad":
            sentence = "yes, with something to mend"
        return format_html("{}, as of {}", sentence, shown.utc(found.minter_at))

    @admin.display(description="the minter found")
    def minter_found(self, role: Role) -> SafeString | str:
        found = _preflight(role)
        return findings(found.minter_findings) if found else shown.NOTHING

    @admin.display(description="the revoker found")
    def revoker_found(self, role: Role) -> SafeString | str:
        found = _preflight(role)
        return findings(found.revoker_findings) if found else shown.NOTHING

    @admin.display(description="other doors")
    def other_doors(self, role: Role) -> SafeString | str:
        found = _preflight(role)
        return doors(found) if found and found.revoker_at else shown.NOTHING

    @admin.display(description="look again")
    def look_again(self, role: Role) -> SafeString | str:
        # A form of its own cannot stand in this one.
        button = '<button type="submit" class="button" formaction="{}" formnovalidate>Look again now</button>'
        return format_html(button, reverse("admin:look_again_at_role", args=[role.pk]))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        shown_here = set(self.readonly_fields) if obj else set()
        if not self.has_change_permission(request, obj):
            shown_here.discard("look_again")
        hidden = {*self.readonly_fields} - shown_here
        # Where nothing can be corrected there is nothing to paste.
        if not self.has_change_permission(request, obj) or "path" in self.get_readonly_fields(request, obj):
            hidden.add("arn")
        return [field for field in super().get_fields(request, obj) if field not in hidden]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Also of `?arn=`, such as that of a role that was entered wrongly."""
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        try:
            arn = arns.split(initial.get("arn", ""))
        except ValueError:
            return initial
        account = Account.objects.filter(partition=arn.partition, number=arn.account).first()
        if account is not None:
            initial |= {"arn": "", "account": account.pk, "path": arn.path, "name": arn.name}
        return initial

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Role], search_term: str
    ) -> tuple[QuerySet[Role], bool]:
        named = pasted.understood(search_term)
        ways = [is_named(named)] if named and named.certain else ways_to_match(pasted.words(search_term))
        return queryset.filter(reduce(or_, ways)), False

    @admin.display(description="selected by")
    def selected_by(self, obj: Role) -> SafeString | str:
        """Entitlements that do not name it, and give it for what it is like."""
        if obj.pk is None:
            return "Save the role first."
        selecting = Entitlement.objects.for_role(obj).exclude(roles=obj).order_by("name")
        links = [
            (
                reverse("admin:requests_app_entitlement_change", args=[entitlement.pk]),
                entitlement,
                _unfit(entitlement, obj),
            )
            for entitlement in selecting[:MOST_SHOWN]
        ]
        return format_html_join(", ", '<a href="{}">{}</a>{}', links) or "No entitlement"


def warn_of_narrowing(request: HttpRequest, roles: Q) -> None:
    """These were changed, so other selectors may give them now."""
    for entitlement, wrong in narrowing_fit.unfit(narrowing_fit.IN_USE & roles):
        messages.warning(request, f"“{entitlement}” gives what its narrowing does not fit: nobody can ask. {wrong}")


def _unfit(entitlement: Entitlement, role: Role) -> str:
    wrong = narrowing_fit.problem(entitlement, Q(pk=role.pk))
    return f" (its narrowing does not fit, so nobody can ask for it there: {wrong})" if wrong else ""


def _preflight(role: Role) -> Preflight | None:
    return getattr(role, "preflight", None)
