"""Connections and pools of somebody else, which stay as they were; and stores that somebody wants to send away."""

import copy
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, NullConnectionPool
from stores.samples import record

from szal.stores import PostgresExecutionStore, SqliteExecutionStore, Store

# -- SQLite -----------------------------------------------------------------------------------------


def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def shout(data: bytes) -> str:
    return data.decode().upper()


@pytest.fixture
def connect(path: Path) -> Iterator[Callable[..., sqlite3.Connection]]:
    """Makes connections to one file."""
    made: list[sqlite3.Connection] = []

    def connect(**options: Any) -> sqlite3.Connection:
        made.append(sqlite3.connect(path, check_same_thread=False, **options))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


def use(connection: sqlite3.Connection) -> None:
    """Do a bit of everything with a store on *connection*."""
    with SqliteExecutionStore.from_connection(connection) as store:
        store.migrate()
        with store.engine_sink() as sink:
            sink.save(record(1))
        store.save(record(2, labels={"a": "b"}))
        assert store.list() == ["e00001", "e00002"]
        assert store.get("e00001") == record(1)
        assert store.find(labels={"a": "b"})[0].flow_name == "ci"
        assert store.remove("e00001") == record(1)
        assert store.prune(keep=0) == 1


@pytest.mark.parametrize("row_factory", [None, sqlite3.Row, as_dict, lambda cursor, row: row[::-1]])
@pytest.mark.parametrize("text_factory", [str, bytes, bytearray, shout])
def test_factories_change_nothing_and_are_left(
    connect: Callable[..., sqlite3.Connection], row_factory: Any, text_factory: Any
) -> None:
    connection = connect()
    connection.row_factory, connection.text_factory = row_factory, text_factory
    use(connection)
    assert connection.row_factory is row_factory
    assert connection.text_factory is text_factory


@pytest.mark.parametrize("level", [None, "", "DEFERRED", "IMMEDIATE", "EXCLUSIVE"])
def test_an_isolation_level_changes_nothing_and_is_left(
    connect: Callable[..., sqlite3.Connection], level: str | None
) -> None:
    connection = connect(isolation_level=level)
    use(connection)
    assert connection.isolation_level == level
    assert not connection.in_transaction


@pytest.mark.parametrize("mode", ["delete", "truncate", "wal"])
def test_the_file_stays_in_its_journal_mode(connect: Callable[..., sqlite3.Connection], mode: str) -> None:
    connection = connect()
    pragmas = ["journal_mode", "synchronous", "foreign_keys", "busy_timeout", "recursive_triggers"]
    connection.execute(f"PRAGMA journal_mode = {mode}")
    before = [connection.execute(f"PRAGMA {name}").fetchall() for name in pragmas]
    use(connection)
    assert [connection.execute(f"PRAGMA {name}").fetchall() for name in pragmas] == before
    assert before[0] == [(mode,)]


def test_factories_are_left_where_a_statement_fails_or_is_interrupted(
    connect: Callable[..., sqlite3.Connection],
) -> None:
    connection = connect()
    connection.row_factory = as_dict
    store = SqliteExecutionStore.from_connection(connection)

    def fail(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._database._writer.use(fail)
    assert connection.row_factory is as_dict


@pytest.mark.parametrize("given", ["szal.db", Path("szal.db"), None])
def test_what_is_no_connection_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"needs a sqlite3.Connection, not .*; a path or a URL is for connect"):
        SqliteExecutionStore.from_connection(given)


# -- pools ------------------------------------------------------------------------------------------


class Odd(psycopg.Connection[Any]):
    """A connection whose cursors write parameters in another way."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = psycopg.RawCursor


@pytest.mark.parametrize(
    "options",
    [
        {"kwargs": {"cursor_factory": psycopg.RawCursor}},
        {"kwargs": {"cursor_factory": psycopg.ClientCursor, "row_factory": dict_row}},
        {"connection_class": Odd},
    ],
)
@pytest.mark.parametrize("kind", [ConnectionPool, NullConnectionPool])
def test_any_pool_of_threads_will_do(
    postgres: Store, postgres_url: str, kind: type[ConnectionPool], options: dict[str, Any]
) -> None:
    least = {"min_size": 0} if kind is NullConnectionPool else {"min_size": 1}
    with kind(postgres_url, **least, max_size=2, **options) as pool:
        store = PostgresExecutionStore.from_pool(pool)
        store.migrate()
        store.save(record(1, labels={"a": "b"}))
        assert store.find(labels={"a": "b"})[0].execution_id == "e00001"
        assert store.remove("e00001") == record(1, labels={"a": "b"})
        with pool.connection() as connection:
            assert connection.cursor_factory in (psycopg.RawCursor, psycopg.ClientCursor)


def test_what_is_no_pool_of_threads_is_refused_at_once(postgres_url: str) -> None:
    def refused(given: Any) -> str:
        with pytest.raises(TypeError, match=r"from_pool needs a psycopg_pool\.ConnectionPool") as caught:
            PostgresExecutionStore.from_pool(given)
        return str(caught.value)

    assert "give a URL to connect" in refused("postgresql://me:secret@h/db")
    assert "secret" not in refused("postgresql://me:secret@h/db")
    assert "szal works in threads" in refused(AsyncConnectionPool(postgres_url, open=False))
    with psycopg.connect(postgres_url) as connection:
        assert "threads could not share it" in refused(connection)
    assert "not builtins.object" in refused(object())


# -- sending away -----------------------------------------------------------------------------------


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("what", ["store", "sink"])
def test_a_store_or_a_sink_cannot_be_sent_away_and_says_what_to_do(
    backend: Store, send: Callable[[object], object], what: str
) -> None:
    with backend.engine_sink() as sink, pytest.raises(TypeError, match=r"Pass the URL of the store, and call open_sto"):
        send(backend if what == "store" else sink)
