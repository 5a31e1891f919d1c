"""What AWS answers when it does not do what we asked, in two kinds: refused and unavailable."""

import re
from typing import NamedTuple

from botocore import exceptions as botocore

_LONGEST_MESSAGE = 500


class AwsError(Exception):
    """AWS's own code and message, kept, and one sentence on what we, or who, can do about it.

    `outcome_unknown`: the request may have been carried out and only the answer been lost.
    """

    def __init__(self, code: str, message: str, advice: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(code, message, advice)
        self.code = code
        self.message = message
        self.advice = advice
        self.outcome_unknown = outcome_unknown

    def __str__(self) -> str:
        return f"{self.code}: {self.message} {self.advice}"


class Refused(AwsError):
    """AWS said no, and will say no again until someone changes something."""


class Unavailable(AwsError):
    """AWS did not answer, asked us to slow down, or did not accept Daypass's own identity."""


def translate(error: BaseException) -> AwsError:
    """`error`, from botocore, as one of ours. Total: what nobody foresaw is Unavailable.

    Nothing of the original travels on but a scrubbed code and message: an exception of botocore or
    its parser can hold a whole answer, secret key included. So raise the result *outside* the except
    block (see `sts.py`), or the original hangs on to it as its context.
    """
    if isinstance(error, AwsError):
        return error
    if isinstance(error, botocore.ClientError):
        return _from_answer(error)
    if isinstance(error, _OUR_IDENTITY):
        return Unavailable(type(error).__name__, "Daypass has no AWS identity that works.", _FIX_IDENTITY)
    if isinstance(error, botocore.SSLError):
        # A certificate is looked at before the first byte is sent; other trouble can come at any time.
        perhaps_sent = "CERTIFICATE_VERIFY_FAILED" not in str(error)
        message = "The encrypted connection to AWS failed."
        return Unavailable("SSLError", message, _FIX_TLS, outcome_unknown=perhaps_sent)
    if isinstance(error, botocore.ConnectionError):  # a connection lost later is an HTTPClientError
        return Unavailable(type(error).__name__, "AWS could not be reached.", _TRY_AGAIN)
    if isinstance(error, botocore.ParamValidationError | botocore.NoRegionError | botocore.InvalidRegionError):
        return Refused(type(error).__name__, scrub(str(error)), _OUR_FAULT)
    if isinstance(error, botocore.ReadTimeoutError):
        return Unavailable("ReadTimeoutError", "AWS did not answer in time.", _TRY_AGAIN, outcome_unknown=True)
    if isinstance(error, botocore.HTTPClientError):
        message = "The connection to AWS broke off."
        return Unavailable(type(error).__name__, message, _TRY_AGAIN, outcome_unknown=True)
    return _unreadable(type(error).__name__)


def _unreadable(what: str) -> Unavailable:
    message = f"AWS's answer could not be read ({what})."
    return Unavailable("MalformedAnswer", message, _TRY_AGAIN, outcome_unknown=True)


def own_identity(error: BaseException) -> Unavailable:
    """`error`, met while getting Daypass's own credentials: never a refusal of what was asked."""
    known = translate(error)
    advice = known.advice if isinstance(known, Unavailable) else _FIX_IDENTITY
    return Unavailable(known.code, known.message, advice)


def given_identity(error: BaseException) -> AwsError:
    """`error`, met while acting by keys that AWS has just given: that it does not take them is no fault of our own."""
    known = translate(error)
    if known.advice != _FIX_IDENTITY:
        return known
    return Unavailable(known.code, known.message, _TRY_AGAIN, outcome_unknown=known.outcome_unknown)


def scrub(text: str, *secrets: str) -> str:
    """`text` on one line, bounded, without `secrets` and without anything shaped like a key or token."""
    for secret in secrets:
        text = text.replace(secret, "…")
    text = _SECRET_SHAPED.sub("…", " ".join(text.split()))
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


# A secret access key (40 characters of base64 in mixed case), or any long token.
_SECRET_SHAPED = re.compile(
    r"(?<![\w/+=])(?=[a-z0-9/+]*[A-Z])(?=[A-Z0-9/+]*[a-z])(?=[A-Za-z/+]*[0-9/+])[A-Za-z0-9/+]{40}(?![\w/+=])"
    r"|[\w/+=%.-]{100,}"
)

_OUR_FAULT = "This is a fault in Daypass: please report it to its operators, with this text."
_TRY_AGAIN = "Nobody needs to change anything: try again in a minute."
_SLOW_DOWN = "AWS asked us to slow down: try again in a minute."
_FIX_TLS = "If it happens again, Daypass's operators should look at its worker's certificates and proxy."
_FIX_WAY = "If it happens again, Daypass's operators should look at what lets its worker out, such as a proxy."
_FIX_IDENTITY = "Daypass's operators must renew or correct the AWS identity of its worker."
_FIX_TRUST = (
    "The role may be missing, its trust policy may not name Daypass or ask for another external id or "
    "session name, or Daypass itself may lack the permission: the account's owner should check the role."
)

_OUR_IDENTITY = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.TokenRetrievalError,
    botocore.NoAuthTokenError,
    botocore.MetadataRetrievalError,
    botocore.ProfileNotFound,
    botocore.ConfigNotFound,
    botocore.ConfigParseError,
    botocore.InvalidConfigError,
    botocore.UnauthorizedSSOTokenError,
    botocore.SSOError,
    botocore.LoginError,
)


