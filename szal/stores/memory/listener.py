"""Hearing of what happens in a memory store: whoever does something tells."""

from collections.abc import Collection
from contextlib import suppress
from queue import Empty
from weakref import WeakSet

from szal.stores.listening import ChangeListener, Listener
from szal.waiters import Mailbox, Waiters, wait_unless, wake_all

__all__ = ["Hearers", "MemoryChanges", "MemoryListener"]


class MemoryListener(Listener):
    """Is told by whoever submits, or gives something back."""

    def __init__(self) -> None:
        self._heard: Mailbox[None] = Mailbox()

    def hear(self) -> None:
        """Have whoever waits look. From any thread."""
        self._heard.put(None)

    def wait(self, timeout: float) -> None:
        with suppress(Empty):
            self._heard.next(timeout)

    def close(self) -> None:
        self.hear()


class Hearers:
    """Who listens, for as long as that is."""

    def __init__(self) -> None:
        self._all: WeakSet[MemoryListener] = WeakSet()

    def new(self) -> MemoryListener:
        """Return one more."""
        listener = MemoryListener()
        self._all.add(listener)
        return listener

    def tell(self) -> None:
        """Have all of them look."""
        for listener in [*self._all]:
            listener.hear()


class MemoryChanges(ChangeListener):
    """Is told by whoever writes."""

    def __init__(self) -> None:
        self._changed: set[str] = set()  # by atomic operations only
        self._waiters: Waiters = set()
        self._is_closed = False

    def attend(self, execution_id: str) -> None:
        """Do nothing: whoever writes tells of everything."""

    def hear(self, execution_id: str) -> None:
        """Take note that an execution has changed. From any thread."""
        self._changed.add(execution_id)
        wake_all(self._waiters)

    def wait(self, timeout: float) -> Collection[str]:
        wait_unless(self._waiters, lambda: self._changed or self._is_closed, timeout)
        found: set[str] = set()
        with suppress(KeyError):
            while True:
                found.add(self._changed.pop())
        return found

    def close(self) -> None:
        self._is_closed = True
        wake_all(self._waiters)
