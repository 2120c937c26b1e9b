"""Executions in an SQLite file, the one that szal-rs keeps: either can open the other's."""

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from sqlite_utils.db import TransactionError

from szal.stores.sql_store import SqlExecutionStore
from szal.stores.sqlite.connection import Readers, SharedConnection, opened
from szal.stores.sqlite.database import SqliteDatabase, check_version
from szal.stores.sqlite.handlers_connection import HandlersConnection
from szal.stores.sqlite.ledger import SqliteLedger
from szal.stores.url import SqliteFile

__all__ = ["SqliteExecutionStore"]

_SOON = 0.1
"""Seconds after which who waits for the write lock sees whether it still has to."""

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]


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

    _database: SqliteDatabase

    def __init__(
        self,
        writer: SharedConnection,
        reader: SharedConnection | Readers,
        connect: Callable[[], HandlersConnection] | None = None,
    ) -> None:
        database = SqliteDatabase(writer, reader, connect)
        super().__init__(database, SqliteLedger(database))

    @classmethod
    def connect(
        cls, path: str | Path, *, synchronous: Synchronous = "FULL", busy_timeout: float = 5.0
    ) -> "SqliteExecutionStore":
        """Return the store in the file at *path*; the file is made, but not its directory, when it is first used.

        *path* is a path, or a URL: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite:///:memory:``. What
        follows the three slashes, up to a ``?``, is the path as it is: nothing is escaped, a ``%`` stands for itself.
        ``?mode=rw`` makes no file where there is none, ``?mode=ro`` only reads. szal-rs's ``sqlite://relative.db`` is
        understood. ``:memory:`` is a database of this store's own. Raises ValueError, and `StoreFailed` where Python's
        SQLite is older than 3.35; never blocks.

        >>> SqliteExecutionStore.connect("sqlite:////var/lib/app/what is 100%.db?mode=rwc").name
        '/var/lib/app/what is 100%.db'
        """
        if synchronous not in get_args(Synchronous):
            raise ValueError(f"synchronous is one of {', '.join(get_args(Synchronous))}, not {synchronous!r}")
        if busy_timeout < 0:
            raise ValueError(f"busy_timeout is negative ({busy_timeout})")
        file = SqliteFile.of(path)
        check_version(file.path)

        def link() -> SharedConnection:
            return SharedConnection.to(file, synchronous, busy_timeout)

        writer = link()
        if file.is_memory:
            return cls(writer, writer)
        return cls(writer, Readers(link), partial(opened, file, synchronous, _SOON, HandlersConnection))

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
            shared = SharedConnection.borrowed(connection)
        except TransactionError as error:
            raise ValueError(str(error)) from None
        check_version(shared.name)
        return cls(shared, shared)

    def migrate(self) -> None:
        """Create the schema, or bring it up to date; a database that szal-rs made is upgraded in place.

        Does nothing where there is nothing to do. Several processes and threads may do it at once: the first
        does it, the others wait. Raises `StoreUnavailable` if the database stays locked for *busy_timeout* seconds,
        `StoreFailed` for a file that is no database. All of it happens, or nothing does.
        """
        self._database.migrate()

    def close(self) -> None:
        """Close the connections, waiting for threads that use them; using the store afterwards raises `StoreClosed`.

        A second call does nothing. What a sink has not written yet is lost to it: close that first.
        """
        self._database.close()
