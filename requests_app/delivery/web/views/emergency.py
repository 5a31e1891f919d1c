"""The operators' page for an emergency: end everything of someone or somewhere, freeze it, and let it go on again."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from operator import and_
from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from requests_app.delivery.web import once
from requests_app.delivery.web.access import PersonRequest, operators_only, say_refusal
from requests_app.delivery.web.forms import ReasonForm, StopForm
from requests_app.domain import pasted, workflow
from requests_app.domain.codes import CODE
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import AccessRequest, Account, Freeze, Role, User
from requests_app.domain.models.catalog import MOST_WORDS, account_has, account_is_named, most_alike
from requests_app.domain.workflow.emergency import Ended, Preview, Scope
from requests_app.domain.workflow.freezes import Everything

MOST_FOUND = 8
MOST_FREEZES = 30
MOST_PASSES = 50
# What the passes of a restored database that nobody confirms end for, where the operator says nothing else.
UNKNOWN = "Found in a restored database, and nobody confirmed it."


@dataclass(frozen=True, slots=True)
class Act:
    """A button: what it does, and the words on it, which say that."""

    name: str
    label: str


@require_safe
@operators_only
def stop(request: PersonRequest) -> HttpResponse:
    """Choose what to stop; what is frozen now."""
    words = request.GET.get("q", "").replace("\0", "")[: pasted.LONGEST].strip()
    freezes = Freeze.objects.in_force().select_related(
        "role__account", "account", "begun_by", "lift_asked_by", "lifted_by"
    )
    if before := _freeze(request.GET.get("before", "")):
        freezes = freezes.filter(pk__lt=before.pk)
    shown = list(freezes.order_by("-pk")[: MOST_FREEZES + 1])
    alone = workflow.operators.operates_alone(request.user)
    first = shown[:MOST_FREEZES]
    steps = list(zip(first, map(str, workflow.freezes.next_steps(first, request.user, alone=alone)), strict=True))
    last = shown[MOST_FREEZES - 1].public_id if shown[MOST_FREEZES:] else ""
    context = {"words": words, "freezes": steps, "last": last}
    return render(request, "stop/page.html", context | (_find(words) if words else {}))


@require_http_methods(["GET", "HEAD", "POST"])
@operators_only
def stop_person(request: PersonRequest, public_id: UUID) -> HttpResponse:
    return _stop(request, get_object_or_404(User, public_id=public_id))


@require_http_methods(["GET", "HEAD", "POST"])
@operators_only
def stop_role(request: PersonRequest, public_id: UUID) -> HttpResponse:
    return _stop(request, get_object_or_404(Role.objects.select_related("account"), public_id=public_id))


@require_http_methods(["GET", "HEAD", "POST"])
@operators_only
def stop_account(request: PersonRequest, partition: str, number: str) -> HttpResponse:
    return _stop(request, get_object_or_404(Account, partition=partition, number=number))


@require_http_methods(["GET", "HEAD", "POST"])
@operators_only
def stop_everything(request: PersonRequest) -> HttpResponse:
    return _stop(request, Everything())


@require_POST
@operators_only
def lift(request: PersonRequest, public_id: UUID) -> HttpResponse:
    """Ask to lift a freeze, or lift it: whichever is next."""
    freeze = get_object_or_404(Freeze.objects.select_related("role__account", "account"), public_id=public_id)
    try:
        freeze = workflow.freezes.lift(freeze, by=request.user)
    except DomainError as refusal:
        say_refusal(request, refusal)
    else:
        done = "is lifted" if freeze.lifted_at else "stays until another operator lifts it too"
        messages.info(request, f"The freeze of {freeze} {done}.")
    return redirect("stop")


@require_http_methods(["GET", "HEAD", "POST"])
@operators_only
def found(request: PersonRequest, public_id: UUID) -> HttpResponse:
    """The passes of a restored database that nobody has confirmed or ended yet, oldest first."""
    freeze = get_object_or_404(Freeze.objects.in_force(), public_id=public_id, cause=Freeze.Cause.RESTORED)
    form = ReasonForm(request.POST if request.method == "POST" else None, initial={"reason": UNKNOWN})
    if request.method == "POST" and form.is_valid():
        return _settle(request, freeze, form)
    passes = workflow.freezes.unconfirmed(freeze)
    if after := AccessRequest.objects.filter(code__in=_codes([request.GET.get("after", "")])).first():
        passes = passes.filter(pk__gt=after.pk)
    shown = list(passes.with_names().order_by("pk")[: MOST_PASSES + 1])
    why_not = workflow.freezes.why_not_confirm(shown[:MOST_PASSES], request.user)
    context = {
        "freeze": freeze,
        "form": form,
        "passes": [(access_request, why_not[access_request.pk]) for access_request in shown[:MOST_PASSES]],
        "may_confirm_some": None in why_not.values(),
        "after": bool(after),
        "last": shown[MOST_PASSES - 1].code if shown[MOST_PASSES:] else "",
    }
    return render(request, "stop/found.html", context, status=422 if form.errors else 200)


def address(scope: Scope) -> str:
    """The page that stops this."""
    match scope:
        case User():
            return reverse("stop_person", args=[scope.public_id])
        case Role():
            return reverse("stop_role", args=[scope.public_id])
        case Account():
            return reverse("stop_account", args=[scope.partition, scope.number])
        case Everything():
            return reverse("stop_everything")


def _stop(request: PersonRequest, scope: Scope) -> HttpResponse:
    """GET says what would end; only POST ends it, with the word typed and a reason."""
    form = StopForm(request.POST if request.method == "POST" else None, word=workflow.emergency.word(scope))
    if request.method == "POST" and form.is_valid():
        try:
            messages.info(request, _do(request, scope, form))
            return redirect("stop")
        except Invalid as refusal:
            form.take(refusal)
        except DomainError as refusal:
            say_refusal(request, refusal)
            return redirect(address(scope))
    preview = workflow.emergency.preview(scope)
    acts = _acts(scope, request.user, preview)
    context = {
        "scope": scope,
        "form": form,
        "preview": preview,
        "main": acts[0] if acts else None,
        "lesser": acts[1:],
        "once": once.to_show(request),
    } | _words_for(scope)
    return render(request, "stop/scope.html", context, status=422 if form.errors else 200)


def _do(request: PersonRequest, scope: Scope, form: StopForm) -> str:
    act, reason, typed = request.POST.get("act", "end"), form.cleaned_data["reason"], form.cleaned_data["typed"]
    if act == "freeze" and not isinstance(scope, User):
        workflow.emergency.check_typed(scope, typed)
        workflow.freezes.freeze(scope, by=request.user, reason=reason)
        return f"Frozen: {scope}. What runs there goes on until its own end."
    ended = workflow.emergency.end_all(
        scope, by=request.user, reason=reason, typed=typed, keep_out=act == "stop", key=once.sent(request)
    )
    consequence = (
        (f"{scope} is blocked. " if isinstance(scope, User) else f"Frozen: {scope}. ") if act == "stop" else ""
    )
    return consequence + _in_words(ended)


def _in_words(ended: Ended) -> str:
    sentences = f"{_passes(ended.passes)} ended."
    if ended.roles:
        sentences += (
            f" AWS is told to refuse what was issued, on {ended.roles:,} role{'' if ended.roles == 1 else 's'}."
        )
    return sentences + (" There are more: press again." if ended.left else "")


def _acts(scope: Scope, by: User, preview: Preview) -> list[Act]:
    """The buttons, the widest first."""
    mine = isinstance(scope, User) and scope.pk == by.pk
    all_ = "my" if mine else "" if preview.passes == 1 else "all"
    end = Act("end", " ".join(f"End {all_} {_passes(preview.passes)}".split()))
    closed = scope.deactivated_at is not None if isinstance(scope, User) else workflow.freezes.is_frozen(scope)
    if mine or closed:
        return [end] if preview.passes else []
    verb, name = (
        ("block", scope.get_short_name()) if isinstance(scope, User) else ("freeze", workflow.emergency.word(scope))
    )
    if not preview.passes:
        return [Act("stop" if verb == "block" else "freeze", f"{verb.capitalize()} {name}")]
    acts = [Act("stop", f"{end.label} and {verb} {name}"), Act("end", "Only end them")]
    return acts if verb == "block" else [*acts, Act("freeze", "Only freeze: what runs goes on")]


def _passes(number: int) -> str:
    return f"{number:,} pass{'' if number == 1 else 'es'}"


def _words_for(scope: Scope) -> dict[str, object]:
    kind = {User: "person", Role: "role", Account: "account", Everything: "everything"}[type(scope)]
    frozen = kind != "person" and workflow.freezes.is_frozen(scope)  # type: ignore[arg-type]
    return {"kind": kind, "frozen": frozen, "word": workflow.emergency.word(scope)}


def _find(typed: str) -> dict[str, object]:
    """By words, or what was pasted: the role, its account, and the person whose request's code or session it is."""
    named, code = pasted.understood(typed), pasted.code_in(typed)
    found: dict[str, list[object]] = {"people": [], "accounts": [], "roles": []}
    if named:
        accounts, roles = Account.objects.filter(account_is_named(named)), Role.objects.select_related("account")
        found["accounts"] = list(accounts.order_by("name")[:MOST_FOUND]) if named.number or named.account else []
        found["roles"] = list(roles.first_named(named, MOST_FOUND))
    if code:
        found["people"] = list(User.objects.filter(requests__code=code))
    if not any(found.values()):
        found = _by_words(pasted.words(typed))
    only_like = not any(found.values()) and any((found := _like(pasted.words(typed))).values())
    return {**found, "named": named, "only_like": only_like, "found_nothing": not any(found.values())}


