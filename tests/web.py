"""WSGI applications in servers of their own, as tests talk to them: over a Unix socket, or at a port."""

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from processes import wait_until


class Client(http.client.HTTPConnection):
    """An HTTP client, of a path or of ``host:port``."""

    def connect(self) -> None:
        self.sock = connected(self.host if self.host.startswith("/") else f"{self.host}:{self.port}")


def connected(address: str) -> socket.socket:
    """Return a socket that is connected to a path, or to ``host:port``."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        return socket.create_connection((host, int(port)), timeout=20)
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(20)
    try:
        found.connect(address)
    except OSError:
        found.close()
        raise
    return found


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@attrs.frozen
class Answer:
    """What a server has answered."""

    status: int
    headers: http.client.HTTPMessage
    text: str


def send(address: str, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
    """Return what is answered."""
    client = Client(address)
    try:
        client.request(method, path, body, headers={"Host": "szal", **headers})
        answer = client.getresponse()
        return Answer(answer.status, answer.headers, answer.read().decode())
    finally:
        client.close()


def ask(address: str, method: str, path: str, body: str | None = None, **headers: str) -> Any:
    """Return what is answered, as JSON says it."""
    return json.loads(send(address, method, path, body, **headers).text)


def is_listening(address: str) -> bool:
    """Whether somebody would answer there: a socket that is bound may not listen yet."""
    try:
        connected(address).close()
    except OSError:
        return False
    return True


@contextmanager
def running(
    command: Sequence[str], *, place: Path, environment: Mapping[str, str], address: str | None = None
) -> Iterator[str]:
    """Give the address at which *command* serves, by default `place / "http"`, once somebody listens; then end it.

    No traceback may be in what it says.
    """
    address, log = address or str(place / "http"), place / "log"
    with log.open("w") as said:
        server = subprocess.Popen(command, env=environment, cwd=place, stdout=said, stderr=said)
        try:
            wait_until(lambda: is_listening(address) or server.poll() is not None, 40)
            assert server.poll() is None, log.read_text()
            yield address
        finally:
            server.terminate()
            server.wait(20)
    assert "Traceback" not in log.read_text(), log.read_text()


@contextmanager
def served(app: str, *options: str, place: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Give the address at which gunicorn serves *app*, loaded before it forks its workers; then end it.

    Files go to *place*. No traceback may be in what it says.
    """
    bind = ["--bind", f"unix:{place / 'http'}"]
    command = [sys.executable, "-m", "gunicorn", "--preload", *options, *bind, app]
    with running(command, place=place, environment=environment) as address:
        yield address
