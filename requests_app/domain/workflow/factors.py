"""Second factors: what is done about them by itself, what people do, and the way back for who lost theirs."""

from typing import Any

from django.apps import apps
from django.db import transaction

from requests_app.domain import audit, clock, notices, seeds, texts
from requests_app.domain.audit import Action
from requests_app.domain.deciders import same_hand
from requests_app.domain.errors import Conflict, NotAllowed
from requests_app.domain.models import User
from requests_app.domain.workflow import accounts, own_edits
from requests_app.domain.workflow.accounts import Change
from requests_app.domain.workflow.freezes import of_one_hand, require_operator
from requests_app.domain.workflow.verb import verb

BATCH = 100
# By what the library calls them.
NAMES = {"totp": "authenticator app", "webauthn": "passkey", "recovery_codes": "recovery codes"}

_TOLD = {
    (NAMES["totp"], True): Change.APP_ADDED,
    (NAMES["totp"], False): Change.APP_REMOVED,
    (NAMES["webauthn"], True): Change.PASSKEY_ADDED,
    (NAMES["webauthn"], False): Change.PASSKEY_REMOVED,
    (NAMES["recovery_codes"], True): Change.RECOVERY_CODES,
}


@verb(Action.FACTOR_REMOVED)
def remove(person: User, *, by: User | None, reason: str) -> User:
    """Take all second factors from somebody who lost them: their password alone signs them in until they set up others.

    `by` is an operator with nothing to do with that person, and from then on is no second pair of eyes of theirs
    until a third has confirmed it; None is whoever may run commands on the server. It ends all sign-ins of that
    person. Raises NotAllowed, Invalid without a reason, and Conflict where there is none.
    """
    if by is not None:
        require_operator(by)
    reason = texts.plain_reason(reason, read_by="the person and all operators read")
    person = User.objects.select_for_update(no_key=True).get(pk=person.pk)
    if by is not None and (refusal := why_not_remove(person, by=by)):
        raise refusal
    found = of(person)
    if not found:
        raise Conflict(f"{person} has no second factor.", rule="factor.none")
    names = sorted(set(found.values()))
    # Each of them ends every sign-in, by a trigger.
    apps.get_model("mfa", "Authenticator").objects.filter(user_id=person.pk).delete()
    event = audit.record(
        Action.FACTOR_REMOVED, by=by, beneficiary=person, subject=person.username, factors=names, reason=reason
    )
    accounts.tell_of_operator(person, Change.FACTORS_REMOVED_BY_OPERATOR, by=by or audit.SYSTEM, event=event)
    tell_the_others(person, event, but=by)
    if by is not None:
        own_edits.note(person, by=by, change={"second factor": [", ".join(names), ""]}, is_told=True)
    return person


def why_not_remove(person: User, *, by: User) -> NotAllowed | None:
    """Why this operator cannot remove somebody's second factors; None where they can."""
    if by.pk == person.pk:
        return NotAllowed("These are your own: another operator must remove them.", rule="factor.own")
    return of_one_hand(to="do this") if same_hand(by, person) else None


def of(person: User) -> dict[int, str]:
    """The keys of somebody's factors and codes, and what each is."""
    rows = apps.get_model("mfa", "Authenticator").objects.filter(user_id=person.pk).values_list("pk", "type")
    return {key: NAMES.get(kind, kind) for key, kind in rows.order_by("pk")}


def changed(person: User, before: dict[int, str]) -> dict[int, str]:
    """Record and tell what somebody changed of their own factors, in the transaction that did; returns what is new."""
    now = of(person)
    new = {key: kind for key, kind in now.items() if key not in before}
    gone = [kind for key, kind in before.items() if key not in now]
    kinds = dict.fromkeys([*new.values(), *gone])
    for kind in kinds:
        is_codes, is_new = kind == NAMES["recovery_codes"], kind in new.values()
        added = Action.FACTOR_CODES_MADE if is_codes else Action.FACTOR_ADDED
        event = audit.record(
            added if is_new else Action.FACTOR_REMOVED,
            by=person,
            beneficiary=person,
            subject=person.username,
            factors=[kind],
        )
        # Codes that come and go with a factor are no news.
        if is_codes and len(kinds) > 1:
            continue
        accounts.tell(person, _TOLD.get((kind, is_new), Change.OTHER))
        if person.is_operator:
            tell_the_others(person, event)
    return new


def note_refused(person: User, what: str, *, slowed: bool = False) -> None:
    """Somebody gave the password of this person and then a wrong `what`; or while signed in, to confirm. Or `what` of
    the account itself was in the way."""
    event = audit.record(Action.SIGN_IN_FAILED, by=None, subject=person.username, beneficiary=person, wrong=what)
    if slowed:
        accounts.tell_of_guesses(person, event=event, of_codes=True)


def tell_the_others(person: User, event: int, *, but: User | None = None) -> None:
    """All operators at once, of how this person signs in; about one of them the auditors too."""
    now = clock.now()
    people = User.objects.operators_and_auditors() if person.is_operator else User.objects.operators()
    others = people.exclude(pk__in=[person.pk, but.pk if but else person.pk]).order_by("pk")
    notices.tell(notices.Kind.FACTORS, at=now, to=others, moment=now, event=event)


def seal_old(limit: int = BATCH) -> int:
    """Seal with SECRET_KEY what was stored before seeds were sealed, or sealed with a key before it; how many factors.

    It ends the sign-ins of whose they are, as a new factor does: the database cannot tell that it is the same. What was
    sealed with a key that is not given any more stays as it is.
    """
    authenticators = apps.get_model("mfa", "Authenticator").objects
    sealed, now = 0, {"now": f"{seeds.sealed_now()}%", "before": [f"{one}%" for one in seeds.sealed_before()]}
    for found in authenticators.raw(f"{_OPEN} ORDER BY id", now):
        if sealed == limit:
            break
        with transaction.atomic():
            # Another worker may have sealed or somebody removed it meanwhile; sealing twice would sign them out twice.
            authenticator = authenticators.select_for_update().filter(pk=found.pk).first()
            if authenticator is None or not list(
                authenticators.raw(f"{_OPEN} AND id = %(key)s", now | {"key": found.pk})
            ):
                continue
            try:
                authenticator.data |= {
                    name: _sealed_anew(authenticator.data[name]) for name in _SEEDS & {*authenticator.data}
                }
            except ValueError:
                continue
            authenticator.save(update_fields=["data"])
            sealed += 1
    return sealed


def _sealed_anew(seed: Any) -> Any:
    return [_sealed_anew(one) for one in seed] if isinstance(seed, list) else seeds.seal(seeds.open_sealed(seed))


_SEEDS = {"secret", "seed", "migrated_codes"}
_OPEN = """
SELECT id FROM mfa_authenticator
WHERE EXISTS (
    SELECT FROM (VALUES (data->>'secret'), (data->>'seed'), (data->'migrated_codes'->>0)) AS s (seed)
    WHERE s.seed NOT LIKE %(now)s
      -- What can be opened: sealed with a key that is given, or not by the name of one, or not at all.
      AND (s.seed LIKE ANY(%(before)s::text[]) OR s.seed NOT LIKE 'sealed:%%:%%'))
"""
