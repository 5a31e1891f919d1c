"""What each kind of mail has to say: one function a kind, which gives its template the words that differ.

It is asked when the mail is sent, of its own kind alone: some of these ask the database.
"""

from collections.abc import Iterable

from requests_app.background.mail import words_of_accounts, words_of_operation, words_of_requests
from requests_app.background.mail.batch import Batch
from requests_app.background.mail.wording import Words
from requests_app.domain.models import Notice
from requests_app.domain.notices import Kind

_OF = words_of_requests.OF | words_of_operation.OF | words_of_accounts.OF


def of(notice: Notice, batch: Batch) -> Words:
    """For the template of this notice's kind."""
    return _OF[Kind(notice.kind)].ask(notice, batch)


def needs(notices: Iterable[Notice]) -> list[str]:
    """The rows that these are about besides their requests, as `prefetch_related_objects` takes them."""
    return sorted({name for kind in {Kind(notice.kind) for notice in notices} for name in _OF[kind].needs})
