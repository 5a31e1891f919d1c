"""Names that AWS keeps in its logs, in AWS's alphabet: ASCII only, whatever people are called."""

import re
import unicodedata

_LONGEST = 64
_CODE = re.compile(r"[A-Z0-9]+-[A-Z0-9]+", re.ASCII)
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
# Letters that Unicode does not take apart into an ASCII letter and an accent.
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
    | {"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i"}
)


def session_name(code: str, name: str) -> str:
    """`CODE-name` for RoleSessionName, such as `DP-7K2M9QX4-alice`: any name gives a legal one.

    There is always something after the code's dash, because a revocation finds the sessions by
    `*:CODE-*`. Raises ValueError only on a code that is none.
    """
    if not _CODE.fullmatch(code):
        raise ValueError(f"not a request's code: {code!r}")
    plain = unicodedata.normalize("NFKD", name.translate(_LETTERS)).encode("ascii", "ignore").decode()
    tail = re.sub(r"[^\w+=,.@-]+", "-", plain, flags=re.ASCII).strip("-")
    return f"{code}-{tail or 'someone'}"[:_LONGEST]


def is_source_identity(text: str) -> bool:
    """Whether AWS takes `text` as a SourceIdentity."""
    return _NAME.fullmatch(text) is not None
