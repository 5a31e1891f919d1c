"""Mail: what stands in the outbox is worded, sent, and noted as sent.

`sending` claims, sends and records; `batch` is what mails that go out together share; `due` says which would only
confuse by now; `messages` makes the mail, of its kind's template in `templates/mail` and the words that differ. `words`
knows these for each kind.
"""

from requests_app.background.mail.sending import BATCH, send_due

__all__ = ["BATCH", "send_due"]
