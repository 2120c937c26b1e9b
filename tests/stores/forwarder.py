"""What stands between a client and a PostgreSQL server on a Unix socket, and forwards what each says."""

import select
import socket
import threading
from contextlib import suppress


class Forwarder:
    """Forwards bytes both ways, for each client that *listener* accepts. Subclasses say what they let pass."""

    def __init__(self, listener: socket.socket, server_directory: str) -> None:
        self._target = f"{server_directory}/.s.PGSQL.5432"
        self._listener = listener
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which ends a wait for clients; closing does not
        self._accepting.join(30)
        self._listener.close()

    def answers(self, client: socket.socket) -> bool:
        """Whether anything is forwarded for *client*, which has just connected."""
        return True

    def ends(self, server: socket.socket, data: bytes) -> bool:
        """Whether *data*, which a client sends to *server*, is the end of its connection, and not forwarded."""
        return False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.answers(client):
                    threading.Thread(target=self._forward, args=[client], daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError, ValueError):  # it may be closed
            server.connect(self._target)
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data or (source is client and self.ends(server, data)):
                        return
                    (server if source is client else client).sendall(data)
