"""So many threads at a time may do something; the others wait."""

from collections.abc import Callable

from szal.process_events import enroll_renewal
from szal.waiters import Waiters, wait_unless, wake_all

__all__ = ["Slots"]

_LOOK_AGAIN = 0.1
"""Seconds after which who waits sees whether it still has to."""


class Slots:
    """*number* of them, of which each thread that may has one. They do not outlive a fork: a child has all of its own.

    >>> slots = Slots(1)
    >>> slots.take(lambda: True)
    True
    >>> slots.give_back()
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._waiters: Waiters = set()
        enroll_renewal(self, Slots._renew)
        self._renew()

    def _renew(self) -> None:
        self._free: list[None] = [None] * self._number  # taking one is one atomic operation
        self._waiters = set()

    def take(self, is_wanted: Callable[[], bool]) -> bool:
        """Wait for one, for as long as it *is_wanted*; return whether there is one."""
        while is_wanted():
            try:
                self._free.pop()
            except IndexError:
                wait_unless(self._waiters, lambda: bool(self._free), _LOOK_AGAIN)
            else:
                return True
        return False

    def give_back(self) -> None:
        """Have somebody else take it."""
        self._free.append(None)
        wake_all(self._waiters)
