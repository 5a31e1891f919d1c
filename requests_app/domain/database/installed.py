"""The files beside this one, in PostgreSQL: put there as they are now, and compared with what is there.

They are no migrations. A migration changes tables, once; what the files say is dropped and made anew, together, after
every `migrate` that finds another text or something else in the database. A migration that must touch what a view of
theirs reads drops the view: guards that ask it then refuse, until the files are installed again.
"""

import logging
import re
import time
from hashlib import sha256
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections, transaction

log = logging.getLogger(__name__)

# In this order, for PostgreSQL looks whether what a function asks is there.
SUBJECTS = (
    *("refusing", "moments", "documents", "people", "operators", "catalog", "edits", "freezes", "reach", "terms"),
    *("deciding", "life", "deliveries", "revocations", "records"),
)
_HERE = Path(__file__).parent
# "daypass", as a number: one at a time.
_LOCK = int.from_bytes(b"daypass", "big")
# Shorter than PostgreSQL waits before it looks for a deadlock: rather than some request of somebody's, this gives way.
_WAITS = "500ms"
_TRIES = 120


def install(using: str) -> bool:
    """Put the files there, all or nothing; False if they were there already, untouched.

    While others work: what they do waits for a moment. Raises ImproperlyConfigured if for a minute they leave no gap.
    """
    for last in (*(False,) * (_TRIES - 1), True):
        try:
            with transaction.atomic(using=using, durable=True):
                return _install(using)
        except OperationalError as busy:
            if getattr(busy.__cause__, "sqlstate", "") != "55P03":
                raise
            if last:
                raise ImproperlyConfigured(
                    "What the database guards by could not be put there, for its tables were in use without a gap. "
                    "What was there before still is. Run migrate again, when less is going on."
                ) from busy
            time.sleep(0.5)
    raise AssertionError


def difference(using: str = "default") -> str:
    """How what is there differs from what was installed or from these files: a sentence, empty if it does not."""
    noted = _noted(using)
    if noted is None:
        return "What PostgreSQL guards by was never installed."
    source, definitions = noted
    if definitions != _definitions(using):
        return "Somebody changed, switched off or removed what PostgreSQL guards by."
    if source != _source():
        return "What PostgreSQL guards by is another version's."
    return ""


def views(using: str) -> list[str]:
    """Names, quoted for SQL. `ON ALL TABLES` means them too."""
    with connections[using].cursor() as cursor:
        cursor.execute(_VIEWS)
        return [name for (name,) in cursor.fetchall()]


def _install(using: str) -> bool:
    with connections[using].cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{_WAITS}'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if not difference(using):
            return False
        cursor.execute(_TABLES)
        if tables := [name for (name,) in cursor.fetchall()]:
            cursor.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
        # Triggers, views, functions: each before what it leans on.
        for question, drop in ((_TRIGGERS, "TRIGGER"), (_VIEWS, "VIEW"), (_FUNCTIONS, "FUNCTION")):
            cursor.execute(question)
            names = [name for (name,) in cursor.fetchall()]
            if drop == "TRIGGER":
                for name in names:
                    cursor.execute(f"DROP TRIGGER {name}")
            elif names:
                cursor.execute(f"DROP {drop} {', '.join(names)}")
        for subject in SUBJECTS:
            # No parameters, so % is only itself.
            cursor.execute(_text(subject))
        if using == "owner":
            # At once: whoever asks them meanwhile must not find that they may not.
            role = connections[using].ops.quote_name(settings.DATABASE_APP_ROLE)
            for view in views(using):
                cursor.execute(f"GRANT SELECT ON {view} TO {role}")
        note = f"Installed: {_source()} {_definitions(using)}"
        cursor.execute("COMMENT ON FUNCTION requests_app_refuse(text) IS %s", [note])
    return True


def _text(subject: str) -> str:
    return (_HERE / f"{subject}.sql").read_text(encoding="utf-8")


def _source() -> str:
    """Of what the files say, however it is laid out and explained."""
    lines = (line for subject in SUBJECTS for line in _text(subject).splitlines())
    without_comments = (" ".join(line.split()) for line in lines if not line.lstrip().startswith("--"))
    return sha256("\n".join(filter(None, without_comments)).encode()).hexdigest()


def _noted(using: str) -> tuple[str, str] | None:
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT obj_description(to_regprocedure('public.requests_app_refuse(text)'), 'pg_proc')")
        (note,) = cursor.fetchone()
    found = re.fullmatch(r"Installed: ([0-9a-f]{64}) ([0-9a-f]{64})", note or "")
    return (found[1], found[2]) if found else None


def _definitions(using: str) -> str:
    """Of all that is there, as PostgreSQL has it: texts, what their search_path is, which triggers are on."""
    # Names are written as these have it, which a role or a database may have set otherwise; afterwards it is as before.
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(_PLAINLY)
        cursor.execute(_ALL)
        transaction.set_rollback(True, using=using)
        return sha256("\n".join(line for (line,) in cursor.fetchall()).encode()).hexdigest()


_PLAINLY = "SELECT set_config('search_path', 'pg_catalog', true), set_config('quote_all_identifiers', 'off', true)"
_FUNCTIONS = r"""
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'requests\_app\_%'
"""
_VIEWS = r"""
SELECT oid::regclass::text FROM pg_class
WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace AND relname LIKE 'requests\_app\_%'
"""
_TRIGGERS = r"""
SELECT quote_ident(t.tgname) || ' ON ' || t.tgrelid::regclass FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'requests\_app\_%'
"""
# Those with triggers of ours, and all of ours.
_TABLES = r"""
SELECT t.name FROM (
    SELECT oid::regclass::text AS name FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relname LIKE 'requests\_app\_%'
    UNION
    SELECT t.tgrelid::regclass::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE NOT t.tgisinternal AND p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'requests\_app\_%'
) t ORDER BY 1
"""
_ALL = r"""
SELECT one.line FROM (
    SELECT pg_get_functiondef(oid) AS line FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'requests\_app\_%'
    UNION ALL
    SELECT pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE NOT t.tgisinternal AND p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'requests\_app\_%'
    UNION ALL
    SELECT oid::regclass || ' ' || coalesce(reloptions::text, '') || ' ' || pg_get_viewdef(oid) FROM pg_class
    WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace AND relname LIKE 'requests\_app\_%'
) one ORDER BY one.line COLLATE "C"
"""
