"""Signing in, through allauth."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.auth_backends import AuthenticationBackend
from allauth.core.exceptions import ImmediateHttpResponse
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from requests_app.delivery.web import sign_ins
from requests_app.delivery.web.origin import client_ip
from requests_app.domain import audit, normal_form
from requests_app.domain.models import User


def display_name(user: User) -> str:
    return str(user)


class PasswordBackend(AuthenticationBackend):
    """Looks at a password once for each attempt, whoever is meant: twice where the address is somebody's, as allauth
    does it, would take longer and so tell whose addresses are known."""

    def _authenticate(self, request: HttpRequest | None, **credentials: Any) -> User | None:
        user: User | None = self._check_password(_meant(credentials), credentials.get("password") or "")
        return user


class AccountAdapter(DefaultAccountAdapter):
    """Nobody signs up by themselves, and every sign-in is on record.

    A deactivated person who knows the password is sent to `account/account_inactive.html`.
    """

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def pre_login(self, request: HttpRequest, user: User, **how: Any) -> HttpResponse | None:
        response: HttpResponse | None = super().pre_login(request, user, **how)
        if response is None:
            sign_ins.begin(request, user)
        return response

    def clean_email(self, email: str) -> str:
        """What is typed to get a new password, as people's addresses are stored."""
        return normal_form.address(super().clean_email(email))

    def login(self, request: HttpRequest, user: User) -> None:
        if not sign_ins.is_still_valid(request, user):
            raise ImmediateHttpResponse(sign_ins.start_over(request))
        super().login(request, user)
        audit.record(audit.Action.SIGNED_IN, by=user, subject=user.username)

    def logout(self, request: HttpRequest) -> None:
        if request.user.is_authenticated:
            audit.record(audit.Action.SIGNED_OUT, by=request.user, subject=request.user.username)
        super().logout(request)

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        super().authentication_failed(request, **credentials)
        person = _meant(credentials)
        # What was typed is recorded only where it names a person: people type passwords there too.
        audit.record(audit.Action.SIGN_IN_FAILED, by=None, subject=person.username if person else "an unknown name")

    def set_password(self, user: User, password: str) -> None:
        user.set_password(password)
        # Only that: saved whole, whoever was deactivated a moment ago would be active again.
        user.save(update_fields=["password"])

    def reauthenticate(self, user: User, password: str) -> bool:
        hashed = user.password
        confirmed: bool = super().reauthenticate(user, password)
        if confirmed:
            with transaction.atomic():
                now = User.objects.select_for_update(no_key=True).get(pk=user.pk)
                # A newer Django hashes anew what it just saw: the same password, but to a session another one.
                if now.password != hashed and now.check_password(password):
                    sign_ins.keep(self.request, user)
        return confirmed

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_ip(request) or "0.0.0.0"  # noqa: S104  (only a key for counting attempts)


def _meant(credentials: dict[str, Any]) -> User | None:
    return User.objects.meant(str(credentials.get("email") or credentials.get("username") or ""))
