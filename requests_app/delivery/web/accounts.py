"""Signing in, through allauth."""

from typing import Any

import structlog
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.auth_backends import AuthenticationBackend
from allauth.account.forms import ChangePasswordForm, LoginForm, ResetPasswordForm
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from requests_app.delivery.web import attempts, known_browsers, sign_ins
from requests_app.delivery.web.origin import client_ip
from requests_app.domain import audit, workflow
from requests_app.domain.errors import TooMany
from requests_app.domain.models import User
from requests_app.domain.models.people import LONGEST_TYPED
from requests_app.domain.workflow.accounts import Change

log = structlog.get_logger(__name__)
# What allauth would mail to somebody, by its template. The verbs tell: of a password, and of a factor.
_TOLD: dict[str, Change | None] = {
    "account/email/password_changed": None,
    "account/email/password_set": None,
    "mfa/email/totp_activated": None,
    "mfa/email/totp_deactivated": None,
    "mfa/email/webauthn_added": None,
    "mfa/email/webauthn_removed": None,
    "mfa/email/recovery_codes_generated": None,
}
_WAYS = {
    "reauthenticate": "Use your password",
    "mfa_reauthenticate": "Use a code",
    "mfa_reauthenticate:webauthn": "Use a passkey",
}


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

    def login(self, request: HttpRequest, user: User) -> None:
        if not sign_ins.is_still_valid(request, user):
            workflow.factors.note_refused(user, "changed meanwhile")
            raise ImmediateHttpResponse(sign_ins.start_over(request))
        super().login(request, user)
        audit.record(audit.Action.SIGNED_IN, by=user, subject=user.username)

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:
        workflow.factors.note_refused(user, "deactivated")
        response: HttpResponse = super().respond_user_inactive(request, user)
        return response

    def logout(self, request: HttpRequest) -> None:
        if request.user.is_authenticated:
            audit.record(audit.Action.SIGNED_OUT, by=request.user, subject=request.user.username)
        super().logout(request)

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        super().authentication_failed(request, **credentials)
        person = _meant(credentials)
        # What was typed is recorded only where it names a person: people type passwords there too.
        event = audit.record(
            audit.Action.SIGN_IN_FAILED, by=None, subject=person.username if person else "an unknown name"
        )
        if person and self._reserved.slowed:
            workflow.accounts.tell_of_guesses(person, event=event)
        if attempts.is_behind_strange_proxy(request):
            workflow.operators.tell_of_strange_proxy(client_ip(request) or "")

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        response = super().post_login(request, user, **kwargs)
        known_browsers.remember(response, user)
        return response

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        login = str(credentials.get("email") or credentials.get("username") or "")
        try:
            self._reserved = attempts.reserve_password(request, login)
        except TooMany as refused:
            raise ValidationError(refused.message) from None

    def _rollback_login_failed_rl_usage(self) -> None:
        workflow.attempts.give_back(self._reserved.budgets)

    def set_password(self, user: User, password: str) -> None:
        workflow.accounts.set_password(user, password)

    def send_notification_mail(
        self, template_prefix: str, user: User, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        """All mail goes by the outbox, whatever the mail server does now."""
        if change := _TOLD.get(template_prefix, Change.OTHER):
            workflow.accounts.tell(user, change)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """What would be sent from within a web request, which nothing that is mounted asks for: nothing is."""
        log.error("mail.not_ours", template=template_prefix)

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

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """By a factor where there is one: a password is what the factor is there not to rely on."""
        ways = [{**way, "description": _WAYS[way["id"]]} for way in super().get_reauthentication_methods(user)]
        return [way for way in ways if way["id"] != "reauthenticate"] or ways

    def get_client_ip(self, request: HttpRequest) -> str:
        return client_ip(request) or "0.0.0.0"  # noqa: S104  (only a key for counting attempts)


class SignInForm(LoginForm):
    """Refuses what is longer than any name before anything looks whose it is, which takes time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        login = self.fields["login"]
        login.validators.append(MaxLengthValidator(LONGEST_TYPED, "This is longer than any user name or address."))
        login.widget.attrs["maxlength"] = LONGEST_TYPED


class OwnPasswordForm(ChangePasswordForm):
    """Changing one's own password: the one before is guessed no more often here than at the door."""

    def clean_oldpassword(self) -> str:
        try:
            reserved = attempts.reserve_password(context.request, self.user.username)
        except TooMany as refused:
            raise ValidationError(refused.message) from None
        try:
            typed: str = super().clean_oldpassword()
        except ValidationError:
            audit.record(audit.Action.SIGN_IN_FAILED, by=None, subject=self.user.username)
            raise
        workflow.attempts.give_back(reserved.budgets)
        return typed


class LinkForm(ResetPasswordForm):
    """Asks for a link to choose a password. What is typed decides nothing here that somebody could see or measure."""

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"])

    def save(self, request: HttpRequest, **kwargs: Any) -> str:
        address: str = self.cleaned_data["email"]
        workflow.accounts.ask_for_new_password(address)
        return address


def _meant(credentials: dict[str, Any]) -> User | None:
    return User.objects.meant(str(credentials.get("email") or credentials.get("username") or ""))
