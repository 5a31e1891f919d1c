"""For commands whose word nobody on record stands behind: the owner's role in the database does."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from requests_app.domain import audit, database


@contextmanager
def by_owner() -> Iterator[None]:
    """Inside, all is done as the owner, and on record as a command's. Raises CommandError where that cannot be."""
    try:
        with database.as_owner(), audit.context(channel="command"):
            yield
    except ImproperlyConfigured as unable:
        raise CommandError(str(unable)) from unable
