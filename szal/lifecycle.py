"""One execution from its first record to its last: its states, its steps, its undoing, its result."""

import inspect
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import attrs

from szal.cancel import CancellationToken
from szal.config import EngineConfig
from szal.context import RunScope, StepContext
from szal.errors import HandlerNotFound, InvalidFlow, SubFlowError
from szal.execution import ExecutionRecord, FlowResult, StepResult
from szal.flow import FlowDef
from szal.handlers import ENGINE_TYPES, Handler, Resolver
from szal.plan import Node, Plan
from szal.reporting import Reporter
from szal.rollback import Rollback
from szal.running import CANCELLED, FLOW_TIMEOUT, Run
from szal.scheduler import Scheduler
from szal.state import WorkflowState
from szal.step import Json, StepDef

__all__ = ["Binding", "Lifecycle", "Request", "bind"]

logger = logging.getLogger(__name__)

MAX_DEPTH: Final = 32  # of sub-flows in sub-flows: more is a flow that contains itself


@attrs.frozen(eq=False, repr=False)
class Binding:
    """The handlers of a plan's steps and their undos, by place. None: the engine does it, or nothing has to."""

    forward: Sequence[Handler | None]
    undo: Sequence[Handler | None]


def bind(flow: FlowDef, plan: Plan, resolver: Resolver, config: EngineConfig) -> Binding:
    """Return what does and undoes each step; raise `HandlerNotFound` naming the steps that nothing does."""
    steps = [node.step for node in plan.nodes]
    forward = [None if step.step_type in ENGINE_TYPES else resolver.resolve(step) for step in steps]
    missing = [
        step.name
        for step, handler in zip(steps, forward, strict=True)
        if handler is None and step.step_type not in ENGINE_TYPES
    ]
    if missing:
        raise HandlerNotFound(tuple(missing))
    if not flow.rollback_on_failure:
        return Binding(forward, ())
    undo = [
        (resolver.resolve_rollback(step) or config.rollback_handler) if step.rollbackable else None for step in steps
    ]
    missing = [step.name for step, handler in zip(steps, undo, strict=True) if step.rollbackable and handler is None]
    if missing:
        raise HandlerNotFound(tuple(missing), "rollback handler")
    return Binding(forward, undo)


def _undo(step: StepDef, resolver: Resolver, config: EngineConfig) -> Handler | None:
    own = resolver.resolve_rollback(step)
    return config.rollback_handler if own is None else own


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Request:
    """What is to be run, checked and compiled."""

    flow: FlowDef
    plan: Plan
    binding: Binding
    inputs: dict[str, Json]
    execution_id: str
    labels: Mapping[str, str] = attrs.field(factory=dict)
    token: CancellationToken | None = None
    parent: "Lifecycle | None" = None
    deadline: float | None = None  # inherited; the flow's own comes on top

    @property
    def depth(self) -> int:
        """How many sub-flows this one is inside of."""
        return 0 if self.parent is None else self.parent.request.depth + 1


