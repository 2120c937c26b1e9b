"""What an engine is doing, and has done: what is no event, in figures."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from szal.engine.leases import Heartbeat
    from szal.stores.sink.stats import SinkStats

__all__ = ["EngineStats", "Load", "stats_of"]


@attrs.frozen
class Load:
    """How much a run has under way: threads that make its attempts, attempts that these are at or that wait for one."""

    workers: int = 0
    attempts: int = 0
    waiting: int = 0
    """How many of its steps, and of its sub-flows', wait for a signal or a time."""


class Running(Protocol):
    """A run, as this asks it."""

    def load(self) -> Load:
        """Return what it has under way. From any thread."""


@attrs.frozen(kw_only=True)
class EngineStats:
    """What an engine is doing in this process, and what it has done there so far.

    >>> EngineStats(workers=4, busy=4, queued=9).workers
    4
    """

    running: int = 0
    """How many executions run now; their sub-flows count with them."""
    waiting: int = 0
    """How many steps of these wait now, for a signal or a time, and hold no thread. What is PAUSED does not run."""
    workers: int = 0
    """How many threads make attempts for these. The thread that coordinates a run, which may do so too, is none."""
    busy: int = 0
    """How many of those threads have one."""
    queued: int = 0
    """How many attempts wait for such a thread."""
    abandoned: int = 0
    """How many handlers have been left behind so far, because they ran past their time."""
    recoveries: int = 0
    """How many executions have been taken up so far whose run was interrupted, here or elsewhere."""
    lease_renewals: int = 0
    """How often the lease of an execution has been renewed."""
    lease_failures: int = 0
    """How often leases could not be renewed, as the store was away: it is tried again."""
    lease_losses: int = 0
    """How many runs have been left so far, as another process has taken the execution over."""
    sink: "SinkStats | None" = None
    """What is written behind, where it is: of the store's sink, whichever engines write to it."""


def stats_of(
    running: Iterable[Running],
    heartbeat: "Heartbeat | None",
    sink: "SinkStats | None",
    *,
    abandoned: int,
    recoveries: int,
    lease_losses: int,
) -> EngineStats:
    """Return what the parts of an engine come to together."""
    loads = [run.load() for run in running]
    return EngineStats(
        running=len(loads),
        waiting=sum(load.waiting for load in loads),
        workers=sum(load.workers for load in loads),
        busy=sum(min(load.workers, load.attempts) for load in loads),
        queued=sum(max(0, load.attempts - load.workers) for load in loads),
        abandoned=abandoned,
        recoveries=recoveries,
        lease_renewals=0 if heartbeat is None else heartbeat.renewals,
        lease_failures=0 if heartbeat is None else heartbeat.failures,
        lease_losses=lease_losses,
        sink=sink,
    )
