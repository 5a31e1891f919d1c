"""Settings, all read from the environment; every name also works as NAME_FILE (a path to its value)."""

import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from portal import logs
from portal.environment import Env, with_password
from requests_app.domain import partitions

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()
if (BASE_DIR / ".env").exists():
    env.read_env(BASE_DIR / ".env")

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.secret("SECRET_KEY")
SECRET_KEY_FALLBACKS = [key for key in env.secret("SECRET_KEY_FALLBACKS", default="").split(",") if key]
BASE_URL = env.str("BASE_URL").rstrip("/")
_https = BASE_URL.startswith("https://")
_host = urlsplit(BASE_URL).hostname or "localhost"
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[_host])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[BASE_URL])
# How many proxies of ours stand in front and append to X-Forwarded-For; 0 trusts no such header.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)

INSTALLED_APPS = [
    "requests_app",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.forms",
    "django_prometheus",
    "django_structlog",
    "django_htmx",
    "js_lib_bootstrap5",
    "lucide",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
]

MIDDLEWARE = [
    "requests_app.delivery.web.middleware.ProbesMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "requests_app.delivery.web.middleware.NoNulInAdminMiddleware",
    "requests_app.delivery.web.sessions.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "requests_app.delivery.web.middleware.LineBreaksMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "requests_app.delivery.web.middleware.LogMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "requests_app.delivery.web.middleware.SignedInMiddleware",
    "requests_app.delivery.web.demanded.SecondFactorMiddleware",
    "requests_app.delivery.web.middleware.LastSeenMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "requests_app.delivery.web.middleware.AuditContextMiddleware",
    "requests_app.delivery.web.middleware.PersonalTimeZoneMiddleware",
    "requests_app.delivery.web.middleware.NoStoreMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "requests_app.delivery.web.context.portal",
            ],
        },
    },
]
FORM_RENDERER = "requests_app.delivery.web.forms.Renderer"

# Two roles: the application runs as one that owns nothing; the owner only migrates
# (`manage.py migrate --database owner`) and should be absent from a serving process.
DATABASES = {"default": env.db("DATABASE_URL")}
if env.str("DATABASE_OWNER_URL", default=""):
    DATABASES["owner"] = env.db("DATABASE_OWNER_URL")
# A password may also be given by itself: in an address some characters must be written in another way.
for _alias, _password in (
    ("default", env.secret("DATABASE_APP_PASSWORD", default="")),
    ("owner", env.secret("DATABASE_OWNER_PASSWORD", default="")),
):
    if _password and _alias in DATABASES:
        DATABASES[_alias]["PASSWORD"] = _password
for _database in DATABASES.values():
    # What a mint asks is planned once for each connection, so one is kept longer than a minute.
    _database["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=3600)
    _database["CONN_HEALTH_CHECKS"] = True
    _database.setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)
