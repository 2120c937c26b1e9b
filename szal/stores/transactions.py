"""Transactions that handlers write in (`StepContext.transaction`), as engines see them: a store's own, and others'."""

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from szal.stores.writes import SaveStep

__all__ = ["Fate", "JoinedTransaction", "OpenTransaction"]


class Fate(Enum):
    """What has become of a transaction that somebody else ends."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    OPEN = "open"


class OpenTransaction(Protocol):
    """A transaction of the store's own: a handler writes in it, and the outcome of its step is written last."""

    @property
    def connection(self) -> Any:
        """What the handler writes through: psycopg's or sqlite3's."""

    @property
    def problem(self) -> Exception | None:
        """Why it has ended before its time."""

    def open(self, check: Callable[[], None]) -> None:
        """Begin it, once it is its turn. Raises `LeaseLost`, and what *check* raises, which is asked now and then."""

    def write(self, write: SaveStep) -> None:
        """Write that in it. From the handler's threads."""

    def commit(self, write: SaveStep, timeout: float) -> None:
        """Write that, if its lease is held, and commit. After an exception nothing has happened, with one exception.

        `CommitUnknown`: for so many seconds nobody could be asked. Raises `LeaseLost`, `TransactionFailed` where it has
        ended before, what the driver raises for what the handler wrote, and what stores raise.
        """

    def roll_back(self) -> None:
        """End it, if it has not ended. Never raises."""

    def abandon(self) -> None:
        """Have it rolled back soon, whatever the handler is at, which cannot use its connection any more.

        From any thread; waits for nothing.
        """


class JoinedTransaction(Protocol):
    """A transaction of the application's, on a connection of its own. Used by the handler's threads."""

    def write(self, write: SaveStep) -> None:
        """Write that in it."""

    def record(self, write: SaveStep) -> None:
        """Write that in it, if its lease is held. Raises `LeaseLost`."""

    def fate(self, write: SaveStep) -> Fate:
        """Return what has become of it, in which *write* was recorded last."""
