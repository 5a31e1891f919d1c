"""Reasons, comments and tickets travel in the body: logs, histories and proxies keep addresses."""

from html.parser import HTMLParser

import pytest

from requests_app.domain.models import Entitlement, Role, User
from tests.factories import wish
from tests.web.pages import signed_in

pytestmark = pytest.mark.django_db

FOR_ALICE = [
    "/",
    "/request/",
    "/request/?q=pay",
    "/request/?q=<script>",
    "/request/roles?q=Admin",
    "/request/terms",
    "/request/terms?role={role}",
    "/request/?role={role}&duration=45&justification=<script>x</script>&ticket=INC-9",
    "/request/?again={code}",
    "/requests/{code}",
    "/requests/{code}/give-back",
    "/requests/{code}/extend",
    "/request/outlook?role={role}&start=at_time",
    "/request/people?role={role}&person=<script>",
    "/request/?role={role}&beneficiary=<script>&person=<script>",
    "/approvals/",
    "/approvals/updates?shown={code}",
    "/accounts/password/change/",
    "/accounts/2fa/",
    "/accounts/2fa/totp/activate/",
    "/accounts/sessions/",
    "/accounts/logout/",
    "/nowhere",
]
FOR_BOB = [
    "/approvals/",
    "/requests/{code}",
    "/requests/{code}/approve?comment=<script>",
    "/requests/{code}/deny",
    "/requests/{code}/revoke",
    "/approvals/decide?code={code}&verdict=approve",
]


@pytest.mark.parametrize(("who", "addresses"), [("alice", FOR_ALICE), ("bob", FOR_BOB)])
def test_what_people_write_is_in_no_address(
    who: str, addresses: list[str], administrator: Role, staged: Entitlement, alice: User, bob: User
) -> None:
    asked = wish(alice, administrator, staged)
    Entitlement.objects.filter(pk=staged.pk).update(ticket="optional")
    for address in addresses:
        at = address.format(code=asked.code, role=asked.role.public_id)
        html = signed_in({"alice": alice, "bob": bob}[who]).get(at, follow=True).content.decode()
        fields = InAddresses(html)
        assert fields.written == [], at
        # What htmx sends along with a GET.
        assert "hx-include" not in html or set(fields.included) <= {
            "[data-keep]", "[data-keep]:not([name=beneficiary])", "[data-keep], #asking [name=role]",
            "[name=after], [name=last], [name=shown], [name=shown_more]",
        }, at  # fmt: skip


class InAddresses(HTMLParser):
    """Fields for writing whose content a page would put into an address: those of forms that GET, and those kept."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.written: list[dict[str, str | None]] = []
        self.included: list[str] = []
        self.method = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = dict(attrs)
        self.included += [str(has["hx-include"])] if "hx-include" in has else []
        if tag == "form":
            self.method = (has.get("method") or "get").lower()
        writes = tag == "textarea" or (tag == "input" and has.get("type", "text") in ("text", "email", "url"))
        if writes and has.get("name") and ("data-keep" in has or "hx-get" in has or self.method == "get"):
            self.written.append(has)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.method = ""
