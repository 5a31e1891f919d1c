"""What richer terms ask of whoever asks and uses: patterns, how many at once, and by which channel it is given."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Q

from requests_app.domain import clock, facts, workflow
from requests_app.domain.errors import DomainError, Invalid, NotAllowed
from requests_app.domain.models import AccessRequest, Account, Delivery, Entitlement, Role, User
from requests_app.domain.workflow import deliveries
from tests import factories
from tests.domain.expect import refused
from tests.domain.meeting import at_once

MINUTE = timedelta(minutes=1)


# --- patterns -------------------------------------------------------------------------------------


def test_reason_and_ticket_fit_their_patterns(alice: User, read_only: Role, automatic: Entitlement) -> None:
    Entitlement.objects.update(justification_pattern=r".*\bincident\b.*", ticket_pattern=r"(OPS|INC)-[0-9]+")

    def wrong(**values: str) -> set[str]:
        try:
            factories.wish(alice, read_only, automatic, **values)
        except Invalid as refusal:
            return {field for field, sentences in refusal.fields.items() if all(sentences)}
        return set()

    good = {"justification": "for the incident of tonight", "ticket": "OPS-12"}
    assert wrong(**good) == set()
    assert wrong(**good | {"ticket": ""}) == set()  # it is optional here
    assert wrong(**good | {"ticket": "OPS-12; OPS-13"}) == {"ticket"}
    assert wrong(**good | {"ticket": "ops-12"}) == {"ticket"}
    assert wrong(**good | {"justification": "because I would like to"}) == {"justification"}
    assert wrong(justification="because I would like to", ticket="7") == {"justification", "ticket"}
    Entitlement.objects.update(ticket="required")
    assert wrong(**good | {"ticket": ""}) == {"ticket"}
    Entitlement.objects.update(ticket="none")
    assert wrong(**good | {"ticket": "7"}) == set()


def test_a_pattern_that_would_take_for_ever_costs_whoever_asks_nothing(
    alice: User, read_only: Role, automatic: Entitlement
) -> None:
    Entitlement.objects.update(justification_pattern=r"(x+x+)+y")
    begun = time.monotonic()
    with pytest.raises(Invalid):
        factories.wish(alice, read_only, automatic, justification="x" * 2000)
    assert time.monotonic() - begun < 5


# --- how many at once -----------------------------------------------------------------------------


def test_as_many_at_once_as_the_terms_allow(
    alice: User, bob: User, read_only: Role, automatic: Entitlement, administrator: Role, staged: Entitlement
) -> None:
    Entitlement.objects.filter(pk=automatic.pk).update(most_at_once=2)
    factories.wish(alice, administrator, staged)  # of other terms, so it does not count
    first, second = (factories.wish(alice, read_only, automatic, start="at_once") for _ in range(2))
    with refused("terms.at_once", NotAllowed):
        factories.wish(alice, read_only, automatic)
    # Who else asks is not held up.
    factories.wish(factories.person("erin", *automatic.groups.all()), read_only, automatic)
    workflow.give_back(first, by=alice)
    third = factories.wish(alice, read_only, automatic)
    with refused("terms.at_once", NotAllowed):
        factories.wish(alice, read_only, automatic)
    workflow.withdraw(third, by=alice)
    assert second.state == "active"
    assert factories.wish(alice, read_only, automatic)


def test_what_is_over_by_the_clock_does_not_count(alice: User, read_only: Role, automatic: Entitlement) -> None:
    Entitlement.objects.update(most_at_once=1)
    with clock.moved(-31 * MINUTE):
        over = factories.wish(alice, read_only, automatic, start="at_once")
    assert factories.wish(alice, read_only, automatic)
    over.refresh_from_db()
    assert over.state == "active", "no sweep has been"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("on_behalf", [False, True])
def test_asking_in_several_places_at_once_gives_no_more(
    on_behalf: bool, alice: User, read_only: Role, automatic: Entitlement
) -> None:
    Entitlement.objects.update(most_at_once=2)
    desk = factories.group("Service desk")
    automatic.askers.add(desk)
    askers = [factories.person(f"erin{n}", desk) for n in range(3)] if on_behalf else []
    # What others ask for counts when she accepts it.
    offered = [factories.wish(asker, read_only, automatic, beneficiary=alice) for asker in askers]

    def accept(one: AccessRequest) -> Any:
        return lambda: workflow.accept(one, by=alice)

    def ask() -> Any:
        return factories.wish(alice, read_only, automatic)

    acts = [*map(accept, offered), *[ask] * (4 - len(offered))]
    outcomes = at_once(*acts, held=(User._meta.db_table, alice.pk))
    refusals = [outcome.rule for outcome in outcomes if isinstance(outcome, DomainError)]
    assert refusals == ["terms.at_once"] * 2
    wanted = Q(requester=alice) | Q(accepted_at__isnull=False)
    assert AccessRequest.objects.open().filter(wanted, beneficiary=alice).count() == 2


# --- console, keys, or both -----------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "refused_kind"), [("keys", "console"), ("console", "credentials")])
def test_the_other_channel_is_refused_when_it_is_asked_for_and_again_by_the_worker(
    channels: str, refused_kind: str, alice: User, read_only: Role, automatic: Entitlement, aws_clock: object
) -> None:
    Entitlement.objects.update(channels=channels)
    one = factories.wish(alice, read_only, automatic)
    with refused("terms.channel", NotAllowed):
        factories.delivery(one, kind=refused_kind)
    one.refresh_from_db()
    assert one.state == "approved", "what is refused starts nothing"
    assert not Delivery.objects.exists()
    given = factories.delivery(one, kind="console" if channels == "console" else "credentials")
    assert deliveries.claim(given.pk, worker="w") is not None


def test_terms_that_were_for_both_stay_so(
    alice: User, read_only: Role, automatic: Entitlement, aws_clock: object
) -> None:
    one = factories.wish(alice, read_only, automatic)
    Entitlement.objects.update(channels="keys")
    for kind in ("console", "credentials"):
        order = deliveries.claim(factories.delivery(one, kind=kind).pk, worker="w")
        assert order is not None


def test_the_worker_believes_no_row_about_its_channel(
    alice: User, read_only: Role, automatic: Entitlement, aws_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if whoever wrote the row had gone round verb and guard."""
    Entitlement.objects.update(channels="console")
    one = factories.wish(alice, read_only, automatic)
    wish = factories.delivery(one, kind="console")
    load = facts.locked_delivery

    def as_keys(*args: Any, **kwargs: Any) -> facts.LockedDelivery:
        return replace(load(*args, **kwargs), kind="credentials", destination="")

    monkeypatch.setattr(facts, "locked_delivery", as_keys)
    assert deliveries.claim(wish.pk, worker="w") is None
    wish.refresh_from_db()
    assert (wish.state, "console only" in wish.message) == ("refused", True)


