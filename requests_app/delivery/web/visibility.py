"""Who may see a request: those it is for, those who are or were asked about it, operators and auditors."""

from dataclasses import dataclass
from functools import cached_property

from django.http import Http404

from requests_app.delivery.web.access import PersonRequest
from requests_app.domain import reading
from requests_app.domain.codes import CODE
from requests_app.domain.models import AccessRequest, User


@dataclass(frozen=True)
class Viewer:
    """Someone looking, with what that takes read once, however many requests they look at, and only if it is needed."""

    person: User

    @cached_property
    def groups(self) -> frozenset[int]:
        return frozenset(self.person.memberships.values_list("group_id", flat=True))

    @cached_property
    def sees_all(self) -> bool:
        return self.person.is_operator or self.person.has_perm("requests_app.view_auditevent")

    def may_see(self, access_request: AccessRequest) -> bool:
        if self.person.pk in access_request.asking_side:
            return True
        # Further approvers too: they may have been asked at a stage that is over by now.
        asked = [stage.asked(escalated=True) for stage in access_request.terms.stages]
        return any(self.person.pk in users or self.groups & groups for groups, users in asked) or self.sees_all


def only_asked(person: User, access_request: AccessRequest) -> bool:
    """Whether they see it only because they asked for somebody else: from where and with which keys that person works
    is not theirs to see."""
    return person.pk == access_request.requester_id != access_request.beneficiary_id and not Viewer(person).sees_all


def find_request(request: PersonRequest, code: str) -> AccessRequest:
    """The request with this code; 404 alike for one that is not there and one that is not theirs to see."""
    code = code.upper()
    found = reading.by_code(code) if CODE.fullmatch(code) else None
    if found is None or not _may_see(request.user, found):
        raise Http404("There is no such request, or it is not yours to see.")
    return found


def _may_see(person: User, access_request: AccessRequest) -> bool:
    # An approver who has left the group since may still read what they decided.
    return Viewer(person).may_see(access_request) or access_request.all_decisions.filter(approver=person).exists()
