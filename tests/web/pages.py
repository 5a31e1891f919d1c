"""Reading pages as a browser would: what the policy forbids, what a screen reader needs."""

from collections import Counter
from html.parser import HTMLParser
from typing import Any

from django.test import Client

from requests_app.domain.models import User

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_UNLABELLED = {"hidden", "submit", "button"}


class Page(HTMLParser):
    """A page's elements in order, each as (tag, attributes), and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inline: list[str] = []
        self.labelled: set[str] = set()
        self._open: list[str] = []
        self.problems: list[str] = []
        self._in_phase = 0  # how many elements were open when a phase of a delivery began
        self.feed(html)
        self.close()
        if self._open:
            self.problems.append(f"left open: {self._open}")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in _VOID:
            if "data-phase" in attributes and not self._in_phase:
                self._in_phase = len(self._open) + 1
            self._open.append(tag)
        if tag == "style" or "style" in attributes or any(name.startswith(("on", "hx-on")) for name in attributes):
            self.inline.append(f"<{tag} {attributes}>")
        if tag == "script" and not attributes.get("src"):
            self.inline.append("<script> without a file")
        if any((value or "").strip().lower().startswith("javascript:") for value in attributes.values()):
            self.inline.append(f"javascript: in <{tag}>")
        if tag == "label" and attributes.get("for"):
            self.labelled.add(str(attributes["for"]))
        if tag in ("input", "select", "textarea"):
            attributes["data-in-label"] = "yes" if "label" in self._open else None
        if self._in_phase:
            attributes["data-in-phase"] = "yes"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> while {self._open[-3:]} are open")
            if tag not in self._open:
                return
        while self._open and self._open.pop() != tag:
            pass
        if len(self._open) < self._in_phase:
            self._in_phase = 0

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def unlabelled(self) -> list[dict[str, str | None]]:
        return [
            attributes
            for tag in ("input", "select", "textarea")
            for attributes in self.all(tag)
            if attributes.get("type") not in _UNLABELLED
            and not attributes.get("aria-label")
            and not attributes.get("data-in-label")
            and attributes.get("id") not in self.labelled
        ]

    def doubled_ids(self) -> set[str]:
        ids = Counter(str(attributes["id"]) for _, attributes in self.elements if attributes.get("id"))
        return {one for one, times in ids.items() if times > 1}


def signed_in(person: User) -> Client:
    client = Client()
    client.force_login(person)
    return client


def page(response: Any) -> Page:
    assert response["Content-Type"].startswith("text/html")
    return Page(response.content.decode())
