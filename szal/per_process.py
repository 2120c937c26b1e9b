"""What each process has one of: the child of a fork makes its own."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["PerProcess"]

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One for each process, made at its first use there. From any thread, without a lock.

    Where two threads are the first, both make one, and one is kept.

    >>> numbers = PerProcess()
    >>> numbers.get(), numbers.get_or_make(lambda: 7), numbers.get()
    (None, 7, 7)
    """

    def __init__(self) -> None:
        self._made: dict[int, T] = {}  # by pid: it changes in one atomic operation

    def get(self) -> T | None:
        """Return the one of this process, if it has been made."""
        return self._made.get(os.getpid()) if self._made else None

    def get_or_make(self, make: Callable[[], T]) -> T:
        """Return the one of this process."""
        found = self.get()
        return self._made.setdefault(os.getpid(), make()) if found is None else found
