"""What terms say, in the words that those who ask under them read."""

from collections.abc import Iterator
from datetime import timedelta

from requests_app.domain.durations import in_words
from requests_app.domain.liftable import Liftable
from requests_app.domain.terms import Terms
from requests_app.templatetags.daypass import agreement, limits, particulars, span


def said(terms: Terms) -> list[str]:
    """Sentence by sentence; what differs between two of these is what changed for whoever asks."""
    return [
        ", ".join([f"Up to {span(terms.longest_seconds)}", agreement(terms), *particulars(terms)]) + ".",
        *_deciding(terms),
        *_starting(terms),
        *_saying(terms),
        *_besides(terms),
    ]


def _deciding(terms: Terms) -> Iterator[str]:
    for stage in terms.stages:
        if stage.escalate_seconds is not None and stage.more_asks:
            yield (
                f"At stage {stage.position}, {stage.more_asks} may decide too "
                f"after {_length(stage.escalate_seconds)} without an agreement."
            )
    if terms.stages:
        yield f"Whatever nobody decides within {_length(terms.pending_seconds)} lapses."


def _starting(terms: Terms) -> Iterator[str]:
    yield f"The form offers {_length(terms.default_seconds)} first."
    yield f"An approved pass must be started within {_length(terms.start_within_seconds)}."
    if terms.schedule_ahead_seconds:
        yield f"A start may be scheduled up to {_length(terms.schedule_ahead_seconds)} ahead."
    if terms.may_be_extended:
        times = "once" if terms.extensions_most == 1 else f"up to {terms.extensions_most} times"
        yield f"A pass may be extended {times}, to {_length(terms.extension_total_seconds)} in all."


def _saying(terms: Terms) -> Iterator[str]:
    fits = f" that fits {terms.justification_pattern}" if terms.justification_pattern else ""
    yield f"A reason of at least {terms.justification_min} characters is needed{fits}."
    if terms.ticket != "none":
        needed = "must" if terms.ticket == "required" else "may"
        fits = f"; it must fit {terms.ticket_pattern}" if terms.ticket_pattern else ""
        yield f"A ticket {needed} be given{fits}."


def _besides(terms: Terms) -> Iterator[str]:
    if terms.most_at_once is not None:
        yield f"One person may have {terms.most_at_once} of these open at once."
    yield from limits(terms)
    for name in terms.lifted:
        if name in set(Liftable):
            yield Liftable(name).description


def _length(seconds: int) -> str:
    return in_words(timedelta(seconds=seconds))
