"""Beginning what the engine does itself: waits, sub-flows, and the undoing of sub-flows."""

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from szal.engine.lineage import NOTHING_LEFT
from szal.engine.rollback import Rollback
from szal.engine.spec import ExecutionSpec
from szal.engine.sub_flow_end import Completed, Ended, is_masked_in, sub_flow_failed
from szal.engine.sub_flow_lookup import SubFlowLimit
from szal.engine.sub_flows import SubFlows
from szal.engine.waiting import Waits
from szal.errors import LeaseLost, SkipStep, StoreError, SzalError
from szal.expressions.path import Json
from szal.interruption import is_interruption
from szal.model.results import FlowResult
from szal.model.state import StepStatus, Stop
from szal.raised import is_a
from szal.scheduler.call import Call
from szal.scheduler.loop import Scheduler
from szal.scheduler.plan import Node
from szal.scheduler.run import FLOW_FAILED, Run
from szal.scheduler.stage import READY, SUB_FLOW

__all__ = ["Child", "Launcher"]


class Child(Protocol):
    """A sub-flow under way: what the launcher needs of its lifecycle."""

    spec: ExecutionSpec
    run: Run
    driven: Run
    store_error: Exception | None

    @property
    def left(self) -> list[str]:
        """What could not be undone of it and its own sub-flows, as texts."""

    def start(self) -> None:
        """Have its steps started."""

    def start_undoing(self) -> None:
        """Have it undone, though it has completed."""

    def as_completed(self) -> Completed:
        """Return what is kept of it so that it can be undone."""

    def release(self) -> None:
        """Let go of everything."""


C = TypeVar("C", bound=Child)
MakeChild = Callable[[ExecutionSpec | Completed, Callable[[C, FlowResult], None]], C]


