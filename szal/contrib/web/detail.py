"""The page *One execution*: how its steps stand, when each ran, what went wrong, and what it belongs to."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias

import attrs

from szal.clock import utc_now
from szal.collector import without_collector
from szal.contrib.web.source import store_of
from szal.engine.engine import Engine
from szal.engine.lineage import child_id, family_key, is_child_id
from szal.engine.recorded_flows import recorded_flow
from szal.engine.status import ExecutionStatus, Wait
from szal.engine.view import status_of
from szal.engine.which import shown_state
from szal.model.json import Checkpoint, decode_checkpoint
from szal.model.key import item_key
from szal.model.results import StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.model.step import StepDef
from szal.pictures.row import Row, rows_of
from szal.pictures.scale import Scale
from szal.pictures.standing import states_of
from szal.stores.filters import ExecutionSummary

__all__ = ["Bar", "Detail", "Failure", "StepLine"]

_PAGE: Final = 100
_FAILURES: Final = 20
_NAMES: Final = 11
_RELATED: Final = 200
_ITEMS: Final = 100
_ANCESTORS: Final = 10
_WORDS: Final = {status: str(status) for status in StepStatus}
_UNDOS: Final = '"undos_made":'
_Numbered: TypeAlias = tuple[int, StepResult, str]
"""A step: its place, how it stands, and the word for that."""
_HEIGHT: Final = 12
"""Of a drawing of when a step ran."""


@attrs.frozen
class Bar:
    """Some time of a step, in thousandths of the drawing: as a state, or "waiting" between two attempts."""

    left: float
    width: float
    top: float
    height: float
    state: str
    told: str
    is_undo: bool


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


@attrs.frozen
class Failure:
    """Steps that failed with the same error: the first of them, the names of some others, and how many these are."""

    line: StepLine
    others: Sequence[str]
    more: int


@attrs.frozen(kw_only=True)
class Detail:
    """What the page shows."""

    status: ExecutionStatus
    state: str
    seconds: float | None
    lines: Sequence[StepLine]
    failures: Sequence[Failure]
    other_failures: int
    """How many errors there are besides."""
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
        store = store_of(engine)
        related = store.find(parent=execution_id, limit=_RELATED)  # what is queued is written then
        status, rows = _seen(engine, execution_id)
        words = states_of(status)
        numbered = [
            (place, result, words.get(result.step_name) or _WORDS[result.status])
            for place, result in enumerate(status.results)
        ]
        chosen = [each for each in numbered if state in ("", each[2])]
        shown = chosen[first : first + _PAGE]
        failed = _by_error(numbered)
        told = failed[:_FAILURES]
        looked = _Looked(status, rows, related, [result for _, result, _ in (*shown, *(each[0] for each in told))])
        ended, parent = status.finished_at, status.record.parent_execution_id
        return cls(
            status=status,
            state=shown_state(status.state, is_interrupted=status.is_interrupted),
            seconds=None if ended is None else (ended - status.started_at).total_seconds(),
            lines=[looked.line(*each) for each in shown],
            failures=[looked.failure(each) for each in told],
            other_failures=len(failed) - len(told),
            counts=Counter(word for _, _, word in numbered),
            total=len(numbered),
            first=first,
            shown=len(chosen),
            ancestors=[*_ancestors(engine, parent)],
            is_sub_flow=parent is not None and is_child_id(execution_id),
            reruns=[each for each in related if not is_child_id(each.execution_id)],
            waits=status.waits,
        )


def _by_error(numbered: Sequence[_Numbered]) -> list[list[_Numbered]]:
    """Return those that failed for good, those with the same error together."""
    found: dict[str, list[_Numbered]] = {}
    for each in numbered:
        error = each[1].error
        if error is not None and each[1].has_failed and not each[1].is_caught:
            found.setdefault(error, []).append(each)
    return [*found.values()]


def _seen(engine: Engine, execution_id: str) -> tuple[ExecutionStatus, dict[str, str]]:
    """Return how far an execution has come, and what is kept of each step, not decoded.

    One that has ended is read once: that of many steps takes as long as all the rest.
    """
    known = without_collector(partial(store_of(engine).ledger.read, execution_id))
    rows = {name: data for name, _, data in known.steps}
    if known.record.state.is_live or known.record.result is None or known.flow is None:
        if known.record.state is WorkflowState.PAUSED:  # nobody runs it, and what it has come to is in the rows
            return status_of(store_of(engine), known.record), rows
        return engine.look(execution_id), rows
    results = known.record.result.steps
    return ExecutionStatus(record=known.record, flow=recorded_flow(known.flow), results=results), rows


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

    def __init__(
        self,
        status: ExecutionStatus,
        rows: Mapping[str, str],
        related: Sequence[ExecutionSummary],
        shown: Sequence[StepResult],
    ) -> None:
        self._status = status
        self._checkpoints = {
            each.step_name: decode_checkpoint(rows[each.step_name], each.step_name)
            for each in shown
            if each.step_name in rows
        }
        self._checkpoints.update(_undos_of_items(shown, rows))
        names, flow = {each.step_name for each in shown}, status.flow
        self._steps = {} if flow is None else {each.name: each for each in flow.walk() if each.name in names}
        self._children = {each.execution_id: each for each in related}
        timed, total = rows_of(attrs.evolve(status, results=shown), self._checkpoints, _now_of(status))
        busy = (each.span for row in timed for each in row.spans if each.kind != "waiting")
        self._scale = Scale.of(total, busy)
        self._timed = {row.standing.result.step_name: row for row in timed if row.standing.result.step_name}

    def failure(self, steps: Sequence[_Numbered]) -> Failure:
        """Return what is told of steps with the same error."""
        return Failure(self.line(*steps[0]), [result.step_name for _, result, _ in steps[1:_NAMES]], len(steps) - 1)

    def line(self, place: int, result: StepResult, state: str) -> StepLine:
        name = result.step_name
        checkpoint, step, row = self._checkpoints.get(name), self._steps.get(name), self._timed.get(name)
        items = [*enumerate(result.items or ())]
        done = [item for item in items if item[1].status is StepStatus.COMPLETED]
        left = [item for item in items if item[1].status is not StepStatus.COMPLETED]
        return StepLine(
            place=place,
            result=result,
            state=state if row is None else row.standing.word,
            step=step,
            bars=[] if row is None else [*self._bars(row)],
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

    def _bars(self, row: Row) -> Iterator[Bar]:
        """Yield when it ran: each attempt, and the waits between them; of items so many at a time, side by side."""
        lanes = row.lanes or [row.segments]
        height = _HEIGHT / len(lanes)
        for number, lane in enumerate(lanes):
            for segment in lane:
                left, right = self._scale.at(segment.start) * 10, self._scale.at(segment.end) * 10
                width = min(max(right - left, 2.0), 1000.0)
                top, high = number * height + 0.5, max(height - 1, 0.6)
                if segment.kind == "waiting":
                    top, high = top + high / 2 - 0.75, 1.5
                left, width = round(min(left, 1000.0 - width), 2), round(width, 2)
                yield Bar(left, width, round(top, 2), round(high, 2), segment.kind, segment.title, segment.is_undo)


def _undos_of_items(steps: Sequence[StepResult], rows: Mapping[str, str]) -> Iterator[tuple[str, Checkpoint]]:
    """Yield what is kept of the items that were undone, or were to be, by their keys: of others the results will do."""
    for step in steps:
        for index in range(len(step.items or ())):
            key = item_key(step.step_name, index)
            if _UNDOS in (data := rows.get(key, "")):
                yield key, decode_checkpoint(data, step.step_name)


def _now_of(status: ExecutionStatus) -> datetime | None:
    return utc_now() if status.is_running else None
