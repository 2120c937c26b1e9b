"""A TCP port before a PostgreSQL server, from which nothing may come any more, as when a cable is pulled."""

import ctypes
import select
import socket
import struct
import threading
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

SO_ATTACH_FILTER = 26  # Linux's


class Relay:
    """Forwards bytes both ways. `accepted` counts the connections; those after the first `answered` get no answer."""

    def __init__(self, url: str) -> None:
        host = parse_qs(urlsplit(url).query)["host"][0]
        self.accepted = 0
        self._target = f"{host}/.s.PGSQL.5432"
        self.answered = 1_000_000
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def pull_the_cable(self) -> None:
        """Let the kernel drop every packet of the clients: nothing is acknowledged, and nobody is told."""
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0 bytes
        for client in self._clients:
            with suppress(OSError):  # it is closed
                client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(nothing)))

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            client.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                self._clients.append(client)
                if self.accepted <= self.answered:
                    threading.Thread(target=self._forward, args=[client], daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError, ValueError):
            server.connect(self._target)
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