# A process that stands still in the middle of a transaction holds locks; ending must not wait for it for ever. (No
# transaction of ours is idle for longer than Redis's second.) And no statement of ours runs long enough to be worth
# compiling, whatever the planner thinks of its cost.
DATABASES["default"]["OPTIONS"].setdefault("options", "-c idle_in_transaction_session_timeout=20s -c jit=off")
# For `requests_app.domain.prepared`, which prepares at the first time whatever the number; None: never.
DATABASES["default"]["OPTIONS"]["prepare_threshold"] = 5 if env.bool("PREPARED_STATEMENTS", default=True) else None
DATABASE_APP_ROLE = DATABASES["default"]["USER"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Of each web process, as `portal.server` has them.
WEB_THREADS = 16

# In each process's own memory: nothing in a shared cache could be trusted, and none must be up for
# someone to sign in. allauth counts sign-in attempts here, so its limits hold per web process.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

REDIS_URL = with_password(env.str("REDIS_URL"), env.secret("REDIS_PASSWORD", default=""))

# --- sign-in -----------------------------------------------------------------------------------
AUTH_USER_MODEL = "requests_app.User"
AUTHENTICATION_BACKENDS = ["requests_app.delivery.web.accounts.PasswordBackend"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "requests_app.delivery.web.accounts.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email", "username"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"  # operators make people; nobody signs up
ACCOUNT_FORMS = {
    "login": "requests_app.delivery.web.accounts.SignInForm",
    "reset_password": "requests_app.delivery.web.accounts.LinkForm",
    "change_password": "requests_app.delivery.web.accounts.OwnPasswordForm",
}
# How many links one person is sent is counted in the database: counted here by address, a stranger who asks for
# somebody could keep them from asking.
# Guesses are counted in rows (`delivery/web/attempts.py`); allauth would count them in the memory of each process.
# (Links for a new password have limits of their own, by whom they are for.)
ACCOUNT_RATE_LIMITS = {"reset_password": "200/m/ip", "login": None, "login_failed": None, "reauthenticate": None}
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_USER_DISPLAY = "requests_app.delivery.web.accounts.display_name"
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if _https else "http"
ACCOUNT_PRESERVE_USERNAME_CASING = False
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_ADAPTER = "requests_app.delivery.web.factors.FactorsAdapter"
MFA_FORMS = {
    "authenticate": "requests_app.delivery.web.factors.AuthenticateForm",
    "reauthenticate": "requests_app.delivery.web.factors.ReauthenticateForm",
    "add_webauthn": "requests_app.delivery.web.factors.AddPasskeyForm",
    "edit_webauthn": "requests_app.delivery.web.factors.NamePasskeyForm",
    "authenticate_webauthn": "requests_app.delivery.web.factors.PasskeyForm",
    "reauthenticate_webauthn": "requests_app.delivery.web.factors.ConfirmByPasskeyForm",
}
MFA_PASSKEY_LOGIN_ENABLED = False  # a passkey comes after the password, never in its place
MFA_TOTP_ISSUER = "Daypass"
MFA_TOTP_TOLERANCE = 1  # the step before and the next one are taken, for clocks differ (RFC 6238)
MFA_ALLOW_UNVERIFIED_EMAIL = True  # addresses are the operators', so no row about one may stand in the way
USERSESSIONS_TRACK_ACTIVITY = True
# Of whom a second factor is demanded: of these, and of whoever is in one of these groups; so many days after it was
# first demanded of somebody, nothing but setting one up is open to them.
SECOND_FACTOR_FOR = env.str("SECOND_FACTOR_FOR", default="nobody")
if SECOND_FACTOR_FOR not in ("nobody", "operators-and-approvers", "everybody"):
    raise ImproperlyConfigured("SECOND_FACTOR_FOR is nobody, operators-and-approvers or everybody.")
SECOND_FACTOR_GROUPS = env.list("SECOND_FACTOR_GROUPS", default=[])
SECOND_FACTOR_GRACE_DAYS = env.int("SECOND_FACTOR_GRACE_DAYS", default=7)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- the browser -------------------------------------------------------------------------------
# One setting for a stand-in; without it the address comes from the table per partition.
FEDERATION_URL = env.str("FEDERATION_URL", default="") or None
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF, *partitions.form_action_origins(FEDERATION_URL)],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_NAME = "__Host-sessionid" if _https else "sessionid"
# A sign-in ends so long after it began, and so long after it was last used.
SESSION_COOKIE_AGE = 60 * 60 * env.int("SIGN_IN_HOURS", default=12)
SESSION_IDLE_SECONDS = 60 * env.int("SIGN_IN_IDLE_MINUTES", default=60)
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_ENGINE = "requests_app.delivery.web.sessions"
CSRF_COOKIE_NAME = "__Host-csrftoken" if _https else "csrftoken"
CSRF_FAILURE_VIEW = "requests_app.delivery.web.presses.outdated"
CSRF_COOKIE_HTTPONLY = False  # htmx reads the token from the page, not from the cookie
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=_https)
SECURE_SSL_HOST = BASE_URL.split("://", 1)[1] if _https else None  # and to no port that the caller names
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31_536_000 if _https else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _https
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