class Launcher(Generic[C]):
    """Begins what steps of one execution stand for. `children` are its sub-flows under way."""

    def __init__(self, scheduler: Scheduler, waits: Waits, sub_flows: SubFlows, make: MakeChild[C]) -> None:
        self.children: dict[C, Call] = {}  # in the order in which they began, with what they were begun for
        self.store_error: Exception | None = None
        """What the store of a sub-flow raised first, where the run goes on all the same."""
        self.not_undone: dict[str, str] = {}
        """Steps that could not be undone before a crash, with why."""
        self.keeps_completed = False
        """Whether sub-flows that complete may have to be undone, and nothing else knows how."""
        self._left: dict[int, list[str]] = {}  # by place: what sub-flows that failed could not undo
        self._completed: set[int] = set()  # the places of those that did not fail, whatever their steps did
        self._scheduler = scheduler
        self._waits = waits
        self._sub_flows = sub_flows
        self._make = make

    def launch(self, call: Call) -> None:
        """Begin the wait or sub-flow that a step stands for, whose end is the step's end."""
        child = None
        try:
            if call.node.step.step_type == "sub_flow":
                child = self._child(call)
            else:
                self._waits.begin(call)
        except (StoreError, LeaseLost):  # that is not the step's failure
            raise
        except SubFlowLimit as error:
            call.run.enter(call.node.place, SUB_FLOW)  # so that it is not skipped with the rest
            self._scheduler.end_all(Stop.OVER_LIMIT, str(error))
            self._scheduler.ended(call, None, error, last=True)
        except BaseException as error:  # whatever keeps it from starting is the step's failure
            self._heed_refusal(error)
            if self._may_have_begun(error):
                raise
            # What szal says of it is wrong with the flow, and stays so. What a catalogue raised may pass.
            self._scheduler.ended(call, None, error, last=is_a(error, SzalError))
        if child is not None:
            self._begin(call, child, child.start)

    def _child(self, call: Call) -> C | None:
        """Return the execution that a sub_flow step stands for; None: it has ended."""

        def ended(child: C, result: FlowResult) -> None:
            left = [] if result.success else child.left
            if left:
                self._left[call.node.place] = left
            failure = None if result.success else _failure(child, result, left, call)
            if failure is None:
                self._completed.add(call.node.place)
            if failure is None and self.keeps_completed:
                self._sub_flows.completed[call.node.place] = child.as_completed()
            is_overtaken = child.run.stop is None and bool(child.run.overtaken)
            is_overtaken = is_overtaken and not left and all(step.is_caught for step in result.failures())
            done = [step for step in child.run.results if step is not None and step.status is StepStatus.COMPLETED]
            outputs: Json = {step.step_name: step.output for step in done}  # those in *result* may be masked
            masked = is_masked_in(done)
            how = Ended(outputs, failure, is_final=bool(left), is_overtaken=is_overtaken, is_masked=masked)
            self._leave(child)
            self._ended(call, how)

        spec = self._sub_flows.spec_of(call)
        if isinstance(spec, Ended):
            self._ended(call, spec)
            return None
        return self._make(spec, ended)

    def _ended(self, call: Call, how: Ended) -> None:
        """End a step as its sub-flow has ended: with one that a failure of its parent has overtaken it is skipped."""
        error = how.error
        if how.is_overtaken:
            call.run.overtaken.add(call.node.place)
            error = SkipStep(FLOW_FAILED)
        self._scheduler.ended(call, how.output, error, last=how.is_final, masked=how.is_masked)

    def completed_below(self, run: Run) -> set[int]:
        """Return the places of steps that failed although their sub-flow completed: with an output of no use, say."""
        return {
            node.place
            for node in _incomplete_sub_flows(run)
            if node.place in self._completed or self._sub_flows.completed_before(node)
        }

    def left_in(self, run: Run, completed: Container[int] = ()) -> dict[str, str]:
        """Return why steps of *run* are not undone: before a crash, or by sub-flows that did not complete.

        Those of the steps at *completed* did.
        """
        ended = (node for node in _incomplete_sub_flows(run) if node.place not in completed)
        left = ((node, self._left.get(node.place) or self._sub_flows.left_before(node)) for node in ended)
        return self.not_undone | {node.step.name: ", ".join(each) for node, each in left if each}

    def launch_undo(self, call: Call, rollback: Rollback, forward: Run) -> None:
        """Begin the undoing of the sub-flow that a step of *forward* completed with; its end is that of the undo."""
        child = None
        try:
            child = self._undoing(call, rollback, forward)
        except (StoreError, LeaseLost):
            raise
        except BaseException as error:  # then it is not undone
            self._heed_refusal(error)
            if self._may_have_begun(error):
                raise
            self._scheduler.ended(call, None, error)
        if child is not None:
            self._begin(call, child, child.start_undoing)

    def _undoing(self, call: Call, rollback: Rollback, forward: Run) -> C | None:
        def ended(child: C, result: FlowResult) -> None:
            self._leave(child)
            self._scheduler.ended(call, None, None if result.rolled_back else sub_flow_failed(result))

        node, result = rollback.target(call.node)
        is_taken_over = bool(forward.ages.get(node.place))

        def inputs() -> Json:
            config = forward.new_context(node, result.attempts, None).config
            return config.get("inputs") or {} if isinstance(config, Mapping) else {}

        found = self._sub_flows.undo_of(node, result.attempts, inputs, is_taken_over=is_taken_over)
        if found is None:
            self._scheduler.ended(call, None, SkipStep("nothing to undo"))
        elif isinstance(found, Ended):
            self._scheduler.ended(call, None, found.error)
        else:
            return self._make(found, ended)
        return None

    def _heed_refusal(self, error: BaseException) -> None:
        """Take note that the store has refused a sub-flow, if *error* says so: then it has nothing of it."""
        if is_a(error, SzalError):
            self._sub_flows.beginning = None

    def _may_have_begun(self, error: BaseException) -> bool:
        """Whether the store may have had the sub-flow when *error* came: a failed step would leave it alone."""
        return self._sub_flows.beginning is not None or is_interruption(error)

    def _begin(self, call: Call, child: C, start: Callable[[], None]) -> None:
        self.children[child] = call
        self._sub_flows.beginning = None
        call.run.enter(call.node.place, SUB_FLOW)
        try:
            start()
        except BaseException:  # it is the run's end
            # And there is no sub-flow that this step would wait for, if the run has not come to its end with it.
            if not (call.run.is_over or self._scheduler.drives(child.driven)):
                call.run.enter(call.node.place, READY)
                if child.spec.lease is None:  # nor is there anything of it that somebody would find
                    self._leave(child)
            raise

    def _leave(self, child: C) -> None:
        self.children.pop(child, None)
        self.store_error = self.store_error or child.store_error
        child.release()

    def release(self) -> None:
        """Let go of everything, its own lifecycle above all, which leads to it."""
        self.children = {}
        self._make = _make_none
        self._sub_flows.completed = {}


def _make_none(*_: object) -> Any:
    raise AssertionError("the run is over")


def _incomplete_sub_flows(run: Run) -> Iterator[Node]:
    """Yield the sub_flow steps that have ended without completing: they may have left something."""
    for place in sorted(run.plan.engine_steps):
        node, result = run.plan.nodes[place], run.results[place]
        if node.step.step_type == "sub_flow" and result is not None and result.status not in NOTHING_LEFT:
            yield node


def _failure(child: Child, result: FlowResult, left: list[str], call: Call) -> Exception:
    """Return what the end of a sub-flow that did not complete is to the call that it was begun for.

    Where what ended it was the step's limit, or its flow's, that is a time-out of the step; but not where it has left
    anything, which has to be told.
    """
    if child.run.stop is Stop.TIMED_OUT and child.run.deadline == child.spec.deadline and not left:
        return call.timed_out()
    return sub_flow_failed(result)
