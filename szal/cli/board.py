"""What is known of a run while it goes on: a row for each step, and how many steps are in each state."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import Enum

import attrs

from szal.cli.text import brief, elapsed, one_line
from szal.clock import monotonic
from szal.events.bus import WorkflowEvent
from szal.events.progress import StepProgress
from szal.model.analysis import walk
from szal.model.flow import FlowDef
from szal.model.results import StepResult
from szal.model.state import StepStatus

__all__ = ["Board", "Row", "Snapshot", "Stage"]

_LAST_FAILURES = 8  # that are kept in sight where not every step is


class Stage(Enum):
    """How far a step has come."""

    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    ROLLED_BACK = "rolled_back"

    @property
    def is_active(self) -> bool:
        """Whether the step is under way."""
        return self in (Stage.RUNNING, Stage.RETRYING)


_STAGES = {
    StepStatus.COMPLETED: Stage.COMPLETED,
    StepStatus.FAILED: Stage.FAILED,
    StepStatus.SKIPPED: Stage.SKIPPED,
    StepStatus.ROLLED_BACK: Stage.ROLLED_BACK,
}
_ENDS = {"step_completed": Stage.COMPLETED, "step_failed": Stage.FAILED, "step_skipped": Stage.SKIPPED}


@attrs.define(eq=False)
class Row:
    """One step. `said` is what it reported last; `error` why it failed, is tried again, or was skipped."""

    name: str
    depth: int = 0
    tries: int = 1  # that it has at most
    stage: Stage = Stage.WAITING
    attempt: int = 0
    since: float | None = None  # its start, on the board's clock
    duration: float | None = None
    retry_at: float = 0.0
    said: object = None
    error: str | None = None
    items: int | None = None  # of a step that runs over a list: how many there are, have ended, and have failed
    ended: int = 0
    failed: int = 0

    def seconds(self, now: float) -> float | None:
        """Return how long it took, or has taken so far; None where it has not begun."""
        if self.duration is not None or self.since is None:
            return self.duration
        return now - self.since

    def note(self, now: float) -> str:
        """Return what is to be said of it, in one clean line."""
        if self.stage is Stage.RETRYING and self.retry_at > now:
            return f"again in {elapsed(self.retry_at - now)}: {one_line(self.error or '')}"
        if self.items is not None and self.stage.is_active:
            return f"{self.ended} of {self.items}{f', {self.failed} failed' if self.failed else ''}"
        if self.stage.is_active or self.error is None:
            return brief(self.said)
        return one_line(self.error)


@attrs.frozen
class Snapshot:
    """The rows that are worth showing at one moment, and how many steps are in each state."""

    rows: list[Row]
    is_complete: bool  # whether every step has a row
    counts: Counter[Stage]
    seconds: float
    now: float


class Board:
    """Follows one run, and those of its sub-flows, whose steps have rows only while they are under way.

    *before* is what had become of its steps when it was interrupted, *age* how many seconds ago it began.

    Events come on one thread, progress on any, snapshots are taken on others. What a step reports is kept as it
    is, and made readable only when it is shown: there may be very much of it.
    """

    def __init__(
        self,
        flow: FlowDef,
        clock: Callable[[], float] = monotonic,
        before: Sequence[StepResult] = (),
        age: float = 0.0,
    ) -> None:
        self._clock = clock
        self._began = clock() - age
        self._lock = threading.Lock()  # guards all below, rows included
        self._execution_id: str | None = None  # of the run itself: the first that is heard of
        self._own = _rows(flow)  # by step id
        self._inner: dict[tuple[str | None, str], Row] = {}  # of sub-flows
        self._active: dict[int, Row] = {}
        self._failures: deque[Row] = deque(maxlen=_LAST_FAILURES)
        for result in before:
            self._restore(result)
        self._counts = Counter(row.stage for row in self._own.values())

    def _restore(self, result: StepResult) -> None:
        """Take over what became of a step before the run was interrupted: nobody will tell of it again."""
        row, stage = self._own.get(result.step_id), _STAGES.get(result.status)
        if row is not None and stage is not None:
            row.stage, row.attempt, row.error = stage, result.attempts, result.error
            row.duration = result.duration if result.attempts else None
        if row is not None and result.items:
            row.ended = sum(item.status in _STAGES for item in result.items)
            row.failed = sum(item.status is StepStatus.FAILED for item in result.items)

    def event(self, event: WorkflowEvent) -> None:
        """Take note of what happened."""
        with self._lock:
            self._execution_id = self._execution_id or event.execution_id
            row = self._row(event)
            if row is None:
                return
            if event.index is not None:
                row.items = event.items
                row.ended += event.event_type in _ENDS
                row.failed += event.event_type == "step_failed"
                return
            before = row.stage
            self._follow(row, event)
            if row.stage.is_active:
                self._active[id(row)] = row
            else:
                self._active.pop(id(row), None)
                self._inner.pop((event.execution_id, event.step_id or ""), None)
            if row is self._own.get(event.step_id or ""):
                self._counts[before] -= 1
                self._counts[row.stage] += 1

    def _row(self, event: WorkflowEvent) -> Row | None:
        if event.step_id is None:
            return None
        if event.execution_id == self._execution_id:
            return self._own.get(event.step_id)
        key = (event.execution_id, event.step_id)
        if event.event_type == "step_started" and event.index is None:
            self._inner[key] = Row(f"{event.flow_name}: {event.step_name}", depth=1)
        return self._inner.get(key)

    def _follow(self, row: Row, event: WorkflowEvent) -> None:
        now = self._clock()
        if event.event_type == "step_started":
            row.stage, row.since, row.attempt = Stage.RUNNING, now, 1
        elif event.event_type == "step_retry":
            row.stage, row.error = Stage.RETRYING, event.error
            row.attempt, row.retry_at = (event.attempt or 0) + 1, now + (event.duration or 0.0)
        elif event.event_type in _ENDS:
            row.stage, row.error = _ENDS[event.event_type], event.error
            row.attempt, row.duration = event.attempt or 0, event.duration if event.attempt else None
        elif event.event_type == "step_rollback":
            row.error = f"rollback failed: {event.error}" if event.error else None
            row.stage = row.stage if event.error else Stage.ROLLED_BACK
        if row.stage is Stage.FAILED or (event.event_type == "step_rollback" and event.error):
            self._failures.append(row)

    def progress(self, progress: StepProgress) -> None:
        """Take note of what a step reported. From any thread."""
        with self._lock:
            if progress.execution_id == self._execution_id:
                row = self._own.get(progress.step_id)
            else:
                row = self._inner.get((progress.execution_id, progress.step_id))
            if row is not None:
                row.said = progress.data

    def snapshot(self, room: int) -> Snapshot:
        """Return what fits into *room* rows: every step, or else what runs and the last failures."""
        with self._lock:
            now = self._clock()
            complete = len(self._own) + len(self._inner) <= room
            if complete:
                rows = [*self._own.values(), *self._inner.values()]
            else:
                failures = list(self._failures)[-max(1, room // 3) :]
                rows = [*failures, *list(self._active.values())[: max(1, room - len(failures))]]
            copies = [attrs.evolve(row) for row in rows]
            return Snapshot(copies, complete, self._counts.copy(), now - self._began, now)


def _rows(flow: FlowDef) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    depths: list[int] = []
    for step, parent in walk(flow.steps):
        depths.append(0 if parent < 0 else depths[parent] + 1)
        rows[step.id] = Row(step.name, depths[-1], step.max_retries + 1)
    return rows
