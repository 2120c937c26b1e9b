"""Hearing of what others have done, in whatever process that was: queued something, changed it, or given it back."""

import threading
from collections.abc import Callable, Collection
from typing import Final, Protocol

__all__ = ["LIMITS", "QUEUE", "ChangeListener", "Listener", "Listening"]

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


class Listening:
    """A thread that calls *tell* whenever *listener* has heard something, and *every* so many seconds, until `close`.

    The listener is closed by that thread, which alone may let go of what it listens on. Making one raises RuntimeError
    where there is no thread to be had.
    """

    def __init__(self, listener: Listener, tell: Callable[[], object], every: float) -> None:
        self._listener = listener
        self._is_over = threading.Event()
        threading.Thread(target=self._listen, args=(tell, every), name="szal-listener", daemon=True).start()

    def _listen(self, tell: Callable[[], object], every: float) -> None:
        while not self._is_over.is_set():
            self._listener.wait(every)
            tell()
        self._listener.close()
        self._listener.wait(0.0)

    def close(self) -> None:
        """End it. From any thread; waits for nothing."""
        self._is_over.set()
        self._listener.close()


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
