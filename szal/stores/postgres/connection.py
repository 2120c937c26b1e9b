"""One connection to PostgreSQL: used in autocommit mode, put in order after that, or let go of without a word."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from szal.errors import SzalError
from szal.interruption import interruption_in

__all__ = [
    "DRIVER_ERRORS",
    "ENDED",
    "ORDERLY",
    "InAutocommit",
    "PostgresConnection",
    "check_length",
    "cursor",
    "detach",
    "execute",
    "is_behind_a_proxy",
    "pipeline",
    "shut",
    "without_jit",
]

PostgresConnection: TypeAlias = "psycopg.Connection[Any]"
T = TypeVar("T")

# Besides psycopg's: text that is not UTF-8.
DRIVER_ERRORS = (psycopg.Error, UnicodeError)
# What leaves a connection that can be put in order. Anything else (a signal handler's) may have come in the middle.
ORDERLY = (*DRIVER_ERRORS, SzalError)
_UTF8 = b"UTF8"
ENDED = "57P"
"""How the SQLSTATE begins with which a server ends a session."""


class InAutocommit:
    """A block that uses *connection* in autocommit mode; after it, that is as before, and in no transaction.

    Without *prepares* no statement is prepared in it; else it is as the connection says.
    """

    def __init__(self, connection: PostgresConnection, *, prepares: bool) -> None:
        self._connection = connection
        self._prepares = prepares
        self._before = sys.exception()
        self._autocommit = connection.autocommit
        self._threshold = connection.prepare_threshold
        self._encoding = connection.pgconn.parameter_status(b"client_encoding")

    def __enter__(self) -> None:
        connection = self._connection
        if not self._autocommit:
            connection.autocommit = True
        if not self._prepares:
            connection.prepare_threshold = None
        if self._encoding == _UTF8:
            return
        try:
            connection.execute(b"SET client_encoding TO 'UTF8'")  # else text may come as bytes, or not at all
        except ORDERLY as error:
            self._leave(error)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is None or issubclass(kind, ORDERLY):
            self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        if error is not None and (interruption := interruption_in(error, self._before)) is not None:
            raise interruption from None
        self._connection.prepare_threshold = self._threshold
        _put_in_order(self._connection, autocommit=self._autocommit, encoding=self._encoding)


def is_behind_a_proxy(connection: PostgresConnection) -> bool:
    """Return whether something stands between, such as PgBouncer, and may give each transaction another session.

    It has to make up the number of the process by which a session is cancelled, as it has no one session.
    """
    ((pid,),) = cursor(connection).execute("SELECT pg_backend_pid()").fetchall()
    return bool(pid != connection.info.backend_pid)


def without_jit(connection: PostgresConnection) -> None:
    """Have no statement of this session compiled, where the server does that.

    szal's are short. Where a table has grown since it was last looked at, the planner takes one for a long one, and
    compiling it takes a hundred times as long as running it.
    """
    with suppress(psycopg.Error):
        connection.execute(b"SET jit TO off")


def cursor(connection: PostgresConnection) -> "psycopg.Cursor[tuple[Any, ...]]":
    """Return a cursor as szal's statements need it, whatever kind the owner of a pool likes."""
    return psycopg.Cursor(connection, row_factory=tuple_row)


_LONGEST = 2**30 - 2**20
"""The bytes of what can be bound: a server closes the connection, without a word, at a message of 1 GB."""


def check_length(parameters: Sequence[object]) -> None:
    """Raise psycopg's DataError for more than the server takes at once; parameters are values, or columns of them."""
    texts: list[str] = []
    for each in parameters:
        if isinstance(each, str):
            texts.append(each)
        elif isinstance(each, list):
            texts += [value for value in each if isinstance(value, str)]
    if 4 * sum(map(len, texts)) <= _LONGEST:  # four bytes a letter at most
        return
    size = sum(len(text.encode(errors="replace")) for text in texts)
    if size > _LONGEST:
        raise psycopg.DataError(f"{size:,} bytes are more than PostgreSQL takes at once (1 GB)")


def execute(
    connection: PostgresConnection, statement: str, parameters: Sequence[object] = ()
) -> "psycopg.Cursor[tuple[Any, ...]]":
    """Run *statement*, in which a percent sign is doubled, whatever kind of rows the owner of a pool likes."""
    check_length(parameters)
    return cursor(connection).execute(statement.encode(), parameters)


@contextmanager
def pipeline(connection: PostgresConnection) -> Iterator[None]:
    """Send what is executed in here together, where libpq is not older than 14."""
    if not psycopg.Pipeline.is_supported():
        yield
        return
    before = sys.exception()
    try:
        with connection.pipeline():
            try:
                yield
            except BaseException as error:
                if not isinstance(error, ORDERLY) or interruption_in(error, before) is not None:
                    shut(connection)  # it came in the middle of a statement: the pipeline would wait for its answer
                raise
    except psycopg.Error as error:
        if connection.pgconn.pipeline_status == PipelineStatus.OFF:
            raise
        # It cannot be left: the server has said why it ends the session, and the end is still to come. psycopg raises
        # that the one cannot be, from the other.
        shut(connection)
        said = error.__context__
        if error.sqlstate is None and isinstance(said, psycopg.Error) and said is not before:
            raise said from None
        raise


def _put_in_order(connection: PostgresConnection, *, autocommit: bool, encoding: bytes | None) -> None:
    if not connection.closed:
        with suppress(psycopg.Error):
            if connection.pgconn.transaction_status != TransactionStatus.IDLE:
                connection.rollback()
            if encoding is not None and encoding != _UTF8:
                connection.execute(b"SET client_encoding TO '" + encoding + b"'")
            if not autocommit:
                connection.autocommit = False


def shut(connection: PostgresConnection) -> None:
    """Close *connection* for good. Its own `close` would give it back to a pool with ``close_returns``."""
    connection.pgconn.finish()


def detach(connection: PostgresConnection) -> None:
    """Let go of a connection that the parent shares with this process, without a word on the wire.

    Closing it would say good-bye in the parent's name; keeping its socket open would keep the session of a parent
    that was killed, and the locks that it holds.
    """
    with suppress(psycopg.Error, OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, connection.fileno())
        os.close(nowhere)
