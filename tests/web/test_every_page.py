"""The page walk: every address, by every kind of person, with every list empty, one and many.

What there is to walk is read from the resolver and the models (tests/walk), so whatever is new is in here by itself,
and fails with a sentence until somebody has said how to fill its address, who may post to it, and which rows it lists.
Nothing answers 500 or logs an error, and what must not change does not: every request is compared with the rows as
they were, and then undone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib import admin
from django.db import connection
from django.test import override_settings
from django.urls import reverse

from requests_app.domain import policy
from tests import servers
from tests.walk import addresses, census, landscapes, posting
from tests.walk import landscapes as land
from tests.walk.addresses import Address
from tests.walk.landscapes import LANDSCAPES, VISITORS
from tests.walk.visiting import RECORD, Fields, Visit, Walker, encoded, undone
from tests.web.pages import Page

ADDRESSES = addresses.every_address()
READERS = (land.OPERATOR, land.AUDITOR)
READ_CLOSELY = (land.STRANGER, land.REQUESTER, land.APPROVER, land.OPERATOR)
FAST = override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
# What may stand behind a list of the admin, and what may not.
SEARCHES = (
    *("q=a", "q=DP-AAAAAAAA+requester", "q=%00%ED%B3%AD", f"q={'x' * 500}", "until=2026-11-01"),
    *("p=99", "o=99", "id__lt=x", "id__exact=9999999999999999999999"),
)


@pytest.fixture(scope="module")
def walker(request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: Any) -> Iterator[Walker]:
    """Stands in the landscape named by the test's parameter."""
    with django_db_blocker.unblock(), FAST, in_landscape(request.param) as visitors:
        walker = Walker(request.param, visitors)
        # However slow the machine is.
        with undone(), patch.object(policy, "OLDEST_CLOCK", timedelta(days=1)):
            patient()
            walker.look()
            yield walker


@contextmanager
def in_landscape(name: str) -> Iterator[dict[str, SimpleCookie]]:
    """Django in a database of its own with that landscape, and what its people's browsers keep."""
    database, visitors = landscapes.enter(name)
    servers.point_django_at(database)
    try:
        yield visitors
    finally:
        servers.point_django_at(servers.database_name())
        servers.drop_database(database)


def patient() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


def in_(*names: str) -> pytest.MarkDecorator:
    # The biggest first: it takes the longest.
    return pytest.mark.parametrize("walker", names[::-1], indirect=True)


def of(these: Iterable[Address]) -> Iterator[str]:
    """Each of them with each of the rows."""
    for address in these:
        yield from addresses.filled(address)


def told(wrong: list[str]) -> str:
    """All of it, or so much that somebody reads it."""
    more = [f"… and {len(wrong) - 40} more"] if len(wrong) > 40 else []
    return "\n".join(["", *wrong[:40], *more])


def test_everything_has_been_thought_of() -> None:
    assert not (unthought_of := addresses.unthought_of(ADDRESSES)), told(unthought_of)
    assert len(ADDRESSES) > 200


def test_every_list_is_somewhere_empty_one_and_many(django_db_setup: None, django_db_blocker: Any) -> None:
    seen: dict[str, set[str]] = defaultdict(set)
    for name in LANDSCAPES:
        with django_db_blocker.unblock(), FAST, in_landscape(name):
            for of_what, sizes in census.sizes().items():
                seen[of_what] |= sizes

    assert not (missing := list(census.missing(seen))), told(missing)


# --- opening ----------------------------------------------------------------------------------------


@in_(*LANDSCAPES)
def test_everybody_opens_everything(walker: Walker) -> None:
    wrong: list[str] = []
    for at in of(one for one in ADDRESSES if not one.in_admin):
        for who in VISITORS:
            visit = walker.get(who, at)
            wrong += opened(visit)
            if who in READ_CLOSELY:
                wrong += unlike_ours(visit, who)

    assert not wrong, told(wrong)


@in_(*LANDSCAPES)
def test_readers_open_the_admin(walker: Walker) -> None:
    wrong: list[str] = []
    for at in of(one for one in ADDRESSES if one.in_admin):
        for who in READERS if walker.landscape == "many" else [land.OPERATOR]:
            wrong += opened(walker.get(who, at))

    assert not wrong, told(wrong)


