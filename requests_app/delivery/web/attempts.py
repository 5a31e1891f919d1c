"""By what a guess is counted: the browser, where the person is known to use it; else its source and who is meant.

So a stranger who guesses slows down other strangers, and keeps nobody out of a browser of theirs.
"""

from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest

from requests_app.delivery.web import known_browsers
from requests_app.delivery.web.origin import client_ip
from requests_app.domain import normal_form, workflow
from requests_app.domain.models import User
from requests_app.domain.models.people import LONGEST_TYPED
from requests_app.domain.workflow.attempts import Budget, Reserved

OF_A_BROWSER, OF_A_SOURCE = 10, 30
# From behind a proxy or a translation of addresses that we were not told of: so many people that it only slows.
OF_A_CROWD = 300
SOON = timedelta(minutes=5)
# Of strangers together: so many at once, and then ever more slowly.
FREE = 5
AN_HOUR = timedelta(hours=1)
# More than the waits leave room for.
ANY_NUMBER = 10_000
# What stands near, as proxies and translations of addresses do, and is nobody's own address out there.
_NEAR = [
    ip_network(each)
    for each in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]
_FORWARDED = ("X-Forwarded-For", "Forwarded")
_NAT64 = IPv6Network("64:ff9b::/96")


def reserve_password(request: HttpRequest, login: str) -> Reserved:
    """Count a guess at the password of whoever is meant by `login`. Raises TooMany.

    By the name as it was typed, so that nobody learns whose names are one person's; a browser is known to a person.
    """
    typed = normal_form.address(login[:LONGEST_TYPED])
    return workflow.attempts.reserve(_budgets(request, User.objects.meant(login), f"password of {typed}"))


def reserve_code(request: HttpRequest, person: User) -> Reserved:
    """Count a guess at a code of somebody who has given their password. Raises TooMany."""
    return workflow.attempts.reserve(_budgets(request, person, f"code of {person.public_id.hex}"))


def source(request: HttpRequest) -> str | None:
    """The network that a request comes from. A person has a whole /64 of IPv6 addresses; IPv4 within IPv6 is IPv4."""
    address = _address(request)
    if isinstance(address, IPv6Address):
        return str(ip_network(f"{address}/64", strict=False))
    return str(address) if address else None


def is_crowd(request: HttpRequest) -> bool:
    """Whether many come from there: something near passes them on, or says that it passes on and is not ours."""
    address = _address(request)
    unknown_proxy = not settings.TRUSTED_PROXIES and any(name in request.headers for name in _FORWARDED)
    return address is None or unknown_proxy or any(address in network for network in _NEAR)


def is_behind_strange_proxy(request: HttpRequest) -> bool:
    """Whether it shows that a proxy is in front which `TRUSTED_PROXIES` does not count."""
    return is_crowd(request) and any(name in request.headers for name in _FORWARDED)


def _address(request: HttpRequest) -> IPv4Address | IPv6Address | None:
    ip = client_ip(request)
    address = ip_address(ip) if ip else None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _budgets(request: HttpRequest, person: User | None, about: str) -> list[Budget]:
    if person and (browser := known_browsers.proof_of(request, person)):
        return [Budget(f"{about} from the browser {browser}", most=OF_A_BROWSER, per=SOON)]
    strangers = Budget(f"{about} by strangers", most=ANY_NUMBER, per=AN_HOUR, free=FREE)
    whence = f"source {source(request)}"
    if is_crowd(request):
        slowly = timedelta(seconds=2)
        return [Budget(whence, most=ANY_NUMBER, per=SOON, free=OF_A_CROWD, longest_wait=slowly), strangers]
    return [Budget(whence, most=OF_A_SOURCE, per=SOON), strangers]
