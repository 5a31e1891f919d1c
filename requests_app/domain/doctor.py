"""How Daypass is, and how what it stands on is, as its own rows and Redis tell: asks nobody else, changes nothing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from requests_app.domain import arns, factor_demand, facts, invariants, narrowing_fit, policy, store, troubles
from requests_app.domain.database import app_owns, installed
from requests_app.domain.lags import lags
from requests_app.domain.models import (
    Account,
    AwsClock,
    Freeze,
    Identity,
    Installation,
    Notice,
    Preflight,
    Role,
    User,
)
from requests_app.domain.partitions import region

# The workers say who they are every two minutes or oftener.
OLDEST_IDENTITY = timedelta(minutes=6)
OLDEST_LOOK = timedelta(days=3)
LATELY = timedelta(days=7)
MOST_TROUBLES = 20
MOST_FREEZES = 20
# Of roles that nobody can use.
MOST_WORST = 5
# Mail that was rightly not sent.
NOT_WANTED = Q(last_error="deactivated") | Q(last_error__endswith="meanwhile")


class Outcome(StrEnum):
    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do if it is bad."""

    verdict: Outcome
    about: str
    sentence: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<8} {self.about}: {' '.join(f'{self.sentence} {self.advice}'.split())}"


def examine(now: datetime, *, every_role: bool = False) -> Iterator[Finding]:
    """Everything that can be told. `now` is the database's time; `every_role` tells of each role by itself."""
    yield from _rules(now)
    yield from _guards()
    yield from _history()
    yield from _roles_in_the_database()
    yield from _superusers()
    at = _regions()
    yield from (_identity(worker, region, now) for region in at for worker in Identity.Worker)
    yield from (_apart(region) for region in at)
    yield from (_clock(region, now) for region in at)
    yield _redis()
    yield from _lags(now)
    yield from _troubles()
    yield from _freezes()
    yield _mail(now)
    yield from _second_factors()
    yield from _roles(now)
    yield from _console_authorization()
    yield _addresses()
    yield _narrowing()
    if every_role:
        yield from _each_role()


def _rules(now: datetime) -> Iterator[Finding]:
    broken = invariants.broken(now)
    for rule in broken:
        verdict = Outcome.BAD if rule.count else Outcome.UNKNOWN
        some = f" {rule.count} times: {', '.join(rule.examples)}." if rule.count else ""
        yield Finding(verdict, f"rule {rule.rule}", f"{rule.sentence}{some}", rule.advice)
    if not broken:
        yield Finding(Outcome.GOOD, "rules", f"All {len(invariants.RULES)} that must always hold do.")


def _guards() -> Iterator[Finding]:
    difference = installed.difference()
    if not difference:
        yield Finding(Outcome.GOOD, "guards", "What PostgreSQL itself refuses is as this version has it.")
        return
    advice = "Find out who, if it was nobody's upgrade; then `manage.py migrate --database owner` puts it right."
    yield Finding(Outcome.BAD, "guards", difference, advice)


def _history() -> Iterator[Finding]:
    if Installation.objects.filter(history_from__isnull=False).exists():
        sentence = "It lets a history be written, so what the application stores may be dated as it likes."
        advice = (
            "Only the demo and tests need that. As the owner: UPDATE requests_app_installation SET history_from = NULL;"
        )
        yield Finding(Outcome.BAD, "database", sentence, advice)


def _roles_in_the_database() -> Iterator[Finding]:
    if app_owns():
        sentence = (
            "The application's role owns the tables, so every process could change the rules, and make operators."
        )
        advice = "Give DATABASE_URL a role of its own, which owns nothing, and only `migrate` the owner's."
        yield Finding(Outcome.BAD, "database", sentence, advice)


def _superusers() -> Iterator[Finding]:
    found = list(User.objects.filter(is_superuser=True).order_by("pk")[:MOST_WORST])
    if found:
        sentence = f"Superusers of Django's, which nobody needs to be: {', '.join(one.username for one in found)}."
        advice = "An upgrade leaves them until the next `migrate`. Else, as the owner, which leaves them operators: "
        advice += "UPDATE requests_app_user SET is_superuser = false;"
        yield Finding(Outcome.BAD, "superusers", sentence, advice)


def _regions() -> list[str]:
    partitions = set(Account.objects.filter(is_active=True).values_list("partition", flat=True).distinct()) or {"aws"}
    return sorted(region(partition) for partition in partitions)