class Lifecycle:
    """Takes one request through its states. All methods run on the coordinating thread.

    `on_end` is called once, with the result, after the final record has been given to the store. What the
    store raises does not disturb the run: the first such error is kept in `store_error`.
    """

    def __init__(
        self,
        request: Request,
        scheduler: Scheduler,
        resolver: Resolver,
        config: EngineConfig,
        on_end: "Callable[[Lifecycle, FlowResult], None]",
    ) -> None:
        self.request = request
        self.store_error: Exception | None = None
        self._scheduler = scheduler
        self._resolver = resolver
        self._config = config
        self._on_end = on_end
        self._reporter = Reporter(config, request.flow.name, request.execution_id)
        self._started = 0.0
        self._undo: Rollback | None = None
        self._record = ExecutionRecord(
            request.execution_id,
            request.flow.name,
            inputs=request.inputs,
            flow_id=request.flow.id,
            flow_version=request.flow.version,
            parent_execution_id=None if request.parent is None else request.parent.request.execution_id,
            labels=request.labels,
        )
        self._run = self._forward()

    def _forward(self) -> Run:
        request, config = self.request, self._config
        results: list[StepResult | None] = [None] * len(request.plan.nodes)
        scope = RunScope(
            flow_name=request.flow.name,
            execution_id=request.execution_id,
            inputs=request.inputs,
            plan=request.plan,
            results=results,
            settled_as=[0] * len(results) if request.plan.loose else [],
            token=request.token,
            progress=config.progress_sink,
        )
        return Run(
            plan=request.plan,
            handlers=request.binding.forward,
            results=results,
            new_context=partial(StepContext, scope),
            on_done=self._forward_done,
            scope=scope,
            watch=self._reporter if self._reporter.has_listeners else None,
            launch=self._launch,
            encode=config.execution_store is not None,
            inline=request.token is None,
        )

    # -- the states ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Record that the run has begun, and have its first steps started. Raises what the store raises."""
        self._started = time.monotonic()
        self._become(WorkflowState.RUNNING)
        if self._config.execution_store is not None:
            self._config.execution_store.save(self._record)
        limit = self.request.flow.timeout if self._config.timeout is None else self._config.timeout
        ends = [self.request.deadline, None if limit is None else self._started + limit]
        self._run.deadline = min((end for end in ends if end is not None), default=None)
        self._reporter.flow("flow_started")
        self._scheduler.add(self._run)

    def _become(self, state: WorkflowState) -> None:
        assert self._record.state.can_become(state), f"{self._record.state} -> {state}"
        self._record.state = state

    def _forward_done(self, run: Run) -> None:
        failed = run.failed or run.stop_reason is not None
        if failed and self.request.flow.rollback_on_failure:
            self._become(WorkflowState.ROLLING_BACK)
            self._save()
            self._flush()
            self._undo = Rollback(run, self.request.binding.undo, self._reporter)
            self._scheduler.add(self._undo.run(self._undo_done))
        elif run.stop_reason == CANCELLED:
            self._conclude(WorkflowState.CANCELLED)
        else:
            self._conclude(WorkflowState.FAILED if failed else WorkflowState.COMPLETED)

    def _undo_done(self, run: Run) -> None:  # noqa: ARG002
        assert self._undo is not None
        self._conclude(WorkflowState.FAILED if self._undo.left else WorkflowState.ROLLED_BACK)

    def _conclude(self, state: WorkflowState) -> None:
        self._become(state)
        duration = time.monotonic() - self._started
        result = FlowResult(
            self.request.flow.name,
            [step for step in self._run.results if step is not None],
            duration,
            success=state is WorkflowState.COMPLETED,
            rolled_back=state is WorkflowState.ROLLED_BACK,
            execution_id=self.request.execution_id,
            state=state,
            error=self._error(),
        )
        self._record.result = result
        self._record.error = result.error
        self._record.finished_at = datetime.now(UTC)
        self._save()
        if self.request.parent is None:
            self._flush()
        ends = {
            WorkflowState.COMPLETED: "flow_completed",
            WorkflowState.FAILED: "flow_failed",
            WorkflowState.ROLLED_BACK: "flow_rolled_back",
            WorkflowState.CANCELLED: "flow_cancelled",
        }
        self._reporter.flow(ends[state], duration=duration, error=result.error)  # type: ignore[arg-type]
        self._on_end(self, result)

    def _error(self) -> str | None:
        """Return what went wrong, in a line: why the run was stopped, or its first failure; and what is not undone."""
        error = self._run.stop_reason
        if error is None and self._run.failed:
            first = next(step for step in self._run.results if step is not None and step.exception is not None)
            error = f"step {first.step_name!r} failed: {first.error}"
        if self._undo is not None and self._undo.left:
            error = f"{error}; not rolled back: {', '.join(self._undo.left)}"
        return error

    def _save(self) -> None:
        if self._config.execution_store is not None:
            self._try(lambda: self._config.execution_store.save(self._record))  # type: ignore[union-attr]

    def _flush(self) -> None:
        """Wait until all of this is committed, where the store writes behind."""
        flush = getattr(self._config.execution_store, "flush", None)
        if flush is None:
            return
        if "execution_id" in inspect.signature(flush).parameters:  # a sink then leaves other runs' losses to them
            flush = partial(flush, execution_id=self.request.execution_id)
        self._try(flush)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:
            logger.exception("the store failed: execution %s of %s", self.request.execution_id, self.request.flow.name)
            self.store_error = self.store_error or error

    # -- sub-flows -----------------------------------------------------------------------------------

    def _launch(self, run: Run, node: Node, context: StepContext) -> None:
        """Begin the execution that a sub_flow step stands for. Its end is the step's end."""

        def ended(child: Lifecycle, result: FlowResult) -> None:
            self.store_error = self.store_error or child.store_error
            error = child.failure(context)
            self._scheduler.sub_flow_ended(run, node, context, result.outputs, error)

        try:
            child = Lifecycle(self._sub_request(node, context), self._scheduler, self._resolver, self._config, ended)
            child.begin()
        except Exception as error:  # noqa: BLE001 (whatever keeps it from starting is the step's failure)
            self._scheduler.sub_flow_ended(run, node, context, None, error)

    def failure(self, context: StepContext) -> Exception | None:
        """Return what this execution's end is to the step that it was begun for; None for success.

        Where what ended it was the step's limit, or its flow's, that is a time-out of the step.
        """
        result = self._record.result
        if result is None or result.success:
            return None
        if self._run.stop_reason == FLOW_TIMEOUT and self._run.deadline == self.request.deadline:
            return context._timed_out()
        return SubFlowError(f"sub-flow {self.request.flow.name!r} {self._record.state}: {result.error}")

    def _sub_request(self, node: Node, context: StepContext) -> Request:
        config = context.config
        name = config.get("flow_name") if isinstance(config, Mapping) else None
        if not name:
            raise SubFlowError("sub_flow step requires config.flow_name")
        storage = self._config.storage
        flow = None if storage is None else storage.get_by_name(name)
        if flow is None:
            raise SubFlowError(f"sub-flow {name!r} not found in storage")
        if self.request.depth >= MAX_DEPTH:
            raise SubFlowError(f"sub-flow {name!r} is nested more than {MAX_DEPTH} deep")
        try:
            plan = Plan.of(flow)
            binding = bind(flow, plan, self._resolver, self._config)
        except (InvalidFlow, HandlerNotFound) as error:
            raise SubFlowError(f"sub-flow {name!r}: {error}") from error
        key = f"{self.request.execution_id}:{node.step.name}:{context.attempt}"
        return Request(
            flow=flow,
            plan=plan,
            binding=binding,
            inputs={**flow.inputs, **(config.get("inputs") or {})},
            execution_id=str(uuid.uuid5(uuid.NAMESPACE_OID, key)),
            token=self.request.token,
            parent=self,
            deadline=context._deadline,
        )