STATIC_URL = "static/"
STATIC_ROOT = env.path("STATIC_ROOT", default=str(BASE_DIR / "staticfiles"))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage" if DEBUG else "portal.static.Storage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# Of a link to choose a password; each kind of mail has a time of its own within it (`password_links`).
PASSWORD_RESET_TIMEOUT = 7 * 24 * 60 * 60

# --- mail --------------------------------------------------------------------------------------
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
EMAIL_HOST_PASSWORD = env.secret("EMAIL_PASSWORD", default="") or vars()["EMAIL_HOST_PASSWORD"]
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="") or f"Daypass <daypass@{_host}>"

# --- logs --------------------------------------------------------------------------------------
LOGGING = logs.config(level=env.str("LOG_LEVEL", default="INFO"), as_json=env.bool("LOG_JSON", default=not DEBUG))
DJANGO_STRUCTLOG_CELERY_ENABLED = True
# One line for each request, when it is over. Whoever looks for one that never ends sets LOG_LEVEL to DEBUG.
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG

# --- Celery (read by portal/celery.py) ---------------------------------------------------------
# A message is only a nudge: short-lived, JSON, without results, and a hung broker must not hang a page.
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 1,
    "socket_connect_timeout": 1,
    "visibility_timeout": 300,
    "max_retries": 1,
    "interval_start": 0,
    "interval_max": 0,
}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = CELERY_EVENT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_BACKEND = None
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CONSUMER = "portal.consumer:Consumer"
CELERY_BEAT_SCHEDULER = "portal.beat:Scheduler"
CELERY_ENABLE_UTC = True
CELERY_TIMEZONE = "UTC"

# --- Daypass -----------------------------------------------------------------------------------
# Whoever brings this as a bearer token reads /metrics; without it there is none.
METRICS_TOKEN = env.secret("METRICS_TOKEN", default="")
# How many deliveries a person, and a role, may ask for in a minute; they protect the hub account's
# 600 STS calls a second, which everything in it shares.
DELIVERIES_PER_PERSON_PER_MINUTE = env.int("DELIVERIES_PER_PERSON_PER_MINUTE", default=10)
DELIVERIES_PER_ROLE_PER_MINUTE = env.int("DELIVERIES_PER_ROLE_PER_MINUTE", default=60)
# How many open requests and passes somebody may have for one role, and how many passes of it they may give back while
# AWS still has to refuse what was issued for them: each takes some of the 10,240 characters that IAM gives a role.
OPEN_REQUESTS_PER_PERSON_AND_ROLE = env.int("OPEN_REQUESTS_PER_PERSON_AND_ROLE", default=5)
REQUESTS_PER_PERSON_PER_HOUR = env.int("REQUESTS_PER_PERSON_PER_HOUR", default=60)
UNACCEPTED_PER_ASKER_AND_PERSON = env.int("UNACCEPTED_PER_ASKER_AND_PERSON", default=5)
EXTENSIONS_IN_VAIN_PER_PASS = env.int("EXTENSIONS_IN_VAIN_PER_PASS", default=10)
RETURNED_PER_PERSON_AND_ROLE = env.int("RETURNED_PER_PERSON_AND_ROLE", default=20)
# The role in each target account through which the revoking worker writes deny policies.
REVOKER_ROLE_NAME = env.str("REVOKER_ROLE_NAME", default="daypass-revoker")
# An empty profile would be one called "" to botocore, and Compose cannot leave a variable out that has a default.
if os.environ.get("AWS_PROFILE") == "":
    del os.environ["AWS_PROFILE"]
# STS is asked in this region unless the account's partition says otherwise.
AWS_STS_REGION = env.str("AWS_REGION", default="") or env.str("AWS_DEFAULT_REGION", default="us-east-1")
