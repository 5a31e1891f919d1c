"""What is posted: what somebody would type into the page's own form, and what nobody should."""

import json
import re
from collections.abc import Callable

from requests_app.domain.models import AccessRequest, Role
from requests_app.domain.transitions import State
from tests import factories
from tests.admin.filling import Form
from tests.walk import landscapes as land
from tests.walk.addresses import Address
from tests.walk.visiting import Fields, Walker

DECIDERS = frozenset({land.APPROVER, land.FURTHER, land.OWNER})
ASKING = frozenset({land.REQUESTER, land.BENEFICIARY})
OPERATORS = frozenset({land.OPERATOR})
EVERYBODY = frozenset(land.VISITORS)
# Nobody changes anything by it: it only answers.
NOBODY: frozenset[str] = frozenset()

# Who of the landscapes' people may change something by posting to an address. All others change nothing, whatever they
# post: at most is it recorded that they were refused. Pages of the admin are operators' and stand here by prefix.
WHO_MAY: dict[str, frozenset[str]] = {
    "request_access": ASKING,
    "approve": DECIDERS,
    "deny": DECIDERS,
    "approve_more": DECIDERS,
    "deny_more": DECIDERS,
    "accept": ASKING,
    "withdraw": ASKING,
    "withdraw_more": ASKING,
    "start": ASKING,
    "give_back": ASKING,
    "extend": ASKING,
    "remind": ASKING,
    "revoke": DECIDERS | OPERATORS,
    "decide_several": DECIDERS,
    "deliveries": ASKING,
    "envelope": NOBODY,  # only to the sign-in that asked, and the landscapes' asked elsewhere
    "stop_person": OPERATORS,
    "stop_role": OPERATORS,
    "stop_account": OPERATORS,
    "stop_everything": OPERATORS,
    "lift": OPERATORS,
    "found_passes": OPERATORS,
    "admin:": OPERATORS,
}
# Signing in and out, passwords and factors: whoever they are, it is about themselves.
ABOUT_ONESELF = (
    *("account_", "mfa_", "usersessions_", "admin:login", "admin:logout", "admin:password_change"),
    *("choose_password", "my_settings"),
)
OWN_TABLES = frozenset(
    {
        *("requests_app_user", "requests_app_auditevent", "requests_app_notice", "requests_app_attempts"),
        "mfa_authenticator",
    }
)

# What is typed into a field of this name where the page leaves it empty.
TYPED = {
    "reason": "it is over",
    "justification": "replay the failed settlement batch",
    "comment": "well then",
    "ticket": "INC-2291",
    "duration": "5",
    "password": land.PASSWORD,
    "login": "approver",
    "email": "requester@example.com",
}


def who_may(address: Address) -> frozenset[str] | None:
    """None where nobody has said so yet."""
    if address.name in WHO_MAY:
        return WHO_MAY[address.name]
    return WHO_MAY["admin:"] if address.in_admin else None


def is_about_oneself(address: Address) -> bool:
    return address.name.startswith(ABOUT_ONESELF)


def good(walker: Walker, who: str, address: Address, at: str) -> Fields:
    """What this person would post there: the page's own form, filled in."""
    if address.name in _GOOD:
        return _GOOD[address.name](walker, who)
    return _form(walker, who, at)


def _form(walker: Walker, who: str, at: str) -> Fields:
    page = walker.get(who, at)
    if page.status != 200 or not page.response["Content-Type"].startswith("text/html"):
        # As if it had stood open since there was a form.
        return {"stage": ["1"]} | {name: [value] for name, value in TYPED.items()}
    html = page.response.content.decode()
    fields = Form(html).fields
    fields.pop("csrfmiddlewaretoken", None)
    for name, values in fields.items():
        if name in TYPED and values in ([], [""]):
            fields[name] = [TYPED[name]]
    if word := re.search("Type “(.+?)” to confirm", html):
        fields["typed"] = [word[1]]
    fields |= {
        name: [TYPED[name]] for name in ("reason", "duration") if f'name="{name}"' in html and name not in fields
    }
    return fields


def _wish(walker: Walker, who: str) -> Fields:
    role = Role.objects.filter(name__in=["Administrator", "Engineer"]).order_by("-pk").first()
    fields = _form(walker, who, f"/request/?role={role.public_id}") if role else {}
    return fields | {"justification": [TYPED["justification"]], "duration": ["5"]}


def _several(walker: Walker, who: str) -> Fields:
    codes = AccessRequest.objects.filter(state=State.PENDING).values_list("code", flat=True)
    return {"code": list(codes), "verdict": ["approve"]}


def _delivery(walker: Walker, who: str) -> Fields:
    one = AccessRequest.objects.filter(state=State.ACTIVE, beneficiary__username=who).order_by("-pk").first()
    return {"code": [one.code if one else "DP-AAAAAAAA"], "kind": ["credentials"], "jwk": [_KEY], "destination": [""]}


def _found(walker: Walker, who: str) -> Fields:
    codes = AccessRequest.objects.values_list("code", flat=True)
    return {"code": list(codes), "confirm": ["ticked"], "reason": ["as it was"]}


_KEY = json.dumps(factories.recipient_key())
_GOOD: dict[str, Callable[[Walker, str], Fields]] = {
    "request_access": _wish,
    "decide_several": _several,
    "deliveries": _delivery,
    "found_passes": _found,
}

# One by one in the place of each field: a zero byte, half of a surrogate pair, too long, and of no type there is.
HOSTILE: tuple[list[str], ...] = (["a\0b"], ["\udced"], ["x" * 5000], ["-1"], ["9" * 40], ["[]", "{}"])


def spoilt(fields: Fields) -> list[Fields]:
    """Each field once with something that does not belong there, a few at a time; and all of them at once.

    Nothing twice, such as what has no fields.
    """
    # How many lines there are is counted by the page; Django makes 2,000 forms of a wrong number, and takes its time.
    names, most = sorted(name for name in fields if not name.endswith("_FORMS")), len(HOSTILE)
    a_few = [
        {**fields, **{name: HOSTILE[(turn + at) % most] for at, name in enumerate(names[turn::most])}}
        for turn in range(min(most, len(names)))
    ]
    each = a_few + [{**fields, **dict.fromkeys(names, wrong)} for wrong in HOSTILE[:3]]
    return [one for number, one in enumerate(each) if one not in each[:number]]


OTHER_BODIES: tuple[tuple[bytes, str], ...] = (
    (b'{"code": "\\ud800", "kind": 7, "jwk": [[[]]]}', "application/json"),
    (b"\xff\xfe", "application/json"),
    (b"[]", "application/json"),
    (
        b'--x\r\nContent-Disposition: form-data; name="reason"\r\n\r\n\xff\x00\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
    ),
    (b"\xff\x00&&==", "application/x-www-form-urlencoded"),
    (b"reason=x", "text/plain; charset=nonsense"),
)


def unthought_of(address: Address) -> str:
    return (
        f"{address} takes a POST, and nothing says who may change something by it. Add it to WHO_MAY in "
        "tests/walk/posting.py, and to _GOOD what somebody would post if its page's own form is not enough."
    )
