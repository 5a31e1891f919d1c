"""Second factors, through allauth: seeds are sealed, a code is taken once, and guesses are counted before they are
looked at."""

from typing import Any

import structlog
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter, get_adapter
from allauth.mfa.base import forms
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.utils import decrypt
from django.core.exceptions import ValidationError

from requests_app.delivery.web import attempts
from requests_app.domain import seeds, workflow
from requests_app.domain.errors import TooMany

log = structlog.get_logger(__name__)


class FactorsAdapter(DefaultMFAAdapter):
    """The database holds no seed in the clear."""

    def encrypt(self, text: str) -> str:
        return seeds.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        try:
            return seeds.open_sealed(encrypted_text)
        except ValueError:
            # Another SECRET_KEY: no reason to let anybody in, nor to show an error page. No code is made of this one.
            log.exception("factor.unreadable")
            return totp.generate_totp_secret()


class _Code:
    """What signing in and confirming share: allauth's form, counted in rows, and each code once."""

    user: Any
    authenticator: Authenticator

    def clean_code(self) -> str:
        try:
            reserved = attempts.reserve_code(context.request, self.user)
        except TooMany as refused:
            raise ValidationError(refused.message) from None
        code: str = super().clean_code()  # type: ignore[misc]
        if self.authenticator.type == Authenticator.Type.TOTP and not _use(
            self.user, decrypt(self.authenticator.data["secret"]), code
        ):
            raise get_adapter().validation_error("incorrect_code")
        workflow.attempts.give_back(reserved.budgets)
        return code


class AuthenticateForm(_Code, forms.AuthenticateForm):
    """The second step of signing in."""


class ReauthenticateForm(_Code, forms.ReauthenticateForm):
    """Confirming that it is still the same person."""


class ActivateForm(ActivateTOTPForm):
    """Setting up an authenticator app: the code that shows that it works signs nobody in afterwards."""

    def clean_code(self) -> str:
        code: str = super().clean_code()
        if not _use(self.user, self.secret, code):
            raise get_adapter().validation_error("incorrect_code")
        return code


def _use(person: Any, secret: str, code: str) -> bool:
    """allauth remembers a code in the memory of one process, and not that an older one is as known as this."""
    steps = [
        step
        for step in totp.yield_hotp_counters_from_time()
        if totp.compare_user_code(actual=code, expected=totp.format_hotp_value(totp.hotp_value(secret, step)))
    ]
    return bool(steps) and workflow.attempts.use_step(person, max(steps))
