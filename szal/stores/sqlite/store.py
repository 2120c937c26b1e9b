"""Executions in an SQLite file, the one that szal-rs keeps: either can open the other's."""

import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import attrs
from sqlite_utils import Database, Migrations
from sqlite_utils.db import TransactionError

from szal.stores.dialect import Dialect
from szal.stores.ledger import ADD_AWAITS, TABLES, WRITES, spelled_out
from szal.stores.operation import Release, Remove, Save, SaveStep
from szal.stores.query import HEAD
from szal.stores.sql import Given, Made, Row, Rows, SqlExecutionStore, Transaction
from szal.stores.sqlite.connection import Connection, Readers
from szal.stores.url import SqliteFile

__all__ = ["SqliteExecutionStore"]

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]

# -- statements -------------------------------------------------------------------------------------

# szal-rs's own table, to the letter: what else there is to know about an execution is in `data`.
CREATE_TABLE = (
    "CREATE TABLE IF NOT EXISTS szal_executions"
    " (execution_id TEXT PRIMARY KEY, flow_name TEXT NOT NULL, data TEXT NOT NULL)"
)
SAVE = (
    "INSERT INTO szal_executions (execution_id, flow_name, data) VALUES (?, ?, ?)"
    " ON CONFLICT (execution_id) DO UPDATE SET flow_name = excluded.flow_name, data = excluded.data"
)
REMOVE = "DELETE FROM szal_executions WHERE execution_id = ?"
SAVE_STEP = spelled_out(WRITES[SaveStep], "?", "")
# Of many rows in one statement each costs less: the interpreter's lock is given up, and waited for, once for them all.
_MANY = 100  # of 5 values each: an SQLite of before 2020 takes 999
_VALUES = "(?, ?, ?, ?, ?)"
SAVE_MANY_STEPS = SAVE_STEP.replace(_VALUES, ", ".join([_VALUES] * _MANY))
GET = "SELECT data FROM szal_executions WHERE execution_id = ?"

# Without the guard one row that is not JSON would fail every query, and could not even be inserted.
_FIELD = "CASE WHEN json_valid(data) THEN {} END"
# szal.stores.query.position_key: it names `data` once, because SQLite parses it again each time it is named.
_KEY = "replace(substr(rtrim(replace(json_extract(data, '$.{}'), '+00:00', 'Z'), 'Z') || '.000000', 1, 26), '.', '0')"
STATE = _FIELD.format("json_extract(data, '$.state')")
STARTED = _FIELD.format(_KEY.format("started_at"))
FINISHED = f"coalesce({_FIELD.format(_KEY.format('finished_at'))}, {STARTED})"
HEAD_ARRAY = "json_extract(data, {})".format(", ".join(f"'$.{key}'" for key in HEAD))
LABEL = (
    "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(data) THEN data ELSE '{}' END, '$.labels') AS label"
    " WHERE label.key = ? AND label.value = ?)"
)

DIALECT = Dialect(
    mark="?",
    writes={Save: SAVE, Remove: REMOVE, SaveStep: SAVE_STEP, Release: spelled_out(WRITES[Release], "?", "")},
    get=GET,
    take=GET,
    now="((julianday('now') - 2440587.5) * 86400.0)",
    prefix="",
    share="",
    lock="",  # BEGIN IMMEDIATE holds everything
    started=STARTED,
    finished=FINISHED,
    state=STATE,
    head=HEAD_ARRAY,
    label=LABEL,
)

MIGRATIONS = Migrations("szal")


@MIGRATIONS()
def m001_executions(db: Database) -> None:
    """Make szal-rs's table (or take the one that it made), and the indexes of `find`."""
    db.execute(CREATE_TABLE)
    on = "ON szal_executions"
    db.execute(f"CREATE INDEX szal_executions_flow {on} (flow_name, {STATE}, {STARTED}, execution_id)")
    db.execute(f"CREATE INDEX szal_executions_state {on} ({STATE}, {STARTED}, execution_id)")
    db.execute(f"CREATE INDEX szal_executions_started {on} ({STARTED}, execution_id)")


@MIGRATIONS()
def m002_ledger(db: Database) -> None:
    """Make the tables of the ledger."""
    for statement in TABLES:
        db.execute(spelled_out(statement, "?", ""))


@MIGRATIONS()
def m003_awaits(db: Database) -> None:
    """Keep what the signals are called that a paused execution waits for."""
    db.execute(spelled_out(ADD_AWAITS, "?", ""))


# -- the store --------------------------------------------------------------------------------------


@attrs.define
class _SqliteTransaction:
    """The block between BEGIN and COMMIT."""

    _db: Database

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        return self._db.conn.execute(statement, parameters).fetchall()

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        whole = len(rows) - len(rows) % _MANY if statement == SAVE_STEP else 0
        for start in range(0, whole, _MANY):
            self._db.conn.execute(SAVE_MANY_STEPS, [*chain.from_iterable(rows[start : start + _MANY])])
        self._db.conn.executemany(statement, rows[whole:])


