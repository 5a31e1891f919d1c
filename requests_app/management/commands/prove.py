import signal
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from requests_app.aws import sts
from requests_app.aws.proving import run
from requests_app.aws.proving.record import Record

CONTRADICTED = 1
UNTOLD = 3  # 2 is that of a wrong option
NOTHING_ASKED = 4


class Command(BaseCommand):
    help = (
        "Asks AWS what only AWS can answer, on one role that it makes, and removes it. Takes some minutes, and neither "
        "database nor Redis. Prints a dated record as Markdown; what goes on meanwhile stands on standard error. The "
        "exit code is 0 if every question was answered and nothing contradicts what Daypass rests on, 1 if something "
        "does, 3 if a question could not be answered, 4 if none could be asked or the role could not be removed."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--profile", help="an administrator's AWS profile; else as the environment says")
        parser.add_argument("--region", required=True, help="where STS is asked, such as eu-central-1")
        parser.add_argument("--show-account", action="store_true", help="write the account's number out in the record")
        parser.add_argument("--clean", action="store_true", help="only remove roles that an earlier run left behind")

    def handle(
        self, *args: Any, profile: str | None, region: str, show_account: bool, clean: bool, **options: Any
    ) -> None:
        sts.act_as(profile)
        try:
            if clean:
                run.clean(region=region, say=self._say)
                return
            record = run.prove(region=region, federation_url=settings.FEDERATION_URL, say=self._say)
        except run.CannotBegin as reason:
            raise CommandError(str(reason), returncode=NOTHING_ASKED) from None
        except run.Interrupted as interrupted:
            with suppress(OSError):
                self.stderr.write("Interrupted: there is no record.")
            raise SystemExit(128 + interrupted.number) from None
        self.stdout.write(record.markdown(show_account=show_account))
        self._conclude(record)

    def _conclude(self, record: Record) -> None:
        for asked in record.contradictions:
            self.stderr.write(f"CONTRADICTS WHAT DAYPASS RESTS ON: {asked.question.words} {asked.told.answer}")
        for asked in record.untold:
            self.stderr.write(f"Could not be told: {asked.question.words}")
        codes = {
            CONTRADICTED: record.contradictions,
            NOTHING_ASKED: record.left_behind,
            UNTOLD: record.untold,
        }
        if code := next((code for code, is_so in codes.items() if is_so), 0):
            raise SystemExit(code)

    def _say(self, line: str) -> None:
        try:
            self.stderr.write(line, str)  # by no style: nothing is wrong yet
            self.stderr.flush()
        except OSError:  # nobody listens any more
            raise run.Interrupted(signal.SIGPIPE) from None
