"""An SQLite file as the database of a store: one connection that writes, and others that read."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

import attrs
import sqlite_utils

from szal.errors import StoreFailed
from szal.stores.database import Database, Row, Rows, Transaction
from szal.stores.listening import Listener
from szal.stores.sqlite.connection import Readers, SharedConnection
from szal.stores.sqlite.listener import SqliteListener
from szal.stores.sqlite.migrations import bring_up_to_date, structure_of
from szal.stores.sqlite.statements import MANY, SAVE_MANY_STEPS, STATEMENTS
from szal.stores.statements import Statements

__all__ = ["SqliteDatabase", "check_version"]

Made = TypeVar("Made")

_OLDEST = (3, 35)  # the first with RETURNING


def check_version(store: str) -> None:
    """Raise `StoreFailed` where the SQLite that Python was built with does not know all that is said to it."""
    if sqlite3.sqlite_version_info < _OLDEST:
        needed = ".".join(map(str, _OLDEST))
        raise StoreFailed(store, f"SQLite {needed} or newer is needed, and Python has {sqlite3.sqlite_version} here")


@attrs.define
class _SqliteTransaction:
    """The block between BEGIN and COMMIT."""

    db: sqlite_utils.Database

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        return self.db.conn.execute(statement, parameters).fetchall()

    def rows_of(self, statement: str, execution_ids: Sequence[str]) -> Rows:
        return _rows_of(self.db, statement, execution_ids)

    def rows_for(self, statement: str, rows: Sequence[Row]) -> Rows:
        return [row for each in rows for row in self.db.conn.execute(statement, each)]

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        whole = len(rows) - len(rows) % MANY if statement is STATEMENTS.save_step else 0
        for start in range(0, whole, MANY):
            self.db.conn.execute(SAVE_MANY_STEPS, [*chain.from_iterable(rows[start : start + MANY])])
        self.db.conn.executemany(statement, rows[whole:])


class SqliteDatabase(Database):
    """The file that *writer* and *reader* lead to, which may be one connection. It tries nothing again: it waits."""

    def __init__(self, writer: SharedConnection, reader: SharedConnection | Readers) -> None:
        self._writer = writer
        self._reader = reader
        self._is_checked = False

    @property
    def name(self) -> str:
        return self._writer.name

    @property
    def statements(self) -> Statements:
        return STATEMENTS

    def _check(self) -> None:
        """Raise `NotMigrated` unless the tables are as they have to be; what is dropped later, its statements tell."""
        self._reader.use(structure_of).check(self.name)
        self._is_checked = True

    def read(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        if not self._is_checked:
            self._check()
        return self._reader.use(lambda db: db.conn.execute(statement, parameters).fetchall())

    def read_of(self, statement: str, execution_ids: Sequence[str]) -> Rows:
        if not self._is_checked:
            self._check()
        return self._reader.use(lambda db: _rows_of(db, statement, execution_ids))

    def transact(self, work: Callable[[Transaction], Made], request: object = None, *, once: bool = False) -> Made:  # noqa: ARG002
        # Of a COMMIT there is never a doubt, and what a lock is waited for is SQLite's own to do, once.
        if not self._is_checked:
            self._check()
        return self._writer.use(partial(self._transaction, work))

    def at_once(self, statement: str, row: Row) -> int:
        """Run one statement, which is a transaction by itself, and return how many rows it has changed."""
        if not self._is_checked:
            self._check()
        return self._writer.use(partial(self._run, statement, row))

    def _run(self, statement: str, row: Row, db: sqlite_utils.Database) -> int:
        self._check_free(db)
        return db.conn.execute(statement, row).rowcount

    def _check_free(self, db: sqlite_utils.Database) -> None:
        if db.conn.in_transaction:
            raise StoreFailed(self.name, "the connection is in the middle of a transaction of somebody else")

    def _transaction(self, work: Callable[[_SqliteTransaction], Made], db: sqlite_utils.Database) -> Made:
        """Return what *work* makes of one write transaction, which begins by taking the write lock."""
        self._check_free(db)
        with db.conn:  # commits or rolls back; it is C, so no exception of a signal handler comes in between
            db.conn.execute("BEGIN IMMEDIATE")  # not through sqlite_utils, which looks at each statement first
            return work(_SqliteTransaction(db))

    def listen(self) -> Listener:
        return SqliteListener()

    def tidy(self) -> None:
        """Do nothing: nothing is kept."""

    def migrate(self) -> None:
        """Make what is missing; without waiting for the write lock where nothing is."""
        self._writer.enable_wal()
        structure = self._reader.use(structure_of)
        structure.check_not_newer(self.name)
        if not structure.is_complete():
            make = partial(self._transaction, lambda transaction: bring_up_to_date(transaction.db, self.name))
            self._writer.use(make)

    def close(self) -> None:
        """Close the connections, after the threads that use them."""
        self._reader.close()
        self._writer.close()


def _rows_of(db: sqlite_utils.Database, statement: str, execution_ids: Sequence[str]) -> Rows:
    return db.conn.execute(statement, (json.dumps(execution_ids),)).fetchall()
