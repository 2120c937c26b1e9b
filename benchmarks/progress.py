"""How far a run of the suite is."""

import math
import time
from collections.abc import Callable, Sequence

__all__ = ["Progress"]


class Progress:
    """Says which part is being done, and how long the rest may take, as far as the parts before can tell.

    *parts* are how much each is, in any unit.
    """

    def __init__(self, parts: Sequence[float], now: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._now = now
        self._began = now()
        self._number = 0

    def next(self) -> None:
        """Begin with the next part."""
        self._number += 1

    def __str__(self) -> str:
        where = f"{self._number} of {len(self._parts)}"
        done = sum(self._parts[: self._number - 1])
        if not done:
            return where
        left = (self._now() - self._began) / done * sum(self._parts[self._number - 1 :])
        return f"{where}, some {math.ceil(left / 60)} min left"
