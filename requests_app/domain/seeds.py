"""Seeds of second factors are sealed: the database alone, or a backup of it, makes no code."""

import base64
from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

SEALED = "sealed:"


def seal(seed: str) -> str:
    """With a key derived from SECRET_KEY, which is not in the database."""
    return SEALED + _keys().encrypt(seed.encode()).decode()


def open_sealed(stored: str) -> str:
    """One from before seeds were sealed is returned as it stands.

    Raises ValueError where it was sealed with a key that is neither SECRET_KEY nor one of its fallbacks.
    """
    if not stored.startswith(SEALED):
        return stored
    try:
        return _keys().decrypt(stored.removeprefix(SEALED).encode()).decode()
    except InvalidToken:
        raise ValueError("This seed was sealed with another SECRET_KEY.") from None


def _keys() -> MultiFernet:
    return MultiFernet([_key(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


@cache
def _key(secret: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=b"daypass.factors").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
