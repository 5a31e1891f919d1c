"""Seeds of second factors are sealed: the database alone, or a backup of it, makes no code."""

import base64
from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

SEALED = "sealed:"


def seal(seed: str) -> str:
    """With a key derived from SECRET_KEY, which is not in the database; by the name of that key."""
    secret = settings.SECRET_KEY
    return f"{SEALED}{_name(secret)}:{_key(secret).encrypt(seed.encode()).decode()}"


def open_sealed(stored: str) -> str:
    """One from before seeds were sealed is returned as it stands.

    Raises ValueError where it was sealed with a key that is neither SECRET_KEY nor one of its fallbacks.
    """
    if not stored.startswith(SEALED):
        return stored
    keys = MultiFernet([_key(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])
    try:
        return keys.decrypt(stored.rpartition(":")[2].encode()).decode()
    except InvalidToken:
        raise ValueError("This seed was sealed with another SECRET_KEY.") from None


def sealed_now() -> str:
    """What the seeds begin with that are sealed with SECRET_KEY itself."""
    return f"{SEALED}{_name(settings.SECRET_KEY)}:"


def sealed_before() -> list[str]:
    """The same for each key before it that is still given."""
    return [f"{SEALED}{_name(secret)}:" for secret in settings.SECRET_KEY_FALLBACKS]


@cache
def _key(secret: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(_derived(secret, b"daypass.factors", 32)))


@cache
def _name(secret: str) -> str:
    return _derived(secret, b"daypass.factors.name", 4).hex()


def _derived(secret: str, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=info).derive(secret.encode())
