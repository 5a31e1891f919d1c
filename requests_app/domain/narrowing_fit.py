"""Whether narrowing fits the roles that an entitlement gives now: selectors give others tomorrow.

Whoever asks for one that it does not fit is refused, so nothing fails at night; here it is found before that.
"""

from collections.abc import Iterator

from django.db.models import Max, Q
from django.db.models.functions import Length

from requests_app.domain import narrowing, outliving
from requests_app.domain.models import Entitlement, Role

MOST_ACCOUNTS = 1000
MOST_ENTITLEMENTS = 200
IN_USE = Q(is_active=True, account__is_active=True)


def problem(entitlement: Entitlement, roles: Q) -> str:
    """What is wrong with this narrowing for one of these roles, as a sentence; empty if it fits all of them."""
    statements, arns = entitlement.narrowed_by, entitlement.narrowing_policy_arns
    if not (statements or arns):
        return ""
    for arn in _stand_ins(roles):
        if wrong := narrowing.problem(statements, arns, arn):
            return wrong
    return ""


def left_open(entitlement: Entitlement, roles: Q) -> list[str]:
    """What a session of one of these roles could do because this narrowing leaves no room to deny it, as patterns."""
    statements, arns = entitlement.narrowed_by, entitlement.narrowing_policy_arns
    if not (statements or arns):
        return []
    each = (outliving.left_open(entitlement.lifted, arn, statements, arns) for arn in _stand_ins(roles))
    return max(each, key=len, default=[])


def _stand_ins(roles: Q) -> Iterator[str]:
    # Each account with the length of the longest path and name: one stand-in for all roles of an account.
    accounts = Role.objects.filter(roles).order_by().values_list("account__partition", "account__number")
    longest = accounts.annotate(longest=Max(Length("path") + Length("name"))).order_by("-longest")
    for partition, number, length in longest[:MOST_ACCOUNTS]:
        yield f"arn:{partition}:iam::{number}:role/{'x' * (length - 1)}"


def unfit(among: Q = IN_USE) -> Iterator[tuple[Entitlement, str]]:
    """Entitlements in use whose narrowing does not fit one of these roles that they give, and what is wrong with it."""
    for entitlement, given in _narrowing():
        if wrong := next(filter(None, (problem(entitlement, question & among) for question in given)), ""):
            yield entitlement, wrong


def leaving_open(among: Q = IN_USE) -> Iterator[tuple[Entitlement, list[str]]]:
    """Entitlements in use whose narrowing leaves no room for every deny, and what stays possible by that."""
    for entitlement, given in _narrowing():
        if found := next(filter(None, (left_open(entitlement, question & among) for question in given)), []):
            yield entitlement, found


def _narrowing() -> Iterator[tuple[Entitlement, list[Q]]]:
    wide = Q(narrowing_statements=[], narrowing_policy_arns=[])
    for entitlement in Entitlement.objects.filter(~wide, is_active=True).order_by("pk")[:MOST_ENTITLEMENTS]:
        yield entitlement, [Q(entitlementrole__entitlement=entitlement), *entitlement.selectors.questions()]
