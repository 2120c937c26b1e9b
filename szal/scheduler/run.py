"""The state of one plan being run: what has settled, what that makes ready, what is left.

Plain bookkeeping, without threads and without time. The coordinating thread owns it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import attrs

from szal.expressions.path import build_step_context
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler.attempt import Attempt
from szal.scheduler.context import Handler, RunScope, StepContext
from szal.scheduler.plan import MARKS, EdgeKind, Node, Outcome, Plan
from szal.scheduler.timers import Timer

__all__ = ["CANCELLED", "CONDITION_NOT_MET", "FLOW_TIMEOUT", "Ready", "Run", "Tried", "Watch"]

CANCELLED: Final = "cancelled"
FLOW_TIMEOUT: Final = "flow timeout exceeded"
CONDITION_NOT_MET: Final = "condition not met"


class Watch(Protocol):
    """Is told what happens to the steps of a run, on the coordinating thread."""

    def started(self, node: Node, moment: float) -> None:
        """The first attempt has begun, at *moment* (Unix time)."""

    def timed_out(self, node: Node, attempt: int, error: str) -> None:
        """An attempt ran past its limit."""

    def retrying(self, node: Node, attempt: int, delay: float, error: str) -> None:
        """An attempt failed, and another one follows in *delay* seconds."""

    def settled(self, node: Node, result: StepResult) -> None:
        """The step has its result."""


class Log(Protocol):
    """Keeps what happens to the steps of a run, for after a crash."""

    def settled(self, node: Node, result: StepResult, outcome: Outcome) -> None:
        """The step has its result."""

    def commit(self, node: Node, result: StepResult, outcome: Outcome, then: Callable[[], None]) -> None:
        """The step is to have this result; *then* is called, on any thread, once that cannot be lost any more."""

    def begun(self, node: Node, result: StepResult, due: float | None, then: Callable[[], None] | None = None) -> None:
        """The step has begun; *then* as in `commit`."""


@attrs.define(eq=False, repr=False)
class Tried:
    """What is kept of a step from its first failed attempt to its end."""

    started: float  # of the first attempt
    context: StepContext  # of the last attempt
    error: BaseException  # of the last attempt
    timer: Timer | None = None  # of the wait for the next one


@attrs.define(eq=False, repr=False)
class Run:
    """One plan being run. Given to `Scheduler.add`, it belongs to the scheduler's thread.

    None in `running` also stands for an outcome that is being committed.

    `completed` holds the places of the completed nodes in the order in which they completed. `running` holds
    what has been started and has not ended; None stands for a sub-flow, a run of its own that `launch` begins.
    """

    plan: Plan
    handlers: Sequence[Handler | None]  # by place; None: a sub-flow
    results: list[StepResult | None]
    new_context: Callable[[Node, int], StepContext]
    on_done: "Callable[[Run], None]"
    scope: RunScope
    watch: Watch | None = None
    launch: "Callable[[Run, Node, StepContext], None] | None" = None
    on_stop: "Callable[[Run, str], None] | None" = None  # called with the reason: `launch` must end what it began
    log: Log | None = None
    commit_first: bool = False  # what depends on a step waits until its outcome is committed
    encode: bool = False  # outputs become JSON text in the step's own thread
    deadline: float | None = None
    inline: bool = True  # nobody can want to stop waiting for a handler
    stoppable: bool = True  # rollback is not: what stopped the run must not stop its undoing
    ready: "deque[Ready]" = attrs.field(factory=deque)  # the scheduler's own, once it is added
    waiting: list[int] = attrs.field(init=False)  # edges still to settle, by gate
    marks: list[int] = attrs.field(init=False)  # by gate
    left: int = attrs.field(init=False)
    direct: bool = attrs.field(init=False, default=False)  # the coordinating thread may call handlers itself
    failed: bool = False
    stop_reason: str | None = None
    completed: list[int] = attrs.field(factory=list)
    running: dict[int, Attempt | None] = attrs.field(factory=dict)
    cleared: set[int] = attrs.field(factory=set)  # steps that must not run twice, and are known to have begun
    tried: dict[int, Tried] = attrs.field(factory=dict)
    timer: Timer | None = None  # of the deadline

    def __attrs_post_init__(self) -> None:
        self.waiting = self.plan.waiting.copy()
        self.marks = [0] * len(self.waiting)
        self.left = len(self.plan.nodes)

    def begin(self, ready: "deque[Ready]") -> None:
        """Put on *ready* what waits for nothing, what `restore` has made ready, and from now on what `settle` does."""
        ready.extend([(self, node) for node in self.plan.roots])
        ready.extend(self.ready)
        self.ready = ready
        self.direct = self.inline and self.deadline is None

    def why_skip(self, node: Node) -> tuple[str, Outcome] | None:
        """Return why *node*, which is ready, is not to be run and what that is to its successors; None: run it.

        Raises what the comparison of foreign objects in outputs may raise.
        """
        marks = self.marks[node.gate]
        if marks & node.blocked_by or node.needs:
            parent = self.plan.parents[node.place] if self.plan.parents else -1
            above = self.results[parent] if parent >= 0 else None
            blocked = node.blocked(marks, None if above is None else above.error)
            if blocked is not None:
                return blocked
        if node.condition is not None:
            seen = {
                name: result for name, place in node.seen_by_condition if (result := self.results[place]) is not None
            }
            if not node.condition.evaluate(build_step_context(self.scope.inputs, seen)):
                return CONDITION_NOT_MET, Outcome.PASSED
        return None

    def restore(self, node: Node, result: StepResult, outcome: Outcome) -> None:
        """Settle *node* as it was settled before, telling nobody."""
        log, watch = self.log, self.watch
        self.log = self.watch = None
        self.settle(node, result, outcome)
        self.log, self.watch = log, watch

    def skip(self, node: Node, reason: str, outcome: Outcome) -> None:
        """Settle *node* without having run it."""
        self.settle(node, StepResult(node.step.id, node.step.name, StepStatus.SKIPPED, error=reason), outcome)

    def settle(self, node: Node, result: StepResult, outcome: Outcome) -> None:
        """Record the one result of *node*, and make ready what waited for nothing else. O(1) per edge."""
        place = node.place
        self.results[place] = result
        if self.plan.loose:
            self.scope.settled_as[place] = self.scope.settled
            self.scope.settled += 1
        if outcome is _COMPLETED:
            self.completed.append(place)
        elif outcome is Outcome.FAILED:
            self.failed = True
        waiting = self.waiting
        for gate, kind in node.edges:
            if outcome is not _COMPLETED or kind is _EITHER:
                self.marks[gate] |= MARKS[kind][outcome]
            left = waiting[gate] = waiting[gate] - 1
            if left > 0 and kind is _EITHER and outcome is _COMPLETED:
                waiting[gate] = -left  # opened: the edges still to come count away from zero
                left = 0
            if not left:
                for follower in self.plan.gates[gate]:
                    self.ready.append((self, follower))
        self.left -= 1
        if self.log is not None:
            self.log.settled(node, result, outcome)
        if self.watch is not None:
            self.watch.settled(node, result)


_COMPLETED = Outcome.COMPLETED
_EITHER = EdgeKind.EITHER

Ready = tuple[Run, Node]
