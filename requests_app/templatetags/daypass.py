"""Words, times and icons of the pages: how Daypass writes them, in one place."""

import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django import template
from django.contrib import messages
from django.contrib.messages.storage.base import Message
from django.core.serializers.json import DjangoJSONEncoder
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, RadioSelect, Select
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from lucide.templatetags.lucide import lucide

from requests_app.domain import browsers, facts
from requests_app.domain.models import AccessRequest, IssuedSession
from requests_app.domain.terms import CONSOLE, KEYS, StageTerms, Terms
from requests_app.domain.texts import shortened
from requests_app.domain.transitions import State

register = template.Library()

CHANNELS = {CONSOLE: "console", KEYS: "keys"}
# By the tags that allauth gives a button, the most telling first.
BUTTON_CLASSES = {
    "danger": "btn-end",
    "link": "btn-quiet",
    "outline": "btn-plain",
    "secondary": "btn-plain",
    "panel": "btn-plain",
}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# A word and an icon first, then a colour.
STATES = {
    State.PENDING: ("pending", "clock", "amber"),
    State.APPROVED: ("ready to start", "check", "blue"),
    State.ACTIVE: ("active", "zap", "green"),
    State.RETURNED: ("returned", "square", "grey"),
    State.EXPIRED: ("expired", "square", "grey"),
    State.REVOKED: ("revoked", "ban", "red"),
    State.DENIED: ("denied", "x", "red"),
    State.WITHDRAWN: ("withdrawn", "minus", "grey"),
    State.LAPSED: ("lapsed", "minus", "grey"),
}


@register.simple_tag
def icon(name: str, size: int = 18) -> str:
    """A picture beside its label; never the only thing that says something."""
    return _svg(name, size)


@register.simple_tag
def state(value: str) -> SafeString:
    """A request's state, as its word, icon and colour."""
    return mark(*STATES[State(value)])


@register.simple_tag
def mark(word: str, name: str, tone: str) -> SafeString:
    """A word, an icon and a colour, as `state` shows them, for what is more than the state."""
    return format_html('<span class="state tone-{}">{}{}</span>', tone, icon(name, 15), word)


@register.filter
def tone(value: str) -> str:
    """The class that colours a state."""
    return f"tone-{STATES[State(value)][2]}"


@register.filter
def state_at(access_request: AccessRequest, now: datetime) -> str:
    """What is true by the clock, whatever a sweep has recorded."""
    return str(access_request.state_at(now))


@register.filter
def browser(user_agent: str) -> str:
    """A browser by the name that people know, and as it calls itself where there is none."""
    return browsers.in_words(user_agent) or shortened(user_agent, 140)


