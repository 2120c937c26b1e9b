"""A bounded mailbox between publishers that never wait and a reader that may be slow."""

from collections import deque
from collections.abc import Callable
from queue import Empty
from types import TracebackType
from typing import Generic, Self, TypeVar

import attrs

from szal import process_events
from szal.clock import monotonic
from szal.waiters import Waiters, wait_unless, waitable, wake_all

__all__ = ["Subscription"]

T = TypeVar("T")


# NO_OP: for a validator, attrs would otherwise give the class a __setattr__ that doubles the cost of put().
@attrs.define(eq=False, repr=False, on_setattr=attrs.setters.NO_OP)
class Subscription(Generic[T]):
    """An iterator over what is published; when it is full, the oldest item makes room and `lagged` counts it.

    Iterating blocks until the next item and ends when the subscription is closed and empty: what arrived before
    `close` is still delivered. Any number of threads may read; each item goes to one of them. Publishers hold
    a subscription weakly, so one that is simply dropped goes away by itself.

    Every method may be called from any thread, and from a signal handler or finalizer, whatever that interrupts:
    there is no lock, each step is one atomic operation on a deque or set. In a process that was forked,
    a subscription begins empty: what arrived before is the parent's to read.

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
    _waiters: Waiters = attrs.field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        process_events.enroll_renewal(self, Subscription._begin_anew)

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
        if self._closed:
            return
        items = self._items
        try:
            items.append(item)
            if len(items) > self.capacity:
                self._drop_oldest()
            if self._waiters:
                wake_all(self._waiters)
        except BaseException:  # an interruption: it goes on, but nobody sleeps on beside an item
            wake_all(self._waiters)
            raise

    def get(self, timeout: float | None = None) -> T | None:
        """Return the next item, waiting up to *timeout* seconds; None if time is up or nothing will come.

        `closed` tells the two apart, which is what a server needs that sends a keep-alive when all is quiet.

        >>> quiet = Subscription(capacity=8)
        >>> quiet.get(timeout=0), quiet.closed
        (None, False)
        """
        try:
            return self._take(timeout)
        except Empty:
            return None

    def close(self) -> None:
        """Accept nothing more, and end the iteration after what has arrived. May be called anywhere, again too."""
        try:
            self._closed = True
            wake_all(self._waiters)
        except BaseException:
            wake_all(self._waiters)
            raise
        finally:
            if self._on_close is not None:
                self._on_close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            return self._take(None)
        except Empty:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, timeout: float | None) -> T:
        """Return the next item, waiting for it; raise `Empty` if there is none in time, or will be none."""
        until = None if timeout is None else monotonic() + waitable(timeout)
        while True:
            closed = self._closed  # before looking for an item: what arrived before is still delivered
            try:
                return self._items.popleft()
            except IndexError:
                left = None if until is None else until - monotonic()
            if closed or (left is not None and left <= 0):
                raise Empty
            wait_unless(self._waiters, lambda: self._items or self._closed, left)

    def _drop_oldest(self) -> None:
        while len(self._items) > self.capacity:
            try:
                self._items.popleft()
            except IndexError:  # readers were faster
                return
            self._lagged += 1  # threads and signal handlers do not come in between: there is no call in this

    def _begin_anew(self) -> None:
        """Leave to the parent of a forked process what is the parent's."""
        self._items = deque()
        self._lagged = 0
        self._waiters = set()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Subscription {state}, {len(self._items)}/{self.capacity} waiting, {self._lagged} dropped>"
