"""Sealed deliveries on their short way through Redis: ciphertext only, for a minute, handed out once.

Redis is no authority: whoever takes an envelope compares its hash with the delivery's row.
"""

import functools
import re

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

_COMPACT_JWE = re.compile(rb"[\w-]+\.[\w-]*\.[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class EnvelopeStoreDown(Exception):
    """Redis did not answer in time, or not properly."""


def put(delivery_id: str, jwe: str, seconds: int = 60) -> None:
    """Leave a sealed delivery for `seconds`. Raises EnvelopeStoreDown; ValueError if it is not a JWE."""
    sealed = jwe.encode()
    if not _COMPACT_JWE.fullmatch(sealed):
        raise ValueError("only a sealed delivery (a compact JWE) may be stored")
    try:
        _client(settings.REDIS_URL).set(_key(delivery_id), sealed, ex=seconds)
    except redis.RedisError as error:
        raise EnvelopeStoreDown(type(error).__name__) from None


def take(delivery_id: str) -> str | None:
    """The sealed delivery, which is gone from here afterwards; None if there is none (any more).

    Raises EnvelopeStoreDown.
    """
    try:
        sealed = _client(settings.REDIS_URL).getdel(_key(delivery_id))
    except redis.RedisError as error:
        raise EnvelopeStoreDown(type(error).__name__) from None
    if not isinstance(sealed, bytes) or not _COMPACT_JWE.fullmatch(sealed):
        return None  # someone else wrote there; what we put has this shape
    return sealed.decode()


def _key(delivery_id: str) -> str:
    return f"envelope:{delivery_id}"


@functools.cache
def _client(url: str) -> redis.Redis:
    """One per process; its pool notices a fork, and connections that Redis closed meanwhile, by itself.

    One second for the socket, so that a hung Redis hangs no page, and no second try: a GETDEL whose
    answer was lost has already taken the envelope away.
    """
    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
