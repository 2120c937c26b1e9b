"""What a sink has done so far."""

from typing import Final

import attrs

from szal.clock import monotonic
from szal.distribution import Distributing, Distribution

__all__ = ["BATCH_SIZES", "COMMIT_SECONDS", "SinkStats", "Tally"]

COMMIT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
BATCH_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def _by_time() -> Distributing:
    return Distributing(COMMIT_SECONDS)


def _by_size() -> Distributing:
    return Distributing(BATCH_SIZES)


@attrs.frozen
class SinkStats:
    """What a sink has done so far, in this process: counts of writes (saves and removals), and of commits."""

    pending: int
    """Submitted, and neither committed nor given up yet."""
    written: int
    failed: int
    batches: int
    last_error: Exception | None
    """The last error the database gave, also one that a retry has cured; None if there was none."""
    lag: float = 0.0
    """For how many seconds the writer has been at what came first of what is pending; 0 where nothing is."""
    retries: int = 0
    """How often a batch was tried again, as the database was locked, away or full."""
    batch_sizes: Distribution = attrs.field(factory=lambda: _by_size().so_far())
    """How many writes were committed together."""
    commit_seconds: Distribution = attrs.field(factory=lambda: _by_time().so_far())
    """How many seconds it took until a batch was committed, from when the writer took it, retries included."""


@attrs.define
class Tally:
    """The same while it is being counted. Guarded by the writer's lock."""

    written: int = 0
    failed: int = 0
    retries: int = 0
    last_error: Exception | None = None
    began: float | None = None
    """When the writer took what came first; None while it has nothing."""
    _batch_sizes: Distributing = attrs.field(factory=_by_size, init=False)
    _commit_seconds: Distributing = attrs.field(factory=_by_time, init=False)

    def committed(self, writes: int) -> None:
        """Count a batch of so many writes."""
        self.written += writes
        self._batch_sizes.add(writes)
        if self.began is not None:
            self._commit_seconds.add(monotonic() - self.began)

    def stats(self, pending: int) -> SinkStats:
        lag = 0.0 if self.began is None or not pending else monotonic() - self.began
        sizes = self._batch_sizes.so_far()
        return SinkStats(
            pending,
            self.written,
            self.failed,
            sizes.count,
            self.last_error,
            lag,
            self.retries,
            sizes,
            self._commit_seconds.so_far(),
        )
