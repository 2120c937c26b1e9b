"""Transactions that others write in, in a server: a handler's, on a connection of the pool, and the application's."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus

from szal.errors import SzalError, TransactionFailed
from szal.stores.database import SPLIT, Database, Guest, Held, Transaction, no_connection
from szal.stores.postgres.connection import ENDED, ORDERLY, PostgresConnection, execute, pipeline
from szal.stores.postgres.marks import Mark, Marks
from szal.stores.postgres.sqlstate import translated
from szal.stores.postgres.statements import PostgresStatements
from szal.stores.postgres.transaction import PostgresTransaction

__all__ = ["LeftBehind", "PostgresGuest", "PostgresHeld"]

Made = TypeVar("Made")

_ENDED = (
    "a statement has ended it (COMMIT, ROLLBACK): what was written before a COMMIT is there without the outcome of the"
    " step"
)
_PATIENCE = 5.0
"""Seconds that a statement whose session was ended is waited for: its end may have been lost on the way."""


class LeftBehind(Exception):
    """A connection cannot be given back: a handler that nobody waits for any more may still use it."""


class PostgresHeld(Held):
    """A transaction on *connection*, which is in autocommit mode. *end_session* ends a session over another one.

    It is a block of psycopg's, `Connection.transaction`: so a handler's own such blocks are savepoints in it, and
    `commit` and `rollback` are refused.
    """

    is_exclusive: ClassVar[bool] = False

    def __init__(
        self,
        store: str,
        connection: PostgresConnection,
        statements: PostgresStatements,
        marks: Marks,
        end_session: Callable[[Sequence[object]], None],
    ) -> None:
        self.is_taken_away = False
        self._store = store
        self._connection = connection
        self._said = statements
        self._marks = marks
        self._end_session = end_session
        self._before = connection.isolation_level, connection.row_factory
        self._block = psycopg.Transaction(connection)
        self._has_ended = False
        self._session: Sequence[object] = ()

    def begin(self) -> None:
        """Begin it. Raises psycopg's errors."""
        self._connection.isolation_level = IsolationLevel.READ_COMMITTED  # whatever the role's default is
        self._block.__enter__()
        self._session = execute(self._connection, self._said.session).fetchall()[0]

    @property
    def connection(self) -> PostgresConnection:
        return self._connection

    def do(self, work: Callable[[Transaction], Made]) -> Made:
        return work(PostgresTransaction(self._store, self._connection))

    def commit(self, work: Callable[[Transaction], object]) -> object | None:
        self._check()
        mark = self._marks.next()
        try:
            with pipeline(self._connection):
                session = execute(self._connection, self._said.session)
                execute(self._connection, self._said.mark, mark.row())
                self.do(work)
            self._check()
            if session.fetchall()[0] != self._session:  # COMMIT and BEGIN, or AND CHAIN
                raise TransactionFailed(_ENDED)
        except BaseException as error:
            self._marks.undone(mark)
            self._raise_if_lost(error)
            raise
        return self._committed(mark)

    def _committed(self, mark: Mark) -> object | None:
        """Commit; return the mark where the answer was lost."""
        self._has_ended = True
        try:
            self._block.__exit__(None, None, None)
        except psycopg.Error as error:
            if self._connection.closed or (error.sqlstate or ENDED).startswith(ENDED):
                return mark
            self._marks.undone(mark)  # the server has answered: it is rolled back
            raise
        if self._connection.info.transaction_status is not TransactionStatus.IDLE:
            return mark
        self._marks.left(mark)
        return None

    def _check(self) -> None:
        status = self._connection.info.transaction_status
        if status is TransactionStatus.INERROR:
            raise TransactionFailed(
                "a statement in it failed, and the handler went on: nothing of it can be committed. What may fail"
                " belongs in a `with connection.transaction()` of its own"
            )
        if status is TransactionStatus.UNKNOWN:
            raise translated(self._store, psycopg.OperationalError("the connection was lost"), is_lost=True)
        if status is not TransactionStatus.INTRANS:
            raise TransactionFailed(_ENDED)

    def _raise_if_lost(self, error: BaseException) -> None:
        if self._connection.closed and isinstance(error, psycopg.Error):
            raise translated(self._store, error, is_lost=True) from error

    def roll_back(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            with suppress(*ORDERLY):
                self._block.__exit__(_RolledBack, _RolledBack(), None)

    def end_by_force(self, why: str) -> None:  # noqa: ARG002 (the handler hears it from the server)
        self._has_ended = self.is_taken_away = True
        with suppress(SzalError):
            self._end_session(self._session)
        if self._connection.lock.acquire(timeout=_PATIENCE):  # until the statement that runs has heard of it
            self._connection.lock.release()

    def close(self) -> None:
        """Do nothing: it is the pool's."""

    def put_in_order(self) -> None:
        """Have the connection be as it was."""
        connection = self._connection
        connection.row_factory = self._before[1]
        if not connection.closed and connection.info.transaction_status is TransactionStatus.IDLE:
            connection.isolation_level = self._before[0]


class _RolledBack(Exception):
    """What a block of psycopg's is left with, to be rolled back."""


class PostgresGuest(Guest):
    """The transaction of *connection*, which is the application's. *is_under_way* asks another one of its number."""

    def __init__(
        self, store: str, connection: object, statements: PostgresStatements, is_under_way: Callable[[str], bool]
    ) -> None:
        if not isinstance(connection, psycopg.Connection):
            raise no_connection("psycopg.Connection (psycopg 3)", connection)
        self._store = store
        self._connection: psycopg.Connection[Any] = connection
        self._said = statements
        self._is_under_way = is_under_way
        self._number = ""

    def check(self) -> None:
        if self._connection.closed:
            raise ValueError("the connection is closed")
        is_idle = self._connection.info.transaction_status is TransactionStatus.IDLE
        if is_idle and self._connection.autocommit:
            raise ValueError(
                "no transaction is open on the connection: begin one first (`with connection.transaction()`)"
            )

    def do(self, work: Callable[[Transaction], Made]) -> Made:
        made = work(PostgresTransaction(self._store, self._connection))
        ((number,),) = execute(self._connection, self._said.transaction).fetchall()
        if self._number not in ("", number):
            raise TransactionFailed(SPLIT)
        self._number = number
        return made

    def is_of(self, database: Database) -> bool:
        here = database.read(self._said.identity)
        return bool(execute(self._connection, self._said.identity).fetchall() == here)

    def is_over(self) -> bool:
        return not self._is_under_way(self._number)
