"""A TCP port before a PostgreSQL server, from which nothing may come any more, as when a cable is pulled."""

import ctypes
import socket
import struct
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from stores.forwarder import Forwarder

SO_ATTACH_FILTER = 26  # Linux's


class Relay(Forwarder):
    """Forwards bytes both ways. `accepted` counts the connections; those after the first `answered` get no answer."""

    def __init__(self, url: str) -> None:
        self.accepted = 0
        self.answered = 1_000_000
        self._clients: list[socket.socket] = []
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        super().__init__(listener, parse_qs(urlsplit(url).query)["host"][0])

    def pull_the_cable(self) -> None:
        """Let the kernel drop every packet of the clients: nothing is acknowledged, and nobody is told."""
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0 bytes
        for client in self._clients:
            with suppress(OSError):  # it is closed
                client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(nothing)))

    def close(self) -> None:
        super().close()
        for client in self._clients:
            client.close()

    def answers(self, client: socket.socket) -> bool:
        self.accepted += 1
        self._clients.append(client)
        return self.accepted <= self.answered
