from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.core.management.base import CommandError

from requests_app.domain import database

NOT_NEEDED = "Daypass needs no superuser of Django's: make_operator makes who runs it."


class Command(createsuperuser.Command):
    help = (
        f"{NOT_NEEDED} One can be made with --database owner: an operator and nothing more. It is audited, and all "
        "operators and auditors are told."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["database"] != database.OWNER and not database.app_owns():
            raise CommandError(
                f"{NOT_NEEDED} If you want one all the same, give --database owner, where DATABASE_OWNER_URL is set."
            )
        super().handle(*args, **options)
