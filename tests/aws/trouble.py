"""What Daypass says of each fault that the proxy knows."""

from typing import NamedTuple

from requests_app.aws.errors import AwsError, Refused, Unavailable
from sandbox.federation import BAD_KEYS
from sandbox.proxy import Fault


class Said(NamedTuple):
    kind: type[AwsError]
    outcome_unknown: bool
    code: str
    words: str


RATE = "Rate exceeded"
LATE, BROKEN, UNREADABLE = "did not answer in time", "broke off", "could not be read"
SAID = {
    Fault.THROTTLED: Said(Unavailable, False, "Throttling", RATE),
    Fault.THROTTLED_BY_JSON: Said(Unavailable, False, "ThrottlingException", RATE),
    Fault.REQUEST_LIMIT: Said(Unavailable, False, "RequestLimitExceeded", "Request limit exceeded."),
    Fault.SLOW_DOWN: Said(Unavailable, False, "SlowDown", "Please reduce your request rate."),
    Fault.DENIED: Said(Refused, False, "AccessDenied", "is not authorized"),
    Fault.ERROR_500: Said(Unavailable, True, "InternalFailure", "An internal error occurred."),
    Fault.ERROR_502: Said(Unavailable, True, "502", "Bad Gateway"),
    Fault.ERROR_503: Said(Unavailable, True, "ServiceUnavailable", "The service is unavailable."),
    Fault.ERROR_504: Said(Unavailable, True, "504", "Gateway Timeout"),
    Fault.SILENCE: Said(Unavailable, True, "ReadTimeoutError", LATE),
    Fault.SILENCE_AFTER: Said(Unavailable, True, "ReadTimeoutError", LATE),
    Fault.RESET: Said(Unavailable, True, "ConnectionClosedError", BROKEN),
    Fault.RESET_AFTER: Said(Unavailable, True, "ConnectionClosedError", BROKEN),
    Fault.PAGE: Said(Unavailable, True, "MalformedAnswer", UNREADABLE),
    Fault.BLOCKED: Said(Unavailable, True, "MalformedAnswer", "Something between Daypass and AWS answered 403."),
    Fault.MALFORMED: Said(Unavailable, True, "MalformedAnswer", UNREADABLE),
    Fault.TRUNCATED: Said(Unavailable, True, "MalformedAnswer", UNREADABLE),  # botocore takes what is there
    Fault.DRIP: Said(Unavailable, True, "ReadTimeoutError", LATE),
    Fault.HUGE: Said(Unavailable, True, "ConnectionClosedError", BROKEN),
}
SLOW = {Fault.SILENCE, Fault.SILENCE_AFTER, Fault.DRIP}
assert SAID.keys() == set(Fault) - {Fault.WRONG_DATE}  # with which all goes well

OVER = "broke off or gave too long an answer"
SAID_AT_SIGN_IN = {
    Fault.THROTTLED: (Unavailable, "Http429", RATE),
    Fault.SLOW_DOWN: (Unavailable, "Http503", "reduce your request rate"),
    Fault.DENIED: (Refused, "Http400", BAD_KEYS),
    Fault.ERROR_500: (Unavailable, "Http500", "internal error"),
    Fault.ERROR_502: (Unavailable, "Http502", "Bad Gateway"),
    Fault.ERROR_503: (Unavailable, "Http503", "unavailable"),
    Fault.ERROR_504: (Unavailable, "Http504", "Gateway Time-out"),
    Fault.SILENCE: (Unavailable, "RemoteProtocolError", OVER),
    Fault.SILENCE_AFTER: (Unavailable, "RemoteProtocolError", OVER),
    Fault.RESET: (Unavailable, "ReadError", OVER),
    Fault.RESET_AFTER: (Unavailable, "ReadError", OVER),
    Fault.PAGE: (Unavailable, "MalformedAnswer", "no sign-in token"),
    Fault.BLOCKED: (Unavailable, "Http403", "Blocked by the company's proxy"),
    Fault.MALFORMED: (Unavailable, "MalformedAnswer", "no sign-in token"),
    Fault.TRUNCATED: (Unavailable, "RemoteProtocolError", OVER),
    Fault.DRIP: (Unavailable, "RemoteProtocolError", OVER),
    Fault.HUGE: (Unavailable, "ValueError", OVER),
}
