"""Threads that sleep until another one wakes them, without a lock between the two.

A signal handler runs on a thread that may be anywhere: about to fall asleep, or half way through waking others. With
`threading.Condition`, its notification is lost in the first case; with `threading.Event`, it waits in the second for a
lock that its own thread holds. Here each waiting thread has a lock of its own in a set, and every step is one atomic
operation on that set. Who waits registers first and then looks whether it need wait; who wakes has first changed
what is looked at, and then takes who is registered. Whichever comes second sees the first. A fork finds no lock held
that a child would miss.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, Generic, Protocol, TypeVar

from szal.clock import monotonic

__all__ = [
    "LONGEST_WAIT",
    "Flag",
    "Mailbox",
    "Waiters",
    "Wakes",
    "get_within",
    "naps",
    "wait_for",
    "wait_unless",
    "waitable",
    "wake_all",
]

T = TypeVar("T")

Waiters = set[threading.Lock]


class Wakes(Protocol):
    """What a thread waits for that is to be woken: a lock that is held, or what looks like one."""

    def locked(self) -> bool: ...
    def release(self) -> None: ...


LONGEST_WAIT: Final = threading.TIMEOUT_MAX
"""In seconds. Locks and queues refuse to wait for longer: some centuries, or some weeks on Windows."""

_SHORTEST_OF_MAIN: Final = 0.002
_LONGEST_OF_MAIN: Final = 0.25


def waitable(seconds: float) -> float:
    """Return for how long to block where *seconds* were asked for: a time that every lock and queue takes.

    >>> waitable(10**400) == LONGEST_WAIT, waitable(-1), waitable(2.5)
    (True, 0.0, 2.5)
    """
    return float(max(0.0, min(seconds, LONGEST_WAIT)))


def wait_unless(waiters: Waiters, happened: Callable[[], object], timeout: float | None) -> None:
    """Sleep until woken, for at most *timeout* seconds; not at all if *happened* says so."""
    waiter = threading.Lock()
    waiter.acquire()
    try:
        waiters.add(waiter)
        if not happened():
            wait_for(waiter, timeout)
    finally:
        waiters.discard(waiter)


def wait_for(waiter: threading.Lock, timeout: float | None) -> None:
    """Sleep until somebody releases *waiter*, which is held, for at most *timeout* seconds."""
    for nap in naps(timeout):
        if waiter.acquire(timeout=nap):
            return


class Flag:
    """As `threading.Event`, but one that a signal handler may set, and whose `wait` hears every signal."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: Waiters = set()

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._is_set

    def set(self) -> None:
        """Wake all that wait, now and later."""
        self._is_set = True
        wake_all(self._waiters)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is set, at most *timeout* seconds; return whether it is."""
        if not self._is_set:
            wait_unless(self._waiters, self.is_set, timeout)
        return self._is_set


def naps(timeout: float | None) -> Iterator[float]:
    """Yield for how many seconds to block at a time, *timeout* in all.

    The main thread blocks for a short time only. A signal that comes when the interpreter has looked for signals and
    the operating system has not put the thread to sleep yet, a few microseconds later, does not end that sleep; what
    its handler would publish, cancel or raise waits until something else does. Most signals that come as the thread
    goes to sleep do so because of what it did before: so the first naps are the shortest.
    """
    until = monotonic() + (LONGEST_WAIT if timeout is None else waitable(timeout))
    nap = _SHORTEST_OF_MAIN if threading.get_ident() == threading.main_thread().ident else LONGEST_WAIT
    while (left := until - monotonic()) > nap:
        yield nap
        nap = min(2 * nap, _LONGEST_OF_MAIN)
    yield waitable(left)


def get_within(queue: "SimpleQueue[T]", seconds: float) -> T:
    """As `queue.get(timeout=seconds)`, but one that ends; for the one thread that takes from *queue*.

    `SimpleQueue.get` of CPython 3.11 and 3.12 first takes the queue's own lock, then works out how long to wait for
    it to be given back. A thread that is held up in between for longer than its time-out waits for ever. Who has just
    found the queue empty without waiting has left the lock taken, and never comes by there.
    It must not be the main thread, which has a `Mailbox` for that.

    >>> get_within(SimpleQueue(), 1e-9)
    Traceback (most recent call last):
        ...
    _queue.Empty
    """
    with suppress(Empty):
        return queue.get_nowait()
    return queue.get(timeout=waitable(seconds))


class Mailbox(Generic[T]):
    """A `queue.SimpleQueue` for one reader, which may be the main thread; anybody may put, a signal handler too.

    On CPython 3.11 and 3.12 a signal handler that takes longer than what is left of `SimpleQueue.get(timeout=)` makes
    it wait for ever. A lock does not: so the main thread waits for one that is released as something is put.
    """

    def __init__(self) -> None:
        self.items: SimpleQueue[T] = SimpleQueue()
        self.empty = self.items.empty
        self.get = self.items.get_nowait
        """Return what comes next; raises `queue.Empty`."""
        self._bell = threading.Lock()
        self._bell.acquire()
        self.is_listened_for = False
        """Whether the bell is to be rung for what is put, after that."""

    def put(self, item: T) -> None:
        """Add *item* to the end. Does not block."""
        self.items.put(item)
        if self.is_listened_for:
            self.ring()

    def ring(self) -> None:
        """Have the main thread look whether there is anything."""
        self.is_listened_for = False
        with suppress(RuntimeError):  # somebody else has rung it
            self._bell.release()

    def get_within(self, seconds: float) -> T:
        """Return what comes next; raises `queue.Empty` where nothing comes in so many seconds, or a little earlier."""
        if threading.get_ident() != threading.main_thread().ident:
            return get_within(self.items, seconds)
        self.is_listened_for = True
        if self.empty():
            self._bell.acquire(timeout=waitable(seconds))
        self.is_listened_for = False
        return self.get()

    def next(self, timeout: float | None = None) -> T:
        """Return what comes next, as soon as it is there; raises `queue.Empty` where nothing is after so many seconds.

        >>> mailbox = Mailbox()
        >>> mailbox.put("letter")
        >>> mailbox.next(timeout=5)
        'letter'
        """
        for nap in naps(timeout):
            with suppress(Empty):
                return self.get_within(nap)
        raise Empty


def wake_all(waiters: Waiters) -> None:
    """Wake every thread that is waiting. May be called again where an interruption kept it from the end."""
    for waiter in waiters.copy():  # atomic; iterating is not
        try:
            waiter.release()
        except RuntimeError:  # another thread has, just now
            continue
        waiters.discard(waiter)  # not before: it would sleep on if an interruption came in between
