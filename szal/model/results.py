"""What running a flow leaves behind: a result for each step, one for the flow, and the record of it all."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from szal import clock
from szal.errors import EngineClosed, FlowFailed, StepError, StepFailed
from szal.expressions.copies import as_written
from szal.expressions.path import Json
from szal.model.luggage import Luggage
from szal.model.moment import as_datetime, in_ms, in_utc
from szal.model.state import StepStatus, Stop, WorkflowState
from szal.model.table import as_html, as_text, head_of
from szal.raised import is_a
from szal.storable import storable

__all__ = ["ExecutionRecord", "FlowEnd", "FlowResult", "StepReport", "StepResult", "as_message", "outputs_of"]


def as_message(text: Any) -> Any:
    """Return a message as it is recorded: it comes from anywhere, so it is made `storable`."""
    return storable(text) if isinstance(text, str) else text


@attrs.frozen
class StepReport:
    """What a step under way said last (`StepContext.report`), and when; *index* is the item's that said it.

    >>> StepReport({"done": 3, "of": 10}, datetime(2026, 6, 10)).data["done"]
    3
    """

    data: Json
    reported_at: datetime
    index: int | None = None


@attrs.define
class StepResult:
    """How one step ended. A value that nobody changes once it is made; equal to another that is recorded alike.

    `duration` is in seconds, from the first attempt's start to the end of the last one, waits included.
    `error` is the whole message, or the reason of a skip; `error_type` the class name of the exception. `is_caught`: it
    failed, and its flow may succeed all the same (`StepDef.continue_on_error`). `items` has the results of a step that
    ran once for each element of a list, in its order, as far as they are known; of any other it is None. `is_masked`:
    `output` held what must not be seen, and is not what the step came to.

    >>> result = StepResult("1", "build", StepStatus.SKIPPED, error="condition not met")
    >>> str(result.status), result.output, result.attempts
    ('skipped', None, 0)
    """

    step_id: str
    step_name: str
    status: StepStatus
    output: Json = attrs.field(default=None, eq=as_written)
    duration: float = attrs.field(default=0.0, eq=in_ms)
    attempts: int = 0
    error: str | None = attrs.field(default=None, eq=as_message)
    error_type: str | None = attrs.field(default=None, eq=as_message)
    _started_at: datetime | float | None = attrs.field(default=None, eq=as_datetime)
    exception: BaseException | None = attrs.field(default=None, eq=False, repr=False)
    """What the last attempt raised: never in a record. Pickled it is left out, where it cannot be unpickled."""
    encoded_output: str | None = attrs.field(default=None, eq=False, repr=False)
    """The output as JSON text, where the step's own thread has encoded it for the store."""
    is_caught: bool = False
    undo_output: Json = attrs.field(default=None, eq=as_written)
    """What its undo returned, where it was undone."""
    items: "list[StepResult] | None" = None
    is_masked: bool = False
    report: StepReport | None = attrs.field(default=None, eq=False)
    """What it said last, where it is under way and its engine shares that (`EngineConfig.share_progress`): never in a
    record."""
    encoded: str | None = attrs.field(default=None, init=False, eq=False, repr=False)
    """How it ended as JSON text, from when its row is written until the record is."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of. A pickle that another process can always read."""
        state = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return state if self.exception is None else state | {"exception": Luggage(self.exception)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become that copy."""
        for name, value in state.items():
            setattr(self, name, value.exception if isinstance(value, Luggage) else value)

    @property
    def has_failed(self) -> bool:
        """Whether it failed, be it that it was undone since (`StepDef.undo_on_failure`)."""
        is_undone = self.status is StepStatus.ROLLED_BACK and self.error is not None
        return is_undone or self.status is StepStatus.FAILED

    @property
    def started_at(self) -> datetime | None:
        """When the first attempt started (aware, UTC); None where there was none."""
        return as_datetime(self._started_at)


def outputs_of(items: Iterable[StepResult]) -> list[Json]:
    """Return the output of a step that ran over a list: those of its items, in order; null for one that was skipped.

    One that was undone had an output as well.
    """
    done = (StepStatus.COMPLETED, StepStatus.ROLLED_BACK)
    return [item.output if item.status in done else None for item in items]


@attrs.define
class FlowResult:
    """How a run ended: one `StepResult` for every step, in the flow's own order.

    `total_duration` is from the start of the execution to its end, with what it waited for, in whatever processes.

    >>> result = FlowResult("ci", [StepResult("1", "build", StepStatus.COMPLETED, output=42)])
    >>> result["build"].output, result.outputs, result.completed_count
    (42, {'build': 42}, 1)
    """

    flow_name: str
    steps: list[StepResult] = attrs.field(factory=list)
    total_duration: float = attrs.field(default=0.0, eq=in_ms)
    success: bool = True
    rolled_back: bool = False
    execution_id: str | None = None
    state: WorkflowState | None = None
    error: str | None = attrs.field(default=None, eq=as_message)
    _by_name: dict[str, StepResult] | None = attrs.field(default=None, init=False, eq=False, repr=False)

    def __str__(self) -> str:
        """Return a line for the flow, and one for each step."""
        return as_text(self._head, self.steps)

    def _repr_html_(self) -> str:
        """Return a table of the steps: what a notebook shows."""
        return as_html(self._head, self.steps)

    @property
    def _head(self) -> str:
        state = self.state or ("completed" if self.success else "failed")
        return head_of(self.flow_name, state, self.execution_id, self.error)

    def _count(self, status: StepStatus) -> int:
        return sum(step.status is status for step in self.steps)

    @property
    def completed_count(self) -> int:
        """How many steps completed (and were not undone)."""
        return self._count(StepStatus.COMPLETED)

    @property
    def failed_count(self) -> int:
        """How many steps failed, those whose failure was caught included."""
        return self._count(StepStatus.FAILED)

    @property
    def skipped_count(self) -> int:
        """How many steps were skipped, for whatever reason."""
        return self._count(StepStatus.SKIPPED)

    @property
    def outputs(self) -> dict[str, Json]:
        """The outputs of the completed steps, by step name; by its id where szal-rs recorded no name."""
        completed = (step for step in self.steps if step.status is StepStatus.COMPLETED)
        return {step.step_name or step.step_id: step.output for step in completed}

    def __getitem__(self, step_name: str) -> StepResult:
        """Return the result of the step called *step_name*, or of that id where it has no name; raises KeyError."""
        if self._by_name is None:
            self._by_name = {step.step_name or step.step_id: step for step in self.steps}
        return self._by_name[step_name]

    def failures(self) -> Iterator[StepResult]:
        """Yield the steps that failed, in the flow's order; those that were caught or undone since included."""
        return (step for step in self.steps if step.has_failed)

    def raise_for_failure(self) -> "FlowResult":
        """Return this result if the run succeeded, else raise its first failure.

        Raises `EngineClosed` where the run has not ended, as its engine was closed: others go on with it.
        Raises the step's own error (`StepTimeout`, `RetryExhausted`) or a `StepFailed`, with the handler's
        exception as its ``__cause__``; `FlowFailed` where no step failed, as after a cancellation.
        """
        if self.success:
            return self
        if self.state in (WorkflowState.RUNNING, WorkflowState.ROLLING_BACK):
            raise EngineClosed
        for step in self.failures():
            if step.is_caught:
                continue
            if step.exception is not None and is_a(step.exception, StepError):
                raise step.exception
            raise StepFailed(step.step_name or step.step_id, step.error or "") from step.exception
        raise FlowFailed(self.flow_name, self.error or str(self.state))


@attrs.frozen
class FlowEnd:
    """What a flow has come to when its finally steps run: `StepContext.flow`.

    `state` is the one in which the execution is about to end, and `error` what went wrong, in a line. `failed` names
    the steps that failed, in the flow's order, but for those whose failure was caught.

    >>> FlowEnd(WorkflowState.FAILED, "step 'load' failed: OSError: disk full", ("load",)).state is WorkflowState.FAILED
    True
    """

    state: WorkflowState
    error: str | None = None
    failed: tuple[str, ...] = ()


def _now() -> datetime:
    return clock.utc_now()


@attrs.define(on_setattr=attrs.setters.NO_OP)
class ExecutionRecord:
    """One execution, as stores keep it. The timestamps are aware.

    `result` is what it came to, or had come to when it paused: one that runs has none. `inputs` are what the run was
    given; `labels` the caller's own (str to str), to find executions by; `stop` is why it was stopped, if it was. `cwd`
    is the directory that its commands run in, wherever it goes on; `file` the flow's file, where it has one. `reopened`
    is how often its failed steps were run again under its own id (`Engine.run` with `retry_failed`). `secret_inputs`
    names the inputs that are not recorded as they were given, as they must not be seen: in `inputs` they are masked.
    Of executions with the same `concurrency_key` one runs at a time.
    `traceparents` are the W3C trace contexts of its runs, where these were traced, the last one last.

    >>> record = ExecutionRecord("order-42", "orders", labels={"customer": "7"})
    >>> str(record.state), record.finished_at, record.stop
    ('created', None, None)
    """

    execution_id: str
    flow_name: str
    state: WorkflowState = WorkflowState.CREATED
    result: FlowResult | None = None
    started_at: datetime = attrs.field(factory=_now, converter=in_utc)
    finished_at: datetime | None = attrs.field(default=None, converter=in_utc)
    inputs: Mapping[str, Json] = attrs.field(factory=dict, kw_only=True, eq=as_written)
    flow_id: str | None = attrs.field(default=None, kw_only=True)
    flow_version: int | None = attrs.field(default=None, kw_only=True)
    parent_execution_id: str | None = attrs.field(default=None, kw_only=True)
    labels: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    error: str | None = attrs.field(default=None, kw_only=True, eq=as_message)
    stop: Stop | None = attrs.field(default=None, kw_only=True)
    cwd: str | None = attrs.field(default=None, kw_only=True)
    file: str | None = attrs.field(default=None, kw_only=True)
    reopened: int = attrs.field(default=0, kw_only=True)
    secret_inputs: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    traceparents: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    concurrency_key: str | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Give a result the id and the state that it has not: szal-rs keeps them in the record alone."""
        result = self.result
        if isinstance(result, FlowResult) and (result.execution_id is None or result.state is None):
            execution_id = self.execution_id if result.execution_id is None else result.execution_id
            state = self.state if result.state is None else result.state
            self.result = attrs.evolve(result, execution_id=execution_id, state=state)