def _identity(worker: str, at: str, now: datetime) -> Finding:
    about = f"{worker} in {at}"
    known = Identity.objects.filter(worker=worker, region=at).first()
    if known is None:
        advice = f"Is the worker {'aws' if worker == 'minter' else 'revoke'} running, with an AWS identity?"
        return Finding(Outcome.BAD, about, "It was never seen.", advice)
    if known.failed_at is not None:
        words = f"At {_at(known.failed_at)} AWS did not say who it is: {known.aws_code}: {known.aws_message}"
        return Finding(Outcome.BAD, about, words, "An operator must renew or correct its AWS identity.")
    if known.seen_at is None or now - known.seen_at > OLDEST_IDENTITY:
        seen = _at(known.seen_at) if known.seen_at else "never"
        return Finding(Outcome.BAD, about, f"It is {known.arn}, last seen {seen}.", "Is its worker running?")
    chained = "a role session itself, so an hour at a time" if known.chained else "no role session"
    sentence = f"It is {known.arn}, {chained}; STS is asked at {known.endpoint or 'an unknown address'}."
    if known.regional:
        return Finding(Outcome.GOOD, about, sentence)
    if urlsplit(known.endpoint).hostname == "sts.amazonaws.com":
        advice = f"That is the global endpoint: set AWS_STS_REGIONAL_ENDPOINTS=regional and AWS_REGION={at}."
        return Finding(Outcome.BAD, about, sentence, advice)
    return Finding(Outcome.UNKNOWN, about, sentence, "That is not the region's own endpoint. Is it meant?")


def _apart(at: str) -> Finding:
    about = f"identities in {at}"
    arns = dict(Identity.objects.filter(region=at).exclude(arn="").values_list("worker", "arn"))
    if len(arns) < len(Identity.Worker.values):
        return Finding(Outcome.UNKNOWN, about, "Whether minter and revoker are different is not known yet.")
    if len({_principal(arn) for arn in arns.values()}) == 1:
        advice = "Whoever mints must not be able to write roles' policies: give each worker its own."
        return Finding(Outcome.BAD, about, "Minter and revoker are the same.", advice)
    return Finding(Outcome.GOOD, about, "Minter and revoker are different.")


def _clock(at: str, now: datetime) -> Finding:
    about = f"clock in {at}"
    reading = AwsClock.objects.filter(region=at).first()
    known = policy.clock_is_known(facts.clock(at), now=now)
    if reading is None:
        return Finding(Outcome.BAD, about, "It was never read, so nothing is minted.", "Is the worker aws running?")
    age = max((now - reading.measured_at).total_seconds(), 0)
    sentence = (
        f"{age:,.0f} s ago AWS's was between {reading.low_seconds:+.1f} and {reading.high_seconds:+.1f} s off "
        "the database's."
    )
    return Finding(Outcome.GOOD if known else Outcome.BAD, about, sentence, known.message)


def _redis() -> Finding:
    refusal = store.standing().look()
    if not refusal:
        return Finding(Outcome.GOOD, "redis", "It takes what is written to it.")
    advice = _WHAT_TO_DO.get(refusal, "See that it runs at REDIS_URL, and what it logs.")
    sentence = f"It is not usable: {refusal}. Nothing is minted, work is found some seconds later, all else goes on."
    return Finding(Outcome.BAD, "redis", sentence, advice)


_WHAT_TO_DO = {
    "OutOfMemoryError": "It is full: give it more maxmemory.",
    "ReadOnlyError": "It is a replica: let REDIS_URL name the primary.",
    "AuthenticationError": "It does not take the password in REDIS_URL.",
    "NoPermissionError": "The user in REDIS_URL needs to write every key.",
    "BusyLoadingError": "It is reading what it had saved: wait.",
}


def _lags(now: datetime) -> Iterator[Finding]:
    for lag in lags(now):
        late = f"{lag.late.total_seconds():,.0f} s late." if lag.late else "Nothing is due."
        advice = f"Are beat and the worker {lag.worker} running, and is it enough?" if lag.too_long else ""
        yield Finding(Outcome.BAD if lag.too_long else Outcome.GOOD, lag.work, late, advice)


