"""The settings: each is read by somebody, so that none promises what nobody does."""

import re
from pathlib import Path

from allauth.account.app_settings import AppSettings as OfAccounts
from allauth.mfa.app_settings import AppSettings as OfFactors
from allauth.usersessions.app_settings import AppSettings as OfSignIns
from celery.app.defaults import SETTING_KEYS
from django.conf import global_settings
from django_structlog.app_settings import AppSettings as OfLogs
from whitenoise import middleware as whitenoise  # type: ignore[import-untyped]

from portal import settings

ROOT = Path(__file__).resolve().parent.parent
# What libraries read, by how their settings begin.
OF_LIBRARIES = {
    "ACCOUNT_": {*dir(OfAccounts), "USER_DISPLAY"},  # which it reads elsewhere
    "MFA_": set(dir(OfFactors)),
    "USERSESSIONS_": set(dir(OfSignIns)),
    "DJANGO_STRUCTLOG_": set(dir(OfLogs)),
    "CELERY_": {name.upper() for name in SETTING_KEYS},
    "WHITENOISE_": set(re.findall(r"WHITENOISE_(\w+)", Path(whitenoise.__file__).read_text())),
    "CONTENT_SECURITY_": {"POLICY"},
}


# Django's own without a default.
NO_DEFAULT = {"ROOT_URLCONF", "EMAIL_FILE_PATH"}


def _is_read(name: str) -> bool:
    of_libraries = (prefix for prefix, known in OF_LIBRARIES.items() if name.removeprefix(prefix) in known)
    of_django = hasattr(global_settings, name) or name in NO_DEFAULT
    return of_django or any(name.startswith(prefix) for prefix in of_libraries)


def test_every_setting_is_one_that_somebody_reads() -> None:
    sources = [*(ROOT / "requests_app").rglob("*.py"), *(ROOT / "portal").rglob("*.py")]
    ours = set(re.findall(r"settings\.([A-Z_]+)", "\n".join(path.read_text() for path in sources)))
    names = {name for name in vars(settings) if name.isupper()} - {"BASE_DIR", "NONE", "SELF"}

    assert {name for name in names - ours if not _is_read(name)} == set()
    # The control: it was here for long, and is a key of a database alone.
    assert not _is_read("ATOMIC_REQUESTS")