def test_a_console_that_is_closed_is_refused_to_whoever_could_have_nothing_else(
    alice: User, read_only: Role, automatic: Entitlement, aws_clock: object
) -> None:
    Account.objects.update(console_authorization="on")
    read_only.refresh_from_db()
    Entitlement.objects.update(channels="console")
    with refused("console.authorization", NotAllowed):
        factories.wish(alice, read_only, automatic)
    automatic.refresh_from_db()
    said = workflow.may_request(read_only, by=alice, entitlement=automatic, beneficiary=alice)
    assert (said.rule, said.message.startswith("These terms give the console only.")) == ("console.authorization", True)

    Entitlement.objects.update(lifted=["sign-in-tokens"])
    automatic.refresh_from_db()
    one = factories.wish(alice, read_only, automatic)
    order = deliveries.claim(factories.delivery(one, kind="console").pk, worker="w")
    assert order is not None


def test_a_console_is_closed_by_what_terms_were_when_somebody_asked(
    alice: User, read_only: Role, automatic: Entitlement, aws_clock: object
) -> None:
    Account.objects.update(console_authorization="on")
    one = factories.wish(alice, read_only, automatic)
    Entitlement.objects.update(lifted=["sign-in-tokens"])

    with refused("console.authorization", NotAllowed):
        factories.delivery(one, kind="console")

    assert deliveries.claim(factories.delivery(one).pk, worker="w") is not None