@attrs.define(eq=False, init=False)
class SqliteExecutionStore(SqlExecutionStore):
    """Executions in one SQLite file, shared with other threads, other processes and szal-rs.

    Make one with `connect` or `from_connection`, and call `migrate` once. Nothing is opened before it is needed.
    A file has one connection for writing, which threads take turns at, and up to eight for reading: in WAL mode a
    reader sees what was committed last, and waits neither for a writer nor for a slow query. Other processes may
    have the write lock: a write waits up to *busy_timeout* seconds for it, then raises `StoreUnavailable`.

    **What can be lost.** A write is committed when its method returns. No commit is lost when the process dies
    (kill -9 too), whatever *synchronous* says. When the machine does, by power loss or a crash of the system:
    nothing with "FULL" (the default: one fsync for each commit) or "EXTRA"; the last commits with "NORMAL"
    (an fsync only at checkpoints); the whole file may be damaged with "OFF". Through `engine_sink` a batch
    of writes is one commit, so "FULL" costs next to nothing there.

    A fork is safe at any time: connections are closed before it, and opened again when they are needed, by
    each process for itself. A ``:memory:`` database is copied, as memory is. SQLite needs a local file system.

    >>> with SqliteExecutionStore.connect(":memory:") as store:
    ...     store.migrate()
    ...     store.list()
    []
    """

    name: str
    _writer: Connection = attrs.field(repr=False)
    _reader: Connection | Readers = attrs.field(repr=False)

    dialect = DIALECT

    def __init__(self, writer: Connection, reader: Connection | Readers) -> None:
        self.name = writer.name
        self._writer = writer
        self._reader = reader

    @classmethod
    def connect(
        cls, path: str | Path, *, synchronous: Synchronous = "FULL", busy_timeout: float = 5.0
    ) -> "SqliteExecutionStore":
        """Return the store in the file at *path*; the file is made, but not its directory, when it is first used.

        *path* is a path, or a URL: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite:///:memory:``. What
        follows the three slashes, up to a ``?``, is the path as it is: nothing is escaped, a ``%`` stands for itself.
        ``?mode=rw`` makes no file where there is none, ``?mode=ro`` only reads. szal-rs's ``sqlite://relative.db`` is
        understood. ``:memory:`` is a database of this store's own. Raises ValueError; never blocks.

        >>> SqliteExecutionStore.connect("sqlite:////var/lib/app/what is 100%.db?mode=rwc").name
        '/var/lib/app/what is 100%.db'
        """
        if synchronous not in get_args(Synchronous):
            raise ValueError(f"synchronous is one of {', '.join(get_args(Synchronous))}, not {synchronous!r}")
        if busy_timeout < 0:
            raise ValueError(f"busy_timeout is negative ({busy_timeout})")
        file = SqliteFile.of(path)

        def link() -> Connection:
            return Connection.to(file, synchronous, busy_timeout)

        writer = link()
        return cls(writer, writer if file.is_memory else Readers(link))

    @classmethod
    def from_connection(cls, connection: sqlite3.Connection) -> "SqliteExecutionStore":
        """Return a store that uses *connection*, and leaves it as it is, and closing it to its owner.

        That is: the journal mode of its file and all other pragmas, its ``row_factory``, ``text_factory`` and
        ``isolation_level``, which may be whatever they are. It must have been made with ``check_same_thread=False`` if
        the store is to be used by several threads (a sink is one more), have no transaction open when a method is
        called, and not be used by others meanwhile. Raises ValueError for one made with ``autocommit=True`` or
        ``False``, TypeError for what is none. After a fork only the parent may go on.

        >>> SqliteExecutionStore.from_connection(sqlite3.connect(":memory:", check_same_thread=False)).migrate()
        """
        if not isinstance(connection, sqlite3.Connection):
            raise TypeError(
                f"from_connection needs a sqlite3.Connection, not {type(connection).__qualname__};"
                " a path or a URL is for connect"
            )
        try:
            shared = Connection.borrowed(connection)
        except TransactionError as error:
            raise ValueError(str(error)) from None
        return cls(shared, shared)

    def migrate(self) -> None:
        """Create the schema, or bring it up to date; a database that szal-rs made is upgraded in place.

        Does nothing where there is nothing to do. Several processes and threads may do it at once: the first
        does it, the others wait. Raises `StoreUnavailable` if the database stays locked for *busy_timeout* seconds,
        `StoreFailed` for a file that is no database. All of it happens, or nothing does.
        """
        self._writer.enable_wal()
        if self._reader.use(
            MIGRATIONS.pending
        ):  # else without waiting for the write lock, which a busy process may hold
            self._writer.transact(MIGRATIONS.apply)

    def close(self) -> None:
        """Close the connections, waiting for threads that use them; using the store afterwards raises `StoreClosed`.

        A second call does nothing. What a sink has not written yet is lost to it: close that first.
        """
        self._reader.close()
        self._writer.close()

    def _read(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        return self._reader.use(lambda db: db.execute(statement, parameters).fetchall())

    def _transact(self, work: Callable[[Transaction, Given], Made], given: Given) -> Made:
        return self._writer.transact(lambda db: work(_SqliteTransaction(db), given))
