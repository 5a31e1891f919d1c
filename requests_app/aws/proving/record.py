"""What was answered, as Markdown to be pasted into a document. No secret is in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import boto3

from requests_app.aws.proving.asking import Answer, Question, Told


@dataclass(frozen=True, slots=True)
class Asked:
    question: Question
    told: Told

    @property
    def contradicts(self) -> bool:
        """Daypass counts on another answer."""
        wanted, got = self.question.counts_on, self.told.answer
        return wanted is not None and got not in (wanted, Answer.UNTOLD)

    @property
    def untold(self) -> bool:
        return self.told.answer is Answer.UNTOLD


@dataclass(slots=True)
class Record:
    """One run. `at` is AWS's clock; `left_behind`: the role, and why it could not be removed."""

    at: datetime
    account: str
    region: str
    partition: str
    endpoint: str
    federation_url: str
    chained: bool
    actions: tuple[str, ...] = ()
    asked: list[tuple[str, list[Asked]]] = field(default_factory=list)
    seconds: float = 0.0
    left_behind: str = ""

    @property
    def contradictions(self) -> list[Asked]:
        return [asked for asked in self._all() if asked.contradicts]

    @property
    def untold(self) -> list[Asked]:
        return [asked for asked in self._all() if asked.untold]

    def markdown(self, *, show_account: bool = False) -> str:
        text = "\n".join(self._lines())
        return text if show_account else text.replace(self.account, f"…{self.account[-4:]}")

    def _all(self) -> Iterator[Asked]:
        for _, asked in self.asked:
            yield from asked

    def _lines(self) -> Iterator[str]:
        caller = "a role session, so that AWS counts what it assumes as role chaining" if self.chained else "a user"
        yield f"## What AWS answered on {self.at.astimezone(UTC):%Y-%m-%d}"
        yield ""
        if not is_aws(self.endpoint) or not is_aws(self.federation_url):
            yield f"**This was not AWS**, but {self.endpoint} and {self.federation_url}: it says nothing about AWS."
            yield ""
        yield f"- when: {self.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC by AWS's clock, in {self.seconds:.0f} s"
        yield f"- where: account {self.account}, region {self.region}, partition {self.partition}, {self.endpoint}"
        yield f"- as whom: {caller}; boto3 {boto3.__version__}"
        yield f"- harmless calls: {', '.join(self.actions) or 'none'}"
        yield f"- in short: {self._in_short()}"
        number = 0
        for chapter, all_asked in self.asked:
            yield from ("", f"### {chapter}", "")
            for asked in all_asked:
                number += 1
                yield from _entry(number, asked)

    def _in_short(self) -> str:
        answers = list(self._all())
        contrary = len(self.contradictions)
        said = (
            f"**{contrary} CONTRADICT what Daypass rests on**" if contrary else "none contradicts what Daypass rests on"
        )
        untold = len(self.untold)
        return f"{len(answers) - untold} of {len(answers)} questions answered; {said}; {untold} could not be told"


def is_aws(url: str) -> bool:
    return (
        re.match(
            r"https://[a-z0-9.-]+\.(amazonaws\.com|amazonaws\.com\.cn|aws\.amazon\.com|amazonaws-us-gov\.com"
            r"|amazonaws\.cn)(/|$)",
            url,
        )
        is not None
    )


def _entry(number: int, asked: Asked) -> Iterator[str]:
    answer, because = asked.told.answer, ", because" if asked.untold else ""
    mark = ": **this CONTRADICTS what Daypass rests on it**" if asked.contradicts else ""
    yield f"{number}. **{asked.question.words}** {answer}{mark}{because}"
    yield f"   - {'reason' if asked.untold else 'seen'}: {_plain(asked.told.evidence)}"
    counts_on = asked.question.counts_on
    needs = f" Daypass counts on *{counts_on}*." if counts_on else " Either answer will do."
    yield f"   - rests on it: {asked.question.rests}{needs}"


def _plain(text: str) -> str:
    """AWS's words as words, whatever they would mean in Markdown."""
    return re.sub(r"([*_`|<>\[\]])", r"\\\1", " ".join(text.split()))
