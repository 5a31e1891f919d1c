"""Sessions that Daypass has for itself, to look: each is written down as soon as AWS has answered."""

from collections.abc import Callable

from requests_app.aws.probe import Issued
from requests_app.domain.models import OwnSession
from requests_app.domain.workflow import preflights


def recorder(role_id: int, purpose: OwnSession.Purpose) -> Callable[[Issued], None]:
    """What to give to whoever gets sessions of this role from AWS."""

    def record(issued: Issued) -> None:
        preflights.note_session(
            role_id,
            purpose,
            session_name=issued.session_name,
            access_key_id=issued.access_key_id,
            assumed_role_arn=issued.assumed_role_arn,
            sts_expires_at=issued.expires_at,
        )

    return record