class _Rule(NamedTuple):
    code: str
    kind: type[AwsError]
    advice: str
    contains: str = ""  # a piece of the message that this rule needs


# The first rule that fits, most specific first. Codes stand without the suffix "Exception": AWS's
# services, its SDKs and CloudTrail do not agree on it.
_RULES = (
    _Rule(
        "ValidationError",
        Refused,
        "Daypass's own identity is a role, so AWS allows one hour per session: "
        "the entitlement's ceiling must come down to 3,600 seconds.",
        contains="1 hour session limit",
    ),
    _Rule(
        "ValidationError",
        Refused,
        "The role allows less time than the catalog says: an operator should correct its longest session there.",
        contains="MaxSessionDuration",
    ),
    _Rule(
        "ValidationError",
        Refused,
        "A managed policy that narrows this access is missing in the account: "
        "its owner must create it there, or an operator must correct the entitlement.",
        contains="Policy ARN",
    ),
    _Rule("ValidationError", Refused, _OUR_FAULT),
    _Rule(
        "AccessDenied",
        Refused,
        "Either the role's trust policy or Daypass's own permissions do not allow sts:SetSourceIdentity: "
        "the account's owner should add it, or an operator record that this account does not allow it.",
        contains="sts:SetSourceIdentity",
    ),
    _Rule(
        "AccessDenied",
        Refused,
        "Daypass sends no session tags of its own, so its worker's identity passes some on: "
        "its operators must switch them off.",
        contains="sts:TagSession",
    ),
    _Rule(
        "AccessDenied",
        Refused,
        "Sessions of this role may not be ended by AWS itself: the account's owner should let the role call "
        "sts:GetScopedCredentials, and see that no service control policy denies it.",
        contains="sts:GetScopedCredentials",
    ),
    _Rule("AccessDenied", Refused, _FIX_TRUST),
    _Rule(
        "PackedPolicyTooLarge",
        Refused,
        "The entitlement's narrowing, with what the worker's identity passes on, is too large for AWS: "
        "an operator must shorten it.",
    ),
    _Rule(
        "MalformedPolicyDocument",
        Refused,
        "AWS does not accept the entitlement's narrowing statements: an operator must correct them.",
    ),
    _Rule(
        "RegionDisabled",
        Refused,
        "The account has not activated this region's STS: its owner must, or an operator must choose another region.",
    ),
    # Not yet, perhaps: it says nothing of what the role may do.
    _Rule("InvalidSubjectCredentials", Unavailable, _TRY_AGAIN),
    _Rule("InvalidIdentityToken", Unavailable, _FIX_IDENTITY),
    _Rule("IDPRejectedClaim", Unavailable, _FIX_IDENTITY),
    _Rule("IDPCommunicationError", Unavailable, _TRY_AGAIN),
    *(
        _Rule(code, Unavailable, _FIX_IDENTITY)
        for code in (
            "ExpiredToken",
            "InvalidClientTokenId",
            "UnrecognizedClient",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidSignature",
            "IncompleteSignature",
            "MissingAuthenticationToken",
            "RequestExpired",
            "OptInRequired",
        )
    ),
    *(
        _Rule(code, Unavailable, _SLOW_DOWN)
        for code in (
            "Throttling",
            "Throttled",
            "RequestThrottled",
            "RequestLimitExceeded",
            "TooManyRequests",
            "BandwidthLimitExceeded",
            "LimitExceeded",
            "SlowDown",
            "PriorRequestNotComplete",
        )
    ),
)


def _from_answer(error: botocore.ClientError) -> AwsError:
    answer = error.response
    code = str(answer.get("Error", {}).get("Code") or "Unknown")
    message = scrub(str(answer.get("Error", {}).get("Message") or "AWS gave no reason."))
    if message.startswith("{"):
        # The code is of a header. What botocore cannot read of a body it hands on whole, and a refusal whose words are
        # cut off proves nothing.
        return _unreadable("a body that is no JSON")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    fitting = (rule for rule in _RULES if rule.code == code.removesuffix("Exception") and rule.contains in message)
    if rule := next(fitting, None):
        return rule.kind(scrub(code), message, rule.advice)
    if status == 429:
        return Unavailable(scrub(code), message, _SLOW_DOWN)
    if code == "Unknown" or (code.isdigit() and status < 500):
        # AWS gives every refusal a code. Whether a middle box blocked the request, or the answer, nobody knows.
        message = f"Something between Daypass and AWS answered {status}."
        return Unavailable("MalformedAnswer", message, _FIX_WAY, outcome_unknown=True)
    if 400 <= status < 500:
        return Refused(scrub(code), message, _OUR_FAULT)
    # 5xx, or a success that carries an error: something at AWS broke, before or after it did the work.
    return Unavailable(scrub(code), message, _TRY_AGAIN, outcome_unknown=True)
