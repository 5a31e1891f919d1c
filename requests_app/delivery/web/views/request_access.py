from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import replace_url

from requests_app.delivery.web import once, request_options
from requests_app.delivery.web.access import PersonRequest, signed_in
from requests_app.delivery.web.context import now_of
from requests_app.delivery.web.forms import NOT_THEM, RequestForm
from requests_app.delivery.web.frozen import frozen_by
from requests_app.delivery.web.request_options import Choice
from requests_app.domain import pasted, workflow
from requests_app.domain.codes import CODE
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import AccessRequest, Role, User
from requests_app.domain.transitions import State
from requests_app.domain.workflow.idempotency import OtherContents

_FROM_LINK = (
    *("entitlement", "duration", "duration_other", "start", "start_date", "start_time"),
    *("justification", "ticket"),
)
# What stands on the page before a role is chosen.
SHOWN_WITHOUT_ROLE = ("role", "justification")


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked for, as far as it is chosen: the role, for whom, and on which terms that can be."""

    role: Role | None
    beneficiary: User
    found: list[Choice]
    # Somebody was named for whom this person may not ask.
    refused: bool = False
    # Why the chosen role is not open to this person themselves, where they are excluded.
    excluded: str = ""

    @classmethod
    def of(cls, asker: User, typed: QueryDict | dict[str, Any], *, posted: bool = False) -> "Asking":
        """Where it is `posted`, the terms that were chosen are all that is looked at, if they can be."""
        chosen = str(typed.get("role") or "")
        role = request_options.find_role(asker, chosen)
        if role is None:
            return cls(None, asker, [], excluded=request_options.why_excluded(asker, chosen) if chosen else "")
        wanted = str(typed.get("beneficiary") or "")
        other = wanted not in ("", str(asker.public_id))
        beneficiary = request_options.find_person(asker, role, wanted) if other else asker
        choice = None
        if posted and beneficiary is not None:
            choice = request_options.choice(asker, role, str(typed.get("entitlement") or ""), beneficiary=beneficiary)
        found = [choice] if choice else request_options.choices(asker, role, beneficiary=beneficiary or asker)
        excluded = "" if found or other else request_options.why_excluded(asker, chosen)
        return cls(role, beneficiary or asker, found, refused=beneficiary is None, excluded=excluded)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def request_access(request: PersonRequest) -> HttpResponse:
    """The form. Its GET parameters fill it in and change nothing."""
    if request.method == "POST":
        return _submit(request)
    typed = _from_again(request) or _typed(request)
    asking = Asking.of(request.user, typed)
    return _page(request, RequestForm(initial=_initial(typed, asking), found=asking.found), asking)


@require_safe
@signed_in
def role_search(request: PersonRequest) -> HttpResponse:
    """What was found for the words typed so far."""
    return render(request, "request_access/found.html", _roles_found(request))


@require_safe
@signed_in
def person_search(request: PersonRequest) -> HttpResponse:
    """Those for whom this person may ask for the role, by what was typed so far."""
    role, words = request_options.find_role(request.user, request.GET.get("role", "")), _words(request, "person")
    people = request_options.find_people(request.user, role, words) if role else []
    return render(request, "request_access/found_people.html", {"role": role, **_people_found(people, words)})


@require_safe
@signed_in
def role_terms(request: PersonRequest) -> HttpResponse:
    """The chosen role and the terms on which this person may ask for it; without a role, the search.

    The page's address follows, so that going back to it finds the role again.
    """
    # What was typed stays: the reason is kept by the page, the rest comes along.
    typed = _typed(request)
    asking = Asking.of(request.user, typed)
    form = RequestForm(initial=_initial(typed, asking), found=asking.found)
    chosen = form.chosen.key if form.chosen else ""
    context = _context(request, form, asking) | {"focus": True, "focused": chosen}
    return replace_url(render(request, "request_access/asking.html", context), context["address"])


@require_safe
@signed_in
def outlook(request: PersonRequest) -> HttpResponse:
    """What would happen if what is chosen so far were asked for."""
    asking = Asking.of(request.user, request.GET)
    form = RequestForm(request.GET, found=asking.found)
    form.is_valid()
    return render(request, "request_access/outlook.html", _outlook(request, form, asking))


def _submit(request: PersonRequest) -> HttpResponse:
    asking = Asking.of(request.user, request.POST, posted=True)
    form = RequestForm(request.POST, found=asking.found)
    used_up = False
    if asking.role is None and "role" not in form.errors:
        gone = "You may not ask for this role, or it is gone. Choose another one."
        form.add_error("role", asking.excluded or gone)
    if asking.refused:
        form.add_error("beneficiary", NOT_THEM)
    if form.is_valid() and asking.role is not None and form.chosen is not None:
        try:
            made = workflow.submit(
                asking.role,
                by=request.user,
                entitlement=form.chosen.entitlement,
                duration=form.wanted,
                justification=form.cleaned_data["justification"],
                ticket=form.cleaned_data["ticket"],
                start=form.cleaned_data["start"],
                start_at=form.start_at,
                beneficiary=asking.beneficiary,
                key=once.sent(request),
            )
        except Invalid as refusal:
            form.take(refusal)
        except OtherContents as refusal:
            used_up = True
            form.add_error(None, _other_before(refusal.result))
        except DomainError as refusal:
            form.add_error(None, refusal.message)
        else:
            messages.info(request, _in_words(made))
            return redirect("access_request", made.code)
    # Now the others are shown too.
    asking = Asking.of(request.user, request.POST)
    form.offer(asking.found)
    return _page(request, form, asking, status=422, used_up=used_up)


def _other_before(code: str) -> SafeString:
    return format_html(
        'You already sent this form, with other contents; that made <a href="{}">{}</a>. Nothing was sent now. '
        "To ask for this as well, press again.",
        reverse("access_request", args=[code]),
        code,
    )


def _in_words(made: AccessRequest) -> str:
    if made.is_repeat:
        return "You had sent this already. It was asked for once, and nobody was told a second time: this is it."
    if made.waits_for_acceptance:
        return f"Asked for {made.beneficiary}, who is told and must accept it first."
    if made.state == State.ACTIVE:
        return "Your pass is active."
    if made.state == State.APPROVED and made.scheduled_at:
        return "Nobody had to agree. Your pass starts by itself."
    if made.state == State.APPROVED:
        return "Nobody had to agree. Your pass starts when you press Start, or when you get credentials."
    return "Asked. The people who decide have been told."


def _typed(request: PersonRequest) -> dict[str, Any]:
    typed = {name: request.GET[name].replace("\0", "") for name in _FROM_LINK if request.GET.get(name)}
    return typed | {name: request.GET.get(name, "") for name in ("role", "beneficiary")}


def _from_again(request: PersonRequest) -> dict[str, Any]:
    """What an earlier request asked for that this person made or had."""
    code = request.GET.get("again", "").upper()
    if not CODE.fullmatch(code):
        return {}
    earlier = AccessRequest.objects.filter(code=code).select_related("role", "beneficiary", "entitlement").first()
    if earlier is None or request.user.pk not in earlier.asking_side:
        return {}
    scheduled = earlier.start == AccessRequest.Start.AT_TIME  # that time is over
    return {
        "role": str(earlier.role.public_id),
        "beneficiary": str(earlier.beneficiary.public_id),
        "entitlement": str(earlier.entitlement.public_id),
        "duration": str(earlier.duration_seconds // 60),
        "justification": earlier.justification,
        "ticket": earlier.ticket,
        "start": AccessRequest.Start.ON_DEMAND if scheduled else earlier.start,
    }


def _initial(typed: dict[str, Any], asking: Asking) -> dict[str, Any]:
    found, role = asking.found, asking.role
    chosen = next((choice for choice in found if choice.key == typed.get("entitlement")), found[0] if found else None)
    initial = {**typed, "role": str(role.public_id) if role else "", "entitlement": chosen.key if chosen else ""}
    offered = [str(step) for step in request_options.steps(found)]
    if not typed.get("duration"):
        initial["duration"] = str(chosen.usual_minutes) if chosen else ""
    elif found and typed["duration"] not in [*offered, "other"]:
        initial |= {"duration": "other", "duration_other": typed["duration"]}
    return initial


def _address(request: PersonRequest, asking: Asking) -> str:
    """Where the page shows this again: what is chosen alone, nothing that was typed."""
    chosen = {"role": asking.role.public_id} if asking.role else {}
    if asking.beneficiary != request.user:
        chosen["beneficiary"] = asking.beneficiary.public_id
    return reverse("request_access", query=chosen or None)


def _context(request: PersonRequest, form: RequestForm, asking: Asking) -> dict[str, Any]:
    role = asking.role
    person_words = _words(request, "person")  # without script, a plain GET of this page
    for_another = asking.beneficiary != request.user
    may_ask_for_others = role is not None and request_options.may_ask_for_others(request.user, role)
    people = request_options.find_people(request.user, role, person_words) if role and person_words else None
    return {
        "form": form,
        "mistakes": [field for field in form if field.errors and (role or field.name in SHOWN_WITHOUT_ROLE)],
        "role": role,
        "address": _address(request, asking),
        "beneficiary": asking.beneficiary,
        "for_another": for_another,
        "excluded": asking.excluded,
        "may_ask_for_others": may_ask_for_others,
        "only_for_others": may_ask_for_others and not for_another and not asking.found,
        "for_whom_is_open": not asking.found or people is not None or "beneficiary" in form.errors,
        **_people_found(people, person_words),
        "choices": asking.found,
        "standing": request_options.standing(request.user, role, asking.beneficiary, now_of(request)) if role else [],
        "freezes": frozen_by([role] if role else []).values(),
        "steps": request_options.steps(asking.found),
        **({} if role else _roles_found(request)),
        **_outlook(request, _as_if_posted(form, asking), asking),
    }


def _roles_found(request: PersonRequest) -> dict[str, Any]:
    """By what was typed so far; without script by a plain GET of the page."""
    words = _words(request, "q", most=pasted.LONGEST)
    if words:
        return {"words": words, "found": request_options.search(request.user, words)}
    account, after = _words(request, "account"), _words(request, "after")
    if account:
        partition, _, number = account.partition(":")
        return {"words": "", "within": request_options.browse_account(request.user, partition, number, after=after)}
    accounts, last = request_options.browse(request.user, after=after)
    recent = [] if after else request_options.recent_roles(request.user)
    return {"words": "", "recent": recent, "accounts": accounts, "after": after, "last": last}


def _people_found(people: list[User] | None, words: str) -> dict[str, Any]:
    """`people` is None where nobody was looked for."""
    nobody = not people and len(words) >= request_options.LETTERS
    return {"people": people, "person_words": words, "letters": request_options.LETTERS, "nobody_found": nobody}


def _as_if_posted(form: RequestForm, asking: Asking) -> RequestForm:
    """What a link filled in is judged as if it had been typed."""
    if form.is_bound:
        return form
    typed = RequestForm(form.initial, found=asking.found)
    typed.is_valid()
    return typed


def _outlook(request: PersonRequest, form: RequestForm, asking: Asking) -> dict[str, Any]:
    if asking.role is None or form.chosen is None:
        return {"outlook": None}
    outlook = request_options.outlook(
        form.chosen,
        asking.role,
        asker=request.user,
        beneficiary=asking.beneficiary,
        duration=timedelta(minutes=_minutes(form, form.chosen)),
        # Where it is not said yet at what time, that alone is said.
        start=AccessRequest.Start.AT_TIME if form.start_at else AccessRequest.Start.ON_DEMAND,
        start_at=form.start_at,
        now=now_of(request),
    )
    mine = asking.beneficiary == request.user
    on_demand = form["start"].value() in (None, "", AccessRequest.Start.ON_DEMAND)
    return {
        "outlook": outlook,
        "beneficiary": asking.beneficiary,
        "for_another": not mine,
        "on_demand": on_demand,
        "starts_with_a_press": mine and not outlook.scheduled,
        "counts_from_own_start": mine and on_demand,
        "start_said": _start_said(form),
    }


def _start_said(form: RequestForm) -> list[str]:
    """Why it is not known yet when this would begin, where it is to begin at a time."""
    if form["start"].value() != AccessRequest.Start.AT_TIME or form.start_at is not None:
        return []
    sentences = [str(error) for error in form.errors.get("start_date", [])]
    return sentences or ["Say when it is to start: a date and a time."]


def _minutes(form: RequestForm, choice: Choice) -> int:
    """How long, as far as it is chosen."""
    name = "duration_other" if form["duration"].value() == "other" else "duration"
    typed = str(form[name].value() or "")
    minutes = int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 6 else 0
    return minutes or choice.usual_minutes


def _words(request: PersonRequest, name: str, most: int = pasted.LONGEST_WORDS) -> str:
    return request.GET.get(name, "").replace("\0", "")[:most].strip()


def _page(
    request: PersonRequest, form: RequestForm, asking: Asking, *, status: int = 200, used_up: bool = False
) -> HttpResponse:
    context = _context(request, form, asking) | {"once": once.to_show(request, used_up=used_up)}
    return render(request, "request_access/page.html", context, status=status)
