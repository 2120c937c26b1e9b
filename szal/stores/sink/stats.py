"""What a sink has done so far."""

import attrs

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


@attrs.define
class Tally:
    """The same while it is being counted. Guarded by the writer's lock."""

    written: int = 0
    failed: int = 0
    batches: int = 0
    last_error: Exception | None = None

    def stats(self, pending: int) -> SinkStats:
        return SinkStats(pending, self.written, self.failed, self.batches, self.last_error)
