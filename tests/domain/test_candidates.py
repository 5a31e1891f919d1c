"""What the sweeps look at closely: whatever the exact questions find is among it, and what is surely fine is not."""

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from requests_app.domain import clock, workflow
from requests_app.domain.models import (
    AccessRequest,
    Edit,
    Entitlement,
    Extension,
    Membership,
    OrganisationalUnit,
    Role,
    RoleSelector,
    Stage,
    User,
)
from requests_app.domain.workflow import candidates, sweeps
from tests import factories

pytestmark = pytest.mark.django_db


class Landscape:
    """Requests and extensions by two people, under terms of one and of two stages, by name and by a selector."""

    def __init__(self) -> None:
        self.engineers, self.others = factories.group("Engineers"), factories.group("Others")
        self.leads, self.security = factories.group("Leads"), factories.group("Security")
        self.asking = [factories.person(f"asks{n}", self.engineers) for n in range(2)]
        self.deciding = [factories.person(f"decides{n}", self.leads, self.security) for n in range(6)]
        self.olivia = factories.person("olivia", is_operator=True)
        self.people = [*self.asking, *self.deciding, self.olivia]
        self.account = factories.account(unit=OrganisationalUnit.objects.create(name="Root"))
        self.roles = [factories.role(in_account=self.account) for _ in range(2)]
        terms: dict[str, Any] = {"extensions_most": 1, "extension_total_seconds": 7200}
        by_name = factories.entitlement(
            self.roles[0], groups=[self.engineers], stages=[([self.leads, self.deciding[0]], 1)], **terms
        )
        selected = factories.entitlement(
            groups=[self.engineers], users=self.asking[:1], stages=[(self.leads, 2), (self.security, 1)], **terms
        )
        RoleSelector.objects.create(entitlement=selected, role_name=self.roles[1].name[:-1] + "*")
        later = selected.stages.get(position=2)
        Stage.objects.filter(pk=later.pk).update(escalate_seconds=60)
        later.more_users.add(self.olivia)
        self.terms = [by_name, selected]
        for person in self.asking:
            for role, terms_of_it in zip(self.roles, self.terms, strict=True):
                factories.wish(person, role, terms_of_it)
        begun = factories.wish(self.asking[0], self.roles[0], by_name)
        workflow.approve(begun, by=self.deciding[1])
        begun = workflow.start(AccessRequest.objects.get(pk=begun.pk), by=self.asking[0])
        workflow.extend(begun, by=self.asking[0], duration=timedelta(minutes=30), justification="it goes on and on")
        one = AccessRequest.objects.filter(entitlement=selected, state="pending").latest("pk")
        workflow.approve(one, by=self.deciding[2])

    def happens(self, chance: random.Random) -> None:
        """Something that the exact questions look at."""
        person, other = chance.choice(self.people), chance.choice(self.people)
        group = chance.choice([self.engineers, self.leads, self.security, self.others])
        terms, role, now = chance.choice(self.terms), chance.choice(self.roles), clock.now()
        decide = [one.pk for one in self.deciding]
        edited: list[dict[str, Any]] = [
            {"group": group, "member": other}, {"entitlement": terms}, {"role": role},
            {"account": self.account}, {"unit": self.account.unit},
        ]  # fmt: skip
        acts: list[Callable[[], object]] = [
            lambda: Membership.objects.filter(user=person, group=group).delete(),
            lambda: Membership.objects.filter(group=group).delete(),
            lambda: User.objects.filter(pk__in=chance.sample(decide, 5)).update(deactivated_at=now),
            lambda: User.objects.filter(pk__in=decide).update(deactivated_at=now),
            lambda: Edit.objects.bulk_create([Edit(editor_id=pk, role=role, made_at=now) for pk in decide]),
            lambda: Membership.objects.get_or_create(user=person, group=group),
            lambda: User.objects.filter(pk=person.pk).update(deactivated_at=now),
            lambda: Edit.objects.create(editor=person, made_at=now, **chance.choice(edited)),
            lambda: Edit.objects.filter(editor=other).update(confirmed_at=now, confirmed_by=self.olivia),
            lambda: terms.excluded_groups.add(group),
            lambda: terms.excluded_users.add(person),
            lambda: terms.groups.remove(group),
            lambda: terms.users.remove(person),
            lambda: terms.roles.clear(),
            lambda: RoleSelector.objects.update(role_name="Nothing*"),
            lambda: Entitlement.objects.filter(pk=terms.pk).update(is_active=False),
            lambda: Role.objects.filter(pk=role.pk).update(is_active=False),
        ]
        with suppress(IntegrityError), transaction.atomic():  # some of it the database refuses
            chance.choice(acts)()


def said_of(what: str, table: str, now: Any) -> set[int]:
    """The keys of which the exact question of the database is answered with yes."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM requests_app_{table} WHERE {what}", {"now": now})
        return {key for (key,) in cursor.fetchall()}


def test_whatever_the_exact_questions_find_is_looked_at() -> None:
    land, found = Landscape(), [0, 0, 0]
    for seed in range(150):
        chance = random.Random(seed)
        with transaction.atomic():
            for _ in range(chance.randint(1, 5)):
                land.happens(chance)
            now = clock.now()
            exact = [
                said_of("requests_app_lacks_people(id, NULL, %(now)s)", "accessrequest", now),
                said_of("requests_app_lacks_people(access_request_id, id, %(now)s)", "extension", now),
                set(AccessRequest.objects.open_at(now).of_no_use().values_list("pk", flat=True)),
            ]
            looked_at = [
                set(candidates.for_want_of_people(now)),
                set(candidates.for_want_of_people_for_more(now)),
                set(candidates.of_no_use(now)),
            ]
            for number, (some, all_) in enumerate(zip(exact, looked_at, strict=True)):
                assert some <= all_, (seed, number)
                found[number] += bool(some)
            transaction.set_rollback(True)
    assert min(found) >= 5  # each was put to the test


def test_what_has_people_to_spare_and_is_of_use_is_not_looked_at() -> None:
    Landscape()
    now = clock.now()

    assert AccessRequest.objects.filter(state="pending").count() == 4
    assert Extension.objects.filter(state="pending").count() == 1
    assert candidates.for_want_of_people(now) == candidates.for_want_of_people_for_more(now) == []
    assert candidates.of_no_use(now) == []
    assert sweeps.tell_stuck() == sweeps.tell_of_no_use() == 0
