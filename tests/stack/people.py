"""The real AWS CLI in the hands of somebody who copied credentials."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sandbox.stack import Stack

AWS = str(Path(sys.executable).parent / "aws")


def aws_cli(stack: Stack, credentials: dict[str, Any], *command: str) -> subprocess.CompletedProcess[str]:
    """The real AWS CLI with the credentials a person copied."""
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": credentials["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": credentials["secret_access_key"],
        "AWS_SESSION_TOKEN": credentials["session_token"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": stack.aws.url,
        "AWS_MAX_ATTEMPTS": "1",
        "HOME": str(stack.folder),
    }
    return subprocess.run([AWS, *command], env=environment, capture_output=True, text=True, timeout=60)
