"""Hearing of what others have done, in whatever process that was: queued something, changed it, or given it back."""

import threading
from collections.abc import Callable, Collection
from typing import Final, Protocol

__all__ = ["LIMITS", "QUEUE", "ChangeListener", "Listener", "listen"]

QUEUE: Final = "szal_queue"
"""Where it is told that something was queued."""

LIMITS: Final = "szal_limits"
"""Where it is told that something is given back of what steps share."""


class Listener(Protocol):
    """Waits for something to happen. One thread's; `close` may come from any."""

    def wait(self, timeout: float) -> None:
        """Return as soon as something may have happened since the last call, after *timeout* seconds at most.

        It may return earlier for nothing. Never raises what comes of the store: where that is away, it just waits.
        """

    def close(self) -> None:
        """End it: who waits does so no longer than it takes to notice."""


def listen(listener: Listener, is_over: threading.Event, tell: Callable[[], object], every: float) -> None:
    """Call *tell* whenever *listener* has heard something, and *every* so many seconds, until *is_over* is set.

    Then the listener is closed, by this thread, which alone may let go of what it listens on.
    """
    while not is_over.is_set():
        listener.wait(every)
        tell()
    listener.close()
    listener.wait(0.0)


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
