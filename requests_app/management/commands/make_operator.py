from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from requests_app.domain import audit
from requests_app.domain.errors import DomainError
from requests_app.domain.workflow import people


class Command(BaseCommand):
    help = "Let the person with this address run Daypass. This is how the first operator is made; it is audited."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        with audit.context(channel="command"):
            try:
                person = people.make_operator(email)
            except DomainError as refusal:
                raise CommandError(refusal.message) from refusal
        self.stdout.write(f"{person} is an operator now.")
