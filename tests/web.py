"""WSGI applications under gunicorn, as tests serve them and talk to them: over a Unix socket."""

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from processes import wait_until


class Client(http.client.HTTPConnection):
    """An HTTP client on a Unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self.host)


def is_listening(address: Path) -> bool:
    """Whether somebody would answer there: a socket that is bound may not listen yet."""
    with socket.socket(socket.AF_UNIX) as knock:
        return knock.connect_ex(str(address)) == 0


@contextmanager
def served(app: str, *options: str, place: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Give the address at which gunicorn serves *app*, loaded before it forks its workers; then end it.

    Files go to *place*. No traceback may be in what it says.
    """
    address, log = place / "http", place / "log"
    command = [sys.executable, "-m", "gunicorn", "--preload", *options, "--bind", f"unix:{address}", app]
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
