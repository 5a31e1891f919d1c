"""Which of a session's standing denies an entitlement may lift, and what doing so costs."""

import enum
from datetime import timedelta


class Liftable(enum.StrEnum):
    """A way to buy credentials that outlive the pass, closed unless an entitlement opens it by this name.

    The end of the pass itself, the guard of the session's own role and further keys of the same session have no
    name here: without them a session could outlive its pass, take its own revocation away, or pass it by.
    """

    ASSUME_ROLE = "assume-role"
    SERVICE_TOKENS = "service-tokens"
    S3_DATA_ACCESS = "s3-data-access"
    SIGN_IN_TOKENS = "sign-in-tokens"
    SERVICE_CREDENTIALS = "service-credentials"
    LONG_LIVED_KEYS = "long-lived-keys"

    @property
    def longest(self) -> timedelta | None:
        """For how long after the pass its results can still work; None: until somebody deletes them."""
        return _LONGEST[self]

    @property
    def description(self) -> str:
        """One sentence for the people who ask and who approve."""
        return _DESCRIPTIONS[self]


LIFTABLE = tuple(Liftable)

_LONGEST = {
    Liftable.ASSUME_ROLE: timedelta(hours=1),  # AWS's limit for a role assumed from a role
    Liftable.SERVICE_TOKENS: timedelta(hours=12),  # CodeArtifact's longest token
    Liftable.S3_DATA_ACCESS: timedelta(hours=12),
    Liftable.SIGN_IN_TOKENS: timedelta(hours=12),  # `aws login` renews itself, and a bearer token lasts, that long
    Liftable.SERVICE_CREDENTIALS: timedelta(hours=24),  # Cognito's for developers; Lake Formation's and DataZone's 12
    Liftable.LONG_LIVED_KEYS: None,
}

_DESCRIPTIONS = {
    Liftable.ASSUME_ROLE: ("May assume further roles; those sessions can work for up to 1 hour after the pass."),
    Liftable.SERVICE_TOKENS: (
        "May get service and identity tokens, such as those for CodeArtifact and container registries; "
        "they can work for up to 12 hours after the pass."
    ),
    Liftable.S3_DATA_ACCESS: (
        "May get credentials from S3 Access Grants; they can work for up to 12 hours after the pass."
    ),
    Liftable.SIGN_IN_TOKENS: (
        "May use `aws login` and get AWS Sign-In's bearer tokens; they can work for up to 12 hours after the pass."
    ),
    Liftable.SERVICE_CREDENTIALS: (
        "May get keys of other roles from services, such as Lake Formation, DataZone and Systems Manager; "
        "they can work for up to 24 hours after the pass."
    ),
    Liftable.LONG_LIVED_KEYS: (
        "May make keys of users, of services and of Lightsail buckets; they work until somebody deletes them."
    ),
}
