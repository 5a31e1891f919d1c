"""Second factors, through allauth: seeds are sealed, a code is taken once, and guesses are counted before they are
looked at; a passkey is for BASE_URL and nothing else; and whoever changes a factor has just used one they had."""

import json
import struct
import time
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import structlog
from allauth.account import app_settings as account_settings
from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.account.internal.flows.login import (
    AUTHENTICATION_METHODS_SESSION_KEY,
    get_authentication_records,
    record_authentication,
)
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter, get_adapter
from allauth.mfa.base import forms
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.utils import decrypt
from allauth.mfa.webauthn import forms as passkey_forms
from django import forms as django_forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AuthenticationResponse, CollectedClientData, RegistrationResponse

from requests_app.delivery.web import attempts
from requests_app.domain import seeds, workflow
from requests_app.domain.errors import TooMany
from requests_app.domain.models import User

# What reading something that no browser made may raise, in the library and below it.
_MALFORMED = (
    *(ArithmeticError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError),
    struct.error,
)
_LONGEST_CREDENTIAL = 20_000
LONGEST_NAME = 60

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

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """By the setting: allauth would believe the Host header."""
        return {"id": urlsplit(settings.BASE_URL).hostname or "", "name": settings.MFA_TOTP_ISSUER}

    def get_public_key_credential_user_entity(self, user: Any) -> dict[str, Any]:
        return {**super().get_public_key_credential_user_entity(user), "id": user.public_id.bytes}

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        number = Authenticator.objects.filter(user_id=user.pk, type=type).count() + 1
        return "Passkey" if number == 1 else f"Passkey {number}"


def passkeys_work() -> bool:
    """Whether browsers make passkeys for BASE_URL: with https or on this machine, and for a name, not a number."""
    at = urlsplit(settings.BASE_URL)
    host = at.hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return at.scheme == "https" or host == "localhost" or host.endswith(".localhost")
    return False


# --- what was proved in this sign-in -----------------------------------------------------------


def used_in(request: HttpRequest) -> bool:
    """Whether a second factor was used in this sign-in, at its beginning or since. It ends with the sign-in."""
    return any(record.get("method") == "mfa" for record in get_authentication_records(request, request.user))


def ways_to_confirm(person: User) -> list[dict[str, Any]]:
    """How somebody shows that it is still they, as allauth's pages have them."""
    ways: list[dict[str, Any]] = get_account_adapter().get_reauthentication_methods(person)
    return ways


def is_confirmed(request: HttpRequest, person: User) -> bool:
    """Whether they have just shown that it is they: by a factor where they have one, else by their password.

    allauth takes a password where there is a factor, and anybody who has neither.
    """
    method = "mfa" if workflow.factors.of(person) else "password"
    return any(
        record.get("method") == method
        and record.get("reauthenticated")
        and 0 <= time.time() - record["at"] < account_settings.REAUTHENTICATION_TIMEOUT
        for record in get_authentication_records(request, person)
    )


def note_changed(request: HttpRequest, person: User, new: dict[int, str]) -> None:
    """What a change of their own factors means for the sign-in in which it was made: a new one was used just now, and
    where none is left none was."""
    for factor in Authenticator.objects.filter(pk__in=new).exclude(type=Authenticator.Type.RECOVERY_CODES):
        if factor.type == Authenticator.Type.TOTP:
            _use(factor, request.POST.get("code", ""))
        record_authentication(request, person, "mfa", id=factor.pk, type=factor.type, reauthenticated=True)
    if not workflow.factors.of(person):
        records = get_authentication_records(request, person)
        left = [record for record in records if record.get("method") != "mfa"]
        request.session[AUTHENTICATION_METHODS_SESSION_KEY] = left


# --- forms -------------------------------------------------------------------------------------


class _Code:
    """What signing in and confirming share: allauth's form, counted in rows, and each code once."""

    user: Any
    authenticator: Authenticator

    def clean_code(self) -> str:
        try:
            reserved = attempts.reserve_code(context.request, self.user)
        except TooMany as refused:
            raise ValidationError(refused.message) from None
        try:
            code: str = super().clean_code()  # type: ignore[misc]
            if self.authenticator.type == Authenticator.Type.TOTP and not _use(self.authenticator, code):
                raise get_adapter().validation_error("incorrect_code")
        except ValidationError:
            workflow.factors.note_refused(self.user, "code", slowed=reserved.slowed)
            raise
        workflow.attempts.give_back(reserved.budgets)
        return code