def _troubles() -> Iterator[Finding]:
    found = list(troubles.open_now().order_by("-last_at")[: MOST_TROUBLES + 1])
    for trouble in found[:MOST_TROUBLES]:
        since = f"since {_at(trouble.first_at)}, last {_at(trouble.last_at)}"
        sentence = f"{trouble.error} at {trouble.where}, {trouble.times} times {since}."
        yield Finding(Outcome.BAD, f"trouble {trouble}", sentence, "The logs of that moment say more.")
    if len(found) > MOST_TROUBLES:
        yield Finding(Outcome.BAD, "troubles", "There are more.", "See them in the admin.")
    if not found:
        yield Finding(Outcome.GOOD, "troubles", "No task fails in a way that nobody foresaw.")


def _freezes() -> Iterator[Finding]:
    found = list(Freeze.objects.in_force().select_related("account", "role__account", "begun_by").order_by("pk"))
    for freeze in found[:MOST_FREEZES]:
        restored = freeze.cause == Freeze.Cause.RESTORED
        who = f" by {freeze.begun_by}" if freeze.begun_by else ""
        sentence = f"In force since {_at(freeze.begun_at)}{who}: {freeze.reason}"
        advice = "Operators must look at each pass: confirm it or end it." if restored else ""
        yield Finding(Outcome.BAD if restored else Outcome.GOOD, f"freeze of {freeze}", sentence, advice)
    if not found:
        yield Finding(Outcome.GOOD, "freezes", "None is in force.")


def _mail(now: datetime) -> Finding:
    lately = Notice.objects.filter(gave_up_at__gte=now - LATELY).exclude(NOT_WANTED)
    newest = lately.order_by("-gave_up_at").values_list("last_error", flat=True)[:10_000]
    if not newest:
        return Finding(Outcome.GOOD, "mail", "None was given up in the last 7 days.")
    sentence = f"{len(newest):,} were given up in the last 7 days, the last one for: {newest[0]}."
    return Finding(Outcome.BAD, "mail", sentence, "See the section on mail in docs/operations.md.")


def _second_factors() -> Iterator[Finding]:
    if not factor_demand.is_any():
        return
    about, found = "second factors", factor_demand.lacking()
    if found.unknown_groups:
        names = ", ".join(found.unknown_groups)
        advice = "Correct the names, or make the groups in the admin."
        yield Finding(Outcome.BAD, about, f"SECOND_FACTOR_GROUPS names groups that are not there: {names}.", advice)
    if settings.SECOND_FACTOR_FOR == factor_demand.NOBODY:
        return
    if found.without and found.without == found.operators:
        sentence = "They are demanded of operators, and no operator has one: so all operators are only warned."
        yield Finding(Outcome.BAD, about, sentence, "Set one up: in the menu at your name, under Second factor.")
    else:
        have = found.operators - found.without
        yield Finding(Outcome.GOOD, about, f"{have} of {found.operators} operators have one, as is demanded.")


def _roles(now: datetime) -> Iterator[Finding]:
    looks = _in_use()
    counts = looks.aggregate(
        good=Count("pk", filter=Q(usable="good")),
        better=Count("pk", filter=Q(usable="good", verdict="bad")),
        bad=Count("pk", filter=Q(usable="bad")),
        unheard=Count("pk", filter=Q(usable="unknown", minter_at__isnull=False)),
        old=Count("pk", filter=Q(minter_at__lt=now - OLDEST_LOOK)),
    )
    roles = Role.objects.filter(is_active=True, account__is_active=True)
    never = roles.filter(Q(preflight=None) | Q(preflight__minter_at=None)).count()
    sentence = f"{counts['good']:,} can be used"
    if counts["better"]:
        sentence += f", {counts['better']:,} of them with something to mend"
    yield Finding(Outcome.GOOD, "roles", f"{sentence}.")
    for preflight in looks.filter(usable="bad").order_by("pk")[:MOST_WORST]:
        yield _role(preflight)
    if counts["bad"] > MOST_WORST:
        sentence = f"{counts['bad']:,} cannot be used, those above among them."
        yield Finding(Outcome.BAD, "roles", sentence, "`--all` lists each, as the admin does.")
    for number, what in (
        (counts["unheard"], "AWS did not answer when they were looked at"),
        (counts["old"], "the last look is more than three days old"),
        (never, "never looked at"),
    ):
        if number:
            yield Finding(Outcome.UNKNOWN, "roles", f"{number:,}: {what}.")


