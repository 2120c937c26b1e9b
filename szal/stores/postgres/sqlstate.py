"""What an error of PostgreSQL means: judged by its SQLSTATE and its class, never by its words."""

import os
import re
import select

import psycopg
from psycopg import pq

from szal.clock import monotonic
from szal.errors import NotMigrated, StoreError, StoreFailed, StoreUnavailable

__all__ = ["is_of_a_prepared_statement", "is_of_the_session", "may_pass", "one_line", "refusal", "translated"]

# Classes: connection exceptions; transactions that lost to others; out of memory, disk or connections.
_PASSING_CLASSES = ("08", "40", "53")
_PASSING = frozenset(
    {
        "25006",  # read-only: a standby, or a server that has run out of space
        "25P03",  # the session was ended for being idle: in a transaction,
        "25P04",  # for the length of its transaction,
        "57P05",  # or at all
        "26000",  # a prepared statement is not there, or is already: behind a proxy
        "42P05",  # it may be another session's
        "55P03",  # a lock was not to be had in lock_timeout
        "57014",  # it took longer than statement_timeout, or an administrator cancelled it
        "57P01",  # an administrator ended the session, or is stopping the server
        "57P02",  # another session has crashed the server
        "57P03",  # it is starting or stopping
        "58030",  # input or output failed
    }
)
_UNPREPARED = frozenset({"26000", "42P05"})
_OF_THE_SESSION = _UNPREPARED | {"25006"}
_MISSING = {
    "42P01": "table szal_executions",
    "3F000": "the schema of table szal_executions",
    "42703": "a column of szal's tables",
    "42883": "function szal_fill",
}


def may_pass(state: str) -> bool:
    """Whether trying again, perhaps on a new connection, can cure an error with this SQLSTATE.

    >>> [may_pass(state) for state in ("40001", "57P03", "57014", "28P01")]
    [True, True, True, False]
    """
    return state.startswith(_PASSING_CLASSES) or state in _PASSING


def is_of_the_session(error: Exception) -> bool:
    """Whether another session may do better: one that began before a failover stays read-only, for example."""
    return getattr(error, "sqlstate", None) in _OF_THE_SESSION


def is_of_a_prepared_statement(error: Exception) -> bool:
    """Whether the session does not have the prepared statements that it should have, and no others."""
    return getattr(error, "sqlstate", None) in _UNPREPARED


def translated(store: str, error: Exception, *, is_lost: bool) -> StoreError:
    """Return szal's error for the driver's; *is_lost*: there is no connection, or none any more."""
    problem = _problem(error)
    if not isinstance(error, psycopg.Error):
        return StoreFailed(store, problem)
    state = error.sqlstate
    # Without one it is libpq's own, or the pool's. With a connection that is none the worse, it is what was to be sent.
    if may_pass(state) if state else is_lost and isinstance(error, psycopg.OperationalError):
        return StoreUnavailable(store, problem)
    if state in _MISSING:
        return NotMigrated(store, _MISSING[state])
    return StoreFailed(store, problem)


def _problem(error: Exception) -> str:
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return primary or one_line(error)


def one_line(error: BaseException) -> str:
    """Return what *error* says, without line breaks; libpq writes many."""
    return " ".join(str(error).split()) or type(error).__name__


# -- connecting -------------------------------------------------------------------------------------

_REFUSAL = re.compile(rb'\tErrorResponse\t [^\n]*? C "(\w{5})" M "')


def refusal(conninfo: str, timeout: float) -> str | None:
    """Return the SQLSTATE with which the server refuses to be connected to; None where it says nothing.

    libpq has the code, and tells it to nobody but its trace: so this connects once more, and reads that. The trace
    stays in memory. Where there is none (it is Linux's) the answer is None.
    """
    if not hasattr(os, "memfd_create"):
        return None
    trace = os.memfd_create("szal")
    pgconn = pq.PGconn.connect_start(conninfo.encode())
    try:
        pgconn.trace(trace)
        _connect(pgconn, monotonic() + timeout)
        pgconn.untrace()
        codes = _REFUSAL.findall(os.pread(trace, 1_000_000, 0))
    finally:
        pgconn.finish()
        os.close(trace)
    return codes[-1].decode() if codes else None


def _connect(pgconn: pq.abc.PGconn, deadline: float) -> None:
    while (status := pgconn.connect_poll()) in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
        waiting = [pgconn.socket]
        reading = status == pq.PollingStatus.READING
        ready = select.select(
            waiting if reading else [], [] if reading else waiting, [], max(0.0, deadline - monotonic())
        )
        if not any(ready):
            return
