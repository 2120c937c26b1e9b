"""The page *One execution*: how its steps stand, when each ran, what went wrong, and what it belongs to."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import attrs

from szal.clock import utc_now
from szal.contrib.web.source import store_of
from szal.engine.engine import Engine
from szal.engine.lineage import child_id, family_key, is_child_id
from szal.engine.status import ExecutionStatus, Wait
from szal.errors import ExecutionNotFound
from szal.model.json import Checkpoint, decode_checkpoint
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.model.step import StepDef
from szal.stores.filters import ExecutionSummary
from szal.stores.ledger import ledger_of

__all__ = ["Bar", "Detail", "StepLine"]

_PAGE: Final = 200
_FAILURES: Final = 20
_RELATED: Final = 200
_ITEMS: Final = 100
_ANCESTORS: Final = 10


@attrs.frozen
class Bar:
    """Some time of a step, in thousandths of the execution's: an attempt, or, with the state "waiting", what is between
    two."""

    left: float
    width: float
    state: str
    told: str


@attrs.frozen(kw_only=True)
class StepLine:
    """One step, as it is shown."""

    place: int
    result: StepResult
    state: str
    step: StepDef | None
    bars: Sequence[Bar]
    checkpoint: Checkpoint | None
    open_items: Sequence[tuple[int, StepResult]]
    done_items: Sequence[tuple[int, StepResult]]
    """The first of those that did not complete, and of those that did, each with its place."""
    counts: Mapping[str, int]
    """How many of its items are in each state."""
    children: Sequence[ExecutionSummary]
    """The executions that it stands for."""

    @property
    def is_cut(self) -> bool:
        """Whether some items are left out."""
        return len(self.open_items) + len(self.done_items) < sum(self.counts.values())

    @property
    def name(self) -> str:
        """Its name; its id, where szal-rs recorded none."""
        return self.result.step_name or self.result.step_id

    @property
    def traceback(self) -> str | None:
        """That of its last failure."""
        return None if self.checkpoint is None else self.checkpoint.traceback


@attrs.frozen(kw_only=True)
class Detail:
    """What the page shows."""

    status: ExecutionStatus
    state: str
    seconds: float | None
    lines: Sequence[StepLine]
    failures: Sequence[StepLine]
    counts: Mapping[str, int]
    total: int
    first: int
    shown: int
    """How many steps there are in the state that is asked for, and from which on they are listed."""
    ancestors: Sequence[str]
    is_sub_flow: bool
    reruns: Sequence[ExecutionSummary]
    waits: Sequence[Wait]

    @property
    def has_older(self) -> bool:
        """Whether there are steps behind these."""
        return self.first + len(self.lines) < self.shown

    @property
    def page_size(self) -> int:
        """How many steps are on one page."""
        return _PAGE

    @classmethod
    def of(cls, engine: Engine, execution_id: str, *, first: int = 0, state: str = "") -> "Detail":
        """Look at an execution. Raises `ExecutionNotFound`."""
        status = engine.look(execution_id)
        store = store_of(engine)
        related = store.find(parent=execution_id, limit=_RELATED)
        looked = _Looked(status, _rows(store, execution_id), related)
        numbered = [(place, result, looked.state_of(result)) for place, result in enumerate(status.results)]
        counts = Counter(shown for _, _, shown in numbered)
        chosen = [each for each in numbered if state in ("", each[2])]
        failed = [each for each in numbered if each[1].has_failed and not each[1].is_caught][:_FAILURES]
        return cls(
            status=status,
            state="interrupted" if status.is_interrupted and not status.waits else str(status.state),
            seconds=looked.seconds if status.finished_at else None,
            lines=[looked.line(*each) for each in chosen[first : first + _PAGE]],
            failures=[looked.line(*each) for each in failed],
            counts=counts,
            total=len(numbered),
            first=first,
            shown=len(chosen),
            ancestors=[*_ancestors(engine, status.record.parent_execution_id)],
            is_sub_flow=status.record.parent_execution_id is not None and is_child_id(execution_id),
            reruns=[each for each in related if not is_child_id(each.execution_id)],
            waits=status.waits,
        )


def _rows(store: object, execution_id: str) -> dict[str, str]:
    """Return what is kept of each step, not decoded."""
    ledger = ledger_of(store)
    try:
        return {} if ledger is None else {name: data for name, _, data in ledger.read(execution_id).steps}
    except ExecutionNotFound:  # it was deleted meanwhile
        return {}


def _ancestors(engine: Engine, parent: str | None) -> Iterator[str]:
    """Yield what it is a sub-flow or rerun of, and what that is one of: the nearest first."""
    store, seen = store_of(engine), set[str]()
    while parent is not None and parent not in seen and len(seen) < _ANCESTORS:
        seen.add(parent)
        yield parent
        record = store.get(parent)
        parent = None if record is None else record.parent_execution_id


class _Looked:
    """An execution that was looked at, of which lines are made."""

    def __init__(self, status: ExecutionStatus, rows: Mapping[str, str], related: Sequence[ExecutionSummary]) -> None:
        self._status = status
        self._rows = rows
        self._steps = {} if status.flow is None else {step.name: step for step in status.flow.walk()}
        self._children = {each.execution_id: each for each in related}
        self._waiting = {
            wait.step: "undecided" if wait.signal is None and wait.until is None else "paused"
            for wait in status.waits
            if wait.execution_id == status.execution_id
        }
        began = [each.started_at for each in status.results if each.started_at is not None]
        self._start = min([status.started_at, *began])
        ends = [each.started_at + timedelta(seconds=each.duration) for each in status.results if each.started_at]
        self._end = max([status.finished_at or self._start, *ends, *([utc_now()] if status.is_running else [])])
        self.seconds = max((self._end - self._start).total_seconds(), 0.001)

    def state_of(self, result: StepResult) -> str:
        """Return how a step stands, in a word."""
        waiting = self._waiting.get(result.step_name)
        if waiting is not None:
            return waiting
        is_left = result.status is StepStatus.RUNNING and not self._status.is_running
        return "interrupted" if is_left and self._status.state.is_live else str(result.status)

    def line(self, place: int, result: StepResult, state: str) -> StepLine:
        data = self._rows.get(result.step_name)
        checkpoint = None if data is None else decode_checkpoint(data, result.step_name)
        step = self._steps.get(result.step_name)
        items = [*enumerate(result.items or ())]
        done = [item for item in items if item[1].status is StepStatus.COMPLETED]
        left = [item for item in items if item[1].status is not StepStatus.COMPLETED]
        return StepLine(
            place=place,
            result=result,
            state=state,
            step=step,
            bars=[*self._bars(result, state, checkpoint, step)],
            checkpoint=checkpoint,
            open_items=left[:_ITEMS],
            done_items=done[:_ITEMS],
            counts=Counter(str(item.status) for _, item in items),
            children=[*self._children_of(step)],
        )

    def _children_of(self, step: StepDef | None) -> Iterator[ExecutionSummary]:
        if step is None or step.step_type != "sub_flow":
            return
        key = family_key(self._status.record)
        for attempt in range(1, min(step.max_retries, _RELATED) + 2):
            child = self._children.get(child_id(key, step.name, attempt))
            if child is not None:
                yield child

    def _bars(
        self, result: StepResult, state: str, checkpoint: Checkpoint | None, step: StepDef | None
    ) -> Iterator[Bar]:
        """Yield when it ran: each attempt, and the waits between them, as far as they are known."""
        attempts = () if checkpoint is None else checkpoint.attempts
        before: datetime | None = None
        for attempt in attempts:
            if before is not None:
                yield self._bar(before, attempt.started_at, "waiting", "between two attempts")
            before = attempt.ended_at
            ended = "failed" if attempt.error is not None else state
            yield self._bar(attempt.started_at, attempt.ended_at, ended, attempt.error or ended)
        if attempts or result.started_at is None:
            return
        is_open = result.status is StepStatus.RUNNING and self._status.is_running
        end = utc_now() if is_open else result.started_at + timedelta(seconds=result.duration)
        waits = step is not None and step.step_type in ("wait", "sleep") and result.status is StepStatus.COMPLETED
        yield self._bar(result.started_at, end, "waiting" if waits else state, "waited" if waits else state)

    def _bar(self, start: datetime, end: datetime, state: str, told: str) -> Bar:
        left = (start - self._start).total_seconds() / self.seconds * 1000
        width = max((end - start).total_seconds() / self.seconds * 1000, 2.0)
        left = min(max(left, 0.0), 998.0)
        return Bar(round(left, 2), round(min(width, 1000 - left), 2), state, told)
