"""How often something has happened in this process."""

import os

__all__ = ["Count"]


class Count:
    """Counts what is rare. From any thread, signal handler and destructor: there is no lock.

    What the parent of a forked process has counted is the parent's.

    >>> failures = Count()
    >>> failures.add()
    >>> failures.value
    1
    """

    def __init__(self) -> None:
        self._processes: list[int] = []  # one for each: unlike a number, a list is changed in one step

    def add(self) -> None:
        """Count one more."""
        self._processes.append(os.getpid())

    @property
    def value(self) -> int:
        """How many there have been."""
        return self._processes.count(os.getpid())
