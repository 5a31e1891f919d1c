"""Questions to the console's sign-in. Nobody is given a link, and no browser opens one."""

import time
from dataclasses import replace
from datetime import timedelta

from requests_app.aws import console
from requests_app.aws.console import ConsoleLink
from requests_app.aws.errors import Refused
from requests_app.aws.proving.asking import Answer, CannotTell, Case, Told, allow, no, question, said, yes
from requests_app.aws.sts import MintedSession
from requests_app.domain import partitions
from requests_app.domain.secret import Secret

_LIFE = 6  # seconds


@question(
    "Every console link: keys are sent to the sign-in endpoint in a form, never in an address.", counts_on=Answer.YES
)
def it_takes_a_form(case: Case) -> Told:
    """Does the sign-in endpoint take keys by POST, and without a SessionDuration?"""
    session = case.session(allow())
    characters = len(session.session_token.reveal())
    try:
        _link(case, session)
    except Refused as refused:
        return no(f"it said {said(refused)}")
    return yes(f"it gave a sign-in token for keys with a session token of {characters:,} characters")


@question(
    "Where it takes them, a console session ends with the keys; where not, Daypass makes links in the older way. The "
    "preflight tries it for each partition."
)
def it_takes_scoped_keys(case: Case) -> Told:
    """Does the console's sign-in take scoped keys?"""
    parent = case.session(allow())
    scoped = case.scope(parent, allow())
    _link(case, parent)  # the control: if even these are refused, that tells nothing of scoped ones
    try:
        _link(case, scoped)
    except Refused as refused:
        return no(f"it took the parent's keys; of the scoped ones it said {said(refused)}")
    return yes("it gave a sign-in token for the parent's keys and for the scoped ones")


@question(
    "Every console link: the tab opens it by a form, so the token is in no address or history.", counts_on=Answer.YES
)
def a_link_opens_by_a_form(case: Case) -> Told:
    """Does the sign-in endpoint open the console by POST of the sign-in token?"""
    link = _link(case, case.session(allow()))
    token = link.fields["SigninToken"]
    assert isinstance(token, Secret)  # noqa: S101 - as `console.sign_in` makes it
    wrong = replace(link, fields={**link.fields, "SigninToken": Secret(token.reveal()[::-1])})
    refused, opened = console.follow(wrong), console.follow(link)
    evidence = f"with a good token it answered {opened}, with a wrong one {refused}"
    if opened < 400 <= refused:
        return yes(evidence)
    if refused < 400:
        raise CannotTell(f"it answers a wrong token alike: {evidence}")
    return no(evidence)


@question(
    "Nothing: a console session ends with its keys, whenever it was begun, and the session policy denies beneath."
)
def a_link_opens_after_the_keys_ended(case: Case) -> Told:
    """Does the sign-in endpoint still open a link, within its 15 minutes, once its scoped keys have expired?"""
    keys = case.scope(case.session(allow()), allow(), seconds=_LIFE)
    link = _link(case, keys)
    before = console.follow(link)
    if before >= 400:
        raise CannotTell(f"it did not open it before either, but answered {before}")
    again = _link(case, keys)
    while case.now() < keys.expires_at + timedelta(seconds=2):
        time.sleep(1)
    status = console.follow(again)
    return (yes if status < 400 else no)(f"while they lived it answered {before}, and afterwards {status}")


def _link(case: Case, session: MintedSession) -> ConsoleLink:
    home = partitions.console_home(case.partition)
    return console.sign_in(session, federation_url=case.federation_url, destination=home, issuer=home)
