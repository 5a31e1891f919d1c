"""gunicorn as it is configured, and the proxy whose configuration is shipped: whoever drips keeps nobody waiting."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal import server
from sandbox.child import Child, answers, free_port
from tests import servers

PROJECT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.stack

IN_THE_MIDDLE_OF = {
    "its head": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "its body": b"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nlogin=",
}


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    environment = {**os.environ, "DEBUG": "0", "STATIC_ROOT": str(folder)}
    command = [sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity=0"]
    subprocess.run(command, cwd=PROJECT, env=environment, check=True)
    return folder


@contextlib.contextmanager
def web(folder: Path, static: Path, *, arrives_within: float = 2, **settings: str) -> Iterator[tuple[Child, int]]:
    """The web process and its port, with the bound on arriving requests shortened."""
    port = free_port()
    config = folder / "config.py"
    config.write_text(
        f"from portal import server\nserver.ARRIVES_WITHIN_SECONDS = {arrives_within}\nfrom portal.server import *\n"
    )
    child = Child(
        name="web",
        command=[
            *(str(Path(sys.executable).parent / "gunicorn"), f"--config={config}", "portal.wsgi"),
            f"--bind=127.0.0.1:{port}",
        ],
        log=folder / "web.log",
        environment={
            **os.environ,
            "DATABASE_URL": servers.database_url("app", servers.database_name()),
            "DEBUG": "0",
            "LOG_JSON": "1",
            "STATIC_ROOT": str(static),
            **settings,
        },
        folder=PROJECT,
    )
    child.start()
    try:
        child.wait_until(lambda: answers(port) and "Booting worker" in child.log.read_text(), 60)
        yield child, port
    finally:
        child.stop()


@contextlib.contextmanager
def dripping(port: int, beginning: bytes, *, connections: int, tls: bool = False) -> Iterator[list[socket.socket]]:
    """So many connections that begin a request and go on a byte at a time; those that were closed leave the list."""
    over = threading.Event()
    alive = []
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        alive.append(_unchecked().wrap_socket(connection) if tls else connection)
        alive[-1].sendall(beginning)

    def drip() -> None:
        while not over.wait(0.2):
            for connection in list(alive):
                try:
                    connection.sendall(b"x")
                except OSError:
                    alive.remove(connection)

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield alive
    finally:
        over.set()
        thread.join()
        for connection in alive:
            connection.close()


def status(url: str, **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=_unchecked()), _NoRedirect())
    try:
        with opener.open(urllib.request.Request(url, headers=names), timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize("where", IN_THE_MIDDLE_OF)
def test_whoever_drips_is_shown_out_and_the_threads_are_free_again(where, tmp_path, static, django_db_setup):
    with (
        web(tmp_path, static, ALLOWED_HOSTS="localhost") as (child, port),
        dripping(port, IN_THE_MIDDLE_OF[where], connections=server.workers * server.threads + 8) as alive,
    ):
        assert status(f"http://localhost:{port}/livez") == 200
        until = time.monotonic() + 60
        while alive:
            assert time.monotonic() < until, f"{len(alive)} connections still drip"
            time.sleep(0.1)
        assert "Traceback" not in child.log.read_text()


def test_nobody_is_believed_where_the_setting_says_so(tmp_path, static, django_db_setup):
    with web(tmp_path, static, BASE_URL="https://localhost", ALLOWED_HOSTS="localhost", TRUSTED_PROXIES="0") as (
        _,
        port,
    ):
        for claim in ({"X_Forwarded_Proto": "https"}, {"X_Forwarded_Ssl": "on"}, {"X_Forwarded_Protocol": "ssl"}):
            assert status(f"http://localhost:{port}/accounts/login/", **claim) == 301, claim


def test_the_proxy_that_is_named_is_believed(tmp_path, static, django_db_setup):
    with web(tmp_path, static, BASE_URL="https://localhost", ALLOWED_HOSTS="localhost", TRUSTED_PROXIES="1") as (
        _,
        port,
    ):
        assert status(f"http://localhost:{port}/accounts/login/", X_Forwarded_Proto="https") == 200
        assert status(f"http://localhost:{port}/accounts/login/", X_Forwarded_Ssl="on") == 301


def test_a_socket_waits_for_neither_side_for_ever(monkeypatch):
    monkeypatch.setattr(server, "ARRIVES_WITHIN_SECONDS", 0.3)
    monkeypatch.setattr(server, "TAKEN_WITHIN_SECONDS", 0.3)
    here, there = socket.socketpair()
    with server.BoundedSocket(fileno=here.detach()) as bounded, there:
        bounded.await_request()
        there.sendall(b"a")
        assert bounded.recv(10) == b"a"
        with pytest.raises(ConnectionResetError):
            bounded.recv(10)
        bounded.sendall(b"short")
        with pytest.raises(ConnectionResetError):
            bounded.sendall(b"x" * 100_000_000)  # into a buffer that nobody empties
        bounded.await_request()
        there.sendall(b"the next one")
        assert bounded.recv(100) == b"the next one"
        monkeypatch.setattr(server, "ARRIVES_WITHIN_SECONDS", 0)
        bounded.await_request()
        there.sendall(b"too late, and in time to be read")
        with pytest.raises(ConnectionResetError):
            bounded.recv(100)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(datetime.now(UTC)).not_valid_after(datetime.now(UTC) + timedelta(days=1))
    folder = tmp_path / "certificate"
    folder.mkdir()
    (folder / "fullchain.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "privkey.pem").write_bytes(private)
    return folder


@contextlib.contextmanager
def proxy(folder: Path, certificate: Path, upstream: int) -> Iterator[int]:
    """The shipped configuration, with this machine's addresses, ports and folders in it."""
    http, https = free_port(), free_port()
    text = (PROJECT / "docker" / "nginx.conf").read_text()
    for there, here in {
        "/tmp/nginx.pid": str(folder / "nginx.pid"),
        "listen 80;": f"listen 127.0.0.1:{http};",
        "listen 443 ": f"listen 127.0.0.1:{https} ",
        "/certificate/": f"{certificate}/",
        "web:8000": f"127.0.0.1:{upstream}",
        "/dev/stdout": str(folder / "access.log"),
    }.items():
        assert there in text
        text = text.replace(there, here)
    config = folder / "nginx.conf"
    config.write_text(text.replace("http {", f"http {{\n    client_body_temp_path {folder};", 1))
    child = Child(
        name="nginx",
        command=[str(NGINX), "-c", str(config), "-g", "daemon off;", "-e", "stderr"],
        log=folder / "nginx.log",
    )
    child.start()
    try:
        child.wait_until(lambda: answers(https), 20)
        yield https
    finally:
        child.stop()


