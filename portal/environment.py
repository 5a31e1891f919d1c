"""How settings are read: from the environment, or each from the file that its NAME_FILE names."""

from urllib.parse import quote, urlsplit, urlunsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping


class Given(FileAwareMapping):
    """The environment, in which an empty variable is none: Compose cannot leave out what `.env` leaves empty."""

    def __getitem__(self, name: str) -> str:
        try:
            value = str(super().__getitem__(name))
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE names a file that cannot be read: {error.strerror}.") from None
        # Whoever writes a secret into a file with an editor, or with echo, ends it with a line break.
        if self.env.get(f"{name}_FILE"):
            value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            raise KeyError(name)
        return value


class Env(environ.Env):
    ENVIRON = Given()

    def secret(self, name: str, default: str | None = None) -> str:
        """Exactly what was given: `$` at its start names no other variable, as it does elsewhere in django-environ.

        Raises ImproperlyConfigured where nothing was given and there is no default.
        """
        try:
            return self.ENVIRON[name]
        except KeyError:
            if default is None:
                raise ImproperlyConfigured(f"{name} is not set. Give {name}, or {name}_FILE.") from None
            return default


def with_password(url: str, password: str) -> str:
    """`url` with `password` in it, whatever characters it has; unchanged if there is none."""
    if not password:
        return url
    parts = urlsplit(url)
    user, host = (parts.username or "", parts.netloc.rpartition("@")[2])
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
