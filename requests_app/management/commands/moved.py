"""`manage.py moved`: the owner says that this database, whole and up to date, has a new place."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections, transaction

from requests_app.domain import audit, database
from requests_app.domain.models import AuditEvent


class Command(BaseCommand):
    help = (
        "Says that this database was moved as a whole while nothing of Daypass ran, so that it is not taken for a "
        "restored one. Needs DATABASE_OWNER_URL; run it before the rest starts."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if "owner" not in connections.databases:
            raise CommandError("Only the owner of the database can say this: set DATABASE_OWNER_URL.")
        with transaction.atomic("owner"), connections["owner"].cursor() as cursor:
            cursor.execute("SELECT home FROM requests_app_installation FOR UPDATE")
            if (row := cursor.fetchone()) is None:
                raise CommandError("This database was never migrated: run `manage.py migrate --database owner`.")
            here = database.home("owner")
            cursor.execute("UPDATE requests_app_installation SET home = %s", [here])
        newest = AuditEvent.objects.order_by("-pk").values_list("recorded_at", flat=True).first()
        if here != row[0]:
            with audit.context(channel="command"):
                audit.record(audit.Action.INSTALLATION_MOVED, by=None, subject=here, before=row[0])
        self.stdout.write(f"This database is at home here now: {here}.")
        if newest:
            self.stdout.write(
                f"The newest event in it is of {newest:%Y-%m-%d %H:%M:%S} UTC. If more has happened since, it is not a "
                "move but a restore: run `manage.py restored`."
            )
