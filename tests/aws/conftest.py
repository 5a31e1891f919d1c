"""Daypass's worker as AWS sees it: signed in as the minter, facing the stand-in or a server that misbehaves."""

import contextlib
import dataclasses
import json
import os
import re
import secrets
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from requests_app.aws import console, iam, patience, sts
from requests_app.aws.session_policy import session_policy
from requests_app.aws.sts import MintedSession, MintOrder
from sandbox.landscape import ACCOUNTS, revoker_arn, trust_policy
from sandbox.proxy import Fault, FaultProxy

from .trouble import SLOW

PAYMENTS = ACCOUNTS[0]


@pytest.fixture
def as_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """Give this process the AWS settings of a worker, and nothing else of AWS."""

    def become(environment: dict[str, str]) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        nothing = {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for name, value in (nothing | environment).items():
            monkeypatch.setenv(name, value)
        forget_clients()

    yield become
    forget_clients()


@pytest.fixture
def minter(as_worker: Any, aws_stand_in: Any) -> Any:
    """The stand-in, with this process signed in as its minter."""
    as_worker(aws_stand_in.profile("minter"))
    return aws_stand_in


@pytest.fixture
def revoker(as_worker: Any, aws_stand_in: Any) -> Any:
    """The stand-in, with this process signed in as its revoker."""
    as_worker(aws_stand_in.profile("revoker"))
    return aws_stand_in


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Any]:
    """While in this context, a call may take only so many seconds."""

    @contextlib.contextmanager
    def impatient(seconds: float) -> Iterator[None]:
        with monkeypatch.context() as short:
            short.setattr(patience, "LONGEST_CALL", seconds)
            short.setattr(console, "_LONGEST_WAIT", seconds)
            yield

    return impatient


class ListeningProxy(FaultProxy):
    """One that keeps every secret it sees."""

    def __init__(self, upstream_url: str) -> None:
        super().__init__(upstream_url)
        self.secrets: set[str] = set()

    def note(self, request: Any, answer: Any) -> None:
        super().note(request, answer)
        words = answer.body.decode(errors="replace") + json.dumps(request.form)
        self.secrets.update(re.findall(r'(?:SecretAccessKey>|SessionToken>|SigninToken": ")([^<"]+)', words))

    def told(self, text: str) -> list[str]:
        """The secrets that a text gives away, a good part of one included."""
        return [secret for secret in self.secrets if secret[4:24] in text]


@pytest.fixture
def proxy(aws_stand_in: Any) -> Iterator[ListeningProxy]:
    """Between this process's worker (as soon as it is one) and the stand-in."""
    with ListeningProxy(aws_stand_in.url) as proxy:
        yield proxy


@pytest.fixture
def through(as_worker: Any, aws_stand_in: Any, proxy: ListeningProxy) -> Callable[[str], None]:
    """Become the minter or the revoker, behind the proxy."""

    def become(profile: str) -> None:
        as_worker(aws_stand_in.profile(profile) | {"AWS_ENDPOINT_URL": proxy.url, "AWS_MAX_ATTEMPTS": "5"})

    return become


@pytest.fixture
def failing(impatient: Callable[[float], Any]) -> Callable[..., Any]:
    """While in this context the proxy breaks what is named, and who waits for it waits a second."""

    @contextlib.contextmanager
    def failing(proxy: ListeningProxy, fault: Fault, **which: Any) -> Iterator[None]:
        proxy.fail(fault, seconds=0.1, **which)
        started = time.monotonic()
        with impatient(1 if fault in SLOW else patience.LONGEST_CALL):
            yield
        assert time.monotonic() - started < 5, "a time-out of another kind ended it, or none"
        proxy.heal()

    return failing


class Assumed:
    """Every AssumeRole that goes out, and the sessions it brings."""

    def __init__(self) -> None:
        self.orders: list[MintOrder] = []
        self.sessions: list[MintedSession] = []
        self._assume_role = sts.assume_role

    def __call__(self, order: MintOrder) -> MintedSession:
        self.orders.append(order)
        self.sessions.append(self._assume_role(order))
        return self.sessions[-1]


@pytest.fixture
def assumed(monkeypatch: pytest.MonkeyPatch) -> Assumed:
    watching = Assumed()
    monkeypatch.setattr(sts, "assume_role", watching)
    return watching


class TargetRole:
    """A role of the test's own in payments-prod, allowed everything; and what people do with it."""

    def __init__(self, stand_in: Any, name: str) -> None:
        self.name = name
        self.arn = PAYMENTS.role_arn(name)
        self._stand_in = stand_in
        self.iam = stand_in.root(PAYMENTS.id).client("iam")
        trust = trust_policy(PAYMENTS.external_id)
        self.iam.create_role(RoleName=name, Path="/elevated/", AssumeRolePolicyDocument=trust)
        self.put("permissions", {"Effect": "Allow", "Action": "*", "Resource": "*"})

    def place(self, installation: str = "here") -> iam.Place:
        return iam.Place(self.arn, revoker_arn(PAYMENTS.id), "us-east-1", installation, PAYMENTS.external_id)

    def session(self, name: str) -> Any:
        """Somebody in a live session of this name."""
        return self._stand_in.assume("minter", self.arn, RoleSessionName=name, ExternalId=PAYMENTS.external_id)

    def put(self, name: str, *statements: dict[str, Any]) -> None:
        self.put_text(name, json.dumps({"Version": "2012-10-17", "Statement": statements}))

    def put_text(self, name: str, document: str) -> None:
        self.iam.put_role_policy(RoleName=self.name, PolicyName=name, PolicyDocument=document)

    def policies(self) -> dict[str, Any]:
        names = self.iam.list_role_policies(RoleName=self.name)["PolicyNames"]
        answers = (self.iam.get_role_policy(RoleName=self.name, PolicyName=name) for name in names)
        return {answer["PolicyName"]: answer["PolicyDocument"] for answer in answers}

    def delete(self) -> None:
        for name in self.policies():
            self.iam.delete_role_policy(RoleName=self.name, PolicyName=name)
        self.iam.delete_role(RoleName=self.name)


