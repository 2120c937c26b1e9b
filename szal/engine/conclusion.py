"""What an execution comes to: its result, and what is said of it in a line."""

from collections.abc import Iterator, Mapping
from typing import Final, cast

from szal.engine.rollback import Rollback
from szal.engine.so_far import as_it_is_left
from szal.engine.spec import ExecutionSpec
from szal.errors import cut
from szal.events.bus import EventType
from szal.model.results import ExecutionRecord, FlowEnd, FlowResult, StepResult
from szal.model.state import WorkflowState
from szal.scheduler.run import FLOW_FAILED, Run

__all__ = ["ENDS", "UNDONE_WITH_PARENT", "copy_of", "end_of", "reason_of", "result_of", "without_exception"]

ENDS: Final[Mapping[WorkflowState, EventType]] = {
    WorkflowState.COMPLETED: "flow_completed",
    WorkflowState.FAILED: "flow_failed",
    WorkflowState.ROLLED_BACK: "flow_rolled_back",
    WorkflowState.CANCELLED: "flow_cancelled",
}
"""The event that tells of the end in a state."""


UNDONE_WITH_PARENT: Final = "undone with what it belongs to"
"""Why an execution is undone that has completed."""


def end_of(run: Run, undo: Rollback | None, state: WorkflowState) -> FlowEnd:
    """Return what finally steps are told: how a run is about to end."""
    return FlowEnd(state, reason_of(run, undo), tuple(step.step_name for step in failures(run)))


def result_of(spec: ExecutionSpec, run: Run, took: float, state: WorkflowState, error: str | None) -> FlowResult:
    """Return the result of a run that ends, or pauses, in *state*; steps that have none yet are PENDING."""
    steps = run.results.copy()
    for node in run.plan.nodes if run.unsettled or run.plan.finals else ():
        if steps[node.place] is None:
            steps[node.place] = as_it_is_left(run, node)
    shown = cast("list[StepResult]", steps)
    if spec.redaction.is_active:
        shown = list(map(spec.redaction.result, shown))
    completed, undone = state is WorkflowState.COMPLETED, state is WorkflowState.ROLLED_BACK
    return FlowResult(spec.flow.name, shown, took, completed, undone, spec.record.execution_id, state, error)


def reason_of(run: Run, undo: Rollback | None) -> str | None:
    """Return what went wrong, in a line: why the run was stopped, or its first failure; and what is not undone.

    One that is undone without either has completed, and its parent rolls back.
    """
    error = None
    if run.stop is not None:
        error = run.why or run.stop.reason
    elif run.failed:
        first = next(failures(run), None)
        error = FLOW_FAILED if first is None else f"step {first.step_name!r} failed: {first.error}"
    elif undo is not None:
        error = UNDONE_WITH_PARENT
    if undo is not None and undo.left:
        error = cut(f"{error}; not rolled back: {', '.join(undo.left)}")
    return error


def failures(run: Run) -> Iterator[StepResult]:
    """Yield the steps, in the flow's order, whose failure is that of the flow."""
    return (step for step in run.results if step is not None and step.has_failed and not step.is_caught)


def without_exception(result: StepResult) -> StepResult:
    """Return *result* as a record has it."""
    return StepResult(
        result.step_id,
        result.step_name,
        result.status,
        result.output,
        result.duration,
        result.attempts,
        result.error,
        result.error_type,
        result.started_at,
        items=None if result.items is None else list(map(without_exception, result.items)),
        is_caught=result.is_caught,
        undo_output=result.undo_output,
        is_masked=result.is_masked,
    )


def copy_of(record: ExecutionRecord) -> ExecutionRecord:
    """Return a copy, at a third of the cost of `attrs.evolve`."""
    return ExecutionRecord(
        record.execution_id,
        record.flow_name,
        record.state,
        record.result,
        record.started_at,
        record.finished_at,
        inputs=record.inputs,
        flow_id=record.flow_id,
        flow_version=record.flow_version,
        parent_execution_id=record.parent_execution_id,
        labels=record.labels,
        error=record.error,
        cwd=record.cwd,
        file=record.file,
        stop=record.stop,
        reopened=record.reopened,
        secret_inputs=record.secret_inputs,
        traceparents=record.traceparents,
        concurrency_key=record.concurrency_key,
    )
