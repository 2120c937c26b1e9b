"""Python's garbage collector, put off while something large is made that holds no garbage.

It walks all containers that there are whenever they have become a quarter more: of a plan of 100 000 steps, half of the
time. It is the whole process's: other threads' garbage waits meanwhile too, for a second with 100 000 steps.
"""

import gc
import threading
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from szal import process_events
from szal.interruption import run_to_end

__all__ = ["without_collector"]

T = TypeVar("T")

_LARGE = 1000  # less is done before the collector would come to much


def without_collector(make: Callable[[], T], size: int = _LARGE) -> T:
    """Return what *make* returns, called while nothing is collected by itself; after that it is as it was before.

    *size* is how much it makes, in steps or less: little is made as always. Several threads may do so at once, and
    *make* may do so again. It calls no code but szal's.

    >>> without_collector(gc.isenabled), gc.isenabled()
    (False, True)
    """
    if size < _LARGE:
        return make()
    use = _Use()
    try:
        _collector.begin(use.number)
        return make()
    finally:
        run_to_end(use.end)


class _Use:
    """One call. It ends at the latest when nothing refers to it: an interruption may keep its caller from ending it."""

    def __init__(self) -> None:
        self.number = next(_numbers)

    def end(self) -> None:
        _collector.end(self.number)

    def __del__(self) -> None:
        self.end()


class _Collector:
    """Is off while it is in use, if it was on before."""

    def __init__(self) -> None:
        self._uses: dict[int, int] = {}  # the number of each, and its thread's
        self._was_on = False
        process_events.enroll_lock(self, _Collector._make_lock)

    def _make_lock(self) -> threading.RLock:
        """Make it anew; in the child of a fork the other threads, whose uses these are, are gone."""
        self._lock = threading.RLock()
        for number, thread in [*self._uses.items()]:
            if thread != threading.get_ident():
                self.end(number)
        return self._lock

    def begin(self, number: int) -> None:
        with self._lock:
            if not self._uses:
                self._was_on = gc.isenabled()
            self._uses[number] = threading.get_ident()
            gc.disable()

    def end(self, number: int) -> None:
        """End that use; nothing, if it never began, or has ended. May be interrupted, and called again."""
        with self._lock:
            if self._was_on and self._uses.keys() == {number}:
                gc.enable()
            self._uses.pop(number, None)


_numbers = count()
_collector = _Collector()
