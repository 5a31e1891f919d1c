"""The mail itself, as plain text and as a page: both are the template of its kind, within one of two layouts."""

from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from requests_app.background.mail import words
from requests_app.background.mail.batch import Batch
from requests_app.domain.models import Notice
from requests_app.domain.notices import Kind
from requests_app.domain.texts import shortened

LONGEST_SUBJECT = 200
STOPPING = (Kind.FROZEN, Kind.THAWED, Kind.RESTORED, Kind.STOPPED)


def message(notice: Notice, batch: Batch, key: str = "") -> EmailMultiAlternatives:
    """To be sent; `key` is the one of the link to choose a password, where it brings one."""
    code = notice.access_request.code if notice.access_request else ""
    path = reverse("password_link", args=[key]) if key else page_for(notice)
    context = {
        "facts": [],
        "subject": "",
        **words.of(notice, batch),
        "from_before": notice.about or "",
        "link": settings.BASE_URL + path,
        "portal": settings.BASE_URL,
        "code": code,
    }
    # Further lines of what someone typed are set in, or they could pass for ours in the plain text.
    context["facts_as_text"] = [(label, "\n    ".join(fact.splitlines())) for label, fact in context["facts"]]
    text = _render(notice, "layout.txt", context)
    # It begins with what it is about, in one line.
    made = EmailMultiAlternatives(_subject(context["subject"] or text.partition("\n")[0], code), text)
    # Word that somebody has another address goes to the one of before as well.
    made.to = [notice.detail.get("to") or notice.recipient.email]
    made.extra_headers = {"Auto-Submitted": "auto-generated"} | ({"X-Daypass-Request": code} if code else {})
    made.attach_alternative(_render(notice, "layout.html", context), "text/html")
    return made


def page_for(notice: Notice) -> str:
    """Where somebody sees it, or does something about it."""
    if notice.access_request is not None:
        return reverse("access_request", args=[notice.access_request.code])
    if notice.kind in (Kind.ACCOUNT, Kind.GUESSED):
        return reverse("usersessions_list")
    return reverse("stop" if notice.kind in STOPPING and notice.recipient.is_operator else "home")


def _render(notice: Notice, layout: str, context: dict[str, Any]) -> str:
    return render_to_string(f"mail/{Kind(notice.kind)}.txt", context | {"layout": f"mail/layouts/{layout}"})


def _subject(sentence: str, code: str) -> str:
    """A header takes no line break, whatever someone typed. What does not fit is in the mail itself."""
    plain = " ".join(sentence.split()).rstrip(".")
    of_request = f" ({code})" if code else ""
    return shortened(plain, LONGEST_SUBJECT - len(of_request)) + of_request
