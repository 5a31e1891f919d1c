"""How people come in: invitations, new passwords, and word to them when how they sign in has changed."""

from collections.abc import Iterable
from enum import StrEnum

from django.contrib.auth.hashers import make_password
from django.db import transaction

from requests_app.domain import audit, browsers, clock, notices, password_links
from requests_app.domain.audit import Action
from requests_app.domain.errors import Conflict
from requests_app.domain.models import Notice, User


class Change(StrEnum):
    """Of how somebody signs in, that they are told of."""

    PASSWORD = "password"  # noqa: S105
    FIRST_PASSWORD = "first_password"  # noqa: S105
    PASSWORD_BY_OPERATOR = "password_by_operator"  # noqa: S105
    APP_ADDED = "app_added"
    APP_REMOVED = "app_removed"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"
    RECOVERY_CODES = "recovery_codes"
    FACTORS_REMOVED_BY_OPERATOR = "factors_removed_by_operator"
    SIGNED_OUT_BY_OPERATOR = "signed_out_by_operator"
    ADDRESS = "address"
    OTHER = "other"


_INVITATIONS = Notice.objects.filter(kind=Notice.Kind.INVITED, sent_at=None, gave_up_at=None)


def invite(people: Iterable[User], *, by: User) -> list[User]:
    """Send each of these who never signed in a link to choose a password; returns to whom it goes.

    Left out is who is deactivated, who has been here, and whose last invitation is still to be sent.
    """
    with transaction.atomic():
        now = clock.now()
        waiting = _INVITATIONS.values("recipient")
        invited = list(
            User.objects.select_for_update(no_key=True)
            .filter(pk__in=[one.pk for one in people], deactivated_at=None, last_login=None)
            .exclude(pk__in=waiting)
            .order_by("pk")
        )
        for one in invited:
            event = audit.record(Action.PERSON_INVITED, by=by, beneficiary=one, subject=one.username)
            notices.tell(Notice.Kind.INVITED, at=now, to=[one], moment=now, event=event)
    return invited


def invitation_waits(person: User) -> bool:
    """Whether their last invitation is still to be sent."""
    return _INVITATIONS.filter(recipient=person).exists()


def ask_for_new_password(address: str) -> None:
    """Send whoever has this address a link to choose another password, unless they were sent enough of them lately.

    Anybody may ask, for anybody. So it writes nothing that stands in that person's way, and does the same, statement
    for statement, whether somebody has the address, nobody has, or somebody who is deactivated.
    """
    with transaction.atomic(durable=True):
        now = clock.now()
        person = User.objects.filter(email=address, deactivated_at=None).first()
        subject = person.username if person else "an unknown address"
        event = audit.record(Action.NEW_PASSWORD_ASKED, by=None, subject=subject)
        notices.send_link(person, event=event, at=now)


def set_password(person: User, password: str) -> None:
    """Their own new password, of which they get word."""
    person.set_password(password)  # takes its time, and so stands outside
    with transaction.atomic():
        _record_password(person, Change.PASSWORD)


def use_link(key: str, password: str) -> User:
    """The new password of whoever this link is for. Raises Conflict when it does not work any more."""
    encoded = make_password(password)
    with transaction.atomic():
        found = password_links.person_of(key)
        if found is not None:  # of two who use it at once, the second finds another password
            User.objects.select_for_update(no_key=True).get(pk=found.pk)
            found = password_links.person_of(key)
        if found is None:
            raise Conflict("This link does not work any more.", rule="password.old_link")
        first = not found.has_usable_password()
        found.password = encoded
        _record_password(found, Change.FIRST_PASSWORD if first else Change.PASSWORD)
    return found


def tell(person: User, change: Change) -> None:
    """Queue a mail to somebody: how they sign in has changed, and from where that was done."""
    origin = audit.origin()
    # Not what the browser calls itself: whoever does it could write to them in that.
    from_where = {"ip": origin.ip, "browser": browsers.in_words(origin.user_agent)} if origin.ip else {}
    _tell(person, {"change": str(change), **from_where})


def tell_of_operator(person: User, change: Change, *, by: User | str, event: int | None = None) -> None:
    """The same of what an operator did to their sign-in; from where is for the record alone."""
    _tell(person, {"change": str(change), "by": str(by)}, event=event)


def tell_of_address(person: User, *, before: str, by: User) -> None:
    """That mail goes to another address from now on: to the one of before too, where whoever it was reads it."""
    detail = {"change": str(Change.ADDRESS)} | ({} if by.pk == person.pk else {"by": str(by)})
    for more in ({"to": before}, {}):
        _tell(person, detail | more)


def tell_of_guesses(person: User, *, event: int, of_codes: bool = False) -> None:
    """Once a day: somebody types wrong passwords for them, and goes on; or, knowing the password, wrong codes.

    `event`: the last of these in the record.
    """
    detail = {"of": "codes"} if of_codes else {}
    now = clock.now()
    notices.tell(Notice.Kind.GUESSED, at=now, to=[person], moment=notices.day_of(now), event=event, detail=detail)


def _tell(person: User, detail: dict[str, str], *, event: int | None = None) -> None:
    now = clock.now()
    about: notices.About = {"moment": now, "detail": detail}
    if event is not None:
        about["event"] = event
    notices.tell(Notice.Kind.ACCOUNT, at=now, to=[person], **about)


def _record_password(person: User, change: Change) -> None:
    person.save(update_fields=["password"])
    audit.record(Action.NEW_PASSWORD_SET, by=person, beneficiary=person, subject=person.username)
    tell(person, change)