@register.filter
def span(value: timedelta | float | None) -> str:
    """A length of time: `45 s`, `52 min`, `1 h 30 min`, `3 d 4 h`; a number and its unit stay on one line."""
    if value is None:
        return ""
    seconds = int(value.total_seconds() if isinstance(value, timedelta) else value)
    if seconds < 60:
        return _parts((max(seconds, 0), "s"))
    minutes = seconds // 60
    if minutes >= 24 * 60:
        return _parts((minutes // 1440, "d"), (minutes // 60 % 24, "h"))
    return _parts((minutes // 60, "h"), (minutes % 60, "min"))


@register.filter
def minutes(number: int) -> str:
    """So many minutes, as a length of time."""
    return span(number * 60)


@register.filter
def lasted(end: datetime, start: datetime) -> str:
    """How long it went on from `start` to `end`, in whole minutes."""
    return span(end - start)


@register.filter
def after(end: datetime, start: datetime) -> str:
    """How long it took from `start` to `end`, to a tenth of a second while that matters: `3.1 s`, `2 min`."""
    waited = end - start
    return f"{waited.total_seconds():.1f} s" if waited < timedelta(minutes=1) else span(waited)


@register.filter
def agreement(terms: Terms) -> str:
    """`automatic`, `approval from Security`, `two approvals from Payments leads, then one from Security`."""
    if terms.is_automatic:
        return "automatic"
    if not terms.stages:
        return "nobody is named to decide"
    first, *others = terms.stages
    begins = "approval" if first.quorum == 1 else f"{_counted(first.quorum)} approvals"
    return ", then ".join([f"{begins} from {deciders(first)}", *(_from(stage) for stage in others)])


@register.filter
def deciders(stage: StageTerms) -> str:
    """Who decides at a stage, by the names of groups and people."""
    return stage.asks or "nobody"


@register.filter
def particulars(terms: Terms) -> list[str]:
    """What makes these terms different from others besides who decides, a few words each."""
    found = [f"{CHANNELS[terms.channels]} only"] if terms.channels in CHANNELS else []
    if terms.hours:
        found.append(terms.hours.in_words())
    if terms.may_be_extended:
        found.append(f"may be extended, to {span(terms.extension_total_seconds)} in all")
    return [*found, "narrowed"] if terms.narrows else found


@register.filter
def limits(terms: Terms) -> list[str]:
    """What these terms keep a pass from, narrowing and channels apart."""
    found = []
    if terms.not_through_mcp:
        found.append(
            "Not through AWS's AI gateway: AWS refuses what comes through its MCP server. That is all it catches; "
            "an AI agent that has the keys and calls AWS by itself looks like the person."
        )
    if terms.ends_by_sts_only:
        found.append("Only where AWS itself ends the keys at the second: never by policy alone.")
    return found


@register.filter
def no_console(access_request: AccessRequest) -> str:
    """Why a pass under whose terms there is a console has none; empty where it has one."""
    may = facts.may_use(access_request, CONSOLE)
    return "" if may or not access_request.terms.allows(CONSOLE) else may.message


@register.filter
def works_until(session: IssuedSession) -> datetime:
    """The end of the pass, or of the STS session itself where that comes first."""
    return min(session.cut_off, session.sts_expires_at)


@register.filter
def since(then: datetime, now: datetime) -> str:
    """How long ago: `just now`, `4 min ago`."""
    return "just now" if now - then < timedelta(minutes=1) else f"{span(now - then)} ago"


def left(end: datetime, now: datetime) -> str:
    """How long is left, rounded up so that it never says zero while something is left."""
    return span(timedelta(minutes=-((now - end) // timedelta(minutes=1)))) if end > now else "no time"


@register.filter
def as_json(value: Any) -> str:
    """For a script to read from an attribute."""
    return json.dumps(value, cls=DjangoJSONEncoder)


@register.filter
def iso(at: datetime) -> str:
    """For scripts: UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@register.simple_tag
def moment(at: datetime | None, now: datetime) -> SafeString | str:
    """A time as its reader would say it; the zone and UTC on hover."""
    if at is None:
        return ""
    local = timezone.localtime(at)
    return _time(at, local, f"{_day(local, timezone.localtime(now))}{local:%H:%M}")


@register.simple_tag
def exact(at: datetime | None) -> SafeString | str:
    """Date, seconds and UTC, for evidence."""
    return "" if at is None else _time(at, timezone.localtime(at), f"{at.astimezone(UTC):%d %b %Y %H:%M:%S UTC}")


@register.simple_tag
def until(end: datetime, now: datetime) -> SafeString:
    """With what is left, which scripts keep true while the page is open."""
    return format_html('until {} <span data-in="{}">(in {})</span>', moment(end, now), iso(end), left(end, now))


@register.simple_tag
def countdown(end: datetime, now: datetime, what: str) -> SafeString:
    """What is left of a pass; without script it stands still at what was true when the page was made."""
    soon = " soon" if end - now <= timedelta(minutes=15) else ""
    return format_html(
        '<time class="clock{}" datetime="{}" data-countdown data-ends-at="{}" data-what="{}">{} left</time>',
        soon, iso(end), iso(end), what, left(end, now),
    )  # fmt: skip


@register.filter
def plural(number: int, words: str) -> str:
    """`{{ 2|plural:"person,people" }}` says `2 people`."""
    one, many = words.split(",")
    return f"{number} {one if number == 1 else many}"


@register.filter
def control(field: BoundField) -> SafeString:
    """The field's own input, with Bootstrap's class for its kind."""
    return field.as_widget(attrs={"class": _class_of(field.field.widget)})


@register.filter
def button_class(tags: Collection[str]) -> str:
    """One primary button a screen: whatever allauth tags as secondary, outlined or a link is plain."""
    for tag, css_class in BUTTON_CLASSES.items():
        if tag in tags:
            return css_class
    return "btn-primary"


@register.filter
def is_checkable(input_type: str) -> bool:
    """Whether an input of this type is ticked and not typed into."""
    return input_type in ("checkbox", "radio")


@register.filter
def is_warning(message: Message) -> bool:
    """Whether a message is about what did not happen, and no mere note."""
    return message.level >= messages.WARNING


@register.filter
def is_checkbox(field: BoundField) -> bool:
    """Its label stands behind it."""
    return isinstance(field.field.widget, CheckboxInput)


@register.filter
def is_group(field: BoundField) -> bool:
    """Several inputs under one question need a fieldset instead of a label."""
    return bool(field.field.widget.use_fieldset)


@cache  # the names stand in templates, so there are only so many
def _svg(name: str, size: int) -> str:
    return lucide(name, size=size, aria_hidden="true", focusable="false")


def _parts(*parts: tuple[int, str]) -> str:
    shown = [f"{number}\N{NO-BREAK SPACE}{unit}" for number, unit in parts if number]
    return " ".join(shown) or f"0\N{NO-BREAK SPACE}{parts[-1][1]}"


def _counted(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def _from(stage: StageTerms) -> str:
    return f"{_counted(stage.quorum)} from {deciders(stage)}"


def _class_of(widget: Any) -> str:
    if isinstance(widget, CheckboxInput | RadioSelect | CheckboxSelectMultiple):
        return "form-check-input"
    return "form-select" if isinstance(widget, Select) else "form-control"


def _time(at: datetime, local: datetime, words: str) -> SafeString:
    title = f"{local:%a %d %b %Y %H:%M:%S} {local.tzinfo} · {at.astimezone(UTC):%H:%M:%S} UTC"
    return format_html('<time datetime="{}" title="{}">{}</time>', iso(at), title, words)


def _day(local: datetime, now: datetime) -> str:
    days = (local.date() - now.date()).days
    if days in (-1, 0, 1):
        return {-1: "yesterday ", 0: "", 1: "tomorrow "}[days]
    if 1 < days < 7:
        return local.strftime("%a ") + local.strftime("%d %b ").lstrip("0")
    return local.strftime("%d %b " if abs(days) < 300 else "%d %b %Y ").lstrip("0")
