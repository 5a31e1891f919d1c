"""Who is who: making people and operators, and ending their part."""

from django.core.exceptions import ValidationError
from django.db import transaction

from requests_app.domain import audit, clock, hours, jobs
from requests_app.domain.audit import Action
from requests_app.domain.errors import Invalid, NotAllowed
from requests_app.domain.models import User
from requests_app.domain.workflow import accounts, operators, own_edits
from requests_app.domain.workflow.freezes import require_operator
from requests_app.domain.workflow.verb import verb


def make_person(email: str, *, username: str, name: str = "", password: str, by: User | None = None) -> User:
    """Someone new. Raises Invalid if the address or the user name is not theirs to have."""
    person = new_person(email, username=username, name=name)
    person.set_password(password)
    with transaction.atomic(durable=True):
        person.save()
        audit.record(Action.PERSON_MADE, by=by, beneficiary=person, subject=person.email)
    return person


def new_person(email: str, *, username: str, name: str = "") -> User:
    """As whom `make_person` would store them, with nothing stored. Raises Invalid as it does."""
    person = User(email=email, username=username, name=name.strip())
    try:
        person.full_clean(exclude=["password"])
    except ValidationError as wrong:
        raise Invalid({field: list(sentences) for field, sentences in wrong.message_dict.items()}) from wrong
    return person


def make_operator(email: str) -> User:
    """Let the person with this address run Daypass: the admin and every operator's act. All operators and auditors
    hear of it.

    Only as the owner of the database: it is placed by nobody, so PostgreSQL takes nobody else's word for it. Raises
    NotAllowed when nobody active has the address.
    """
    with transaction.atomic(durable=True):
        person = User.objects.select_for_update(no_key=True).filter(email=email).first()
        if person is None:
            raise NotAllowed(f"Nobody has the address {email}. Make the person first.", rule="operator.unknown")
        if person.deactivated_at is not None:
            raise NotAllowed(
                f"{person} is deactivated. An operator brings them back in the admin, under People.",
                rule="operator.deactivated",
            )
        person.is_staff = person.is_operator = True
        person.save(update_fields=["is_staff", "is_operator"])
        operators.made(person)
    return person


def choose_time_zone(person: User, zone: str) -> User:
    """By whose clocks somebody reads, as they say themselves. Raises Invalid for a zone that nobody knows."""
    try:
        hours.zone(zone)
    except ValueError as unknown:
        raise Invalid({"time_zone": [str(unknown)]}) from unknown
    with transaction.atomic(durable=True):
        person = User.objects.select_for_update(no_key=True).get(pk=person.pk)
        before, person.time_zone, person.time_zone_chosen = person.time_zone, zone, True
        person.save(update_fields=["time_zone", "time_zone_chosen"])
        if zone != before:
            changes = {"time_zone": [before, zone]}
            audit.record(Action.PERSON_CHANGED, by=person, beneficiary=person, subject=str(person), changes=changes)
    return person


@verb(Action.SIGN_INS_ENDED)
def end_sign_ins(person: User, *, by: User) -> User:
    """Sign somebody out everywhere: oneself, or as an operator. They can sign in again.

    Raises NotAllowed to whoever is neither.
    """
    if by.pk != person.pk:
        require_operator(by)
    person = User.objects.select_for_update(no_key=True).get(pk=person.pk)
    _end_sign_ins(person, by=by)
    if by.pk != person.pk:
        accounts.tell_of_operator(person, accounts.Change.SIGNED_OUT_BY_OPERATOR, by=by)
    return person


def end_other_sign_ins(person: User) -> None:
    """Sign oneself out everywhere, in the caller's transaction, which holds the person's row and keeps one."""
    _end_sign_ins(person, by=person)


def _end_sign_ins(person: User, *, by: User) -> None:
    # Which ends each of them for good, those too that no list has.
    person.sign_in_epoch += 1
    person.save(update_fields=["sign_in_epoch"])
    audit.record(Action.SIGN_INS_ENDED, by=by, beneficiary=person, subject=person.username)


def deactivate(person: User, *, by: User | None) -> User:
    """End someone's part. They are kept: what they did stays theirs."""
    with transaction.atomic(durable=True):
        # No key: two who deactivate each other would otherwise wait for one another's audit lines.
        person = User.objects.select_for_update(no_key=True).get(pk=person.pk)
        if person.deactivated_at is None:
            person.deactivated_at = clock.now()
            person.save(update_fields=["deactivated_at"])
            audit.record(Action.PERSON_DEACTIVATED, by=by, beneficiary=person, subject=person.email)
            if by is not None and by.pk != person.pk:
                change = {"deactivated_at": [None, person.deactivated_at.isoformat()]}
                own_edits.note(person, by=by, change=change)
            if person.is_operator:
                operators.tell_auditors_of_only_one(at=person.deactivated_at)
        # Their passes end in transactions of their own, by a sweep: one that fails holds up none of the rest.
        jobs.nudge("default.sweep_requests")
    return person
