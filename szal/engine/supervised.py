"""What other threads tell an execution: the heartbeat, the writer of its store, whoever cancels it."""

from collections.abc import Iterator
from typing import Self

from szal.engine.rollback import Rollback
from szal.engine.so_far import waiting_here
from szal.engine.under_way import StepUnderWay, Told, under_way
from szal.engine.waiting import Waits
from szal.errors import LeaseLost
from szal.model.results import ExecutionRecord
from szal.model.state import Stop
from szal.raised import is_a
from szal.scheduler.call import Call
from szal.scheduler.loop import Scheduler
from szal.scheduler.run import Run

__all__ = ["Supervised"]


class Supervised:
    """An execution under way, as `recording.Supervision` wants it. Every method may be called from any thread."""

    record: ExecutionRecord
    scheduler: Scheduler
    waits: Waits
    run: Run
    final: Run | None
    undo: Rollback | None
    told: Told
    """What others are told of its steps."""

    @property
    def children(self) -> "dict[Self, Call]":
        """Its sub-flows under way, each with the call that it is."""
        raise NotImplementedError

    @property
    def execution_id(self) -> str:
        """The id of this execution."""
        return self.record.execution_id

    def steps_under_way(self) -> Iterator[StepUnderWay]:
        """Yield its steps that have begun and not ended, and their items; what is being undone has ended."""
        calls = [*self.children.copy().values(), *self.waits.calls()]
        delegated = {call.node.place: call for call in calls}
        for run in (self.run, self.final):
            if run is not None:
                yield from under_way(run, self.scheduler, delegated)

    def tell_under_way(self) -> str | None:
        """Return what is told of these with the lease; None: nothing."""
        return self.told.text(self.steps_under_way(), waiting_here(self.run), self.scheduler.now())

    def news_under_way(self) -> str | None:
        """Return the same, where it is not what was told last."""
        return self.told.news(self.steps_under_way(), waiting_here(self.run), self.scheduler.now())

    def lease_lost(self) -> None:
        """Stop: another process runs it now."""
        self.scheduler.request_stop(Stop.LEASE_LOST, LeaseLost(self.execution_id))

    def cancel_asked(self) -> None:
        """Cancel it, with all that it belongs to."""
        self.scheduler.request_stop(Stop.CANCELLED)

    def pause_asked(self) -> None:
        """Pause it, with all that it belongs to, unless it is being undone."""
        self.scheduler.request_pause()

    def signals_due(self) -> None:
        """See whether a signal has come."""
        self.scheduler.call(self.waits.check_signals)

    def write_failed(self, error: Exception) -> None:
        """Stop: a write is lost."""
        self.scheduler.request_stop(Stop.LEASE_LOST if is_a(error, LeaseLost) else Stop.FAILED_BY_STORE, error)

    def write_refused(self, step_name: str, error: Exception) -> bool:
        """End it: the store takes everything but what was to be recorded of that step. False: it has ended."""
        if self.final is not None and self.run.plan.place_of(step_name) in self.run.plan.finals:
            return self.scheduler.refused(self.final, step_name, error)
        if self.undo is not None:  # then there is nothing left that could be undone for it
            self.write_failed(error)
            return False
        return self.scheduler.refused(self.run, step_name, error)
