"""The ways Daypass says no. Every one carries a message fit for the person and the rule that refused."""


class DomainError(Exception):
    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.message = message
        self.rule = rule
        # Its event, once it is recorded.
        self.event: int | None = None


class NotAllowed(DomainError):
    """This person may not do this."""


class Conflict(DomainError):
    """What the person saw is no longer so: someone or the clock was faster."""


class TooMany(DomainError):
    """A limit was reached; the message says when to try again."""


class Unavailable(DomainError):
    """Something that Daypass itself needs for this does not work; the message says when to try again."""


class Invalid(DomainError):
    """Something typed is wrong: `fields` maps a form field to its sentences."""

    def __init__(self, fields: dict[str, list[str]], *, rule: str = "form.invalid") -> None:
        super().__init__(" ".join(sentence for sentences in fields.values() for sentence in sentences), rule=rule)
        self.fields = fields
