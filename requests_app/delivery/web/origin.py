"""Where a web request came from."""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest


def client_ip(request: HttpRequest) -> str | None:
    """The caller's address: the socket's, or what the outermost of our own proxies saw.

    Each proxy appends who spoke to it, so with two of ours the second from the right is the first
    one that was not written by the caller.
    """
    candidates = [request.META.get("REMOTE_ADDR", "")]
    if settings.TRUSTED_PROXIES:
        forwarded = request.headers.get("X-Forwarded-For", "").split(",")
        candidates.insert(0, forwarded[-settings.TRUSTED_PROXIES] if len(forwarded) >= settings.TRUSTED_PROXIES else "")
    for candidate in candidates:
        try:
            # Over which of our own cards (`fe80::1%eth0`) is no part of it, and PostgreSQL does not take it.
            return str(ip_address(candidate.strip().partition("%")[0]))
        except ValueError:
            continue
    return None
