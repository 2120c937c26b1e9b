"""A session that says why it ends, and is closed a moment later: what was under way in it is done in another."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import socket

import pytest
from stores.cutter import Cutter
from stores.postgres_server import OwnServer, PostgresServer
from stores.samples import record

from szal.errors import StoreUnavailable
from szal.stores import PostgresExecutionStore

SYNC = b"S\0\0\0\4"


class LastWords(Cutter):
    """A wire that has *end* end the session when all of a transaction but COMMIT has been sent; `said` counts that.

    The client hears what the server says in the end, but not that the connection is closed.
    """

    def __init__(self, place: Path, url: str, end: Callable[[], object]) -> None:
        self.said = 0
        self.is_armed = False
        self._end = end
        self._thread = threading.local()
        super().__init__(place, url)

    def ends(self, server: socket, data: bytes) -> bool:
        if not self.is_armed or SYNC not in data:
            return False
        self.is_armed = False
        self.said += 1
        server.sendall(data.rpartition(SYNC)[0])
        self._end()
        client = self._thread.client
        while words := server.recv(65536):
            client.sendall(words)
        client.settimeout(1)  # where it is the answer to what was sent before, the client waits for the end
        while client.recv(65536):
            pass
        return True

    def _forward(self, client: socket) -> None:
        self._thread.client = client
        super()._forward(client)


@pytest.fixture
def wire(server: PostgresServer, tmp_path: Path, postgres_url: str, schema: str) -> Iterator[LastWords]:
    """Such a wire; it is an administrator who ends the session."""
    if not isinstance(server, OwnServer):
        pytest.skip("goes through a Unix socket")
    wire = LastWords(tmp_path, postgres_url, lambda: server.terminate(schema))
    yield wire
    wire.close()


def test_a_store_tries_again(wire: LastWords) -> None:
    with PostgresExecutionStore.connect(wire.url) as store:
        store.migrate()
        wire.is_armed = True
        store.save(record(1))
        assert (wire.said, store.get("e00001")) == (1, record(1))


def test_a_sink_loses_nothing(wire: LastWords) -> None:
    with PostgresExecutionStore.connect(wire.url) as store, store.engine_sink() as sink:
        store.migrate()
        wire.is_armed = True
        sink.save(record(1))
        sink.flush(20)
        assert (wire.said, store.get("e00001")) == (1, record(1))


def test_what_is_told_is_why_the_session_ended(wire: LastWords) -> None:
    with PostgresExecutionStore.connect(wire.url, retry_timeout=0.0) as store:
        store.migrate()
        wire.is_armed = True
        with pytest.raises(StoreUnavailable, match=r"terminating connection|server closed the connection"):
            store.save(record(1))