@in_("asked")
def test_nobody_else_opens_the_admin(walker: Walker) -> None:
    wrong: list[str] = []
    for at in of(one for one in ADDRESSES if one.in_admin):
        for who in set(VISITORS) - set(READERS):
            visit = walker.get(who, at)
            wrong += opened(visit)
            if visit.status == 200 and at != reverse("admin:jsi18n"):
                wrong.append(f"{visit.said}: answered {visit.status} to somebody who may not look")

    assert not wrong, told(wrong)


@in_("many")
def test_lists_of_the_admin_are_searched_filtered_and_sorted(walker: Walker) -> None:
    wrong: list[str] = []
    for address in ADDRESSES:
        if not address.name.endswith("_changelist"):
            continue
        at = address.filled({})
        links = [str(one.get("href")) for one in Page(walker.get(land.OPERATOR, at).response.content.decode()).all("a")]
        # Of each filter and each column one.
        ways = {link.split("=")[0] + link.split("=")[-1][:1]: link for link in links if link.startswith("?")}
        searches = [f"?{query}" for query in SEARCHES]
        for query in [*ways.values(), *searches]:
            wrong += opened(walker.get(land.OPERATOR, at + query))
    for model, name in completed():
        for term in ("a", "%00", "x" * 500):
            of_model = f"app_label={model._meta.app_label}&model_name={model._meta.model_name}"
            at = f"{reverse('admin:autocomplete')}?{of_model}&field_name={name}&term={term}"
            wrong += opened(walker.get(land.OPERATOR, at))

    assert not wrong, told(wrong)


@in_("many")
def test_addresses_that_are_nobodys(walker: Walker) -> None:
    wrong: list[str] = []
    for address in ADDRESSES:
        for at in addresses.misfilled(address):
            wrong += opened(walker.get(land.OPERATOR, at))

    assert not wrong, told(wrong)


@in_("many")
def test_queries_that_nobody_would_type(walker: Walker) -> None:
    """Whatever name a page asks its address for, with what does not belong there."""
    wrong: list[str] = []
    for address in ADDRESSES:
        if address.in_admin:
            continue
        at = addresses.filled(address)[0]
        looks = [walker.get(who, at) for who in (land.REQUESTER, land.OPERATOR)]
        who = land.OPERATOR if looks[1].status == 200 != looks[0].status else land.REQUESTER
        for fields in posting.spoilt({name: [""] for look in looks for name in look.asked_for}):
            wrong += opened(walker.get(who, f"{at}?{encoded(fields).decode()}"))

    assert not wrong, told(wrong)


def completed() -> set[tuple[Any, str]]:
    """The fields of the admin that complete what is typed."""
    pages = list(admin.site._registry.values())
    lines = [inline(page.model, admin.site) for page in pages for inline in page.inlines]
    return {(one.model, name) for one in [*pages, *lines] for name in one.autocomplete_fields}


def opened(visit: Visit) -> list[str]:
    changed = [f"{visit.said}: only looking changed {sorted(visit.truth)}"] if visit.truth else []
    return [*visit.broken, *changed]


def unlike_ours(visit: Visit, who: str) -> list[str]:
    """What every page of ours keeps to: nothing inline, every input labelled, nothing kept in a cache."""
    if not visit.response.get("Content-Type", "").startswith("text/html") or not visit.response.content:
        return []
    html = visit.response.content.decode()
    shown = Page(html)
    policy = visit.response.get("Content-Security-Policy", "")
    signed_in = who not in (land.STRANGER, land.HALF, land.DEACTIVATED)
    rules = {
        "something is inline": not shown.inline,
        f"its elements are not in order: {shown.problems}": not shown.problems,
        f"inputs without a label: {shown.unlabelled()}": not shown.unlabelled(),
        f"an id stands there twice: {shown.doubled_ids()}": not shown.doubled_ids(),
        "its policy lets scripts in": "script-src 'self'" in policy and "unsafe" not in policy,
        "what was typed is markup": "<script>alert" not in html,
        "it may be kept": not signed_in or "no-store" in visit.response.get("Cache-Control", ""),
    }
    return [f"{visit.said}: {what}" for what, holds in rules.items() if not holds]


# --- posting ----------------------------------------------------------------------------------------