class AuthenticateForm(_Code, forms.AuthenticateForm):
    """The second step of signing in."""


class ReauthenticateForm(_Code, forms.ReauthenticateForm):
    """Confirming that it is still the same person."""


class _Passkey:
    """What a browser signed must be for us, and for a page of ours that stands in no other's."""

    user: Any
    cleaned_data: dict[str, Any]

    def clean_credential(self) -> Authenticator:
        """Counted as codes are: nobody guesses a signature, but nobody fills the record by trying either."""
        try:
            reserved = attempts.reserve_code(context.request, self.user)
        except TooMany as refused:
            raise ValidationError(refused.message) from None
        try:
            check_origin(self.cleaned_data["credential"])
            AuthenticationResponse.from_dict(self.cleaned_data["credential"])
            found: Authenticator = super().clean_credential()  # type: ignore[misc]
        except (ValidationError, *_MALFORMED):
            workflow.factors.note_refused(self.user, "passkey", slowed=reserved.slowed)
            raise _refused() from None
        workflow.attempts.give_back(reserved.budgets)
        return found


class PasskeyForm(_Passkey, passkey_forms.AuthenticateWebAuthnForm):
    """The second step of signing in."""


class ConfirmByPasskeyForm(_Passkey, passkey_forms.ReauthenticateWebAuthnForm):
    """Confirming that it is still the same person."""


class AddPasskeyForm(passkey_forms.AddWebAuthnForm):
    name = django_forms.CharField(
        required=False, max_length=LONGEST_NAME, help_text="So that you know it again: the phone or key it is on."
    )

    def clean_credential(self) -> dict[str, Any]:
        """What is kept of it, and no more: it goes into a row."""
        given = self.cleaned_data["credential"]
        check_origin(given)
        try:
            made = RegistrationResponse.from_dict(given)
            kept: dict[str, Any] = {
                "type": "public-key",
                "id": websafe_encode(made.raw_id),
                "rawId": websafe_encode(made.raw_id),
                "response": {
                    "clientDataJSON": websafe_encode(bytes(made.response.client_data)),
                    "attestationObject": websafe_encode(bytes(made.response.attestation_object)),
                },
                "clientExtensionResults": {},
            }
        except _MALFORMED:
            raise _refused() from None
        if len(json.dumps(kept)) > _LONGEST_CREDENTIAL:
            raise _refused()
        return kept

    def clean(self) -> dict[str, Any]:
        try:
            cleaned: dict[str, Any] = super().clean()
        except _MALFORMED:
            raise _refused() from None
        return cleaned


class NamePasskeyForm(passkey_forms.EditWebAuthnForm):
    name = django_forms.CharField(max_length=LONGEST_NAME)


def check_origin(credential: Any) -> None:
    """Raises ValidationError unless a page of BASE_URL asked, exactly that one, and within no other page.

    The library takes every port and every name below ours, and pages within others'.
    """
    try:
        asked_by = json.loads(bytes(CollectedClientData(websafe_decode(credential["response"]["clientDataJSON"]))))
        is_ours = asked_by["origin"] == _origin()
        is_within = asked_by.get("crossOrigin", False) is not False or "topOrigin" in asked_by
    except _MALFORMED:
        raise _refused() from None
    if not is_ours or is_within:
        raise _refused()


def _origin() -> str:
    at = urlsplit(settings.BASE_URL)
    port = {"https": 443, "http": 80}.get(at.scheme)
    return f"{at.scheme}://{at.hostname}" + (f":{at.port}" if at.port not in (None, port) else "")


def _refused() -> ValidationError:
    return ValidationError("This passkey was not taken. Try again, or use another one.", code="passkey.refused")


def _use(authenticator: Authenticator, code: str) -> bool:
    """allauth remembers a code in the memory of one process, and not that an older one is as known as this."""
    secret = decrypt(authenticator.data["secret"])
    steps = [
        step
        for step in totp.yield_hotp_counters_from_time()
        if totp.compare_user_code(actual=code, expected=totp.format_hotp_value(totp.hotp_value(secret, step)))
    ]
    return bool(steps) and workflow.attempts.use_step(authenticator.user, max(steps))
