"""How the words of a kind are written down."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from requests_app.background.mail.batch import Batch
from requests_app.domain.models import Notice

# What a template is filled with. `facts` are the lines below the sentence: a label of ours, and what people typed. The
# sentence is the subject too, unless `subject` is another.
Words = dict[str, Any]
Facts = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Wording:
    ask: Callable[[Notice, Batch], Words]
    # The rows that it reads besides the recipient, and the request with its people and its role.
    needs: tuple[str, ...] = ()
