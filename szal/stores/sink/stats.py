"""What a sink has done so far."""

import attrs

from szal.clock import monotonic

__all__ = ["SinkStats", "Tally"]


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


@attrs.define
class Tally:
    """The same while it is being counted. Guarded by the writer's lock."""

    written: int = 0
    failed: int = 0
    batches: int = 0
    last_error: Exception | None = None
    began: float | None = None
    """When the writer took what came first; None while it has nothing."""

    def stats(self, pending: int) -> SinkStats:
        lag = 0.0 if self.began is None or not pending else monotonic() - self.began
        return SinkStats(pending, self.written, self.failed, self.batches, self.last_error, lag)
