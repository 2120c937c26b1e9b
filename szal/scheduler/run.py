"""The state of one plan being run: what each step is doing, what has settled, what that makes ready, what is left.

Plain bookkeeping, without threads and without time. The coordinating thread owns it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

import attrs

from szal.errors import Cancelled
from szal.expressions.path import Json
from szal.model.results import StepResult
from szal.model.state import StepStatus, Stop
from szal.model.step import Inline, TriggerMode
from szal.scheduler.before import History, Kept, KeptItem, Order, Undoable
from szal.scheduler.call import Call
from szal.scheduler.context import Handler, StepContext
from szal.scheduler.holding import holds
from szal.scheduler.observers import StepLog, StepWatcher
from szal.scheduler.permits import Permit
from szal.scheduler.plan import MARKS, OPENS, EdgeKind, Node, Outcome, Plan
from szal.scheduler.run_info import RunInfo
from szal.scheduler.stage import CALLED, KEPT, PENDING, READY, SETTLED, Queued, Stage, Tally
from szal.scheduler.timers import Timer

__all__ = ["CONDITION_NOT_MET", "FLOW_FAILED", "Ready", "Run"]

CONDITION_NOT_MET: Final = "condition not met"
FLOW_FAILED: Final = "flow failed"


@attrs.define(eq=False, repr=False)
class Run:
    """One plan being run. Given to `Scheduler.add`, it belongs to the scheduler's thread.

    `stages` says what each step is doing, and `tally` how much of that is work: the two change together, in `enter`,
    `attempt_begins` and `attempt_ends`. Where neither the old stage nor the new one is work, `stages` is set as it is:
    by `settle`, and in the straight pieces of a plan, whose steps settle one after the other. A plan with finally steps
    has two runs, with the same results: one of all others, and when that is over, and perhaps undone, one of those
    (`is_final`). `completed` holds the
    places of the completed nodes in the order in which they completed, and with them those of sub_flow steps that
    failed, as the sub-flow may have completed all the same; one that is kept and runs again is in it twice. Items of
    a step that runs over a list complete by themselves, and are in it with their index. `launch`
    begins what the engine does itself (sub-flows, waits).
    """

    plan: Plan
    handlers: Sequence[Handler | None]  # by place; None: the engine does it
    results: list[StepResult | None]
    info: RunInfo
    on_done: "Callable[[Run], None]"
    new_context: Callable[[Node, int, Call | None], StepContext]  # None: of a call that nobody stops waiting for
    watch: StepWatcher | None = None
    launch: Callable[[Call], None] | None = None
    end_sub_flow: "Callable[[Node], None] | None" = None  # stops the sub-flow under way of a step
    on_stop: "Callable[[Run, Stop], None] | None" = None  # called before any step is skipped for a stop
    on_failing: Callable[[], None] | None = None  # called once, when a step has failed: it cannot succeed any more
    fail_fast: "Callable[[Run, Node], None] | None" = None  # called with that step, where its failure ends all
    on_undecided: Callable[[Node], object] | None = (
        None  # called when somebody has to decide on a step; None: nobody can
    )
    log: StepLog | None = None
    commit_first: bool = False  # what depends on a step waits until its outcome is committed
    encode: Callable[[Json], tuple[str, Json]] | None = (
        None  # outputs become what is recorded, in the step's own thread
    )
    deadline: float | None = None
    inline: bool = True  # the coordinating thread may call handlers itself, where nothing is held up by that
    inline_as: Inline = "auto"  # what holds of steps that say nothing of it
    at_once: int | None = None  # so many of its steps have begun and not settled at one time, at most
    relievable: bool = False  # it lays down the baton before that, so that another may take its place (`relief`)
    stoppable: bool = True  # rollback is not: what stopped the run must not stop its undoing
    is_final: bool = False  # it has the finally steps
    ready: "deque[Ready]" = attrs.field(factory=deque)  # the scheduler's own, once it is added
    tally: Tally = attrs.field(factory=Tally)  # likewise
    stages: list[Stage] = attrs.field(init=False)
    waiting: list[int] = attrs.field(init=False)  # edges still to settle, by gate
    marks: list[int] = attrs.field(init=False)  # by gate
    unsettled: int = attrs.field(init=False)
    calls_inline: bool = attrs.field(init=False, default=False)  # `inline`, and it has no deadline
    pins: bool = attrs.field(init=False, default=False)  # some of its steps are done on the coordinating thread only
    failed: bool = False
    ends_waits: bool = False  # nothing is waited for any more: it is undone, or what it belongs to is
    overtaken: set[int] = attrs.field(
        factory=set
    )  # the places that were skipped for that: waits, sub-flows that waited
    stop: Stop | None = None
    why: str | None = None  # it was stopped, in words, where the stop alone does not tell
    urgency: "Sequence[tuple[int, float]] | None" = None  # by place: what sorts first goes first; None: as they come
    was_crowded: bool = False  # some step that was ready had to wait for a worker
    overruled: "dict[int, tuple[Cancelled, Outcome]]" = attrs.field(factory=dict)
    """By place: the end of steps that are under way and have been stopped, whatever they come to."""
    is_over: bool = False
    completed: Order = attrs.field(factory=list[Undoable])
    fan_outs: "dict[int, Run]" = attrs.field(factory=dict)  # by place: the items of steps that ran over a list here
    items_before: dict[int, dict[int, KeptItem]] = attrs.field(factory=dict)  # by place and index: from before
    permits: dict[int, Permit] = attrs.field(factory=dict)  # by place: what steps that have not begun share with others
    held: "deque[Node]" = attrs.field(factory=deque)  # what may begin, and is too many at once
    raised: list[int] = attrs.field(factory=list)  # the places whose results hold what a handler raised
    history: dict[int, History] = attrs.field(factory=dict)
    kept: dict[int, Kept] = attrs.field(factory=dict)  # by place: what was put back and has not settled
    lent: set[int] = attrs.field(factory=set)  # the places of what another execution did, and is not undone with this
    ages: dict[int, int] = attrs.field(factory=dict)  # by place: the age of what has settled, where that is not 0
    timer: Timer | None = None  # of the deadline

    def __attrs_post_init__(self) -> None:
        self.stages = [PENDING] * len(self.plan.nodes)
        self.waiting = self.plan.waiting.copy()
        self.marks = [0] * len(self.waiting)
        self.unsettled = len(self.plan.nodes)
        if self.plan.finals:
            self._leave_to_the_other()

    def _leave_to_the_other(self) -> None:
        """Have nothing to do with the steps of the other run, nor with finally steps that have run before."""
        for place in range(len(self.stages)):
            if (place in self.plan.finals) is not self.is_final or (self.is_final and self.results[place] is not None):
                self.stages[place] = SETTLED
                self.unsettled -= 1

    def start(self, ready: "deque[Ready]", tally: Tally) -> None:
        """Put on *ready* what waits for nothing, what `settle` has made ready, and from now on what it does."""
        tally.work += self.tally.work
        tally.waits += self.tally.waits
        self.tally = tally
        stages, append, room = self.stages, ready.append, self.at_once
        for node in self.plan.final_roots if self.is_final else self.plan.roots:
            stage = stages[node.place]
            if stage is PENDING and room == 0:
                self.held.append(node)
            elif stage is PENDING:
                room = None if room is None else room - 1
                stages[node.place] = READY
                append((self, node))
            elif stage is KEPT:
                append((self, node))
        ready.extend(self.ready)
        self.ready = ready
        self.calls_inline = self.inline and self.deadline is None
        self.pins = self.plan.pins or self.inline_as == "always"

    def enter(self, place: int, stage: Stage) -> None:
        """Take the step at *place* to another stage."""
        before = self.stages[place]
        self.stages[place] = stage
        if stage.work != before.work:
            self.tally.work += stage.work - before.work
        if stage.waits != before.waits:
            self.tally.waits += stage.waits - before.waits

    def attempt_begins(self, place: int, attempt: Stage) -> None:
        """As `enter`, for a step that is READY or STARTED: each parallel step comes by here, and at `attempt_ends`."""
        self.stages[place] = attempt
        self.tally.work += 1

    def attempt_ends(self, place: int) -> None:
        """As `enter`, of READY, for a step that a worker had."""
        self.stages[place] = READY
        self.tally.work -= 1

    def give_back(self, place: int) -> None:
        """Give back what the step at *place* has, and its handler was to share with others, if there is anything."""
        permit = self.permits.pop(place, None)
        if permit is not None:
            permit.release()

    def give_back_all(self) -> None:
        """Give back what steps have that have not begun, and have none wait for it."""
        for place in list(self.permits):
            self.give_back(place)
        for stage in self.stages if self.plan.sharers else ():
            if isinstance(stage, Queued):
                stage.permit.release()

    def under_way(self) -> list[tuple[Node, Stage]]:
        """Return the steps that have neither settled nor are waiting for others, with what they are doing."""
        staged = zip(self.plan.nodes, self.stages, strict=not self.is_over)  # one that is over has none any more
        return [(node, stage) for node, stage in staged if stage not in (PENDING, KEPT, SETTLED)]

    def inline_of(self, node: Node) -> Inline:
        """Return whether the coordinating thread calls the handler of *node*."""
        return node.step.inline or self.inline_as

    def is_open(self, node: Node) -> bool:
        """Whether *node* waits for no other step any more."""
        return self.waiting[node.gate] <= 0

    def may_begin(self, node: Node) -> bool:
        """Whether *node* waits for no other step, and has no outcome from before."""
        return self.is_open(node) and self.stages[node.place] is not KEPT

    def why_skip(self, node: Node) -> tuple[str, Outcome] | None:
        """Return why *node*, which is ready, is not to be run and what that is to its successors; None: run it.

        Raises `NotComparable`, `ValueNotJson` where its condition reads what has no JSON, and what foreign objects
        raise that are read.
        """
        blocked = self.why_blocked(node)
        if blocked is not None:
            return blocked
        if node.condition is not None and not holds(self.info, node, node.condition, node.seen_by_condition):
            return CONDITION_NOT_MET, Outcome.PASSED
        return None

    def why_blocked(self, node: Node) -> tuple[str, Outcome] | None:
        """Return why the steps before it keep *node* from running, and what that is to its successors."""
        marks = self.marks[node.gate]
        if not marks & node.blocked_by and not node.needs:
            return None
        parent = self.plan.parents[node.place] if self.plan.parents else -1
        above = self.results[parent] if parent >= 0 else None
        return node.blocked(marks, None if above is None else above.error)

    # -- outcomes from before --------------------------------------------------------------------------

    def put_back(
        self, node: Node, result: StepResult, outcome: Outcome | None, age: int = 0, *, is_lent: bool = False
    ) -> None:
        """Have *node*, with its place in the order of completion, settle as it did before, once its gate opens.

        What *is_lent* has no place in that order: it is not undone with this run.
        """
        if is_lent:
            self.lent.add(node.place)
        self.kept[node.place] = Kept(result, outcome, age)
        self.stages[node.place] = KEPT  # it was PENDING
        if _may_be_undone(node, outcome) and not is_lent:
            self.completed.append(node.place)

    def take_back_all(self) -> None:
        """Settle, of all that was put back, what stands and waits for nothing, in the order in which it was."""
        nodes, waiting = self.plan.nodes, self.waiting
        for place, kept in list(self.kept.items()):
            node = nodes[place]
            if waiting[node.gate] <= 0 and kept.outcome is not None and not self._is_outdated(node, kept):
                self._stand(node, kept, kept.outcome)

    def take_back(self, node: Node) -> bool:
        """Settle *node*, which waits for nothing, as it did before, telling nobody; False: it is decided on again.

        What an execution has done itself stands. Of what it took over from an earlier one that is so only where nothing
        before it has run again since.
        """
        kept = self.kept[node.place]
        if self._is_outdated(node, kept):
            del self.kept[node.place]
        elif kept.outcome is not None:
            self._stand(node, kept, kept.outcome)
            return True
        self.enter(node.place, READY)
        return False

    def _stand(self, node: Node, kept: Kept, outcome: Outcome) -> None:
        """Settle *node*, which waits for nothing, as it did before, telling nobody."""
        del self.kept[node.place]
        if kept.age:
            self.ages[node.place] = kept.age
        blocked = self.why_blocked(node) if outcome is _COMPLETED or outcome is Outcome.PASSED else None
        if blocked is not None:  # by a step that is new here: what was done is done, and yet nothing may follow
            outcome = blocked[1]
        self._settle_untold(node, kept.result, outcome)
        if _may_be_undone(node, outcome):
            self.completed.pop()  # it has a place there

    def _is_outdated(self, node: Node, kept: Kept) -> bool:
        return self.is_outdated(node, kept.age)

    def _newest_before(self, node: Node) -> float:
        """Return how many reruns ago the last of those ended that *node* waited for; of ANY and ONE_DONE, the first."""
        settled = [place for place in self.plan.sources(node.place) if self.stages[place] is SETTLED]
        ages = (self.ages.get(place, 0) for place in settled)
        return (max if node.step.trigger_mode in _FIRST else min)(ages, default=inf)

    def _settle_untold(self, node: Node, result: StepResult, outcome: Outcome) -> None:
        watch, log, self.watch, self.log = self.watch, self.log, None, None
        self.settle(node, result, outcome)
        self.watch, self.log = watch, log

    # -- settling --------------------------------------------------------------------------------------

    def skip(self, node: Node, reason: str, outcome: Outcome) -> None:
        """Settle *node* without having run it. One that is skipped again has not run again to what follows it."""
        result = StepResult(node.step.id, node.step.name, StepStatus.SKIPPED, error=reason)
        kept = self.kept.pop(node.place, None)
        if kept is None or kept.result.status is not StepStatus.SKIPPED:
            self.settle(node, result, outcome)
            return
        age = self.ages[node.place] = int(min(kept.age, self._newest_before(node)))
        if self.log is not None:
            self.log.skipped_again(node, result, outcome, age)
        log, self.log = self.log, None
        self.settle(node, result, outcome)
        self.log = log

    def settle(self, node: Node, result: StepResult, outcome: Outcome) -> None:
        """Record the one result of *node*, and make ready what waited for nothing else. O(1) per edge.

        Its step is in a stage in which nothing is under way: READY mostly, or CALLED, or KEPT.
        """
        place = node.place
        if self.log is not None:
            self.log.settled(node, result, outcome)
        self.results[place] = result
        self.stages[place] = SETTLED
        self.unsettled -= 1
        if self.plan.starts_early:
            self.info.settled_as[place] = self.info.settled
            self.info.settled += 1
        if outcome is _COMPLETED:
            self.completed.append(place)
        elif outcome is not Outcome.PASSED:
            self._did_not_complete(node, outcome)
        waiting = self.waiting
        for gate, kind in node.edges:
            if outcome is not _COMPLETED or kind is _EITHER:
                self.marks[gate] |= MARKS[kind][outcome]
            left = waiting[gate] = waiting[gate] - 1
            if left > 0 and OPENS[kind][outcome]:
                waiting[gate] = -left  # opened: the edges still to come count away from zero
                left = 0
            if not left:
                for follower in self.plan.gates[gate]:
                    stage = self.stages[follower.place]
                    if stage is PENDING or stage is KEPT:
                        self.stages[follower.place] = READY if stage is PENDING else KEPT
                        self.ready.append((self, follower))
        if self.watch is not None:
            self.watch.settled(node, result)

    def release_next(self) -> None:
        """Make the next of those ready that were too many at once, if there are any, as one has settled."""
        while self.held:
            node = self.held.popleft()
            if self.stages[node.place] is PENDING:
                self.stages[node.place] = READY
                self.ready.append((self, node))
                return

    def find(self, key: str) -> "tuple[Run, Node]":
        """Return the step called *key* in rows, or the item, in its run; the step itself where that is over."""
        found = self.plan.item_in(key)
        if found is None:
            return self, self.plan.nodes[self.plan.places[key]]
        place = self.plan.places[found[0]]
        items = self.fan_outs.get(place)
        if items is None or items.is_over:
            return self, self.plan.nodes[place]
        return items, items.plan.nodes[found[1]]

    def _did_not_complete(self, node: Node, outcome: Outcome) -> None:
        if _may_be_undone(node, outcome):
            self.completed.append(node.place)
        if outcome is Outcome.OVERTAKEN:
            self.overtaken.add(node.place)
        elif outcome is not Outcome.FAILED:
            return
        is_first, self.failed = not self.failed, True
        if is_first and self.on_failing is not None:
            self.on_failing()
        if is_first and self.fail_fast is not None:
            self.fail_fast(self, node)

    def is_outdated(self, node: Node, age: int) -> bool:
        """Whether something before *node* has run again since what was kept of it, so many reruns ago."""
        return bool(age) and age > self._newest_before(node)

    def stand(self, place: int, result: StepResult, outcome: Outcome) -> None:
        """Have an item, that waits for nothing and has a place in the order of completion, settle as it did before."""
        self.results[place], self.stages[place] = result, SETTLED
        self.unsettled -= 1
        self.failed = self.failed or outcome is Outcome.FAILED

    def fail_settled(self, node: Node, result: StepResult) -> None:
        """Put *result*, a failure, in the place of the one that *node* had completed with: what follows may have begun.

        It is not undone, as nothing is that failed.
        """
        self.results[node.place] = result
        self.completed.remove(node.place)
        self._did_not_complete(node, node.failure)
        if self.log is not None:
            self.log.settled(node, result, node.failure)

    def repair(self) -> None:
        """Make the counts agree with the stages and results, of which an exception may have come in between.

        What is ready is not known any more after that: the run can only be stopped.
        """
        for node, result in zip(self.plan.nodes, self.results, strict=True):
            if result is None:
                if self.stages[node.place] is CALLED:
                    self.stages[node.place] = READY
            else:
                self.stages[node.place] = SETTLED
                outcome = {StepStatus.COMPLETED: _COMPLETED, StepStatus.FAILED: node.failure}.get(result.status)
                if _may_be_undone(node, outcome) and node.place not in self.lent.union(self.completed):
                    self.completed.append(node.place)
        self.unsettled = sum(stage is not SETTLED for stage in self.stages)

    def hush(self) -> None:
        """Tell nobody of anything any more: it is over. How its steps stand, and their items, can still be seen."""
        self.is_over = True
        self.give_back_all()
        for items in self.fan_outs.values():
            items.hush()
        self.held.clear()
        self.launch = self.end_sub_flow = self.on_stop = self.on_failing = self.fail_fast = self.on_undecided = None
        self.log = self.watch = None
        self.stages = []
        self.on_done = _nobody

    def release(self) -> None:
        """Let go of all but its results, which may outlive it."""
        self.hush()
        for items in self.fan_outs.values():
            items.release()
        self.fan_outs, self.items_before = {}, {}


def _nobody(_: Run) -> None:
    """Take no note."""


def _may_be_undone(node: Node, outcome: Outcome | None) -> bool:
    if outcome is _COMPLETED:
        return True
    return outcome in _FAILURES and (node.step.undo_on_failure or node.step.step_type == "sub_flow")


_COMPLETED = Outcome.COMPLETED
_FAILURES: Final = (Outcome.FAILED, Outcome.CAUGHT)
_EITHER = EdgeKind.EITHER
_FIRST: Final = (TriggerMode.ANY, TriggerMode.ONE_DONE)
"""Triggers under which a step follows the first of its dependencies, whatever becomes of the others."""

Ready = tuple[Run, Node]
