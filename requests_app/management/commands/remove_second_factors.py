from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from requests_app.domain.errors import DomainError
from requests_app.domain.models import User
from requests_app.domain.workflow import factors
from requests_app.management.owner import by_owner


class Command(BaseCommand):
    help = (
        "Remove all second factors of the person with this address, who lost them: the way back for an operator where "
        "no other one can do it in the admin. Needs DATABASE_OWNER_URL. It is audited; they and all operators are told."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--reason", required=True)

    def handle(self, *args: Any, email: str, reason: str, **options: Any) -> None:
        person = User.objects.filter(email=email).first()
        if person is None:
            raise CommandError(f"Nobody has the address {email}.")
        with by_owner():
            try:
                factors.remove(person, by=None, reason=reason)
            except DomainError as refusal:
                raise CommandError(refusal.message) from refusal
        self.stdout.write(f"{person} has no second factor any more. Their password alone signs them in.")
