"""The clock that runs go by: what the time is, and how it is waited for.

That of the machine is `REAL`. A test may give an engine another one, which it moves by hand. Only what a flow says goes
by it: limits, waits, back-offs, and when something was. Leases, commits and idle threads go by the machine's, whatever
a test says.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from szal import clock
from szal.waiters import wait_for

__all__ = ["REAL", "Clock", "Driven", "Inbox", "Sleeper"]


class Inbox(Protocol):
    """Where a coordinating thread hears of what ends by itself."""

    has_calls: bool
    finished: Any

    def wait(self, timeout: float) -> Any:
        """Wait, so many seconds at most, for something to end."""


class Sleeper(Protocol):
    """An attempt that sleeps."""

    @property
    def cancelled(self) -> bool:
        """Whether it is to wake up."""


class Driven(Protocol):
    """A run."""

    @property
    def thread(self) -> int | None:
        """The thread that coordinates it; None: one that is about to."""

    @property
    def is_waited_for(self) -> bool:
        """Whether the thread that began it does nothing else meanwhile."""

    def is_around(self) -> bool:
        """Whether whoever asks is in this run."""

    def under_way(self, *, listens: bool) -> int:
        """Return for how much it waits that is neither a time nor a signal: handlers at work, and commits.

        *listens*: its coordinating thread waits for what ends; else it is in a handler. It asks, or stays where it is.
        """


class Clock:
    """The clock of this machine. One that stands in its place has its methods."""

    stands_still: bool = False
    """Whether no time passes while a handler is at work, so that no limit comes where nobody could act on it."""
    monotonic: Callable[[], float] = staticmethod(clock.monotonic)
    """Return seconds from some point on: for durations and deadlines."""
    wall: Callable[[], float] = staticmethod(clock.wall)
    """Return Unix time."""

    def __repr__(self) -> str:
        return "REAL" if type(self) is Clock else f"<{type(self).__name__}>"

    def utc_now(self) -> datetime:
        """Return the time, as an aware datetime.

        >>> REAL.utc_now().tzinfo is UTC
        True
        """
        return datetime.fromtimestamp(self.wall(), UTC)

    def of_store(self, ask: Callable[[], float]) -> float:
        """Return the Unix time that the waits of recorded executions go by: the database's own, which *ask* asks for.

        It alone is the same for whoever goes on with them.
        """
        return ask()

    def of_run(self, run: Driven, host: "Clock | None") -> "Clock":  # noqa: ARG002
        """Return what a run has of this clock; *host* is what the run has in whose handler its own thread is."""
        return self

    def run_begins(self) -> None:
        """Take note that the run begins, on this thread or one that is about to. The next three are of a run's."""

    def run_ends(self) -> None:
        """Take note that it is over, and whoever waits for it has been told."""

    def wait(self, inbox: Inbox, due: float | None, longest: float) -> Any:
        """Wait for something to end, until *due* (monotonic) comes, or for a signal of another thread.

        For *longest* seconds at most: then, as in all other cases, it returns what `Inbox.wait` does. Coordinating
        thread only.
        """
        left = longest if due is None else min(longest, max(0.0, due - self.monotonic()))
        return inbox.wait(left)

    def sleep(self, sleeper: Sleeper, waiter: threading.Lock, until: float) -> None:  # noqa: ARG002
        """Wait until *until* (monotonic), or until somebody releases *waiter*, which is held; it may be for less."""
        wait_for(waiter, until - self.monotonic())


REAL: Final = Clock()
"""The clock of this machine."""
