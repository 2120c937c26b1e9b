"""From moments to places on a line: a scale of time, on which long idle times are short."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import attrs

from szal.legible import elapsed

__all__ = ["Scale", "Span"]

Span = tuple[float, float]
"""From when to when, in seconds since the beginning."""

_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)  # seconds
_MOST_TICKS: Final = 5
_GAP: Final = 8.0  # percent, for an idle time that is cut short
_MOST_GAPS: Final = 4
_LEAST_GAP: Final = 30.0  # seconds: what is waited between attempts is to be seen


@attrs.frozen
class Scale:
    """`marks` are moments (seconds) and their places (percent), in order; between two of them it is even."""

    marks: Sequence[tuple[float, float]]
    gaps: Sequence[Span]
    """The times that are cut short."""

    @classmethod
    def of(cls, total: float, busy: Iterable[Span]) -> "Scale":
        """Return a scale for *total* seconds; what is not *busy*, and much longer than all that is, is cut short.

        >>> scale = Scale.of(1000.0, [(0.0, 2.0), (900.0, 902.0)])
        >>> [round(scale.at(seconds)) for seconds in (0, 2, 900, 902, 1000)]
        [0, 42, 50, 92, 100]
        """
        total = max(total, 0.001)
        idle = list(_idle(total, busy))
        worked = total - sum(end - start for start, end in idle)
        gaps = sorted(
            sorted(
                (gap for gap in idle if gap[1] - gap[0] > max(_LEAST_GAP, 4 * worked)), key=lambda gap: gap[0] - gap[1]
            )[:_MOST_GAPS]
        )
        if worked <= 0 or not gaps:
            return cls([(0.0, 0.0), (total, 100.0)], ())
        left = (100.0 - _GAP * len(gaps)) / (total - sum(end - start for start, end in gaps))
        marks, place, last = [(0.0, 0.0)], 0.0, 0.0
        for start, end in gaps:
            place += (start - last) * left
            marks += [(start, place), (end, place + _GAP)]
            place, last = place + _GAP, end
        marks.append((total, 100.0))
        return cls(marks, gaps)

    def at(self, seconds: float) -> float:
        """Return where that moment is, in percent."""
        for (start, left), (end, right) in pairwise(self.marks):
            if seconds <= end and end > start:
                return left + (right - left) * max(0.0, seconds - start) / (end - start)
        return 100.0

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield the places at which the time is told, and the time."""
        total = self.marks[-1][0]
        if self.gaps:
            last = -100.0
            for end in [0.0, *(end for _, end in self.gaps)]:
                if self.at(end) - last >= 16 and self.at(end) <= 90:
                    last = self.at(end)
                    yield last, elapsed(end) if end else "0"
            return
        step = _step(total)
        yield 0.0, "0"
        for number in range(1, int(total / step) + 1):
            if self.at(number * step) <= 96:
                yield self.at(number * step), elapsed(number * step)


def _step(total: float) -> float:
    """Return the seconds between two ticks: as people count them."""
    wanted = total / _MOST_TICKS
    if wanted < 1:
        unit = 0.001
        while unit * 10 <= wanted:
            unit *= 10
        return next(unit * step for step in (1, 2, 5, 10) if unit * step >= wanted)
    if wanted > _STEPS[-1]:
        return -(-wanted // _STEPS[-1]) * _STEPS[-1]
    return next(step for step in _STEPS if step >= wanted)


def _idle(total: float, busy: Iterable[Span]) -> Iterator[Span]:
    """Yield the times in which nothing is *busy*."""
    last = 0.0
    for start, end in sorted(busy):
        if start > last:
            yield last, start
        last = max(last, end)
    if last < total:
        yield last, total
