"""How the domain says no, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from requests_app.domain.errors import DomainError


@contextmanager
def refused(rule: str, kind: type[DomainError] = DomainError) -> Iterator[None]:
    """Inside, a verb refuses by this rule, with a sentence that a person can read."""
    with pytest.raises(kind) as refusal:
        yield
    assert refusal.value.rule == rule
    assert refusal.value.message[:1].isupper()
    assert refusal.value.message.endswith(".")
