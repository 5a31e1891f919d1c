import getpass
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from requests_app.domain import normal_form
from requests_app.domain.errors import DomainError, Invalid
from requests_app.domain.models import User
from requests_app.domain.workflow import own_edits, people
from requests_app.management.owner import by_owner


class Command(BaseCommand):
    help = (
        "Let the person with this address run Daypass, and make them first if they are new. This is how the first "
        "operator comes to be; it is audited, and all operators and auditors are told. Needs DATABASE_OWNER_URL, for "
        "nobody on record vouches for whom it makes. A new person's password is asked for, or read from standard input."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--username", help="for a new person; what stands before the @ if left out")
        parser.add_argument("--name", default="", help="for a new person")

    def handle(self, *args: Any, email: str, username: str | None, name: str, **options: Any) -> None:
        known = User.objects.filter(email=email).first()
        if known and username and normal_form.user_name(username) != known.username:
            raise CommandError(f"{known.email} is {known.username}'s address, not {username}'s. Nothing was changed.")
        username = username or email.partition("@")[0]
        with by_owner():
            try:
                if not known:
                    people.new_person(email, username=username, name=name)  # before a password is asked for
                    people.make_person(email, username=username, name=name, password=_password())
                person = people.make_operator(email)
            except Invalid as wrong:
                raise CommandError(_in_words(wrong, {"email": email, "username": username, "name": name})) from wrong
            except DomainError as refusal:
                raise CommandError(refusal.message) from refusal
        if editors := own_edits.who_placed(person):
            self.stderr.write(
                f"{person} was made, or changed, by {', '.join(map(str, editors))}. They are no two pairs of eyes "
                "before an operator who has nothing to do with that confirms it. Or make a new person here."
            )
        self.stdout.write(f"{person} is an operator now and signs in as {person.username} or {person.email}.")


_CALLED = {"email": "address", "username": "user name", "name": "name"}


def _in_words(wrong: Invalid, typed: dict[str, str]) -> str:
    """Which of these is wrong, and how to give another."""
    messages = [
        f"The {_CALLED[field]} “{typed[field]}” will not do: {' '.join(sentences)}"
        if field in typed
        else " ".join(sentences)
        for field, sentences in wrong.fields.items()
    ]
    if set(wrong.fields) == {"username"}:
        messages.append("Give another one with --username.")
    return " ".join([*messages, "Nobody was made."])


def _password() -> str:
    asked = sys.stdin.isatty()
    password = getpass.getpass("Nobody has this address yet. Their password: ") if asked else sys.stdin.readline()
    password = password.rstrip("\n")
    try:
        validate_password(password)
    except ValidationError as wrong:
        raise CommandError(" ".join(wrong.messages)) from wrong
    if asked and getpass.getpass("Again: ") != password:
        raise CommandError("These were two different passwords. Run the command again.")
    return password
