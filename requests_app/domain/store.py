"""Redis, as everyone here asks it: for what may be lost, and never for long."""

import functools

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry


def client() -> redis.Redis:
    """One per process and address; its pool notices a fork, and connections that Redis closed meanwhile, by itself.

    One second for the socket, so that a hung Redis hangs no page, and no second try: a GETDEL whose
    answer was lost has already taken away what was there.
    """
    return _client(settings.REDIS_URL)


@functools.cache
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
