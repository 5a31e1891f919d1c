"""Mail to one person about how they sign in."""

from requests_app.background.mail.batch import Batch
from requests_app.background.mail.wording import Facts, Wording, Words
from requests_app.domain import clock, password_links
from requests_app.domain.durations import at_in_words
from requests_app.domain.models import Notice
from requests_app.domain.notices import Kind
from requests_app.domain.workflow.accounts import Change

# What somebody reads of each change, and more about it.
_TOLD = {
    Change.PASSWORD: ("Your password was changed", ""),
    Change.FIRST_PASSWORD: ("Your first password was chosen", ""),
    Change.APP_ADDED: ("An authenticator app was set up as your second factor", ""),
    Change.APP_REMOVED: ("Your authenticator app was turned off as your second factor", ""),
    Change.PASSKEY_ADDED: ("A passkey was added to your second factors", ""),
    Change.PASSKEY_REMOVED: ("A passkey was removed from your second factors", ""),
    Change.RECOVERY_CODES: ("New recovery codes were made for you", "The ones before work no more."),
}
_OTHER = ("How you sign in was changed", "")


def _account(notice: Notice, batch: Batch) -> Words:
    detail = notice.detail
    if detail.get("change") == Change.PASSWORD_BY_OPERATOR:
        told, more = f"{detail['by']} has set a password for you", ""
    elif detail.get("change") == Change.SIGNED_OUT_BY_OPERATOR:
        told, more = f"{detail['by']} signed you out everywhere", "Sign in again to go on."
    elif detail.get("change") == Change.FACTORS_REMOVED_BY_OPERATOR:
        told = f"{detail['by']} removed your second factors and signed you out everywhere"
        more = "Sign in with your password, and set up another."
    elif detail.get("change") == Change.ADDRESS:
        told = f"{detail.get('by', 'You')} gave your account another address"
        more = "It is this one." if "to" not in detail else "Nothing more comes to this one."
        more += " You are signed out everywhere."
    else:
        told, more = _TOLD.get(detail.get("change", Change.OTHER), _OTHER)
    where = {"ip": detail.get("ip", ""), "browser": detail.get("browser", "")}
    subject = f"{told} (Daypass)" if not notice.about else ""
    reason = notice.event.detail.get("reason", "") if notice.event else ""
    words = {"subject": subject, "told": told, "more": more, "reason": reason, **where}
    return words | {"facts": _facts(notice, with_time=True)}


def _invited(notice: Notice, batch: Batch) -> Words:
    by = notice.event.actor_name if notice.event else ""
    subject = "Your account in Daypass: choose a password"
    return {"subject": subject, "by": by, "until": _link_works_until(notice), "facts": _facts(notice, with_time=False)}


def _new_password(notice: Notice, batch: Batch) -> Words:
    # Not with which browser: whoever asks could write to them in it.
    ip = notice.event.ip if notice.event else ""
    subject = "Choose a new password for Daypass"
    return {"subject": subject, "ip": ip, "until": _link_works_until(notice), "facts": _facts(notice, with_time=True)}


def _guessed(notice: Notice, batch: Batch) -> Words:
    ip = notice.event.ip if notice.event else ""
    subject = "Somebody tries to sign in as you (Daypass)" if not notice.about else ""
    of_codes = notice.detail.get("of") == "codes"
    return {"subject": subject, "ip": ip, "of_codes": of_codes, "facts": _facts(notice, with_time=True)}


OF = {
    Kind.ACCOUNT: Wording(_account, ("event",)),
    Kind.INVITED: Wording(_invited, ("event",)),
    Kind.NEW_PASSWORD: Wording(_new_password, ("event",)),
    Kind.GUESSED: Wording(_guessed, ("event",)),
}


def _facts(notice: Notice, *, with_time: bool) -> Facts:
    person = notice.recipient
    return [
        *([("Name", person.name)] if person.name else []),
        ("User name", person.username),
        *([("When", at_in_words(notice.created_at, person.zone))] if with_time else []),
    ]


def _link_works_until(notice: Notice) -> str:
    until = clock.now() + password_links.LASTS[Kind(notice.kind)]
    return at_in_words(until, notice.recipient.zone)
