"""A wire to PostgreSQL that is cut at a word: between a client and the server, on a Unix socket."""

import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

from stores.forwarder import Forwarder

GOOD_BYE = b"X\0\0\0\4"


class Cutter(Forwarder):
    """Forwards bytes both ways. `cut_at` makes the next message with a word in it the last of its connection.

    *delivered* says whether the server still gets that message: then it is the answer that is lost. `then` is called
    when the server has done what it was told, before the client learns of the cut. `cuts` counts them. What is cut by
    `hold_at` is on its way until `deliver`.
    """

    def __init__(self, place: Path, url: str) -> None:
        host = _host(url)
        self.url = url.replace(quote(host, safe=""), quote(str(place), safe=""))
        self.cuts = 0
        self._word = b""
        self._delivered = False
        self._holds = False
        self._held: list[tuple[socket.socket, bytes]] = []
        self._then: Callable[[], object] = lambda: None
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{place}/.s.PGSQL.5432")
        listener.listen()
        super().__init__(listener, host)

    def lead_to(self, url: str) -> None:
        """Lead whoever connects from now on to the server at *url*."""
        self._target = f"{_host(url)}/.s.PGSQL.5432"

    def cut_at(self, word: bytes, *, delivered: bool, then: Callable[[], object] = lambda: None) -> None:
        self._delivered, self._then, self._holds, self._word = delivered, then, False, word

    def hold_at(self, word: bytes) -> None:
        """Cut the connection at the next message with *word* in it, and keep that for the server."""
        self._holds, self._word = True, word

    def deliver(self) -> None:
        """Let the server have all that is kept, and wait until it has done it."""
        while self._held:
            server, data = self._held.pop(0)
            with server:
                server.sendall(data + GOOD_BYE)
                while server.recv(65536):
                    pass

    def close(self) -> None:
        super().close()
        for server, _ in self._held:
            server.close()

    def ends(self, server: socket.socket, data: bytes) -> bool:
        if not self._word or self._word not in data:
            return False
        self._word = b""
        if self._holds:
            self._held.append((server.dup(), data))
            self.cuts += 1  # from now on there is something to deliver
            return True
        self.cuts += 1
        server.sendall((data if self._delivered else b"") + GOOD_BYE)
        while server.recv(65536):
            pass
        self._then()
        return True


def _host(url: str) -> str:
    return unquote(url.partition("host=")[2].partition("&")[0])
