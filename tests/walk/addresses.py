"""Every address that the resolver knows, with rows of the landscape in the place of its parameters."""

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.urls import URLPattern, URLResolver, get_resolver

from requests_app.delivery.web.middleware import ProbesMiddleware
from requests_app.domain import clock, password_links
from requests_app.domain.models import (
    AccessRequest,
    Account,
    Delivery,
    Extension,
    Freeze,
    Notice,
    Role,
    User,
)


@dataclass(frozen=True)
class Address:
    """One line of the resolver: `route` as it is written there, such as requests/<slug:code>/approve."""

    name: str
    route: str
    parameters: tuple[str, ...]

    def __str__(self) -> str:
        return self.name or self.route

    @property
    def in_admin(self) -> bool:
        return self.route.startswith("admin/")

    @property
    def model(self) -> Any:
        """Whose page of the admin it is; None where it is no model's."""
        found = re.match(r"admin/(\w+)/(\w+)/", self.route)
        return apps.get_model(found[1], found[2]) if found else None

    def filled(self, values: dict[str, str]) -> str:
        route = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: quote(values[found[1]], safe=""), self.route)
        route = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda found: quote(values[found[1]], safe=""), route)
        return "/" + route.replace("^", "").replace("$", "")


def every_address() -> list[Address]:
    """Those of the resolver, and the probes that a middleware answers before it."""
    probes = [Address("", path.removeprefix("/"), ()) for path in ProbesMiddleware.probes]
    return [*probes, *_addresses(get_resolver().url_patterns)]


def _addresses(
    patterns: list[Any], route: str = "", namespace: str = "", names: tuple[str, ...] = ()
) -> Iterator[Address]:
    for one in patterns:
        here = names + tuple(one.pattern.converters or getattr(one.pattern, "regex", re.compile("")).groupindex)
        if isinstance(one, URLResolver):
            inner = f"{namespace}{one.namespace}:" if one.namespace else namespace
            yield from _addresses(one.url_patterns, route + str(one.pattern), inner, here)
        elif isinstance(one, URLPattern):
            yield Address(f"{namespace}{one.name}" if one.name else "", route + str(one.pattern), here)


# --- what stands in the place of parameters -------------------------------------------------------

Values = dict[str, str]


def _codes(address: Address) -> Iterator[Values]:
    # The page of a request itself shows the most; its acts look at its state.
    rows = telling(AccessRequest, 12) if address.name == "access_request" else one_of_each_state()
    yield from ({"code": one.code} for one in rows)


def _extensions(address: Address) -> Iterator[Values]:
    for one in telling(Extension, 4):
        yield {"code": one.access_request.code, "public_id": str(one.public_id)}


def _by_public_id(model: Any) -> Callable[[Address], Iterator[Values]]:
    return lambda address: ({"public_id": str(one.public_id)} for one in telling(model, 4))


def _accounts(address: Address) -> Iterator[Values]:
    yield from ({"partition": one.partition, "number": one.number} for one in telling(Account, 3))


def _keys(address: Address) -> Iterator[Values]:
    """Of the admin's pages about one row."""
    (parameter,) = address.parameters
    # What is a stock page, or a redirect, says the same of each row.
    most = 6 if address.name.endswith("_change") else 1
    yield from ({parameter: str(one.pk)} for one in telling(address.model, most))


def _keys_of_links(address: Address) -> Iterator[Values]:
    person = User.objects.filter(deactivated_at=None).earliest("pk") if User.objects.exists() else None
    yield from [{"key": password_links.make(person, Notice.Kind.INVITED)}] if person else []
    yield {"key": "1-of-no-use"}


# By the name of an address, or by its parameters where many have the same.
PROVIDERS: dict[str, Callable[[Address], Iterator[Values]]] = {
    "code": _codes,
    "code public_id": _extensions,
    "delivery": _by_public_id(Delivery),
    "envelope": _by_public_id(Delivery),
    "stop_person": _by_public_id(User),
    "stop_role": _by_public_id(Role),
    "stop_account": _accounts,
    "lift": _by_public_id(Freeze),
    "found_passes": _by_public_id(Freeze),
    "mfa_edit_webauthn": lambda address: _passkeys(),
    "mfa_remove_webauthn": lambda address: _passkeys(),
    "object_id": _keys,
    "id": _keys,
    "password_link": _keys_of_links,
    "admin:view_on_site": lambda address: (
        {"content_type_id": str(ContentType.objects.get_for_model(AccessRequest).pk), "object_id": str(one.pk)}
        for one in telling(AccessRequest, 1)
    ),
    "admin:app_list": lambda address: iter([{"app_label": "requests_app"}, {"app_label": "auth"}]),
    "url": lambda address: iter([{"url": "nowhere"}, {"url": "requests_app/nothing/"}]),
}

