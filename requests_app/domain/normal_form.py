"""The one spelling in which an address and a user name are stored and looked for.

PostgreSQL keeps to it too, for whoever writes past our code (migration 0031, a trigger).
"""

import unicodedata
from contextlib import suppress

from django.utils.encoding import punycode


def address(typed: str) -> str:
    """Small letters, no space around it, and the domain as mail servers name it: `xn--…` where it has other letters."""
    local, at, domain = user_name(typed).rpartition("@")
    with suppress(UnicodeError):  # no domain: whoever stores it says so
        domain = punycode(domain)
    return f"{local}{at}{domain}"


def user_name(typed: str) -> str:
    """Small letters, no space around it, and one form for what looks alike to Unicode: `Ｍａｘ` is `max`."""
    before, now = "", typed
    # A small letter may have a form of its own that is composed, and a composed one a space: until nothing changes.
    while now != before:
        before, now = now, unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", now).lower()).strip()
    return now
