"""Transactions that others write in, in a file: a handler's, on a connection of its own, and the application's."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from szal.errors import StoreError, TransactionFailed
from szal.stores.database import SPLIT, Database, Guest, Held, Transaction, no_connection
from szal.stores.sqlite.connection import as_it_comes, wrap
from szal.stores.sqlite.handlers_connection import HandlersConnection
from szal.stores.sqlite.transaction import SqliteTransaction

__all__ = ["SqliteGuest", "SqliteHeld"]

Made = TypeVar("Made")


class SqliteHeld(Held):
    """A transaction that has begun on *connection*."""

    is_exclusive: ClassVar[bool] = True

    def __init__(self, connection: HandlersConnection, translated: Callable[[Exception], StoreError]) -> None:
        self._connection = connection
        self._translated = translated
        self._db = wrap(connection)
        self._is_taken_away = False

    @property
    def connection(self) -> HandlersConnection:
        return self._connection

    def do(self, work: Callable[[Transaction], Made]) -> Made:
        with self._connection.in_it():
            return as_it_comes(self._db, lambda db: work(SqliteTransaction(db)))

    def commit(self, work: Callable[[Transaction], object]) -> None:
        self.do(work)
        try:
            self._connection.end("COMMIT")
        except sqlite3.IntegrityError:
            raise  # of what the handler wrote: a constraint that is deferred
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def roll_back(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.end("ROLLBACK")

    def end_by_force(self, why: str) -> None:
        self._is_taken_away = True  # a handler may be about to use it: it is closed when that has ended
        with suppress(sqlite3.Error):
            self._connection.end_by_force(why)

    def end(self) -> None:
        """Close the connection, unless somebody may be about to use it."""
        if not self._is_taken_away:
            self.close()

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.let_go()


class SqliteGuest(Guest):
    """The transaction of *connection*, which is the application's."""

    def __init__(self, connection: object, database: Database) -> None:
        if not isinstance(connection, sqlite3.Connection):
            raise no_connection("sqlite3.Connection", connection)
        self._connection = connection
        self._database = database
        self._changes: int | None = None
        self._was_open = False

    def check(self) -> None:
        connection: Any = self._connection
        begins_one = connection.isolation_level is not None and getattr(connection, "autocommit", None) is not True
        if not (connection.in_transaction or begins_one):
            raise ValueError("no transaction is open on the connection: begin one first (BEGIN IMMEDIATE)")
        if not self.is_of(self._database):
            raise ValueError(f"the connection does not lead to {self._database.name}, the database of the store")

    def do(self, work: Callable[[Transaction], Made]) -> Made:
        if self._was_split():
            raise TransactionFailed(SPLIT)
        made = as_it_comes(wrap(self._connection), lambda db: work(SqliteTransaction(db)))
        self._changes, self._was_open = self._connection.total_changes, self._connection.in_transaction
        return made

    def _was_split(self) -> bool:
        """Whether a transaction with something in it has ended since the last word, and no other has begun."""
        if self._changes is None or self._connection.in_transaction:
            return False
        return self._was_open or self._connection.total_changes != self._changes

    def is_of(self, database: Database) -> bool:
        ((_, _, file), *_) = as_it_comes(wrap(self._connection), lambda db: [*db.conn.execute("PRAGMA database_list")])
        try:
            return Path(file).samefile(database.name)
        except OSError:  # one of the two is no file
            return False

    def is_over(self) -> bool:
        try:
            return not self._connection.in_transaction
        except sqlite3.ProgrammingError:  # it is closed
            return True
