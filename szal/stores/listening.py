"""Hearing that something was queued, in whatever process that was."""

from typing import Protocol

__all__ = ["Listener"]


class Listener(Protocol):
    """Waits for something to be queued. One thread's; `close` may come from any."""

    def wait(self, timeout: float) -> None:
        """Return as soon as something may have been queued since the last call, after *timeout* seconds at most.

        It may return earlier for nothing. Never raises what comes of the store: where that is away, it just waits.
        """

    def close(self) -> None:
        """End it: who waits does so no longer than it takes to notice."""
