"""Questions on how AWS combines the policies of a session's layers, and what it says of them."""

from requests_app.aws import probe
from requests_app.aws.probe import HARMLESS, End
from requests_app.aws.proving.asking import (
    SCOPING,
    Answer,
    CannotTell,
    Case,
    Told,
    allow,
    deny,
    no,
    question,
    said,
    yes,
)
from requests_app.aws.sts import MintedSession

_NARROWED_IN_THE_PARENT = "What an entitlement narrows stands in the parent's session policy alone where that has room."
_NARROWED_IN_THE_SCOPED = "What an entitlement narrows stands in the scoped layer alone where the parent has no room."


@question(_NARROWED_IN_THE_PARENT, counts_on=Answer.YES)
def a_deny_in_the_parent_holds(case: Case) -> Told:
    """Does a deny that stands only in the parent's session policy hold for the scoped keys?"""
    denied, control = case.actions
    return _is_denied(case, case.scope(case.session(allow(), deny(denied)), allow()), denied, control)


@question(_NARROWED_IN_THE_SCOPED, counts_on=Answer.YES)
def a_deny_in_the_scoped_layer_holds(case: Case) -> Told:
    """Does a deny that stands only in the scoped layer hold?"""
    denied, control = case.actions
    return _is_denied(case, case.scope(case.session(allow()), allow(), deny(denied)), denied, control)


@question(_NARROWED_IN_THE_PARENT, counts_on=Answer.NO)
def an_allow_in_the_scoped_layer_suffices(case: Case) -> Told:
    """Does an allow that stands only in the scoped layer suffice, where the parent's session policy allows less?"""
    more, control = case.actions
    return _is_allowed(case, case.scope(case.session(allow(control, SCOPING)), allow()), more, control)


@question(_NARROWED_IN_THE_SCOPED, counts_on=Answer.NO)
def an_allow_in_the_parent_suffices(case: Case) -> Told:
    """Does an allow that stands only in the parent's session policy suffice, where the scoped layer allows less?"""
    more, control = case.actions
    return _is_allowed(case, case.scope(case.session(allow()), allow(control)), more, control)


@question(
    "That an early end is proved: the preflight looks for a call of which AWS says which kind of policy denied it.",
    counts_on=Answer.YES,
)
def it_says_which_policy_denied(case: Case) -> Told:
    """Does AWS say, of a call that a session policy denies, that it was a session policy?"""
    may, may_not = case.session(allow()), case.session(deny("*"))
    says: list[str] = []
    does_not: list[str] = []
    for action in HARMLESS:
        if probe.try_action(may, action, case.region).end is End.WORKED:
            ends = probe.try_action(may_not, action, case.region).end
            (says if ends is End.DENIED_BY_SESSION else does_not).append(action)
    if not says + does_not:
        raise CannotTell("none of the harmless calls works on this role")
    evidence = f"of {', '.join(says) or 'none'}; not of {', '.join(does_not) or 'any other that worked'}"
    return (yes if says else no)(evidence)


def _is_denied(case: Case, keys: MintedSession, denied: str, control: str) -> Told:
    worked = case.works(keys, control)
    refusal = case.is_denied(keys, denied)
    if refusal is None:
        return no(f"{denied} worked all the same")
    return yes(f"{worked}; of {denied} AWS said {said(refusal)}")


def _is_allowed(case: Case, keys: MintedSession, more: str, control: str) -> Told:
    worked = case.works(keys, control)
    refusal = case.is_denied(keys, more)
    if refusal is None:
        return yes(f"{more} worked, which only one of the two allows")
    return no(f"{worked}; of {more} AWS said {said(refusal)}")
