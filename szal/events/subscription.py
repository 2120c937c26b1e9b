"""A bounded mailbox between publishers that never wait and a reader that may be slow."""

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import attrs

__all__ = ["Subscription"]

T = TypeVar("T")


# NO_OP: for a validator, attrs would otherwise give the class a __setattr__ that doubles the cost of put().
@attrs.define(eq=False, repr=False, on_setattr=attrs.setters.NO_OP)
class Subscription(Generic[T]):
    """An iterator over what is published; when it is full, the oldest item makes room and `lagged` counts it.

    Iterating blocks until the next item and ends when the subscription is closed and empty: what arrived before
    `close` is still delivered. Any number of threads may read; each item goes to one of them. Publishers hold
    a subscription weakly, so one that is simply dropped goes away by itself.

    >>> with Subscription(capacity=2) as letters:
    ...     for letter in "abc":
    ...         letters.put(letter)
    >>> list(letters), letters.lagged
    (['b', 'c'], 1)
    """

    capacity: int = attrs.field(validator=attrs.validators.ge(1))
    _on_close: Callable[[], object] | None = None
    _items: deque[T] = attrs.field(factory=deque, init=False)
    _lagged: int = attrs.field(default=0, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _readers: int = attrs.field(default=0, init=False)  # that are waiting: notifying none would cost half of put()
    # Guards the four above. Reentrant: a signal handler, or a finalizer that the garbage collector runs here,
    # may publish too.
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _changed: threading.Condition = attrs.field(init=False)

    @_changed.default
    def _condition(self) -> threading.Condition:
        return threading.Condition(self._lock)

    @property
    def lagged(self) -> int:
        """How many items were dropped, unread, to make room."""
        return self._lagged

    @property
    def closed(self) -> bool:
        """Whether nothing more will arrive; items that did arrive may still be waiting."""
        return self._closed

    def put(self, item: T) -> None:
        """Add *item*, dropping the oldest one if need be. Never waits; does nothing once closed."""
        oldest = None  # held until the lock is released: its finalizer is foreign code
        self._lock.acquire()  # twice as fast as a with statement, here where every event comes by
        try:
            if self._closed:
                return
            if len(self._items) >= self.capacity:
                oldest = self._items.popleft()
                self._lagged += 1
            self._items.append(item)
            if self._readers:
                self._changed.notify()
        finally:
            self._lock.release()
        del oldest

    def get(self, timeout: float | None = None) -> T | None:
        """Return the next item, waiting up to *timeout* seconds; None if time is up or nothing will come.

        `closed` tells the two apart, which is what a server needs that sends a keep-alive when all is quiet.

        >>> quiet = Subscription(capacity=8)
        >>> quiet.get(timeout=0), quiet.closed
        (None, False)
        """
        with self._lock:
            self._await_item(timeout)
            return self._items.popleft() if self._items else None

    def close(self) -> None:
        """Accept nothing more, and end the iteration after what has arrived. May be called anywhere, again too."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        if self._on_close is not None:
            self._on_close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._lock:
            self._await_item(None)
            if self._items:
                return self._items.popleft()
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await_item(self, timeout: float | None) -> None:
        """Wait, with the lock held by the caller, until there is an item or there will be none."""
        if self._items or self._closed:
            return
        self._readers += 1
        try:
            self._changed.wait_for(lambda: self._items or self._closed, timeout)
        finally:
            self._readers -= 1

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Subscription {state}, {len(self._items)}/{self.capacity} waiting, {self._lagged} dropped>"
