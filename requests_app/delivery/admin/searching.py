"""Searching the records by exact names, each through an index: nothing scans millions of rows."""

from collections.abc import Callable

from django.db.models import Q

from requests_app.domain import pasted
from requests_app.domain.models import AccessRequest, User

# None where the word means nothing to it; a list of alternatives where each has an index of its own.
Finder = Callable[[str], Q | list[Q] | None]
MOST_WORDS = 4
HELP = "Exact: a request's code (DP-…) or a link to it, or a person's user name, address or key in CloudTrail"


def ways(words: str, finders: list[Finder]) -> list[Q]:
    """Every word must be found by the first finder that knows it; none at all when nobody knows one of them."""
    found = [Q()]
    for word in words.replace("\0", "").split()[:MOST_WORDS]:
        meant = next((meant for finder in finders if (meant := finder(word)) is not None), None)
        if meant is None:
            return []
        found = [way & question for way in found for question in (meant if isinstance(meant, list) else [meant])]
    return found


def by_code(path: str) -> Finder:
    """`path` leads to the access request's key, such as `access_request`."""

    def find(word: str) -> Q | None:
        if not (code := pasted.code_in(word)):
            return None
        return Q(**{f"{path}__in": list(AccessRequest.objects.filter(code=code).values_list("pk", flat=True))})

    return find


def account_or_role(word: str) -> pasted.Pasted | None:
    """What an account's number or a role's ARN in any of its forms names; None for everything else."""
    named = pasted.understood(word)
    return named if named and named.certain and named.number else None


def by_person(*paths: str, said: str = "") -> Finder:
    """`said` stands before the person, such as `by:`, where one of several is meant."""

    def find(word: str) -> list[Q] | None:
        if not word.startswith(said):
            return None
        word = word.removeprefix(said)
        meant = Q(username=word) | Q(email=word) | Q(source_identity=word)
        person = User.objects.filter(meant).values_list("pk", flat=True).first()
        if person is None:
            return None
        return [Q(**{path: person}) for path in paths]

    return find
