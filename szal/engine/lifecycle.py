"""One execution from its first record to its last: its states, its steps, its undoing, its result."""

import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, cast

from szal.engine.config import EngineConfig
from szal.engine.reporting import Reporter
from szal.engine.request import Keeper, Request
from szal.engine.rollback import Rollback
from szal.engine.sub_flows import SubFlows
from szal.engine.waiting import Waiting
from szal.errors import LeaseLost, SubFlowError, Undecided, WriteFailed
from szal.events.bus import EventType
from szal.model.json import decode_checkpoint
from szal.model.results import FlowResult, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.scheduler.context import RunScope, StepContext
from szal.scheduler.loop import Scheduler
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import CANCELLED, FLOW_TIMEOUT, Run
from szal.steps.handlers import Resolver

if TYPE_CHECKING:
    from szal.engine.journal import Journal
    from szal.stores.ledger import Snapshot

__all__ = ["Lifecycle"]

logger = logging.getLogger(__name__)

_ENDS: Final[Mapping[WorkflowState, EventType]] = {
    WorkflowState.COMPLETED: "flow_completed",
    WorkflowState.FAILED: "flow_failed",
    WorkflowState.ROLLED_BACK: "flow_rolled_back",
    WorkflowState.CANCELLED: "flow_cancelled",
}


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
        *,
        keeper: Keeper | None,
    ) -> None:
        self.request = request
        self.store_error: Exception | None = None
        self.children: list[Lifecycle] = []
        self._scheduler = scheduler
        self._resolver = resolver
        self._config = config
        self._on_end = on_end
        self._keeper = keeper
        self._record = request.record
        self._reporter = Reporter(config, request.flow.name, self.execution_id)
        self._started = 0.0
        self._undo: Rollback | None = None
        self._given_up: dict[str, str] = {}
        self._undecided: list[Node] = []  # steps that must not run twice, and may have been done before a crash
        self._journal = self._new_journal()
        self._waiting = Waiting(scheduler, self._journal)
        self._sub_flows = SubFlows(request, config, resolver, keeper)
        self._run = self._forward()

    def _new_journal(self) -> "Journal | None":
        if self._keeper is None or self.request.epoch is None:
            return None
        from szal.engine.journal import Journal  # only runs that are recorded need it

        return Journal(self._keeper.store, self.execution_id, self.request.epoch, self._write_failed)

    @property
    def execution_id(self) -> str:
        """The id of this execution."""
        return self._record.execution_id

    def _forward(self) -> Run:
        request, config = self.request, self._config
        results: list[StepResult | None] = [None] * len(request.plan.nodes)
        scope = RunScope(
            flow_name=request.flow.name,
            execution_id=self.execution_id,
            inputs=dict(self._record.inputs),
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
            on_stop=self._stopped,
            log=self._journal,
            commit_first=self._journal is not None and config.durability == "step",
            encode=config.execution_store is not None,
            inline=request.token is None,
        )

    # -- the states ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Record that the run has begun, or goes on, and have its steps started. Raises what the store raises."""
        self._started = time.monotonic()
        if self._journal is not None and self._keeper is not None:
            self._keeper.heartbeat.hold(
                self.execution_id,
                self._journal.epoch,
                lambda: self._scheduler.end(self._lost),
                lambda: self._scheduler.end(self._scheduler.cancel),
                lambda: self._scheduler.call(self._waiting.look),
            )
        elif self._config.execution_store is not None:
            self._config.execution_store.save(self._record)
        limit = self.request.flow.timeout if self._config.timeout is None else self._config.timeout
        ends = [self.request.deadline, None if limit is None else self._started + limit]
        self._run.deadline = min((end for end in ends if end is not None), default=None)
        self._reporter.flow("flow_started")
        if self.request.snapshot is None:
            self._scheduler.add(self._run)
        else:
            self._go_on(self.request.snapshot)

    def _go_on(self, snapshot: "Snapshot") -> None:
        """Continue an execution: what has settled stands, what had only begun begins again."""
        run, journal = self._run, self._journal
        assert journal is not None
        self._undecided = self._restore(snapshot)
        if self._record.state is WorkflowState.PAUSED:
            self._become(WorkflowState.RUNNING)
            self._record.error = None
            journal.save(self._record)
        if snapshot.recoveries > self._config.max_recoveries:
            self._give_up(f"gave up after {self._config.max_recoveries} recoveries")
            return
        stopping = snapshot.cancelled or run.stop_reason is not None
        # With the sub-flows that are under way: nobody else would end them.
        children = self._sub_flows_under_way() if stopping else {}
        for place in (*(node.place for node in self._undecided), *children):
            run.running[place] = None
        self._scheduler.add(run)
        for place, attempt in children.items():
            self._scheduler.launch(run, run.plan.nodes[place], attempt)
        if stopping:
            self._scheduler.cancel()

    def _open_sub_flows(self) -> list[Node]:
        nodes, results = self._run.plan.nodes, self._run.results
        return [node for node in nodes if node.step.step_type == "sub_flow" and results[node.place] is None]

    def _sub_flows_under_way(self) -> dict[int, int]:
        """Return the places of the steps whose sub-flow has begun and not ended, with the attempt that it is."""
        found = {node.place: self._sub_flows.under_way(node) for node in self._open_sub_flows()}
        return {place: attempt for place, attempt in found.items() if attempt}

    def _give_up(self, error: str) -> None:
        """End as FAILED where it stands, with the sub-flows that are under way: nobody else would end them."""
        for node in self._open_sub_flows():
            for request in self._sub_flows.interrupted(node):
                self._give_up_child(request, error)
        self._run.failed = True
        self._conclude(WorkflowState.FAILED, error)

    def _give_up_child(self, request: Request, error: str) -> None:
        snapshot = request.snapshot
        assert snapshot is not None
        child = Lifecycle(request, self._scheduler, self._resolver, self._config, lambda *_: None, keeper=self._keeper)
        child._restore(snapshot)
        child._give_up(error)

    def _restore(self, snapshot: "Snapshot") -> list[Node]:
        """Put back what the store has of the steps; return those that may or may not have been done."""
        run, journal = self._run, self._journal
        assert journal is not None
        undecided = []
        for name, seq, data in snapshot.steps:
            place = run.plan.places.get(name)
            if place is None:
                continue
            node = run.plan.nodes[place]
            checkpoint = decode_checkpoint(data, name, node.step.id)
            journal.restore(name, seq, settled=checkpoint.outcome is not None)
            if checkpoint.outcome is not None:
                run.restore(node, checkpoint.result, Outcome(checkpoint.outcome))
                if checkpoint.undo_error is not None:
                    self._given_up[name] = checkpoint.undo_error
                if checkpoint.result.error in (CANCELLED, FLOW_TIMEOUT) and not checkpoint.result.attempts:
                    run.stop_reason = run.scope.stop_reason = checkpoint.result.error
            elif checkpoint.due is not None:
                self._waiting.due[name] = checkpoint.due
                self._waiting.attempts[name] = checkpoint.result.attempts
            elif not node.step.idempotent and checkpoint.result.status is StepStatus.RUNNING:
                undecided.append(node)
        return undecided

    def _become(self, state: WorkflowState) -> None:
        assert self._record.state.can_become(state), f"{self._record.state} -> {state}"
        self._record.state = state

    def _forward_done(self, run: Run) -> None:
        failed = run.failed or run.stop_reason is not None
        if failed and self.request.flow.rollback_on_failure:
            if self._record.state is not WorkflowState.ROLLING_BACK:
                self._become(WorkflowState.ROLLING_BACK)
                self._save()
                self._flush()
            self._undo = Rollback(run, self.request.binding.undo, self._reporter, self._journal, self._given_up)
            self._scheduler.add(self._undo.run(self._undo_done))
        elif run.stop_reason == CANCELLED:
            self._conclude(WorkflowState.CANCELLED)
        else:
            self._conclude(WorkflowState.FAILED if failed else WorkflowState.COMPLETED)

    def _undo_done(self, run: Run) -> None:  # noqa: ARG002
        assert self._undo is not None
        self._conclude(WorkflowState.FAILED if self._undo.left else WorkflowState.ROLLED_BACK)

    def _conclude(self, state: WorkflowState, error: str | None = None) -> None:
        self._become(state)
        result = self._result(state, self._error() if error is None else error)
        self._record.result = result
        self._record.error = result.error
        self._record.finished_at = datetime.now(UTC)
        self._save()
        if self._run.encode:
            for step in result.steps:  # the user's own from here on
                step.encoded = step.encoded_output = None
        self._let_go()
        if self.request.parent is None:
            self._flush()
        self._reporter.flow(_ENDS[state], duration=result.total_duration, error=result.error)
        self._on_end(self, result)

    def _result(self, state: WorkflowState, error: str | None) -> FlowResult:
        steps = self._run.results.copy()
        for node in self._run.plan.nodes if self._run.left else ():
            if steps[node.place] is None:
                steps[node.place] = StepResult(node.step.id, node.step.name, StepStatus.PENDING)
        return FlowResult(
            self.request.flow.name,
            cast("list[StepResult]", steps),
            time.monotonic() - self._started,
            success=state is WorkflowState.COMPLETED,
            rolled_back=state is WorkflowState.ROLLED_BACK,
            execution_id=self.execution_id,
            state=state,
            error=error,
        )

    def _error(self) -> str | None:
        """Return what went wrong, in a line: why the run was stopped, or its first failure; and what is not undone."""
        error = self._run.stop_reason
        if error is None and self._run.failed:
            failed = (step for step in self._run.results if step is not None and step.status is StepStatus.FAILED)
            first = next(failed)
            error = f"step {first.step_name!r} failed: {first.error}"
        if self._undo is not None and self._undo.left:
            error = f"{error}; not rolled back: {', '.join(self._undo.left)}"
        return error

    # -- waiting -------------------------------------------------------------------------------------

    def idle(self) -> None:
        """Pause, with every sub-flow, if all that is left is to wait for something from outside."""
        for lifecycle in self._family():
            lifecycle._waiting.look()
        if self._scheduler.is_idle():
            for lifecycle in reversed(self._family()):
                lifecycle._pause()

    def look(self) -> None:
        """See whether a signal has come."""
        for lifecycle in self._family():
            lifecycle._waiting.look()

    def cancel(self, execution_id: str) -> None:
        """Cancel all of it, if that is one of its sub-flows under way."""
        if any(lifecycle.execution_id == execution_id for lifecycle in self._family()):
            self._scheduler.cancel()

    def _family(self) -> "list[Lifecycle]":
        found = [self]
        for lifecycle in found:  # grows while it is read
            found += lifecycle.children
        return found

    def _pause(self) -> None:
        """End the run as PAUSED: it holds no thread, and any process can take it up again."""
        error = self._open_questions()
        self._become(WorkflowState.PAUSED)
        result = self._result(WorkflowState.PAUSED, error)
        self._record.result = result
        self._record.error = error
        self._save()
        self._let_go(self._waiting.wake(), self._waiting.awaited())
        self._scheduler.drop(self._run)
        self._reporter.flow("flow_paused", duration=result.total_duration, error=error)
        if self.request.parent is None:
            self._flush()
            self._on_end(self, result)

    def _open_questions(self) -> str | None:
        """Return which steps have to be decided on; its sub-flows have been paused before."""
        own = ", ".join(node.step.name for node in self._undecided)
        found = [f"needs a decision: {own}"] if own else []
        found += [
            f"sub-flow {child.execution_id} {child._record.error}" for child in self.children if child._record.error
        ]
        return "; ".join(found) or None

    def drop_leases(self) -> None:
        """Renew no lease any more: the run is over, one way or the other."""
        if self._keeper is not None:
            for lifecycle in self._family():
                self._keeper.heartbeat.drop(lifecycle.execution_id)

    # -- the store -----------------------------------------------------------------------------------

    def _save(self) -> None:
        if self._journal is not None:
            journal = self._journal
            self._try(lambda: journal.save(self._record))
        elif self._config.execution_store is not None:
            self._try(lambda: self._config.execution_store.save(self._record))  # type: ignore[union-attr]

    def _let_go(self, wake: float | None = None, awaits: Sequence[str] | None = None) -> None:
        if self._journal is not None and self._keeper is not None:
            self._keeper.heartbeat.drop(self.execution_id)
            journal = self._journal
            self._try(lambda: journal.release(wake, awaits))

    def _flush(self) -> None:
        """Wait until all of this is committed, where the store writes behind and the durability asks for it."""
        flush = getattr(self._config.execution_store, "flush", None)
        if flush is None or self._config.durability == "none":
            return
        if _takes_execution_id(getattr(flush, "__func__", flush)):  # a sink then leaves other runs' losses to them
            flush = partial(flush, execution_id=self.execution_id)
        self._try(flush)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:
            logger.exception("the store failed: execution %s of %s", self.execution_id, self.request.flow.name)
            losses = error.errors if isinstance(error, WriteFailed) else ()
            lost = next((loss for loss in losses if isinstance(loss, LeaseLost)), error)
            self.store_error = self.store_error or lost

    def _write_failed(self, error: Exception) -> None:
        """Take note, on the writer's thread, of a write that is lost."""
        self._scheduler.end(partial(self._scheduler.fail, error))

    def _lost(self) -> None:
        self._scheduler.fail(LeaseLost(self.execution_id))

    def _stopped(self, run: Run, reason: str) -> None:
        for node in self._undecided:
            context = run.new_context(node, 1)
            context._started = time.monotonic()
            self._scheduler.sub_flow_ended(run, node, context, None, Undecided(node.step.name))
        if reason == FLOW_TIMEOUT:
            self._waiting.time_out()
        else:
            self._waiting.forget()

    # -- steps that the engine does itself ------------------------------------------------------------

    def _launch(self, run: Run, node: Node, context: StepContext) -> None:
        try:
            if node.step.step_type == "sub_flow":
                self._begin_child(run, node, context)
            else:
                self._waiting.begin(run, node, context)
        except LeaseLost:  # it is somebody else's, who begins it there: here it neither runs nor fails
            self._scheduler.end(self._lost)
        except Exception as error:  # noqa: BLE001 (whatever keeps it from starting is the step's failure)
            self._scheduler.sub_flow_ended(run, node, context, None, error)

    def _begin_child(self, run: Run, node: Node, context: StepContext) -> None:
        """Begin the execution that a sub_flow step stands for. Its end is the step's end."""

        def ended(child: Lifecycle, result: FlowResult) -> None:
            if child in self.children:
                self.children.remove(child)
            self.store_error = self.store_error or child.store_error
            error = child.failure(context)
            self._scheduler.sub_flow_ended(run, node, context, result.outputs, error)

        request = self._sub_flows.request(node, context)
        if isinstance(request, FlowResult):  # it had ended before a crash
            failed = None if request.success else _sub_flow_failed(request)
            self._scheduler.sub_flow_ended(run, node, context, request.outputs, failed)
            return
        child = Lifecycle(request, self._scheduler, self._resolver, self._config, ended, keeper=self._keeper)
        self.children.append(child)
        child.begin()

    def failure(self, context: StepContext) -> Exception | None:
        """Return what this execution's end is to the step that it was begun for; None for success.

        Where what ended it was the step's limit, or its flow's, that is a time-out of the step.
        """
        result = self._record.result
        if result is None or result.success:
            return None
        if self._run.stop_reason == FLOW_TIMEOUT and self._run.deadline == self.request.deadline:
            return context._timed_out()
        return _sub_flow_failed(result)


def _sub_flow_failed(result: FlowResult) -> SubFlowError:
    return SubFlowError(f"sub-flow {result.flow_name!r} {result.state}: {result.error}")


@lru_cache(maxsize=16)
def _takes_execution_id(flush: Callable[..., object]) -> bool:
    return "execution_id" in inspect.signature(flush).parameters
