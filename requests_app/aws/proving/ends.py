"""Questions on ending sessions early."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from requests_app.aws import deny_policy
from requests_app.aws.deny_policy import Entry
from requests_app.aws.probe import End, Reply
from requests_app.aws.proving.asking import Answer, CannotTell, Case, Told, allow, no, question, said, yes
from requests_app.domain import codes

_LONGEST_WAIT = 180.0  # seconds: AWS speaks of some minutes
_PAUSE = 0.5
_IN_A_ROW = 3


@question(
    "*I'm done* and *Revoke*: the deny on the role, by `aws:userid`, is what ends sessions early, however issued.",
    counts_on=Answer.YES,
)
def a_deny_by_userid_reaches_scoped_keys(case: Case) -> Told:
    """Does a deny by `aws:userid` on the role, as Daypass writes it, reach scoped keys, and after how long?"""
    code, action = codes.new_code(), case.actions[0]
    parent = case.session(allow(), name=f"{code}-prove")
    sessions = {"scoped keys": case.scope(parent, allow()), "the keys of their parent": parent}
    for session in sessions.values():
        case.works(session, action)
    bystander = case.scope(case.session(allow()), allow())
    document = deny_policy.document(installation="prove", generation=1, entries=[Entry(code)])
    case.roles.put(case.role_name, "ended", document)
    began = time.monotonic()
    watched = [_Watched(name, case.calls(session, action)[action]) for name, session in sessions.items()]
    while time.monotonic() - began < _LONGEST_WAIT and not all(each.has_ended() for each in watched):
        for each in watched:
            each.look(began)
        time.sleep(_PAUSE)
    evidence = f"{'; '.join(map(str, watched))}; of another session {case.works(bystander, action)}"
    scoped = watched[0]
    if not scoped.has_ended() and not scoped.works():
        raise CannotTell(evidence)
    return (yes if scoped.has_ended() else no)(evidence)


@dataclass(slots=True)
class _Watched:
    """A session that is to be refused: since when it was, some times in a row, for AWS's servers may differ a while."""

    name: str
    call: Callable[[], Reply]
    refusals: int = 0
    after: float = 0.0
    last: Reply | None = None

    def look(self, began: float) -> None:
        if self.has_ended():
            return
        self.last = self.call()
        refused = self.last.end is End.DENIED_BY_ROLE
        if refused and not self.refusals:
            self.after = time.monotonic() - began
        self.refusals = self.refusals + 1 if refused else 0

    def has_ended(self) -> bool:
        return self.refusals >= _IN_A_ROW

    def works(self) -> bool:
        return self.last is not None and self.last.end is End.WORKED

    def __str__(self) -> str:
        if self.has_ended() and self.last:
            return f"{self.name} were refused {self.after:.0f} s after AWS had taken the write: {said(self.last)}"
        last = said(self.last) if self.last and not self.works() else "worked"
        return f"{self.name}, after {_LONGEST_WAIT:.0f} s: {last}"
