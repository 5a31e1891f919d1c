"""The one spelling in which an address and a user name are stored and looked for.

PostgreSQL keeps to it too, for whoever writes past our code (migration 0031, a trigger).
"""

import re
import unicodedata
from contextlib import suppress

from django.utils.encoding import punycode

# With these the rules of 2003, which are Python's and Django's, name another domain, and today another's: `strasse.de`
# for `straße.de`. Those of 2008, which registries and mail servers keep to, write them as they write any letter.
_OTHERS_BEFORE = re.compile("[ßς\u200c\u200d]")


def address(typed: str) -> str:
    """Small letters, no space around it, and the domain as mail servers name it: `xn--…` where it has other letters."""
    local, at, domain = user_name(typed).rpartition("@")
    if not at:
        return domain
    with suppress(UnicodeError):  # no domain: whoever stores it says so
        domain = punycode(".".join(map(_by_2008, re.split("[.。]", domain)))).strip()
    return f"{local}{at}{domain}"


def user_name(typed: str) -> str:
    """Small letters, no space around it, and one form for what looks alike to Unicode: `Ｍａｘ` is `max`."""
    before, now = "", typed
    # A small letter may have a form of its own that is composed, and a composed one a space: until nothing changes.
    while now != before:
        before, now = now, unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", now).lower()).strip()
    return now


def _by_2008(label: str) -> str:
    """A part of a domain; in ASCII where the rules of 2003 would make another of it."""
    return f"xn--{label.encode('punycode').decode()}" if _OTHERS_BEFORE.search(label) else label
