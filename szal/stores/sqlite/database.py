"""An SQLite file as the database of a store: one connection that writes, and others that read."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import sqlite_utils

from szal.clock import monotonic
from szal.errors import NotSupportedHere, StoreFailed, StoreUnavailable
from szal.stores.database import Database, Keeper, Row, Rows, Transaction
from szal.stores.listening import ChangeListener, Listener
from szal.stores.sqlite.connection import LOCKED, Readers, SharedConnection, code_of, translated
from szal.stores.sqlite.handlers_connection import HandlersConnection
from szal.stores.sqlite.held import SqliteGuest, SqliteHeld
from szal.stores.sqlite.listener import SqliteChanges, SqliteListener
from szal.stores.sqlite.migrations import bring_up_to_date, structure_of
from szal.stores.sqlite.statements import STATEMENTS
from szal.stores.sqlite.transaction import SqliteTransaction, rows_of
from szal.stores.sqlite.turns import Turns
from szal.stores.statements import Statements

__all__ = ["SqliteDatabase", "check_version"]

Made = TypeVar("Made")

_OLDEST = (3, 35)  # the first with RETURNING


def check_version(store: str) -> None:
    """Raise `StoreFailed` where the SQLite that Python was built with does not know all that is said to it."""
    if sqlite3.sqlite_version_info < _OLDEST:
        needed = ".".join(map(str, _OLDEST))
        raise StoreFailed(store, f"SQLite {needed} or newer is needed, and Python has {sqlite3.sqlite_version} here")


class SqliteDatabase(Database):
    """The file that *writer* and *reader* lead to, which may be one connection. It tries nothing again: it waits."""

    def __init__(
        self,
        writer: SharedConnection,
        reader: SharedConnection | Readers,
        connect: Callable[[], HandlersConnection] | None = None,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._connect = connect  # for handlers; None: another connection would not see the same database
        self._turns = Turns()
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
        return self._reader.use(lambda db: rows_of(db, statement, execution_ids))

    def transact(self, work: Callable[[Transaction], Made], request: object = None, *, once: bool = False) -> Made:  # noqa: ARG002
        # Of a COMMIT there is never a doubt, and what a lock is waited for is SQLite's own to do, once.
        if not self._is_checked:
            self._check()
        self._give_way(once=once)
        return self._writer.use(partial(self._transaction, work))

    def _give_way(self, *, once: bool) -> None:
        """Wait for a handler of this process that has the write lock; *once*: for no longer than for another one."""
        if not self._turns.give_way(self._writer.busy_timeout if once else None):
            raise StoreUnavailable(
                self.name,
                "the handler that writes here has a transaction open on it (ctx.transaction), and would wait"
                " for itself: write through its connection",
            )

    def at_once(self, statement: str, row: Row, *, once: bool) -> int:
        """Run one statement, which is a transaction by itself, and return how many rows it has changed."""
        if not self._is_checked:
            self._check()
        self._give_way(once=once)
        return self._writer.use(partial(self._run, statement, row))

    def _run(self, statement: str, row: Row, db: sqlite_utils.Database) -> int:
        self._check_free(db)
        return db.conn.execute(statement, row).rowcount

    def _check_free(self, db: sqlite_utils.Database) -> None:
        if db.conn.in_transaction:
            raise StoreFailed(self.name, "the connection is in the middle of a transaction of somebody else")

    def _transaction(self, work: Callable[[SqliteTransaction], Made], db: sqlite_utils.Database) -> Made:
        """Return what *work* makes of one write transaction, which begins by taking the write lock."""
        self._check_free(db)
        with db.conn:  # commits or rolls back; it is C, so no exception of a signal handler comes in between
            db.conn.execute("BEGIN IMMEDIATE")  # not through sqlite_utils, which looks at each statement first
            return work(SqliteTransaction(db))

    def hold(self, keeper: Keeper) -> None:
        if self._connect is None:
            raise NotSupportedHere(
                "ctx.transaction()", f"{self.name} is seen through one connection only: connect the store to a file"
            )
        if not self._is_checked:
            self._check()
        with self._turns.queue(keeper) as may:
            if may:
                self._hold(keeper, self._connect)

    def _hold(self, keeper: Keeper, connect: Callable[[], HandlersConnection]) -> None:
        try:
            held = SqliteHeld(connect(), partial(translated, self.name))
        except sqlite3.Error as error:
            raise translated(self.name, error) from error
        try:
            if self._take_lock(keeper, held.connection):
                with self._turns.turn(keeper):
                    keeper.keep(held)
        finally:
            held.end()

    def _take_lock(self, keeper: Keeper, connection: HandlersConnection) -> bool:
        """Take the write lock; False where it is not wanted any more. Others may have it for as long as *keeper*."""
        until = monotonic() + max(keeper.limit, self._writer.busy_timeout)
        while keeper.is_wanted:
            try:
                connection.begin()
            except sqlite3.Error as error:
                if code_of(error) not in LOCKED or monotonic() > until:
                    raise translated(self.name, error) from error
            else:
                connection.execute(f"PRAGMA busy_timeout = {int(self._writer.busy_timeout * 1000)}")
                return True
        return False

    def has_committed(self, doubt: object) -> bool:  # noqa: ARG002
        raise AssertionError("of a COMMIT there is never a doubt")

    def join(self, connection: object) -> SqliteGuest:
        return SqliteGuest(connection, self)

    def listen(self, channel: str) -> Listener:  # noqa: ARG002 (whoever waits looks often)
        return SqliteListener()

    def changes(self) -> ChangeListener:
        if isinstance(self._reader, Readers):
            return SqliteChanges(self._reader.another(), is_own=True)
        return SqliteChanges(self._reader, is_own=False)

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
