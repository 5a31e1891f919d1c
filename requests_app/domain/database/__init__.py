"""What PostgreSQL itself knows, and what the application's own role in it may do.

The rules that it keeps are plain SQL, by subject, in the files beside this one: read them there, as they are now. They
are installed after every `manage.py migrate --database owner`, as the owner.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader

from requests_app.domain.database import installed
from requests_app.domain.transitions import TRANSITIONS

# Everything not named here may be read and written, so that Django's own tables work as usual.
# (Guard triggers say which of those writes are legal.)
READ_ONLY = ("requests_app_transition", "requests_app_installation", "django_migrations")
APPEND_ONLY = (
    "requests_app_auditevent",
    "requests_app_decision",
    "requests_app_issuedsession",
    "requests_app_ownsession",
    "requests_app_confirmation",
)
NEVER_CHANGED = ("requests_app_idempotencykey",)
NEVER_DELETED = (
    "requests_app_freeze",
    "requests_app_extension",
    "requests_app_edit",
    "requests_app_revocation",
    "requests_app_denypolicy",
    "requests_app_user",
    "requests_app_accessrequest",
    "requests_app_delivery",
    "requests_app_notice",
)


AUDITORS = "Auditors"
OWNER = "owner"


def after_migrate(app_config: AppConfig, using: str, plan: Sequence[tuple[Migration, bool]] = (), **_: object) -> None:
    # Django's `migrate` also sends this when it is run with the application's role; only the owner may act.
    if using == OWNER or OWNER not in connections.databases:
        _copy_transitions(using)
        if _is_migrated(app_config.label, using):
            installed.install(using)
            _settle_operators(using, is_upgrade=any(migration.app_label == app_config.label for migration, _ in plan))
        _name_the_installation(using)
        _make_auditors(app_config, using)
    if using == OWNER:
        _grant(using, settings.DATABASE_APP_ROLE)


def _is_migrated(app: str, using: str) -> bool:
    """Whether the tables are as this version has them; where somebody stopped before, what guards them stays."""
    loader = MigrationLoader(connections[using])
    return set(loader.graph.leaf_nodes(app)) <= loader.applied_migrations.keys()


@contextmanager
def as_owner() -> Iterator[None]:
    """Inside, everything is done by the owner's role, which vouches for what nobody on record does.

    Raises ImproperlyConfigured where this process does not know the owner, and is not the owner itself.
    """
    if OWNER not in connections.databases:
        if not app_owns():
            raise ImproperlyConfigured(
                "Only the owner of the database can say this, and this process runs as the application's role. Run it "
                "where DATABASE_OWNER_URL is set: `docker compose run --rm migrate python manage.py …`."
            )
        yield
        return
    application = connections[DEFAULT_DB_ALIAS]
    connections[DEFAULT_DB_ALIAS] = connections[OWNER]
    try:
        yield
    finally:
        connections[DEFAULT_DB_ALIAS] = application


def app_owns() -> bool:
    """Whether the application's own role owns the tables, as where there is one role for both."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SELECT requests_app_is_owner()")
        return bool(cursor.fetchone()[0])


def home(using: str) -> str:
    """Which cluster this is and which database in it: another after a dump was restored, the same after a failover."""
    with connections[using].cursor() as cursor:
        cursor.execute(HOME)
        return str(cursor.fetchone()[0])


# As PostgreSQL says it.
HOME = """
SELECT system_identifier::text || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
FROM pg_control_system()
"""


def _copy_transitions(using: str) -> None:
    # At once: to whoever works meanwhile there is never an empty table, which would refuse everything.
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute("DELETE FROM requests_app_transition")
        cursor.executemany(
            "INSERT INTO requests_app_transition (machine, before, after) VALUES (%s, %s, %s)",
            sorted(TRANSITIONS),
        )


def _settle_operators(using: str, *, is_upgrade: bool) -> None:
    """Operators by Daypass's own column, also those whom the code of before made between the migration and the guards.

    Afterwards nobody is a superuser of Django's but who was made one on purpose, which is on record. The code of before
    knows operators by that, so it stays until a `migrate` that finds nothing new.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute("UPDATE requests_app_user SET is_operator = true WHERE is_superuser AND NOT is_operator")
        if not is_upgrade:
            cursor.execute(_MADE_BY_NOBODY)


_MADE_BY_NOBODY = """
UPDATE requests_app_user SET is_superuser = false
WHERE is_superuser AND NOT EXISTS (
    SELECT FROM requests_app_auditevent a WHERE a.beneficiary_id = requests_app_user.id AND a.action = 'superuser.made')
"""


def _name_the_installation(using: str) -> None:
    code = "".join(secrets.choice("abcdefghjkmnpqrstvwxyz0123456789") for _ in range(8))
    with connections[using].cursor() as cursor:
        cursor.execute("INSERT INTO requests_app_installation (id, code) VALUES (1, %s) ON CONFLICT DO NOTHING", [code])
        # Never again: a database that was restored elsewhere must not forget that, only because it was migrated.
        cursor.execute("UPDATE requests_app_installation SET home = %s WHERE home = ''", [home(using)])


def _make_auditors(app_config: AppConfig, using: str) -> None:
    """The Django group whose members see everything in the admin and change nothing."""
    create_permissions(app_config, using=using, verbosity=0)  # ours run before Django's own
    auditors, _ = Group.objects.using(using).get_or_create(name=AUDITORS)
    auditors.permissions.set(
        Permission.objects.using(using).filter(content_type__app_label=app_config.label, codename__startswith="view_")
    )


def _grant(using: str, role: str) -> None:
    connection = connections[using]
    quoted = connection.ops.quote_name(role)
    statements = [
        # A database that an older PostgreSQL made lets everybody create there: a function of the application's
        # own, with the types that a guard passes, would be called in place of ours.
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"REVOKE CREATE ON SCHEMA public FROM {quoted}",
        f"GRANT USAGE ON SCHEMA public TO {quoted}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {quoted}",
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {quoted}",
        *(f"REVOKE INSERT, UPDATE, DELETE ON {table} FROM {quoted}" for table in READ_ONLY),
        *(f"REVOKE UPDATE, DELETE ON {table} FROM {quoted}" for table in APPEND_ONLY),
        *(f"REVOKE UPDATE ON {table} FROM {quoted}" for table in NEVER_CHANGED),
        *(f"REVOKE DELETE ON {table} FROM {quoted}" for table in NEVER_DELETED),
        *(f"REVOKE INSERT, UPDATE, DELETE ON {view} FROM {quoted}" for view in installed.views(using)),
    ]
    # At once: the first of these give what the last take away.
    with transaction.atomic(using=using), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        cursor.execute(_COULD_GO_ROUND, {"role": role})
        if cursor.fetchone() != (False,):
            raise ImproperlyConfigured(
                f"The database role {role} could go round the guards: it is a superuser, or the owner of the tables, "
                "or may create things in the schema public. DATABASE_URL needs a role of its own, which owns nothing."
            )


_COULD_GO_ROUND = """
SELECT rolsuper OR pg_has_role(rolname, current_user, 'MEMBER') OR has_schema_privilege(rolname, 'public', 'CREATE')
FROM pg_roles WHERE rolname = %(role)s
"""
