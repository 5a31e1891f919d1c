"""`manage.py restored`: the operator knows that this database is an older copy; hold everything."""

from typing import Any

from django.core.management.base import BaseCommand

from requests_app.domain.workflow import freezes


class Command(BaseCommand):
    help = (
        "Says that this database was restored from a backup: nothing is asked for, approved, started or minted, and "
        "nothing is taken away at AWS, until operators have confirmed or ended each pass in it. Daypass finds that "
        "itself where it can; this is for whoever knows."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        begun = freezes.freeze_restored("an operator said so")
        if begun is None:
            self.stdout.write("This database is held already, as restored.")
        else:
            self.stdout.write("Everything is held. Sign in as an operator and look at each pass: confirm it or end it.")
