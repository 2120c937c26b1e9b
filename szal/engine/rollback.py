"""Undoing a failed run: its completed steps that something undoes, in reverse order of completion.

What is undone is a run of its own, a plain chain, so it has the scheduler's retries and time limits; one undo
that fails does not stop the rest.
"""

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import attrs

from szal.engine.reporting import Reporter
from szal.engine.undo_log import UndoLog
from szal.errors import describe
from szal.expressions.path import Json
from szal.logs import SafeLogger
from szal.model.key import item_key
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.model.step import StepDef
from szal.scheduler.before import Undoable
from szal.scheduler.call import Call
from szal.scheduler.context import Handler, StepContext
from szal.scheduler.fan_out import items_of
from szal.scheduler.plan import Item, Node, Outcome, Plan
from szal.scheduler.run import Run

if TYPE_CHECKING:
    from szal.engine.journal import Journal

__all__ = ["Rollback", "in_texts", "may_be_undone"]

logger = SafeLogger(logging.getLogger(__name__))


def in_texts(plan: Plan | None, left: Iterable[tuple[str, str]]) -> list[str]:
    """Return the steps, and items, that could not be undone, each with why, as messages name them: in the flow's order.

    In the order of undoing, what a flow comes to would depend on how its threads were switched. Where its *plan* is not
    known, they stay in the order that they are given in.
    """
    found = left if plan is None else sorted(left, key=lambda each: _order(plan, each[0]))
    return [f"{key} ({error})" for key, error in found]


def _order(plan: Plan, key: str) -> tuple[int, int]:
    place, item = plan.place_of(key), plan.item_in(key)
    return -1 if place is None else place, -1 if item is None else item[1]


def may_be_undone(step: StepDef, result: StepResult) -> bool:
    """Whether a step that ended so is undone, if anything undoes it: it completed, or may have done half of it."""
    return result.status is StepStatus.COMPLETED or (result.status is StepStatus.FAILED and step.undo_on_failure)


@attrs.frozen(eq=False)
class Undo:
    """One link of the chain: what undoes a completed step, or a part of it."""

    place: int
    """Of the step that is undone."""
    handler: Handler | None
    """None: it is a sub-flow, which has a rollback of its own."""
    is_last: bool = True
    """Whether the step is undone with it. A sub_flow step that has a rollback handler has two: its sub-flow is last."""
    item: Item | None = None
    """The one item that is undone, of a step that ran over a list."""

    def step(self, plan: Plan) -> StepDef:
        """Return the step as it is in the chain: the steps of a sub-flow have retries and limits of their own."""
        step = plan.nodes[self.place].step
        is_plain = self.handler is not None and self.handler is not _all_items_are_undone
        return step if is_plain else attrs.evolve(step, max_retries=0, timeout=None, resources={}, rate={})


def _all_items_are_undone(_: StepContext) -> None:
    """Do nothing: a step that ran over a list is undone when each of its items is."""


