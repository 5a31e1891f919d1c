"""The stand-in for AWS: starts MiniStack with our rules (`sandbox.aws_rules`) and hands out clients for it."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Self

from sandbox import landscape
from sandbox.caller import IN_REGION, Caller
from sandbox.child import Child, listen

# Of an environment of its own, beside ours: MiniStack pins a botocore, and the product wants a newer one.
_ENVIRONMENT = Path(sys.prefix) / "aws"


def release() -> str:
    """MiniStack's version, for reports."""
    (folder,) = _ENVIRONMENT.glob("lib/*/site-packages")
    return next(iter(distributions(name="ministack", path=[str(folder)]))).version


class AwsStandIn:
    """One stand-in with the demo's landscape in it. A context manager.

    `stop` and `start` again is an outage: it comes back on its port with all it knew, live sessions
    included. `kill` loses what it learnt since its last orderly stop. Given a folder it also remembers between runs.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        log: Path | None = None,
        shortest_session: int = 900,
        port: int = 0,
        seeded: bool = True,
    ) -> None:
        self._keep = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="daypass-aws-"))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.config_file = self.folder / "config"
        self._log = log or self.folder / "aws.log"
        self._shortest_session = shortest_session
        self._seeded = seeded
        self._preferred_port = port
        self.process: Child | None = None
        self.port = 0
        # What nobody knows of GetScopedCredentials, as `aws_rules.switches` reads it at each call.
        self.switches_file = self.folder / "scoping.json"
        # For the next start: a test may set its clock apart.
        self.extra_environment: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with listen(self.port or self._preferred_port) as listener:
            self.port = listener.getsockname()[1]
            self.process = Child(
                name="aws",
                command=[str(_ENVIRONMENT / "bin" / "python"), "-m", "sandbox.aws_rules", str(listener.fileno())],
                log=self._log,
                environment=self._environment(),
                folder=Path(__file__).resolve().parent.parent,
                pass_fds=[listener.fileno()],
            )
            self.process.start()
        self.process.wait_until(self._healthy, seconds=30)
        if self._seeded:
            landscape.settle(self)

    def stop(self) -> None:
        if self.process:
            self.process.stop(seconds=20)

    def kill(self) -> None:
        assert self.process
        self.process.kill()

    def freeze(self) -> None:
        """AWS silent: connections are taken and never answered, until `cont`."""
        assert self.process
        self.process.freeze()

    def cont(self) -> None:
        assert self.process
        self.process.cont()

    def alive(self) -> bool:
        return self.process is not None and self.process.alive()

    def root(self, account: str) -> Caller:
        """That account's root user, to arrange and to look: for MiniStack its number is its key, unsigned."""
        return Caller(self.url, account, "any")

    def as_session(self, keys: Mapping[str, Any]) -> Caller:
        """Act with the `Credentials` of an STS answer, or with a bare `AccessKeyId`, `SecretAccessKey`."""
        token = keys.get("SessionToken")
        return Caller(self.url, keys["AccessKeyId"], keys["SecretAccessKey"], token)

    def profile(self, name: str) -> dict[str, str]:
        """The environment of a process that runs as `minter` or `revoker`, as an operator would set it."""
        return {
            "AWS_CONFIG_FILE": str(self.config_file),
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_PROFILE": name,
            "AWS_ENDPOINT_URL": self.url,
            **IN_REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def assume(self, profile: str, role_arn: str, **parameters: Any) -> Caller:
        """AssumeRole by that profile's own (chained) session."""
        hub = self.as_profile(profile)
        parameters = {"RoleSessionName": "DP-00000000-test", **parameters}
        answer = hub.client("sts", checked=False).assume_role(RoleArn=role_arn, **parameters)
        return self.as_session(answer["Credentials"])

    def as_profile(self, name: str) -> Caller:
        """A session of the hub role that `minter` or `revoker` runs as."""
        answer = (
            landscape.bootstrap(self)
            .client("sts")
            .assume_role(RoleArn=landscape.hub_role_arn(name), RoleSessionName="worker")
        )
        return self.as_session(answer["Credentials"])

    @contextlib.contextmanager
    def scoping(self, **switches: Any) -> Iterator[None]:
        """Meanwhile these of `aws_rules.switches` are like that."""
        self.switches_file.write_text(json.dumps(switches))
        try:
            yield
        finally:
            self.switches_file.unlink()

    @contextlib.contextmanager
    def console_authorization(self, account: str) -> Iterator[None]:
        """Meanwhile it is switched on in this account."""
        sign_in = self.root(account).client("signin")
        sign_in.put_console_authorization_configuration(targetId=account)
        try:
            yield
        finally:
            sign_in.delete_console_authorization_configuration(targetId=account)

    def forget(self) -> None:
        """Empty every account."""
        request = urllib.request.Request(f"{self.url}/_ministack/reset", method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def _environment(self) -> dict[str, str]:
        state = self.folder / "state"
        return {
            # Ours, then MiniStack's; nothing of the caller's, whose real AWS keys have no place here.
            "PATH": os.defpath,
            "SCOPING_SWITCHES": str(self.switches_file),
            "STRICT_MIN_DURATION": str(self._shortest_session),
            "AUTH": "true",
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_HOST": "127.0.0.1",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(state),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(state / "s3"),
            "TMPDIR": str(self.folder),
            "HOME": str(self.folder),
            # It opens this one on all interfaces.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            # It clears containers away on a machine with Docker: not ours to touch.
            "DOCKER_HOST": "unix:///nonexistent",
            **self.extra_environment,
        }

    def _healthy(self) -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2).close()
            return True
        return False
