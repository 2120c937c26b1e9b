"""Hearing that something was queued, or has changed, in whatever process that was."""

from collections.abc import Collection
from typing import Protocol

__all__ = ["ChangeListener", "Listener"]


class Listener(Protocol):
    """Waits for something to be queued. One thread's; `close` may come from any."""

    def wait(self, timeout: float) -> None:
        """Return as soon as something may have been queued since the last call, after *timeout* seconds at most.

        It may return earlier for nothing. Never raises what comes of the store: where that is away, it just waits.
        """

    def close(self) -> None:
        """End it: who waits does so no longer than it takes to notice."""


class ChangeListener(Protocol):
    """Waits for executions to change. `wait` is one thread's; the others may come from any."""

    def attend(self, execution_id: str) -> None:
        """Have whoever writes to that execution tell, from now on, for a minute at least.

        To be called again within that time. Never raises what comes of the store.
        """

    def wait(self, timeout: float) -> Collection[str] | None:
        """Return which executions have changed since the last call, as soon as one has, after *timeout* at most.

        None: any may have. It may be wrong about that: what has changed is seen by looking. Never raises.
        """

    def close(self) -> None:
        """End it: who waits does so no longer than it takes to notice."""