@pytest.mark.skipif(not NGINX, reason="there is no nginx")
def test_the_shipped_proxy_lets_nobody_wait_and_repeats_no_claim(tmp_path, certificate, static, django_db_setup):
    given = {"BASE_URL": "https://localhost", "ALLOWED_HOSTS": "localhost", "TRUSTED_PROXIES": "1"}
    # Longer than the whole test: nothing here waits for a dripping connection to be closed.
    with (
        web(tmp_path, static, arrives_within=600, **given) as (child, upstream),
        proxy(tmp_path, certificate, upstream) as port,
        dripping(port, IN_THE_MIDDLE_OF["its head"], connections=60, tls=True),
        dripping(port, IN_THE_MIDDLE_OF["its body"], connections=60, tls=True) as bodies,
    ):
        page = f"https://localhost:{port}/accounts/login/?next=/words-of-somebody"
        assert status(page, X_Forwarded_For="6.6.6.6", X_Forwarded_Host="evil.example", Forwarded="for=6.6.6.6") == 200
        assert status(f"https://localhost:{port}/accounts/password/reset/key/1-secret-of-a-link/") in (200, 302)
        assert len(bodies) == 60, "the control: they still drip, and keep none of our threads"
        said = child.log.read_text()
        child.kill()
        assert status(f"https://localhost:{port}/accounts/password/reset/key/1-secret-of-a-link/") == 502
        assert status(f"https://localhost:{port}/livez") == 502
        assert '"ip": "127.0.0.1"' in said
        assert "6.6.6.6" not in said
        assert "evil.example" not in said
    logged = (tmp_path / "access.log").read_text() + (tmp_path / "nginx.log").read_text()
    assert "/accounts/login/" in logged
    assert "connect() failed" in logged, "the control: what went wrong is said, of other addresses"
    assert "words-of-somebody" not in logged
    assert "secret-of-a-link" not in logged
