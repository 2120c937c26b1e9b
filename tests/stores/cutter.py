"""A wire to PostgreSQL that is cut at a word: between a client and the server, on a Unix socket."""

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

GOOD_BYE = b"X\0\0\0\4"


class Cutter:
    """Forwards bytes both ways. `cut_at` makes the next message with a word in it the last of its connection.

    *delivered* says whether the server still gets that message: then it is the answer that is lost. `then` is called
    when the server has done what it was told, before the client learns of the cut.
    """

    def __init__(self, place: Path, url: str) -> None:
        host = unquote(url.partition("host=")[2].partition("&")[0])
        self.url = url.replace(quote(host, safe=""), quote(str(place), safe=""))
        self.cuts = 0
        self._target = f"{host}/.s.PGSQL.5432"
        self._word = b""
        self._delivered = False
        self._then: Callable[[], object] = lambda: None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{place}/.s.PGSQL.5432")
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, word: bytes, *, delivered: bool, then: Callable[[], object] = lambda: None) -> None:
        self._delivered, self._then, self._word = delivered, then, word

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=[client], daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._target)
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is client and self._word and self._word in data:
                        self._word = b""
                        self._cut(server, data)
                        return
                    (server if source is client else client).sendall(data)

    def _cut(self, server: socket.socket, data: bytes) -> None:
        self.cuts += 1
        server.sendall((data if self._delivered else b"") + GOOD_BYE)
        while server.recv(65536):
            pass
        self._then()
