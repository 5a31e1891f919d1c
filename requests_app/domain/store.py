"""Redis, as everyone here asks it: for what may be lost, and never for long."""

import functools
import threading
import time

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

log = structlog.get_logger(__name__)
# How old what is known of it may be, and how often one that is of no use is looked at again.
KNOWN_FOR_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 1.0


def client() -> redis.Redis:
    """One per process and address; its pool notices a fork, and connections that Redis closed meanwhile, by itself.

    One second for the socket, so that a hung Redis hangs no page, and no second try: a GETDEL whose
    answer was lost has already taken away what was there.
    """
    return _client(settings.REDIS_URL)


@functools.cache
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))


class Standing:
    """Whether one Redis takes what is written to it, as this process last saw it.

    Known and not asked each time: while it is of no use nobody waits for it, and a thread looks whether it is back.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._refusal = ""
        self._seen_at = -KNOWN_FOR_SECONDS
        self._looking = threading.Lock()
        self._watcher: threading.Thread | None = None

    @property
    def refusal(self) -> str:
        """The class of what it last failed with, empty if it works. Asks nobody, and sees to it that somebody does.

        A watcher may have been leaving when the failure was noted, or be in the process that this one was forked from.
        """
        if self._refusal:
            self._watch()
        return self._refusal

    def look(self) -> str:
        """As `refusal`, and not older than some seconds; it takes a second at most, and one caller's only."""
        old = time.monotonic() - self._seen_at >= KNOWN_FOR_SECONDS
        if old and not self._is_watched() and self._looking.acquire(blocking=False):
            try:
                self._ask()
            finally:
                self._looking.release()
        return self._refusal

    def note_failure(self, error: BaseException) -> None:
        """It was of no use just now. Until it is again, nobody tries."""
        self._note(type(error).__name__)
        self._watch()

    def _ask(self) -> None:
        try:
            _client(self._url).set("look", b"", px=1000)
        except redis.RedisError as error:
            self.note_failure(error)
        else:
            self._note("")

    def _note(self, refusal: str) -> None:
        self._seen_at = time.monotonic()
        if refusal and refusal != self._refusal:
            log.warning("redis.of_no_use", error=refusal)
        elif self._refusal and not refusal:
            log.info("redis.works_again")
        self._refusal = refusal

    def _is_watched(self) -> bool:
        # After a fork the thread is not there, and does not seem to be.
        return self._watcher is not None and self._watcher.is_alive()

    def _watch(self) -> None:
        if not self._is_watched():
            self._watcher = threading.Thread(target=self._wait_for_it, name="redis", daemon=True)
            self._watcher.start()

    def _wait_for_it(self) -> None:
        while True:
            self._ask()
            if not self._refusal:
                return
            time.sleep(LOOK_AGAIN_SECONDS)


def standing() -> Standing:
    """Of the Redis that everyone here asks."""
    return _standing(settings.REDIS_URL)


@functools.cache
def _standing(url: str) -> Standing:
    return Standing(url)
