"""Sealed deliveries on their short way through Redis: ciphertext only, for a minute, handed out once.

Redis is no authority: whoever takes an envelope compares its hash with the delivery's row.
"""

import re

import redis

from requests_app.domain import store

_COMPACT_JWE = re.compile(rb"[\w-]+\.[\w-]*\.[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class EnvelopeStoreDown(Exception):
    """Redis did not answer in time, or not properly."""


def put(delivery_id: str, jwe: str, seconds: int = 60) -> None:
    """Leave a sealed delivery for `seconds`. Raises EnvelopeStoreDown; ValueError if it is not a JWE."""
    sealed = jwe.encode()
    if not _COMPACT_JWE.fullmatch(sealed):
        raise ValueError("only a sealed delivery (a compact JWE) may be stored")
    try:
        store.client().set(_key(delivery_id), sealed, ex=seconds)
    except redis.RedisError as error:
        raise EnvelopeStoreDown(type(error).__name__) from None


def take(delivery_id: str) -> str | None:
    """The sealed delivery, which is gone from here afterwards; None if there is none (any more).

    Raises EnvelopeStoreDown.
    """
    try:
        sealed = store.client().getdel(_key(delivery_id))
    except redis.RedisError as error:
        raise EnvelopeStoreDown(type(error).__name__) from None
    if not isinstance(sealed, bytes) or not _COMPACT_JWE.fullmatch(sealed):
        return None  # someone else wrote there; what we put has this shape
    return sealed.decode()


def _key(delivery_id: str) -> str:
    return f"envelope:{delivery_id}"
