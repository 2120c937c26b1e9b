"""Many numbers, as how many there were of which size."""

from bisect import bisect_left
from collections.abc import Sequence

import attrs

__all__ = ["Distributing", "Distribution"]


@attrs.frozen
class Distribution:
    """How many numbers there were up to each bound, and beyond the last one; and what those come to together.

    >>> sizes = Distributing((1, 10))
    >>> for size in (1, 2, 3, 500):
    ...     sizes.add(size)
    >>> sizes.so_far()
    Distribution(bounds=(1, 10), counts=(1, 2, 1), sums=(1, 5, 500))
    >>> sizes.so_far().count, sizes.so_far().total
    (4, 506)
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    """How many there were, by bucket: up to the first bound, from there to the second, …, beyond the last."""
    sums: tuple[float, ...]
    """The sum of those, by bucket."""

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(self.sums)


class Distributing:
    """The same while it is being counted. Whoever has it guards it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sums: list[float] = [0] * (len(self._bounds) + 1)

    def add(self, value: float) -> None:
        """Count *value*."""
        place = bisect_left(self._bounds, value)
        self._counts[place] += 1
        self._sums[place] += value

    def so_far(self) -> Distribution:
        """Return what it has come to."""
        return Distribution(self._bounds, tuple(self._counts), tuple(self._sums))
