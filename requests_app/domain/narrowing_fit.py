"""Whether narrowing fits the roles that an entitlement gives now: selectors give others tomorrow.

Whoever asks for one that it does not fit is refused, so nothing fails at night; here it is found before that.
"""

from collections.abc import Iterator

from django.db.models import Max, Q
from django.db.models.functions import Length

from requests_app.domain import narrowing
from requests_app.domain.models import Entitlement, Role

MOST_ACCOUNTS = 1000
MOST_ENTITLEMENTS = 200
IN_USE = Q(is_active=True, account__is_active=True)


def problem(entitlement: Entitlement, roles: Q) -> str:
    """What is wrong with this narrowing for one of these roles, as a sentence; empty if it fits all of them."""
    statements, arns = entitlement.narrowing_statements, entitlement.narrowing_policy_arns
    if not (statements or arns):
        return ""
    # Each account with the length of the longest path and name: one stand-in for all roles of an account.
    accounts = Role.objects.filter(roles).order_by().values_list("account__partition", "account__number")
    longest = accounts.annotate(longest=Max(Length("path") + Length("name"))).order_by("-longest")
    for partition, number, length in longest[:MOST_ACCOUNTS]:
        arn = f"arn:{partition}:iam::{number}:role/{'x' * (length - 1)}"
        if wrong := narrowing.problem(statements, arns, arn):
            return wrong
    return ""


def unfit(among: Q = IN_USE) -> Iterator[tuple[Entitlement, str]]:
    """Entitlements in use whose narrowing does not fit one of these roles that they give, and what is wrong with it."""
    wide = Q(narrowing_statements=[], narrowing_policy_arns=[])
    for entitlement in Entitlement.objects.filter(~wide, is_active=True).order_by("pk")[:MOST_ENTITLEMENTS]:
        given = [Q(entitlementrole__entitlement=entitlement), *entitlement.selectors.questions()]
        if wrong := next(filter(None, (problem(entitlement, question & among) for question in given)), ""):
            yield entitlement, wrong
