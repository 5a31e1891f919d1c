"""The admin's own scripts under our policy, in a real browser: nothing is blocked, and lines can be added."""

import json

from django.http import HttpResponse
from django.urls import reverse

from requests_app.domain.models import AccessRequest, AuditEvent, Entitlement, OrganisationalUnit, Role, User
from tests.admin.test_reading import address
from tests.web.browsing import browsing, in_browser
from tests.web.pages import signed_in

pytestmark = in_browser


def test_nothing_is_blocked_and_a_role_is_chosen_by_typing(
    olivia: User, pending_request: AccessRequest, staged: Entitlement, read_only: Role
) -> None:
    client = signed_in(olivia)
    addresses = [
        reverse("admin:index"),
        *(address(model) for model in (AuditEvent, Role)),
        address(AccessRequest, pending_request.pk),
        address(User, page="add"),
        reverse("admin:auth_user_password_change", args=[pending_request.requester_id]),
        reverse("admin:deactivate_person", args=[pending_request.requester_id]),
        address(Entitlement, staged.pk),
    ]
    pages = {at: client.get(at) for at in addresses}
    words = client.get(reverse("admin:jsi18n"))
    found = {"results": [{"id": str(read_only.pk), "text": str(read_only)}], "pagination": {"more": False}}

    with browsing() as site:
        site.pages[reverse("admin:jsi18n")] = words
        answer = HttpResponse(json.dumps(found), content_type="application/json")
        site.pages[reverse("admin:autocomplete")] = answer
        for at, response in pages.items():
            page = site.show(at, response)
        page.get_by_text("Add another Entitlement role").click()
        page.locator("#entitlementrole_set-group .select2-selection").last.click()
        page.keyboard.type("readonly")
        page.locator(".select2-results__option", has_text=str(read_only)).click()
        chosen = page.locator("select[name=entitlementrole_set-1-role]").input_value()

    assert chosen == str(read_only.pk)
    assert site.wrong == []


def test_a_selector_is_written_beside_those_that_stand(olivia: User, staged: Entitlement, read_only: Role) -> None:
    unit = OrganisationalUnit.objects.create(name="Workloads")
    staged.selectors.create(role_name="read*")
    client = signed_in(olivia)
    at = address(Entitlement, staged.pk)
    page_as_made, words = client.get(at), client.get(reverse("admin:jsi18n"))
    found = {"results": [{"id": str(unit.pk), "text": "Workloads"}], "pagination": {"more": False}}

    with browsing() as site:
        site.pages[reverse("admin:jsi18n")] = words
        site.pages[reverse("admin:autocomplete")] = HttpResponse(json.dumps(found), content_type="application/json")
        page = site.show(at, page_as_made)
        standing = page.locator("#selectors-group").inner_text()
        page.get_by_text("Add another Selector").click()
        page.locator("#selectors-2-0 .field-unit .select2-selection").click()
        page.keyboard.type("work")
        page.locator(".select2-results__option", has_text="Workloads").click()
        chosen = page.locator("select[name=selectors-2-0-unit]").input_value()

    assert "roles named read*" in standing
    assert "1 role: ReadOnly in payments-prod" in standing
    assert chosen == str(unit.pk)
    assert site.wrong == []