@pytest.fixture
def target_role(aws_stand_in: Any) -> Iterator[TargetRole]:
    role = TargetRole(aws_stand_in, f"Own{secrets.token_hex(4)}")
    yield role
    with contextlib.suppress(role.iam.exceptions.NoSuchEntityException):
        role.delete()


@pytest.fixture
def order() -> MintOrder:
    """What a good mint of payments-prod's Administrator looks like."""
    role_arn = PAYMENTS.role_arn("Administrator")
    return MintOrder(
        role_arn=role_arn,
        region="us-east-1",
        session_name="DP-7K2M9QX4-alice",
        duration_seconds=900,
        policy=session_policy(cut_off=datetime.now(UTC) + timedelta(minutes=15), role_arn=role_arn),
        source_identity="person-0a1b2c3d4e",
        external_id=PAYMENTS.external_id,
    )


@pytest.fixture
def mint(minter: Any, order: MintOrder) -> Callable[..., Any]:
    """Mint with a session policy made from the given narrowing; answers somebody with the new keys."""

    def mint(*, cut_off: datetime | None = None, role: str = "Administrator", **narrowing: Any) -> Any:
        role_arn = PAYMENTS.role_arn(role)
        cut_off = cut_off or datetime.now(UTC) + timedelta(minutes=15)
        policy = session_policy(cut_off=cut_off, role_arn=role_arn, **narrowing)
        arns = tuple(narrowing.get("policy_arns", ()))
        session = sts.assume_role(dataclasses.replace(order, role_arn=role_arn, policy=policy, policy_arns=arns))
        return minter.as_session(keys_of(session))

    return mint


def forget_clients() -> None:
    sts.forget_clients()
    iam.forget_clients()


def works(caller: Any) -> bool:
    """Whether `caller` may still do anything; an error that is no refusal is raised."""
    try:
        caller.client("s3").list_buckets()
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return False
    return True


def keys_of(session: MintedSession) -> dict[str, str]:
    return {
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret_access_key.reveal(),
        "SessionToken": session.session_token.reveal(),
    }


class ScriptedServer:
    """An HTTP server on the loopback that keeps every request and answers by a script."""

    def __init__(self, script: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self._script = script
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._tls = tls
        port = self._listener.getsockname()[1]
        self.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, text: bytes) -> int:
        return sum(text in request for request in self.requests)

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or the waiting accept keeps it open
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with connection:
            try:
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                while request := _read_request(connection):
                    self.requests.append(request)
                    self._script(connection)
            except OSError:
                pass


@pytest.fixture
def server() -> Iterator[Callable[..., ScriptedServer]]:
    """Start a ScriptedServer; each is closed at the test's end."""
    servers: list[ScriptedServer] = []

    def start(script: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> ScriptedServer:
        servers.append(ScriptedServer(script, tls))
        return servers[-1]

    yield start
    for started in servers:
        started.close()


class Script:
    """Ways to answer, good and bad."""

    @staticmethod
    def answer(body: str | bytes, status: int = 200, *headers: str, kind: str = "text/xml") -> Any:
        content = body.encode() if isinstance(body, str) else body
        lines = [
            f"HTTP/1.1 {status} Whatever",
            f"Content-Type: {kind}",
            f"Content-Length: {len(content)}",
            *headers,
        ]
        return lambda connection: connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    @staticmethod
    def silence(connection: socket.socket) -> None:
        time.sleep(20)

    @staticmethod
    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        raise OSError

    @staticmethod
    def half_an_answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 5000\r\n\r\n<Assume")
        raise OSError

    @staticmethod
    def drip(beginning: bytes) -> Any:
        def script(connection: socket.socket) -> None:
            connection.sendall(beginning)
            for _ in range(200):
                time.sleep(0.1)
                connection.sendall(b"x")

        return script


@pytest.fixture
def script() -> type[Script]:
    return Script


def _read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(65536)
        if not piece:
            return b""
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def everything_in(error: BaseException | None) -> str:
    """Whatever a log or an error report could show of an exception: it, its causes and contexts, their parts."""
    seen: list[str] = []
    while_here: list[BaseException | None] = [error]
    known: set[int] = set()
    while while_here:
        current = while_here.pop()
        if current is None or id(current) in known:
            continue
        known.add(id(current))
        seen += [str(current), repr(current), repr(current.args), repr(vars(current))]
        while_here += [current.__cause__, current.__context__]
        while_here += [part for part in current.args if isinstance(part, BaseException)]
    return "\n".join(seen)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for localhost that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "self-signed.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return pem


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """For a server that shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
