"""Threads that sleep until another one wakes them, without a lock between the two.

A signal handler runs on a thread that may be anywhere: about to fall asleep, or half way through waking others. With
`threading.Condition`, its notification is lost in the first case; with `threading.Event`, it waits in the second for a
lock that its own thread holds. Here each waiting thread has a lock of its own in a set, and every step is one atomic
operation on that set. Who waits registers first and then looks whether it need wait; who wakes has first changed
what is looked at, and then takes who is registered. Whichever comes second sees the first. A fork finds no lock held
that a child would miss.
"""

import threading
from collections.abc import Callable

__all__ = ["Waiters", "wait_unless", "wake_all"]

Waiters = set[threading.Lock]


def wait_unless(waiters: Waiters, happened: Callable[[], object], timeout: float | None) -> None:
    """Sleep until woken, for at most *timeout* seconds; not at all if *happened* says so."""
    waiter = threading.Lock()
    waiter.acquire()
    try:
        waiters.add(waiter)
        if not happened():
            waiter.acquire(timeout=-1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))
    finally:
        waiters.discard(waiter)


def wake_all(waiters: Waiters) -> None:
    """Wake every thread that is waiting. May be called again where an interruption kept it from the end."""
    for waiter in waiters.copy():  # atomic; iterating is not
        try:
            waiter.release()
        except RuntimeError:  # another thread has, just now
            continue
        waiters.discard(waiter)  # not before: it would sleep on if an interruption came in between
