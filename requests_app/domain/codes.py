"""Names that are read aloud, typed and written into AWS: one length, one case, no letters that look alike."""

import re
import secrets

# Crockford's base 32: no I, L, O, U.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_IN_SQL = rf"^DP-[{ALPHABET}]{{8}}$"
CODE = re.compile(CODE_IN_SQL, re.ASCII)


def new_code() -> str:
    """A request's code such as `DP-7K2M9QX4`; a name, never an authority."""
    return f"DP-{_random(8)}"


def new_source_identity() -> str:
    """A person's key for CloudTrail, in AWS's alphabet: given once and theirs for ever, whatever they are called."""
    return f"person-{_random(10).lower()}"


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
