"""Transactions of the application's in a test whose store is in memory: what a step came to stands if these do.

In a test there may be one transaction that is never committed, and savepoints in it. So what counts is whether what was
written in it is still there as the handler has ended: a mark is, which is taken back with it.
"""

import itertools
import sqlite3
from typing import Any, Final, Protocol

import attrs

from szal.errors import NotSupportedHere
from szal.stores.ledger import Lease, Ledger, ledger_of
from szal.stores.transactions import Fate, JoinedTransaction, OpenTransaction
from szal.stores.writes import SaveStep

__all__ = ["Joinable", "is_in_memory"]

_NUMBERS: Final = itertools.count(1)


def is_in_memory(store: object) -> bool:
    """Whether *store* is one in memory, or stands in front of one."""
    ledger = ledger_of(store)
    return ledger is not None and ledger.name == "memory:"


class Joinable:
    """A store in memory, as *store* is, for handlers that have ``ctx.transaction(connection=…)``."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.ledger = _JoinableLedger(store.ledger)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _JoinableLedger:
    """The ledger of such a store."""

    def __init__(self, behind: Ledger) -> None:
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def transaction(self, lease: Lease, limit: float) -> OpenTransaction:  # noqa: ARG002
        """Refuse: there is no database."""
        why = 'the test\'s store is in memory: give it the database, with store="sqlite:///…" or store="postgresql://…"'
        raise NotSupportedHere("ctx.transaction()", why)

    def join(self, lease: Lease, connection: object) -> JoinedTransaction:  # noqa: ARG002
        """Return the application's transaction on *connection*, whichever database that is of."""
        return _JoinedInTest(_marks_of(connection), self._behind)


class _Marks(Protocol):
    """The marks in the transactions of one connection."""

    def make(self, name: str) -> None: ...
    def is_there(self, name: str) -> bool: ...


def _marks_of(connection: object) -> "_Marks":
    if isinstance(connection, sqlite3.Connection):
        return _SqliteMarks(connection)
    if type(connection).__module__.partition(".")[0] == "psycopg":
        return _PostgresMarks(connection)
    kind = type(connection).__name__
    raise TypeError(f"ctx.transaction(connection=…) takes a connection of psycopg's or sqlite3's, not {kind}")


@attrs.frozen
class _SqliteMarks:
    _connection: sqlite3.Connection

    def make(self, name: str) -> None:
        self._connection.execute(f"CREATE TEMP TABLE {name} (mark INTEGER)")

    def is_there(self, name: str) -> bool:
        asked = self._connection.execute("SELECT 1 FROM sqlite_temp_master WHERE name = ?", (name,))
        return asked.fetchone() is not None


@attrs.frozen
class _PostgresMarks:
    _connection: Any

    def make(self, name: str) -> None:
        self._connection.execute(f"CREATE TEMP TABLE {name} (mark integer)")

    def is_there(self, name: str) -> bool:
        asked = self._connection.execute("SELECT to_regclass(%s) IS NOT NULL AS found", (f"pg_temp.{name}",))
        [found] = asked.fetchone()
        return bool(found)


@attrs.define
class _JoinedInTest(JoinedTransaction):
    """A transaction that an outcome is recorded in: it is written once the mark is found."""

    _marks: _Marks
    _ledger: Ledger
    _memos: list[SaveStep] = attrs.field(factory=list)
    _mark: str = attrs.field(factory=lambda: f"szal_mark_{next(_NUMBERS)}")

    def write(self, write: SaveStep) -> None:
        self._memos.append(write)

    def record(self, write: SaveStep) -> None:  # noqa: ARG002
        self._marks.make(self._mark)

    def fate(self, write: SaveStep) -> Fate:
        if not self._marks.is_there(self._mark):
            return Fate.ROLLED_BACK
        self._ledger.apply([*self._memos, write])
        return Fate.COMMITTED
