"""Pages that Django rendered and the scripts as they are, in a real browser, without a server between."""

import mimetypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.staticfiles import finders
from django.http import HttpResponse
from playwright.sync_api import Page, Route, sync_playwright

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


@contextmanager
def browsing(**options: Any) -> Iterator[Site]:
    flags = ["--disable-gpu", "--no-first-run", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        yield Site(context.new_page())
        browser.close()


def blank() -> HttpResponse:
    """A page with nothing on it but what scripts speak into."""
    return HttpResponse('<!doctype html><html lang="en"><body><div id="spoken"></div></body></html>')