# In the place of any parameter: what no row has, and what nobody's browser would send.
UNKNOWN = {"code": "DP-AAAAAAAA", "public_id": str(uuid.UUID(int=7)), "partition": "aws", "number": "000000000000"}
WRONG = ("0", "x", "-1", "9" * 30, "DP-\0AAAAAAA", "\udced", "x" * 5000)


def _passkeys() -> Iterator[Values]:
    return ({"pk": str(one.pk)} for one in Authenticator.objects.filter(type="webauthn").order_by("pk"))


def unthought_of(addresses: list[Address]) -> list[str]:
    return [
        f"{one}: nothing says what stands in {one.route} for {' and '.join(one.parameters)}. "
        "Add a provider to PROVIDERS in tests/walk/addresses.py."
        for one in addresses
        if one.parameters and _provider(one) is None
    ]


def filled(address: Address) -> list[str]:
    """The address with each of the rows that tell something; once as it is where it has no parameters.

    Asked once of each landscape: whatever is done there is undone, so the rows are the same each time.
    """
    if not address.parameters:
        return [address.filled({})]
    return _filled(address, str(connection.settings_dict["NAME"]))


@cache
def _filled(address: Address, landscape: str) -> list[str]:
    provider = _provider(address)
    assert provider, address
    return [address.filled(values) for values in provider(address)]


def misfilled(address: Address) -> list[str]:
    """The address with what is nobody's and what is no key."""
    if not address.parameters or (address.in_admin and not address.name.endswith("_change") and address.model):
        return []  # the admin finds a row for each of its pages by the same way
    each = [dict.fromkeys(address.parameters, wrong) for wrong in WRONG]
    each.append({name: UNKNOWN.get(name, "4711") for name in address.parameters})
    return [
        _broken_up(address.filled({name: value.replace("\udced", SURROGATE) for name, value in one.items()}))
        for one in each
    ]


SURROGATE = "half-a-surrogate"


def _broken_up(address: str) -> str:
    return address.replace(SURROGATE, "%ED%B3%AD")


def _provider(address: Address) -> Callable[[Address], Iterator[Values]] | None:
    return PROVIDERS.get(address.name) or PROVIDERS.get(" ".join(address.parameters))


def one_of_each_state() -> list[AccessRequest]:
    """Of those that are open one of each kind that its acts tell apart; one of all that is over."""
    rows: dict[Any, AccessRequest] = {}
    for row in AccessRequest.objects.order_by("-pk"):
        kind = (
            row.state,
            row.waits_for_acceptance and row.terms.approval,
            row.scheduled_at is None,
            row.extensions.filter(state="pending").exists(),
            row.terms.may_be_extended,
            row.asked_at < clock.now() - timedelta(hours=1),
        )
        rows.setdefault(kind if row.is_open else "over", row)
    return list(rows.values())


def telling(model: Any, most: int) -> list[Any]:
    """Rows of the model: of each state one, and of each list that belongs to it one with none, one and several; or as
    many of those as there may be."""
    rows, shown = list(model._base_manager.order_by("-pk")), dict[Any, Any]()
    for row in rows:
        for trait in _traits(model, row):
            shown.setdefault(trait, row)
    return list(dict.fromkeys(shown.values()))[:most] or rows[:1]


def _traits(model: Any, row: Any) -> Iterator[tuple[str, Any]]:
    for one in model._meta.get_fields():
        if one.one_to_many and one.related_model._meta.app_label == "requests_app":
            number = one.related_model._base_manager.filter(**{one.field.name: row.pk})[:2].count()
            yield one.name, number
        elif isinstance(one, models.CharField) and one.choices:
            yield one.name, getattr(row, one.attname)
        elif isinstance(one, models.ForeignKey | models.DateTimeField) and one.null:
            yield one.name, getattr(row, one.attname) is None
