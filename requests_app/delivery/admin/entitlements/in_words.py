"""What an entitlement says, in the words that those who ask under it read."""

from collections.abc import Iterator

from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from requests_app.delivery.web.terms_in_words import said
from requests_app.domain.models import Entitlement

MOST_NAMES = 10


def summary(entitlement: Entitlement) -> SafeString:
    """Prefetch `with_terms` and the askers."""
    return format_html_join("", "<li>{}</li>", ((sentence,) for sentence in sentences(entitlement)))


def sentences(entitlement: Entitlement) -> list[str]:
    return [
        *([] if entitlement.is_active else ["Out of use: nobody may ask on these terms."]),
        *said(entitlement.terms_now()),
        *_asking(entitlement),
    ]


def _asking(entitlement: Entitlement) -> Iterator[str]:
    if askers := sorted(map(str, entitlement.askers.all())):
        named = " or ".join(askers[:MOST_NAMES]) + (" …" if len(askers) > MOST_NAMES else "")
        yield f"Members of {named} may ask for others whom it reaches."
