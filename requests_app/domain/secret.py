"""The one type for what nobody may read: a secret key, a session token, a sign-in token."""

import hmac
from typing import NoReturn


class Secret:
    """A text that shows itself only to `.reveal()`.

    It is in no repr, str, f-string, JSON or traceback, and refuses to be copied or pickled,
    so that it cannot slip into a log, a task argument or a cache by accident.
    """

    __slots__ = ("__value",)
    __hash__ = None  # type: ignore[assignment]  # a set or a dict key would compare in variable time

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The text itself: the only way out."""
        return self.__value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Secret is neither copied nor pickled")