def _like(words: str) -> dict[str, list[object]]:
    """Where nothing has the words: what is mistyped may be meant, and the page of it says who or what it is."""
    people = most_alike(User.objects.all(), words, MOST_FOUND, "name", "username", "email")
    accounts = most_alike(Account.objects.all(), words, MOST_FOUND, "name")
    roles = Role.objects.select_related("account").first_like(words, MOST_FOUND)
    return {"people": [*people], "accounts": [*accounts], "roles": [*roles]}


def _by_words(words: str) -> dict[str, list[object]]:
    each = words.split()[:MOST_WORDS]
    if not each:
        return {"people": [], "accounts": [], "roles": []}
    person = [Q(username__icontains=word) | Q(name__icontains=word) | Q(email__icontains=word) for word in each]
    accounts = Account.objects.filter(reduce(and_, [account_has(word) for word in each])).order_by("name")
    roles = Role.objects.select_related("account").first_matching(words, MOST_FOUND)
    people = User.objects.filter(reduce(and_, person)).order_by("username")
    return {"people": list(people[:MOST_FOUND]), "accounts": list(accounts[:MOST_FOUND]), "roles": list(roles)}


def _settle(request: PersonRequest, freeze: Freeze, form: ReasonForm) -> HttpResponse:
    """Each row has buttons of its own; those below are for what is ticked."""
    ends = "end" in request.POST
    only = request.POST.get("end" if ends else "confirm", "")
    codes = _codes([only] if only != "ticked" else request.POST.getlist("code"))[:MOST_PASSES]
    chosen = list(AccessRequest.objects.filter(code__in=codes).order_by("pk"))
    if not (ends or "confirm" in request.POST):
        messages.warning(request, "Nothing was done. Press Confirm or End.")
    elif not chosen:
        messages.warning(request, "Tick at least one pass.")
    elif ends:
        reason = form.cleaned_data["reason"]
        _try(request, lambda: _in_words(_end_found(request, freeze, chosen, reason)))
    else:
        confirmed = [
            access_request
            for access_request in chosen
            if _try(request, partial(_confirm, request, freeze, access_request))
        ]
        if confirmed:
            messages.info(request, f"{_passes(len(confirmed))} confirmed.")
    return redirect("found_passes", freeze.public_id)


def _end_found(request: PersonRequest, freeze: Freeze, chosen: list[AccessRequest], reason: str) -> Ended:
    return workflow.emergency.end_found(
        freeze, [access_request.pk for access_request in chosen], by=request.user, reason=reason
    )


def _confirm(request: PersonRequest, freeze: Freeze, access_request: AccessRequest) -> str:
    workflow.freezes.confirm(access_request, freeze=freeze, by=request.user)
    return ""


def _try(request: PersonRequest, act: Callable[[], str]) -> bool:
    try:
        message = act()
    except DomainError as refusal:
        say_refusal(request, refusal)
        return False
    if message:
        messages.info(request, message)
    return True


def _freeze(typed: str) -> Freeze | None:
    try:
        return Freeze.objects.filter(public_id=UUID(typed)).first()
    except ValueError:
        return None


def _codes(typed: list[str]) -> list[str]:
    return [code for code in typed if CODE.fullmatch(code)]
