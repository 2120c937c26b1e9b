"""The connection that a handler is given: in a transaction that szal has begun, and ends."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Literal, NoReturn

from szal.errors import TransactionFailed
from szal.process_events import enroll_renewal
from szal.stores.sqlite.connection import leave_to_parent

__all__ = ["HandlersConnection"]

_NOT_YOURS = "the transaction is szal's to end, together with the outcome of the step: leave it to that"
_ENDED = (
    "a statement has rolled it back (OR ROLLBACK, or a trigger's RAISE(ROLLBACK)), and with it all that came before"
)


class HandlersConnection(sqlite3.Connection):
    """Runs statements as long as its transaction is open, one at a time: none is ever committed by itself.

    It neither commits nor rolls back nor closes for a handler. ``with connection`` is a savepoint: all that is in the
    block stays, or, where that raises, nothing of it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.at_work = threading.RLock()
        """Held while a statement runs, and by who ends the transaction: so none comes after that."""
        self._problem = ""
        self._depth = 0
        self._was_refused = False
        enroll_renewal(self, HandlersConnection._leave_to_parent)

    def _leave_to_parent(self) -> None:
        self._problem = "it belongs to the parent process"
        leave_to_parent(self)

    # -- for handlers ---------------------------------------------------------------------------------

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor whose statements run in the transaction."""
        return super().cursor(_HandlersCursor if factory is None else factory)

    def execute(self, *args: Any) -> sqlite3.Cursor:
        """Run one statement in the transaction."""
        found: sqlite3.Cursor = self.cursor().execute(*args)
        return found

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        """Run one statement in the transaction, with many rows of parameters."""
        found: sqlite3.Cursor = self.cursor().executemany(*args)
        return found

    def executescript(self, *_: Any) -> NoReturn:
        """Raise: Python's sqlite3 commits what is open before a script."""
        raise sqlite3.ProgrammingError(f"executescript commits what is open: execute each statement. {_NOT_YOURS}")

    def __setattr__(self, name: str, value: object) -> None:
        if name in _COMMITTING:
            raise sqlite3.ProgrammingError(f"{name} cannot be changed here. {_NOT_YOURS}")
        super().__setattr__(name, value)

    def set_authorizer(self, *_: object) -> NoReturn:
        """Raise: by it szal refuses what would end the transaction."""
        raise sqlite3.ProgrammingError(f"szal has an authorizer here. {_NOT_YOURS}")

    def commit(self) -> NoReturn:
        """Raise: that is szal's to do."""
        raise sqlite3.ProgrammingError(_NOT_YOURS)

    def rollback(self) -> NoReturn:
        """Raise: a handler that raises has it rolled back."""
        raise sqlite3.ProgrammingError(f"{_NOT_YOURS}, or raise, and it is rolled back")

    def close(self) -> NoReturn:
        """Raise: that is szal's to do."""
        raise sqlite3.ProgrammingError(_NOT_YOURS)

    def __enter__(self) -> "HandlersConnection":
        self._depth += 1
        self.execute(f"SAVEPOINT szal_{self._depth}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        name = f"szal_{self._depth}"
        self._depth -= 1
        if kind is not None:
            self.execute(f"ROLLBACK TO {name}")
        self.execute(f"RELEASE {name}")
        return False

    # -- for szal -------------------------------------------------------------------------------------

    @contextmanager
    def in_it(self) -> Iterator[None]:
        """Run statements in the transaction; `TransactionFailed` where it has ended."""
        with self.at_work:
            self.check()
            self._was_refused = False
            try:
                yield
            except sqlite3.DatabaseError:
                if self._was_refused:
                    raise sqlite3.ProgrammingError(_NOT_YOURS) from None
                raise
            finally:
                if not (self.in_transaction or self._problem):
                    self._problem = _ENDED

    def check(self) -> None:
        """Raise `TransactionFailed` where it has ended."""
        if self._problem:
            raise TransactionFailed(self._problem)

    def begin(self) -> None:
        """Take the write lock. Raises as `execute` does."""
        super().execute("BEGIN IMMEDIATE")
        super().set_authorizer(self._authorize)

    def _authorize(self, action: int, *_: object) -> int:
        """Refuse what would end the transaction, whoever says it: a statement, or Python by itself."""
        if action != _TRANSACTION:
            return sqlite3.SQLITE_OK
        self._was_refused = True
        return sqlite3.SQLITE_DENY

    def end(self, how: Literal["COMMIT", "ROLLBACK"], why: str = "it has ended") -> None:
        """End the transaction, if it has not ended: nothing runs here after that. *why* is what it is told then."""
        with self.at_work:
            super().set_authorizer(None)
            if self.in_transaction:
                super().execute(how)
            self._problem = self._problem or why

    def end_by_force(self, why: str) -> None:
        """Roll it back, once the statement that runs has been interrupted."""
        while not self.at_work.acquire(timeout=_SOON):
            self.interrupt()
        try:
            self.end("ROLLBACK", why)
        finally:
            self.at_work.release()

    def let_go(self) -> None:
        """Close it."""
        super().close()

    def __del__(self) -> None:
        with suppress(sqlite3.Error):  # a handler that was left behind may have had it last
            super().close()


_COMMITTING = frozenset(["isolation_level", "autocommit"])
"""Attributes that Python commits for when they are set."""

_TRANSACTION = sqlite3.SQLITE_TRANSACTION
"""BEGIN, COMMIT, END and ROLLBACK, as SQLite tells it of a statement. Savepoints are another."""

_SOON = 0.02
"""Seconds after which a statement that has not ended is interrupted once more: it may have begun after that."""


class _HandlersCursor(sqlite3.Cursor):
    """Runs statements as its connection does."""

    connection: HandlersConnection

    def execute(self, *args: Any) -> "_HandlersCursor":
        with self.connection.in_it():
            super().execute(*args)
        return self

    def executemany(self, *args: Any) -> "_HandlersCursor":
        with self.connection.in_it():
            super().executemany(*args)
        return self

    def executescript(self, *args: Any) -> NoReturn:
        self.connection.executescript(*args)
