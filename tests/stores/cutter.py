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
    when the server has done what it was told, before the client learns of the cut. `cuts` counts them.
    """

    def __init__(self, place: Path, url: str) -> None:
        host = unquote(url.partition("host=")[2].partition("&")[0])
        self.url = url.replace(quote(host, safe=""), quote(str(place), safe=""))
        self.cuts = 0
        self._word = b""
        self._delivered = False
        self._then: Callable[[], object] = lambda: None
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{place}/.s.PGSQL.5432")
        listener.listen()
        super().__init__(listener, host)

    def cut_at(self, word: bytes, *, delivered: bool, then: Callable[[], object] = lambda: None) -> None:
        self._delivered, self._then, self._word = delivered, then, word

    def ends(self, server: socket.socket, data: bytes) -> bool:
        if not self._word or self._word not in data:
            return False
        self._word = b""
        self.cuts += 1
        server.sendall((data if self._delivered else b"") + GOOD_BYE)
        while server.recv(65536):
            pass
        self._then()
        return True
