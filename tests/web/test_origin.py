from typing import Any

import pytest
from django.test import Client, RequestFactory

from requests_app.delivery.web.origin import client_ip
from requests_app.domain.models import AuditEvent, User
from tests.web.pages import signed_in


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "203.0.113.9", "192.0.2.1"),  # nobody of ours wrote that
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),  # the caller wrote the first
        (2, "6.6.6.6, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (2, "203.0.113.9", "192.0.2.1"),  # it came past one of them
        (1, "not an address", "192.0.2.1"),
        (1, "2001:db8::7", "2001:db8::7"),
        (1, "", "192.0.2.1"),
    ],
)
def test_only_our_own_proxies_are_believed(proxies: int, forwarded: str, expected: str, settings: Any) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR="192.0.2.1")

    assert client_ip(request) == expected


def test_a_unix_socket_has_no_address() -> None:
    assert client_ip(RequestFactory().get("/", REMOTE_ADDR="")) is None


@pytest.mark.django_db
def test_a_neighbour_on_the_link_is_on_record(alice: User) -> None:
    signed_in(alice).post("/settings/", {"time_zone": "Europe/Oslo"}, REMOTE_ADDR="fe80::1%eth0")
    assert AuditEvent.objects.get(action="person.changed").ip == "fe80::1"


@pytest.mark.django_db
def test_the_log_has_the_same_address_as_the_record(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        client.get("/accounts/login/", headers={"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6"})

    logged = [record.msg for record in caplog.records if "ip" in record.msg]
    assert logged
    assert {line["ip"] for line in logged} == {"127.0.0.1"}  # type: ignore[index]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address",
    [
        "/admin/requests_app/auditevent/?action=%00",
        "/admin/requests_app/accessrequest/?state__exact=%00",
        "/admin/requests_app/role/?power__exact=a%00b",
    ],
)
def test_a_zero_byte_in_a_filter_breaks_no_list(address: str, olivia: User) -> None:
    assert signed_in(olivia).get(address).status_code == 400
