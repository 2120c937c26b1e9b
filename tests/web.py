"""WSGI applications in servers of their own, as tests talk to them: over a Unix socket."""

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
    """An HTTP client on a Unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.host)


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


def is_listening(address: Path) -> bool:
    """Whether somebody would answer there: a socket that is bound may not listen yet."""
    with socket.socket(socket.AF_UNIX) as knock:
        return knock.connect_ex(str(address)) == 0


@contextmanager
def running(command: Sequence[str], *, place: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Give the address at which *command*, which listens to `place / "http"`, serves; then end it.

    No traceback may be in what it says.
    """
    address, log = place / "http", place / "log"
    with log.open("w") as said:
        server = subprocess.Popen(command, env=environment, cwd=place, stdout=said, stderr=said)
        try:
            wait_until(lambda: is_listening(address) or server.poll() is not None, 20)
            assert server.poll() is None, log.read_text()
            yield str(address)
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
