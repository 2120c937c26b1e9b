"""Which executions are sub-flows of which, and what the store has of them."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import attrs

from szal.engine.recorded_flows import recorded_flow
from szal.engine.rollback import in_texts
from szal.errors import DecodeError, ExecutionNotFound
from szal.model.json import decode_checkpoint
from szal.model.key import key_of
from szal.model.state import StepStatus, WorkflowState
from szal.model.step import StepDef
from szal.scheduler.plan import Outcome, Plan

if TYPE_CHECKING:
    from szal.model.results import ExecutionRecord
    from szal.stores.ledger import Snapshot

__all__ = [
    "NOTHING_LEFT",
    "Undone",
    "can_be_undone",
    "child_id",
    "family_key",
    "is_child_id",
    "last_sub_flow",
    "left_by",
    "parent_of",
    "root_of",
    "standing_sub_flow",
    "sub_flows_of",
    "was_overtaken",
]

NOTHING_LEFT = (StepStatus.COMPLETED, StepStatus.ROLLED_BACK)
"""The states of a step whose sub-flow has nothing that could not be undone, but for what its own row says.

One that was skipped is not among them: it may stand for a sub-flow that failed in an earlier execution.
"""


class Reading(Protocol):
    """What tells of executions: a ledger, or who asks one."""

    def read(self, execution_id: str, /) -> "Snapshot":
        """Return what is known of an execution. Raises `ExecutionNotFound`."""


def child_id(parent: str, step: str, attempt: int) -> str:
    """Return the id of the execution of a sub-flow of *parent*, a `family_key`: the same when it is taken up again."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, key_of(parent, step, str(attempt))))


def family_key(record: "ExecutionRecord") -> str:
    """Return what the ids of an execution's sub-flows are made of: its own id, or another each time it is reopened.

    So what runs again does not take the sub-flows that there were for its own.
    """
    return key_of(record.execution_id, str(record.reopened)) if record.reopened else record.execution_id


def is_child_id(execution_id: str) -> bool:
    """Whether an execution that has a parent is its sub-flow; a rerun, which has one too, has a random id."""
    try:
        return uuid.UUID(execution_id).version == 5
    except ValueError:
        return False


def parent_of(record: "ExecutionRecord") -> str | None:
    """Return the execution with which alone this one can go on: that which it is a sub-flow of."""
    parent = record.parent_execution_id
    return parent if parent is not None and is_child_id(record.execution_id) else None


def root_of(ledger: Reading, record: "ExecutionRecord") -> "ExecutionRecord":
    """Return the execution that a sub-flow belongs to, with which alone it can go on; any other as it is.

    Raises `DecodeError` where rows that somebody else wrote belong to each other in a circle.
    """
    seen: set[str] = set()
    while (parent := parent_of(record)) is not None:
        if parent in seen:
            raise DecodeError("parent_execution_id", f"execution {record.execution_id!r} is a sub-flow of itself")
        seen.add(parent)
        record = ledger.read(parent).record
    return record


def sub_flows_of(ledger: Reading, parent: str, step: StepDef) -> "Iterator[tuple[int, Snapshot]]":
    """Yield the sub-flows that *step* of the execution *parent* has begun, each with the attempt that it is."""
    for attempt in range(1, step.max_retries + 2):
        try:
            yield attempt, ledger.read(child_id(parent, step.name, attempt))
        except ExecutionNotFound:
            return


def standing_sub_flow(ledger: Reading, parent: str, step: StepDef) -> "tuple[int, Snapshot | None]":
    """Return the sub-flow of *step* that has begun and not ended, or completed, and its attempt; 0 and None: none."""
    for attempt, child in sub_flows_of(ledger, parent, step):
        state = child.record.state
        if state.is_live or state is WorkflowState.COMPLETED:
            return attempt, child
    return 0, None


def last_sub_flow(ledger: Reading, parent: str, step: StepDef, taken_over: str | None = None) -> "Snapshot | None":
    """Return the sub-flow that *step* of *parent* began last, or the one *taken_over* from an earlier execution."""
    last = None
    for _, last in sub_flows_of(ledger, parent, step):  # noqa: B007
        pass
    if last is None and taken_over is not None:
        with contextlib.suppress(ExecutionNotFound):
            last = ledger.read(taken_over)
    return last


@attrs.define
class Undone:
    """What executions did in their steps and has been undone since: by themselves, or by a rerun that had kept it."""

    _ledger: Reading
    _found: dict[str, frozenset[str]] = attrs.field(factory=dict)

    def by(self, execution_id: str) -> frozenset[str]:
        """Return what is undone of that execution: the names of the rows."""
        found = self._found.get(execution_id)
        if found is None:
            found = self._found[execution_id] = frozenset(self._read(execution_id))
        return found

    def _read(self, execution_id: str) -> "Iterator[str]":
        with contextlib.suppress(ExecutionNotFound):
            for name, _, data in self._ledger.read(execution_id).steps:
                if decode_checkpoint(data, name).result.status is StepStatus.ROLLED_BACK:
                    yield name


def left_by(ledger: Reading, known: "Snapshot") -> list[str]:
    """Return the steps of an execution that could not be undone, each with why.

    A sub-flow that did not complete may have left something too, whether or not the execution itself is undone.
    """
    left: dict[str, str] = {}
    plan = None if known.flow is None else Plan.of(recorded_flow(known.flow))
    for name, _, data in known.steps:
        checkpoint = decode_checkpoint(data, name)
        step = None if plan is None or name not in plan.places else plan.nodes[plan.places[name]].step
        if checkpoint.undo_error is not None:
            left[name] = checkpoint.undo_error
        elif step is not None and step.step_type == "sub_flow" and checkpoint.result.status not in NOTHING_LEFT:
            child = last_sub_flow(ledger, family_key(known.record), step, checkpoint.sub_flow)
            below = [] if child is None else left_by(ledger, child)
            if below:
                left[name] = ", ".join(below)
    return in_texts(plan, left.items())


def was_overtaken(known: "Snapshot") -> bool:
    """Whether an execution was not to wait any more, as what it belongs to had failed, and nothing stopped it."""
    rows = (decode_checkpoint(data, name) for name, _, data in known.steps)
    return known.record.stop is None and any(row.outcome == Outcome.OVERTAKEN for row in rows)


def can_be_undone(ledger: Reading, known: "Snapshot", is_undone: Callable[[StepDef, str], bool]) -> bool:
    """Whether there is anything to undo of an execution that has completed, or of its sub-flows.

    *is_undone* says whether anything undoes a step of the flow of some name.
    """
    if known.flow is None:
        return False
    plan = Plan.of(recorded_flow(known.flow))
    for name, _, data in known.steps:
        checkpoint, step = decode_checkpoint(data, name), plan.node_called(name).step
        status = checkpoint.result.status
        is_half_done = status is StepStatus.FAILED and step.undo_on_failure
        if checkpoint.outcome is None or not (status is StepStatus.COMPLETED or is_half_done):
            continue
        if is_undone(step, known.record.flow_name):
            return True
        if step.step_type == "sub_flow":
            child = last_sub_flow(ledger, family_key(known.record), step, checkpoint.sub_flow)
            if child is not None and can_be_undone(ledger, child, is_undone):
                return True
    return False
