"""By what a guess is counted: the browser, where the person is known to use it; else its source and who is meant.

So a stranger who guesses slows down other strangers, and keeps nobody out of a browser of theirs.
"""

from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

from requests_app.delivery.web import known_browsers
from requests_app.delivery.web.origin import client_ip
from requests_app.domain import normal_form, workflow
from requests_app.domain.models import User
from requests_app.domain.models.people import LONGEST_TYPED
from requests_app.domain.workflow.attempts import Budget, Reserved

OF_A_BROWSER, OF_A_SOURCE = 10, 30
SOON = timedelta(minutes=5)
# Of strangers together: so many at once, and then ever more slowly.
FREE = 5
AN_HOUR = timedelta(hours=1)
# More than the waits leave room for.
ANY_NUMBER = 10_000


def reserve_password(request: HttpRequest, login: str) -> Reserved:
    """Count a guess at the password of whoever is meant by `login`. Raises TooMany."""
    person = User.objects.meant(login)
    who = person.public_id.hex if person else normal_form.address(login[:LONGEST_TYPED])
    return workflow.attempts.reserve(_budgets(request, person, f"password of {who}"))


def reserve_code(request: HttpRequest, person: User) -> Reserved:
    """Count a guess at a code of somebody who has given their password. Raises TooMany."""
    return workflow.attempts.reserve(_budgets(request, person, f"code of {person.public_id.hex}"))


def source(request: HttpRequest) -> str | None:
    """The network that a request comes from; None where nobody can tell.

    A person has a whole /64 of IPv6 addresses. Behind a proxy that is not trusted everybody comes from that proxy.
    """
    ip = client_ip(request)
    if ip is None or is_behind_strange_proxy(request):
        return None
    address = ip_address(ip)
    return str(ip_network(f"{address}/64", strict=False)) if isinstance(address, IPv6Address) else ip


def is_behind_strange_proxy(request: HttpRequest) -> bool:
    """Whether something that stands near, as proxies do, passes requests on and is not counted as a proxy of ours."""
    if settings.TRUSTED_PROXIES or "X-Forwarded-For" not in request.headers:
        return False
    ip = client_ip(request)
    return ip is not None and ip_address(ip).is_private


def _budgets(request: HttpRequest, person: User | None, about: str) -> list[Budget]:
    if person and (browser := known_browsers.proof_of(request, person)):
        return [Budget(f"{about} from the browser {browser}", most=OF_A_BROWSER, per=SOON)]
    strangers = Budget(f"{about} by strangers", most=ANY_NUMBER, per=AN_HOUR, free=FREE)
    whence = source(request)
    return [Budget(f"source {whence}", most=OF_A_SOURCE, per=SOON), strangers] if whence else [strangers]
