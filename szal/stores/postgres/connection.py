"""One connection to PostgreSQL: used in autocommit mode, put in order after that, or let go of without a word."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from szal.errors import SzalError
from szal.interruption import interruption_in

__all__ = ["DRIVER_ERRORS", "ORDERLY", "Connection", "detach", "in_autocommit", "pipeline"]

Connection: TypeAlias = "psycopg.Connection[Any]"
T = TypeVar("T")

# Besides psycopg's: text that is not UTF-8.
DRIVER_ERRORS = (psycopg.Error, UnicodeError)
# What leaves a connection that can be put in order. Anything else (a signal handler's) may have come in the middle.
ORDERLY = (*DRIVER_ERRORS, SzalError)


def in_autocommit(connection: Connection, work: Callable[[Connection], T]) -> T:
    """Return what *work* makes of *connection* in autocommit mode, and bring it out of any transaction that is open."""
    before, autocommit = sys.exception(), connection.autocommit
    if not autocommit:
        connection.autocommit = True
    try:
        made = work(connection)
    except ORDERLY as error:
        if (interruption := interruption_in(error, before)) is not None:
            raise interruption from None
        _put_in_order(connection, autocommit=autocommit)
        raise
    _put_in_order(connection, autocommit=autocommit)
    return made


@contextmanager
def pipeline(connection: Connection) -> Iterator[None]:
    """Send what is executed in here together, where libpq is not older than 14."""
    if not psycopg.Pipeline.is_supported():
        yield
        return
    before = sys.exception()
    with connection.pipeline():
        try:
            yield
        except BaseException as error:
            if not isinstance(error, ORDERLY) or interruption_in(error, before) is not None:
                connection.close()  # it came in the middle of a statement: the pipeline would wait for its answer
            raise


def _put_in_order(connection: Connection, *, autocommit: bool) -> None:
    if not connection.closed:
        with suppress(psycopg.Error):
            if connection.pgconn.transaction_status != TransactionStatus.IDLE:
                connection.rollback()
            if not autocommit:
                connection.autocommit = False


def detach(connection: Connection) -> None:
    """Let go of a connection that the parent shares with this process, without a word on the wire.

    Closing it would say good-bye in the parent's name; keeping its socket open would keep the session of a parent
    that was killed, and the locks that it holds.
    """
    with suppress(psycopg.Error, OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, connection.fileno())
        os.close(nowhere)
