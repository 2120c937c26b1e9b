"""What an execution comes to: its result, and what is said of it in a line."""

from typing import cast

from szal.clock import monotonic
from szal.engine.rollback import Rollback
from szal.engine.spec import ExecutionSpec
from szal.errors import StepError, SubFlowError
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus, Stop, WorkflowState
from szal.scheduler.call import Call
from szal.scheduler.run import Run

__all__ = ["copy_of", "failure_of", "reason_of", "result_of", "without_exception"]


def result_of(spec: ExecutionSpec, run: Run, started: float, state: WorkflowState, error: str | None) -> FlowResult:
    """Return the result of a run that ends, or pauses, in *state*; steps that have none yet are PENDING."""
    steps = run.results.copy()
    for node in run.plan.nodes if run.left else ():
        if steps[node.place] is None:
            steps[node.place] = StepResult(node.step.id, node.step.name, StepStatus.PENDING)
    return FlowResult(
        spec.flow.name,
        cast("list[StepResult]", steps),
        monotonic() - started,
        success=state is WorkflowState.COMPLETED,
        rolled_back=state is WorkflowState.ROLLED_BACK,
        execution_id=spec.record.execution_id,
        state=state,
        error=error,
    )


def reason_of(run: Run, undo: Rollback | None) -> str | None:
    """Return what went wrong, in a line: why the run was stopped, or its first failure; and what is not undone."""
    error = None
    if run.stop is not None:
        error = run.why or run.stop.reason
    elif run.failed:
        first = next(step for step in run.results if step is not None and step.status is StepStatus.FAILED)
        error = f"step {first.step_name!r} failed: {first.error}"
    if undo is not None and undo.left:
        error = f"{error}; not rolled back: {', '.join(undo.left)}"
    return error


def failure_of(
    result: FlowResult, spec: ExecutionSpec | None = None, run: Run | None = None, call: Call | None = None
) -> StepError | None:
    """Return what the end of a sub-flow is to the step that it was begun for, by *call*; None for success.

    Where what ended its *run* was the step's limit, or its flow's, that is a time-out of the step.
    """
    if result.success:
        return None
    if spec and run and call and run.stop is Stop.TIMED_OUT and run.deadline == spec.deadline:
        return call.timed_out()
    return SubFlowError(f"sub-flow {result.flow_name!r} {result.state}: {result.error}")


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
        stop=record.stop,
    )
