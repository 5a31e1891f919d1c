import dataclasses
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from requests_app.domain import clock
from requests_app.domain.doctor import Outcome, examine
from requests_app.domain.workflow import preflights


class Command(BaseCommand):
    help = (
        "Says how Daypass is, one line for each thing that was looked at: good, bad or unknown. Reads what the workers "
        "stored and asks AWS nothing: it may be run on production at any time. The exit code is 1 if anything is bad."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", dest="every_role", help="tell of each role by itself too")
        parser.add_argument("--json", action="store_true", dest="as_json", help="a JSON list, for a program")
        parser.add_argument("--look-now", action="store_true", help="let the workers look at every role anew, soon")

    def handle(self, *args: Any, every_role: bool, as_json: bool, look_now: bool, **options: Any) -> None:
        if look_now:
            number = preflights.look_at_all()
            self.stderr.write(f"The workers will look at {number:,} roles, a few at a time.")
        found = []
        for finding in examine(clock.now(), every_role=every_role):
            found.append(finding)
            if not as_json:
                self.stdout.write(str(finding))
        if as_json:
            self.stdout.write(json.dumps([dataclasses.asdict(finding) for finding in found], indent=1))
        if any(finding.verdict is Outcome.BAD for finding in found):
            raise SystemExit(1)
