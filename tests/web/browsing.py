"""Pages that Django rendered and the scripts as they are, in a real browser: one by one without a server between, or
people going from page to page of a server of this test's own.
"""

import mimetypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import HttpResponse
from playwright.sync_api import Browser, Page, Route, sync_playwright

from requests_app.domain.models import User
from tests.web.pages import signed_in

CHROMIUM = shutil.which("chromium")
ORIGIN = "http://localhost"  # a secure context, which WebCrypto asks for

in_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


class Site:
    """What the browser finds at each path; what it complained about stands in `wrong`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pages: dict[str, Any] = {}
        self.wrong: list[str] = []
        self.offline = False
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        page.route("**/*", self._answer)

    def show(self, path: str, response: Any = None) -> Page:
        if response is not None:
            self.pages[path] = response
        self.page.goto(ORIGIN + path)
        return self.page

    def _answer(self, route: Route) -> None:
        path = urlsplit(route.request.url).path
        if self.offline:
            route.abort("internetdisconnected")
        elif path.startswith("/static/"):
            file = Path(str(finders.find(path.removeprefix("/static/"))))
            kind = mimetypes.guess_type(file.name)[0] or "text/plain"
            route.fulfill(body=file.read_bytes(), content_type=kind)
        elif path in self.pages:
            response = self.pages[path]
            route.fulfill(body=response.content, headers=dict(response.headers), status=response.status_code)
        else:
            route.fulfill(body="", status=404)


class People:
    """Signed-in people, each in a browser of their own, at a server with this test's rows."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser, self.address = browser, address
        self.wrong: list[str] = []

    def page_of(self, person: User, path: str = "/", **options: Any) -> Page:
        cookie = signed_in(person).cookies[settings.SESSION_COOKIE_NAME].value
        context = self.browser.new_context(base_url=self.address, **options)
        context.set_default_timeout(15_000)
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": self.address}])
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: self._note(said.text) if said.type == "error" else None)
        page.goto(path)
        return page

    def _note(self, said: str) -> None:
        if "status of 422" not in said:  # a form that comes back with what is wrong in it
            self.wrong.append(said)


@contextmanager
def browsing(**options: Any) -> Iterator[Site]:
    with chromium() as browser:
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        yield Site(context.new_page())


@contextmanager
def chromium() -> Iterator[Browser]:
    flags = ["--disable-gpu", "--no-first-run", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def blank() -> HttpResponse:
    """A page with nothing on it but what scripts speak into."""
    return HttpResponse('<!doctype html><html lang="en"><body><div id="spoken"></div></body></html>')
