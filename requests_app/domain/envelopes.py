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
        with store.client().pipeline() as together:
            together.set(_key(delivery_id), sealed, ex=seconds)
            together.lpush(_bell(delivery_id), b"")
            together.expire(_bell(delivery_id), seconds)
            together.execute()
    except redis.RedisError as error:
        raise EnvelopeStoreDown(type(error).__name__) from None


def wait(delivery_id: str, seconds: float) -> bool:
    """Whether it is put down by then. Only a hint, for whoever would take it: anyone who writes to Redis can give it.

    Shorter than Redis's time-out. Raises EnvelopeStoreDown.
    """
    try:
        return store.client().blpop([_bell(delivery_id)], timeout=seconds) is not None
    except redis.RedisError as error:
        raise EnvelopeStoreDown(type(error).__name__) from None


def take(delivery_id: str) -> str | None:
    """The sealed delivery, which is gone from here afterwards; None if there is none (any more).

    Raises EnvelopeStoreDown.
    """
    try:
        with store.client().pipeline() as together:
            together.getdel(_key(delivery_id))
            together.delete(_bell(delivery_id))
            sealed = together.execute()[0]
    except redis.RedisError as error:
        raise EnvelopeStoreDown(type(error).__name__) from None
    if not isinstance(sealed, bytes) or not _COMPACT_JWE.fullmatch(sealed):
        return None  # someone else wrote there; what we put has this shape
    return sealed.decode()


def _key(delivery_id: str) -> str:
    return f"envelope:{delivery_id}"


def _bell(delivery_id: str) -> str:
    return f"bell:{delivery_id}"