@in_("asked", "over", "many")
def test_everybody_posts_what_the_page_would(walker: Walker) -> None:
    """Twice, so that the second press meets what the first did; and whoever may not, posts what works for others."""
    wrong: list[str] = []
    idle: set[str] = set()
    for address in ADDRESSES:
        places = addresses.filled(address)
        if address.in_admin or posting.is_about_oneself(address) or not places or not takes_posts(walker, places[0]):
            continue
        may = posting.who_may(address)
        if may is None:
            wrong.append(posting.unthought_of(address))
            continue
        # Where it is of use to somebody; without one, wherever.
        place, works = places[0], Fields()
        for at in places:
            for who in sorted(may)[: 1 if works else None]:
                visit = walker.post(who, at, fields := posting.good(walker, who, address, at), times=2)
                wrong += visit.broken
                if visit.truth and not works:
                    place, works = at, fields
        for who in set(VISITORS) - may:
            visit = walker.post(who, place, works)
            wrong += [*visit.broken, *changed_by_others(visit, who, may)]
        if may and not works:
            idle.add(address.name)

    assert not wrong, told(wrong)
    if walker.landscape == "many":
        idle.discard("found_passes")  # of a restored database
        assert not idle, f"Nobody's post changes anything at {idle}: mend what tests/walk/posting.py posts there."


def takes_posts(walker: Walker, at: str) -> bool:
    return walker.post(land.NOBODY, at).status != 405


@in_("many")
def test_what_nobody_should_post(walker: Walker) -> None:
    wrong: list[str] = []
    for address in ADDRESSES:
        if address.in_admin:
            continue
        places, who = addresses.filled(address), land.REQUESTER
        at = places[0]
        if not takes_posts(walker, at):
            continue
        may = posting.who_may(address) or frozenset()
        who = next((one for one in VISITORS if one in may), land.REQUESTER)
        # Wherever it lets somebody in, or what is wrong in it would not be looked at.
        at = next((one for one in places if walker.get(who, one).status == 200), at)
        fields = posting.good(walker, who, address, at)
        names = walker.post(who, at, fields).asked_for
        for spoilt in posting.spoilt({**{name: [""] for name in names}, **fields}):
            wrong += walker.post(who, at, spoilt).broken
        for body, content_type in posting.OTHER_BODIES:
            wrong += walker.post(who, at, body, content_type=content_type).broken

    assert not wrong, told(wrong)


@in_("many")
def test_posting_about_oneself(walker: Walker) -> None:
    wrong: list[str] = []
    for address in filter(posting.is_about_oneself, ADDRESSES):
        at = addresses.filled(address)[0]
        for who in VISITORS:
            fields = posting.good(walker, who, address, at)
            for visit in (walker.post(who, at), walker.post(who, at, fields, times=2)):
                wrong += visit.broken
                if visit.truth - posting.OWN_TABLES:
                    wrong.append(f"{visit.said}: changed {sorted(visit.truth)}")

    assert not wrong, told(wrong)


@in_("asked", "many")
def test_posting_to_the_admin(walker: Walker) -> None:
    wrong: list[str] = []
    for address in ADDRESSES:
        if not address.in_admin or posting.is_about_oneself(address):
            continue
        places = addresses.filled(address)
        if not places:
            continue
        at = places[0]
        for who in (land.STRANGER, land.REQUESTER, land.AUDITOR):
            visit = walker.post(who, at, {"name": ["x"], "_save": ["Save"]})
            wrong += [*visit.broken, *changed_by_others(visit, who, posting.OPERATORS)]
        fields = posting.good(walker, land.OPERATOR, address, at)
        wrong += walker.post(land.OPERATOR, at).broken
        wrong += walker.post(land.OPERATOR, at, {**fields, "_save": ["Save"]}, times=2).broken
        if walker.landscape == "many":
            for spoilt in posting.spoilt(fields):
                wrong += walker.post(land.OPERATOR, at, spoilt).broken

    assert not wrong, told(wrong)


def changed_by_others(visit: Visit, who: str, may: frozenset[str]) -> list[str]:
    if who in may or not visit.truth:
        return []
    what = sorted(visit.truth) + list(visit.recorded if RECORD in visit.truth else ())
    return [f"{visit.said}: changed {what}, and who posts it may not (WHO_MAY in tests/walk/posting.py)"]
