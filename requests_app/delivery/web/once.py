"""The one-time value of a form, by which a second press of it is known."""

from requests_app.delivery.web.access import PersonRequest
from requests_app.domain.workflow.idempotency import KEY, new_key


def sent(request: PersonRequest) -> str:
    """What came with the form; empty from a page that was opened before there was one."""
    typed = request.POST.get("once", "")
    return typed if KEY.fullmatch(typed) else ""


def to_show(request: PersonRequest, *, used_up: bool = False) -> str:
    """What the page is to send: the same again after a mistake, unless that one has been used for something else."""
    return (not used_up and sent(request)) or new_key()
