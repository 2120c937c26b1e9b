"""How many executions there were, and how long they took, over time: what the plots show."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Final

import attrs

from szal.model.state import WorkflowState
from szal.stores.filters import ExecutionSummary

__all__ = ["Bucket", "Rates", "percentile", "seconds_of"]

_WIDTHS: Final = (1, 5, 10, 30, 60, 300, 900, 3600, 10800, 43200, 86400, 604800, 2592000, 31536000)
_MOST: Final = 60
_FAILED: Final = (WorkflowState.FAILED, WorkflowState.ROLLED_BACK)


@attrs.define
class Bucket:
    """What began within some time: how many, how many of these failed, and how long those took that have ended."""

    begins: int
    """Unix time."""
    total: int = 0
    failed: int = 0
    seconds: list[float] = attrs.field(factory=list)


@attrs.frozen
class Rates:
    """Buckets of *width* seconds each, the oldest first; those in which nothing began are there, too."""

    width: int
    buckets: Sequence[Bucket]

    @classmethod
    def of(cls, summaries: Iterable[ExecutionSummary]) -> "Rates":
        """Count them.

        >>> def ended(minute):
        ...     moment = datetime(2026, 6, 10, 12, minute, tzinfo=UTC)
        ...     return ExecutionSummary(execution_id="e", flow_name="f", state=None, started_at=moment)
        >>> rates = Rates.of([ended(0), ended(0), ended(50)])
        >>> rates.width, len(rates.buckets), rates.buckets[0].total, rates.a_minute(rates.buckets[0])
        (60, 51, 2, 2.0)
        """
        dated = [(int(each.started_at.timestamp()), each) for each in summaries if each.started_at is not None]
        if not dated:
            return cls(60, ())
        first, last = min(moment for moment, _ in dated), max(moment for moment, _ in dated)
        width = next((width for width in _WIDTHS if (last - first) / width < _MOST), _WIDTHS[-1])
        base = first // width
        buckets = [Bucket((base + place) * width) for place in range(min(last // width - base + 1, _MOST + 1))]
        for moment, summary in dated:
            bucket = buckets[min(moment // width - base, len(buckets) - 1)]
            bucket.total += 1
            bucket.failed += summary.state in _FAILED
            if (seconds := seconds_of(summary)) is not None:
                bucket.seconds.append(seconds)
        return cls(width, buckets)

    def a_minute(self, bucket: Bucket, count: int | None = None) -> float:
        """Return how many a minute that is, of the bucket's total or of *count*."""
        return (bucket.total if count is None else count) * 60 / self.width

    def moment(self, place: int) -> datetime:
        """Return when the bucket at that place begins."""
        return datetime.fromtimestamp(self.buckets[place].begins, UTC)


def seconds_of(summary: ExecutionSummary) -> float | None:
    """Return how long an execution took that has ended, from its start to its end."""
    if summary.started_at is None or summary.finished_at is None:
        return None
    return max(0.0, (summary.finished_at - summary.started_at).total_seconds())


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the least value that so many percent do not exceed; None of none.

    >>> percentile([3.0, 1.0, 2.0, 4.0], 50), percentile([5.0], 95), percentile([], 50)
    (2.0, 5.0, None)
    """
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, ceil(percent / 100 * len(ordered)) - 1)]