def _console_authorization() -> Iterator[Finding]:
    about, used = "console", Account.objects.filter(is_active=True).order_by("pk")
    closed = list(used.filter(console_authorization=Account.ConsoleAuthorization.ON)[: MOST_WORST + 1])
    if closed:
        named = ", ".join(map(str, closed[:MOST_WORST])) + (", and more" if len(closed) > MOST_WORST else "")
        sentence = f"Console authorization is on in {named}: a console is given only where `sign-in-tokens` are lifted."
        yield Finding(Outcome.UNKNOWN, about, sentence, "Is it meant?")
    if unknown := used.filter(console_authorization=Account.ConsoleAuthorization.UNKNOWN).count():
        sentence = f"Of {unknown:,} accounts it is not known whether console authorization is on: AWS refuses it then."
        advice = (
            "Their owners should let the revoker's role there call signin:GetConsoleAuthorizationConfiguration; "
            "the preflight of each role says so."
        )
        yield Finding(Outcome.UNKNOWN, about, sentence, advice)
    if not closed and not unknown:
        yield Finding(Outcome.GOOD, about, "No account's console asks for what passes are denied.")


def _addresses() -> Finding:
    """Roles that were entered before their paths were looked at."""
    used = Role.objects.filter(is_active=True, account__is_active=True).select_related("account")
    wrong = used.exclude(path__regex=f"^{arns.PATH}$", name__regex=f"^{arns.NAME}$").order_by("pk")
    few = list(wrong[: MOST_WORST + 1])
    if not few:
        return Finding(Outcome.GOOD, "paths", "Every role's ARN can stand in the policies of its sessions.")
    arns_in_words = ", ".join(role.arn for role in few[:MOST_WORST]) + (", and more" if len(few) > MOST_WORST else "")
    sentence = f"Nothing can be issued for roles whose path has other characters than {arns.IN_WORDS}: {arns_in_words}."
    return Finding(Outcome.BAD, "paths", sentence, "Their owners must make them under other paths; then enter those.")


def _narrowing() -> Finding:
    wrong = list(narrowing_fit.unfit())
    if not wrong and (leaving := list(narrowing_fit.leaving_open())):
        sentences = " ".join(f"“{entitlement}”: {', '.join(open_)}." for entitlement, open_ in leaving[:MOST_WORST])
        sentence = f"It is so long that not all could be denied whose results outlive a pass. {sentences}"
        return Finding(Outcome.BAD, "narrowing", sentence, "Shorten the narrowing, or deny these calls on the role.")
    if not wrong:
        return Finding(Outcome.GOOD, "narrowing", "It fits every role that is given.")
    sentences = " ".join(f"“{entitlement}”: {sentence}" for entitlement, sentence in wrong[:MOST_WORST])
    more = f" And {len(wrong) - MOST_WORST} more." if len(wrong) > MOST_WORST else ""
    advice = "Nobody can ask for those roles under these: shorten the narrowing, or let it give fewer roles."
    return Finding(Outcome.BAD, "narrowing", f"It does not fit every role that is given. {sentences}{more}", advice)


def _each_role() -> Iterator[Finding]:
    for preflight in _in_use().order_by("role__account", "role__name").iterator(chunk_size=1000):
        yield _role(preflight)


def _in_use() -> QuerySet[Preflight]:
    used = Preflight.objects.filter(role__is_active=True, role__account__is_active=True)
    return used.select_related("role__account")


def _role(preflight: Preflight) -> Finding:
    about = f"role {preflight.role.arn}"
    if preflight.minter_at is None:
        return Finding(Outcome.UNKNOWN, about, "It was never looked at.")
    wrong = [preflight.obstacle] if preflight.obstacle else []
    wrong += [
        finding for finding in (*preflight.minter_findings, *preflight.revoker_findings) if _counts(finding, preflight)
    ]
    found = [f"{f['check']}: {': '.join(part for part in (f['code'], f['words']) if part)}" for f in wrong]
    words = f"Looked at {_at(preflight.minter_at)}. {' '.join(found) or 'All is well.'}"
    # What is only to be mended keeps nobody out.
    verdict = Outcome(preflight.usable) if preflight.usable != "good" else Outcome.GOOD
    return Finding(verdict, about, words, wrong[0]["advice"] if wrong else "")


def _counts(finding: dict[str, str], preflight: Preflight) -> bool:
    named = preflight.role.account.allows_source_identity or finding["check"] != "source identity"
    return finding["verdict"] != "good" and finding != preflight.obstacle and named


def _principal(arn: str) -> str:
    """The role of a session, or whoever else it is."""
    return re.sub(r":assumed-role/([^/]+)/.*", r":assumed-role/\1", arn)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