class Rollback:
    """The undoing of one run. Steps that it undoes get the status ROLLED_BACK in the results of that run.

    *given_up* names what could not be undone before, in a run that a crash has ended, or in a sub-flow. Steps at
    *completed_below* failed, but their sub-flows are undone all the same. *reason* is what ended the run.
    """

    def __init__(
        self,
        forward: Run,
        handlers: Sequence[Handler | None],
        reporter: Reporter,
        journal: "Journal | None",
        given_up: Mapping[str, str],
        *,
        completed_below: Container[int],
        reason: str,
    ) -> None:
        self._forward = forward
        self._reason = reason
        self._completed_below = completed_below
        self._journal = journal
        self._handlers = handlers
        self._items: dict[int, list[Item]] = {}  # by place, of steps that ran over a list
        backwards = dict.fromkeys(reversed(forward.completed))  # of one that ran again the last time counts
        self._chain = [undo for undoable in backwards for undo in self._undos(undoable, given_up)]
        self._add_ends(given_up)
        self._reporter = reporter
        self._errors: dict[int, str] = {}  # by place
        self._left = [*given_up.items()]

    @property
    def left(self) -> list[str]:
        """What could not be undone, with why."""
        return in_texts(self._forward.plan, self._left)

    def _undos(self, undoable: Undoable, given_up: Mapping[str, str]) -> Iterator[Undo]:
        """Yield what undoes a completed step or item, if it is to be undone, and was not before a crash."""
        if isinstance(undoable, tuple):
            yield from self._undo_of_item(*undoable, given_up)
            return
        place = undoable
        node, result = self._forward.plan.nodes[place], self._forward.results[place]
        step = node.step
        if result is None or step.name in given_up or node.foreach is not None:
            return
        if result.status is StepStatus.FAILED and place in self._completed_below:
            yield Undo(place, None)
        if not may_be_undone(step, result):
            return
        is_sub_flow = step.step_type == "sub_flow"
        if self._handlers[place] is not None:
            yield Undo(place, self._handlers[place], is_last=not is_sub_flow)
        if is_sub_flow:
            yield Undo(place, None)

    def _undo_of_item(self, place: int, index: int, given_up: Mapping[str, str]) -> Iterator[Undo]:
        handler, result, node = self._handlers[place], self._forward.results[place], self._forward.plan.nodes[place]
        items = None if result is None else result.items
        if handler is None or items is None or item_key(node.step.name, index) in given_up:
            return
        if index < len(items) and may_be_undone(node.step, items[index]):
            if place not in self._items:
                self._items[place] = items_of(self._forward, node)
            yield Undo(place, handler, item=self._items[place][index])

    def _add_ends(self, given_up: Mapping[str, str]) -> None:
        """Have each step that ran over a list, and completed, undone with its last item: the first that completed."""
        last = {undo.place: at for at, undo in enumerate(self._chain) if undo.item is not None}
        ends: dict[int, list[Undo]] = {}
        for node in self._forward.plan.nodes:
            place, result = node.place, self._forward.results[node.place]
            if node.foreach is None or result is None or not may_be_undone(node.step, result):
                continue
            left = any(item_key(node.step.name, index) in given_up for index in range(len(result.items or ())))
            was_done = any(item.status is StepStatus.ROLLED_BACK for item in result.items or ())
            if not left and (place in last or was_done):
                ends.setdefault(last.get(place, -1), []).append(Undo(place, _all_items_are_undone))
        chain = [undo for at, undo in enumerate(self._chain) for undo in (undo, *ends.get(at, ()))]
        self._chain = [*ends.get(-1, ()), *chain]

    def run(self, on_done: Callable[[Run], None], launch: Callable[[Call], None]) -> Run:
        """Return the run that does it; *launch* begins the undoing of the sub-flow that a call is for."""
        plan = self._forward.plan
        log = None if self._journal is None else UndoLog(self, self._journal)  # not kept: it leads back to this
        return Run(
            plan=Plan.chain((undo.step(plan), undo.item) for undo in self._chain),
            handlers=[undo.handler for undo in self._chain],
            results=[None] * len(self._chain),
            info=self._forward.info,
            new_context=partial(self._context, log),
            on_done=on_done,
            watch=self,
            launch=launch,
            log=log,
            commit_first=self._forward.commit_first,
            encode=None if self._forward.encode is None else self._kept,
            inline=self._forward.inline and not self._forward.relievable,  # it can be given up on, too
            inline_as=self._forward.inline_as,
            stoppable=False,
        )

    def target(self, node: Node) -> tuple[Node, StepResult]:
        """Return the step that *node* of the chain undoes, and its result, or that of the one item."""
        undo = self._chain[node.place]
        result = self._forward.results[undo.place]
        assert result is not None
        if undo.item is not None:
            assert result.items is not None
            result = result.items[undo.item.index]
        return self._forward.plan.nodes[undo.place], result

    def _context(self, log: UndoLog | None, node: Node, attempt: int, call: Call | None) -> StepContext:
        target, done = self.target(node)
        failed = done.status is StepStatus.FAILED
        reason = f"step {node.key!r} failed: {done.error}" if failed else self._reason
        return StepContext.of_undo(self._forward.info, target, attempt, call, done, link=node, log=log, reason=reason)

    def _kept(self, output: Json) -> tuple[str, Json]:
        """Return what an undo returned as it is recorded; what cannot be is left out, as it is undone all the same."""
        assert self._forward.encode is not None
        try:
            return self._forward.encode(output)
        except Exception as refused:  # noqa: BLE001 (as an output of a handler's)
            execution_id = self._forward.info.execution_id
            why = describe(refused, self._forward.info.redaction.mask)
            logger.warning("what an undo of %s returned is left out: %s", execution_id, why)
            return "null", None

    def outcome(self, node: Node, result: StepResult) -> tuple[StepResult, str | None] | None:
        """Return what the step is now that *node* of the chain has ended, and why it is not undone, if it is not.

        None: nothing has changed yet, or nothing had to be undone.
        """
        undo = self._chain[node.place]
        if not undo.is_last or (undo.handler is _all_items_are_undone and undo.place in self._errors):
            return None
        target, done = self.target(node)
        before = None if undo.item is not None else self._errors.get(undo.place)
        errors = [before, result.error if result.status is StepStatus.FAILED else None]
        error = "; ".join(filter(None, errors))
        if error:
            return done, error
        if not may_be_undone(target.step, done):
            return None
        if result.status is StepStatus.SKIPPED and undo.handler is None and not self._has_other(node):
            return None
        return attrs.evolve(done, status=StepStatus.ROLLED_BACK, undo_output=result.output), None

    def before(self, node: Node) -> Outcome:
        """Return what the step that *node* undoes was to its successors."""
        target, done = self.target(node)
        failure = target.failure if node.item is None else Outcome.FAILED
        return failure if done.status is StepStatus.FAILED else Outcome.COMPLETED

    def _has_other(self, node: Node) -> bool:
        """Whether the step that *node* undoes has a rollback handler besides."""
        return node.place > 0 and self._chain[node.place - 1].place == self._chain[node.place].place

    def started(self, node: Node, moment: float) -> None:
        """Say nothing: step_rollback tells the whole story."""

    def timed_out(self, node: Node, attempt: int, error: str) -> None:
        """Pass it on."""
        self._reporter.timed_out(node, attempt, error)

    def retrying(self, node: Node, attempt: int, delay: float, error: str) -> None:
        """Pass it on."""
        self._reporter.retrying(node, attempt, delay, error)

    def is_whole(self, node: Node) -> bool:
        """Whether the step is undone with *node* of the chain: nothing else belongs to that."""
        return self._chain[node.place].is_last

    def undoes(self, node: Node) -> bool:
        """Whether something is undone with *node* of the chain, and it does not only stand for its items."""
        return self._chain[node.place].handler is not _all_items_are_undone

    def settled(self, node: Node, result: StepResult) -> None:
        """Take note of what an undo came to. One that skips had nothing to undo, which is as good."""
        place = self._chain[node.place].place
        changed = self.outcome(node, result)
        if result.status is StepStatus.FAILED:
            self._errors[place] = str(result.error)
            self._left.append((node.key, str(result.error)))
            logger.error(
                "rollback of step %s failed, execution %s: %s",
                node.key,
                self._forward.info.execution_id,
                result.error,
            )
        if changed is not None:
            self._replace(place, node.item, changed[0])
        if changed is not None or result.status is StepStatus.FAILED:
            self._reporter.undone(node, result)

    def _replace(self, place: int, item: Item | None, result: StepResult) -> None:
        whole = self._forward.results[place]
        if item is None or whole is None or whole.items is None:
            self._forward.results[place] = result
        else:
            whole.items[item.index] = result
