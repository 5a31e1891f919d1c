"""A worker in this process: its AWS settings come from the fixtures that the adapter's own tests use."""

from tests.aws.conftest import as_worker, assumed, minter, revoker, script, server, target_role
from tests.background.ending import become, erins_request, installation, live

__all__ = [
    "as_worker",
    "assumed",
    "become",
    "erins_request",
    "installation",
    "live",
    "minter",
    "revoker",
    "script",
    "server",
    "target_role",
]
