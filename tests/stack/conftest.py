"""The whole product, started once, with the demo's people in it."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from requests_app.domain import clock, workflow
from requests_app.domain.models import AccessRequest, Entitlement, Role, User
from sandbox.employee import Employee
from sandbox.stack import Stack


@pytest.fixture(scope="session")
def demo(stack: Stack) -> Stack:
    stack.python("-m", "sandbox.demo")
    return stack


@pytest.fixture
def product(demo: Stack, in_stack: Stack) -> Stack:
    """The running product, with this test's ORM on its database."""
    return in_stack


@pytest.fixture
def sign_in(product: Stack) -> Iterator[Callable[[str], Employee]]:
    signed_in: list[Employee] = []

    def sign_in(username: str) -> Employee:
        signed_in.append(Employee(product.url, username))
        return signed_in[-1]

    yield sign_in
    for one in signed_in:
        one.__exit__()


@pytest.fixture
def make_pass(product: Stack) -> Callable[..., AccessRequest]:
    """An active pass of one of the demo's people, with so many seconds left, made by the verbs."""

    def make_pass(username: str = "alice", role: str = "payments-prod/ReadOnly", left: float = 1800) -> AccessRequest:
        person = User.objects.get(username=username)
        account, _, name = role.partition("/")
        wanted = Role.objects.get(account__name=account, name=name)
        entitlement = Entitlement.objects.reaching(person).for_role(wanted).order_by("pk").first()
        assert entitlement is not None
        duration = timedelta(seconds=max(60, left))
        with clock.moved(timedelta(seconds=left) - duration):
            made = workflow.submit(
                wanted,
                by=person,
                entitlement=entitlement,
                duration=duration,
                justification="a story told by a test",
                ticket="INC-1",
            )
            for _ in made.terms.stages:
                made.refresh_from_db()
                workflow.approve(made, by=workflow.who_can_decide(made)[0])
            made.refresh_from_db()
            workflow.start(made, by=person)
        made.refresh_from_db()
        return made

    return make_pass
