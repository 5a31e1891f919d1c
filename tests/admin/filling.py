"""Filling in a form of the admin as a browser does: what the page shows is posted, with what a person changes."""

from html.parser import HTMLParser
from typing import Any

from django.test import Client

Typed = dict[str, list[str]]


class Form(HTMLParser):
    """The fields of the page's big form, and what is in them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: Typed = {}
        self._select: str | None = None
        self._textarea: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        name = has.get("name", "")
        if tag == "input" and name and has.get("type") not in ("submit", "button"):
            ticks = has.get("type") in ("checkbox", "radio")
            if "checked" in has or not ticks:
                self._add(name, has.get("value", "on" if ticks else ""))
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in has:
            self._add(self._select, has.get("value", ""))
        elif tag == "textarea":
            self._textarea = name
            self.fields[name] = [""]

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None
        elif tag == "textarea":
            self._textarea = None

    def handle_data(self, data: str) -> None:
        if self._textarea:
            typed = self.fields[self._textarea]
            typed[0] += data if typed[0] else data.removeprefix("\r").removeprefix("\n")

    def _add(self, name: str, value: str) -> None:
        self.fields.setdefault(name, []).append(value)


def read(client: Client, at: str) -> Typed:
    response = client.get(at)
    assert response.status_code == 200, at
    return Form(response.content.decode()).fields


def save(client: Client, at: str, **changed: Any) -> Any:
    """Open the page, change these fields and save."""
    return send(client, at, read(client, at), **changed)


def send(client: Client, at: str, fields: Typed, **changed: Any) -> Any:
    """Post these fields; one that is None is left out."""
    data: dict[str, Any] = {**fields, **changed}
    return client.post(at, {name: value for name, value in data.items() if value is not None})


def add_line(fields: Typed, prefix: str, **values: Any) -> Typed:
    """One more row of an inline, as the page's script would make it."""
    number = int(fields[f"{prefix}-TOTAL_FORMS"][0])
    row = {f"{prefix}-{number}-{name}": value for name, value in values.items()}
    return {**fields, f"{prefix}-TOTAL_FORMS": [str(number + 1)], **row}


def errors(response: Any) -> str:
    """Every sentence the page says about what was typed."""
    assert response.status_code == 200
    form = response.context["adminform"].form
    said = [str(form.errors)]
    for inline in response.context["inline_admin_formsets"]:
        said += [str(inline.formset.non_form_errors()), *(str(one.errors) for one in inline.formset.forms)]
    return " ".join(said)
