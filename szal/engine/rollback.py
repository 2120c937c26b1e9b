"""Undoing a failed run: its completed rollbackable steps, in reverse order of completion.

What is undone is a run of its own, a plain chain, so it has the scheduler's retries and time limits; one undo
that fails does not stop the rest.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from szal.engine.reporting import Reporter
from szal.logs import SafeLogger
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler.call import Call
from szal.scheduler.context import Handler, StepContext
from szal.scheduler.plan import Node, Outcome, Plan
from szal.scheduler.run import Run

if TYPE_CHECKING:
    from szal.engine.journal import Journal

__all__ = ["Rollback"]

logger = SafeLogger(logging.getLogger(__name__))


class Rollback:
    """The undoing of one run. Steps that it undoes get the status ROLLED_BACK in the results of that run.

    `left` names what could not be undone, with why; *given_up* what could not be before a crash.
    """

    def __init__(
        self,
        forward: Run,
        handlers: Sequence[Handler | None],
        reporter: Reporter,
        journal: "Journal | None",
        given_up: Mapping[str, str],
    ) -> None:
        self._forward = forward
        self._journal = journal
        backwards = dict.fromkeys(reversed(forward.completed))  # of one that ran again the last time counts
        self._places = [place for place in backwards if self._is_due(place, given_up)]
        self._handlers = [handlers[place] for place in self._places]
        self._reporter = reporter
        self.left = [f"{name} ({error})" for name, error in given_up.items()]

    def _is_due(self, place: int, given_up: Mapping[str, str]) -> bool:
        """Whether a completed step is to be undone, and was not before a crash."""
        step, result = self._forward.plan.nodes[place].step, self._forward.results[place]
        undone = result is None or result.status is not StepStatus.COMPLETED
        return step.rollbackable and not undone and step.name not in given_up

    def run(self, on_done: Callable[[Run], None]) -> Run:
        """Return the run that does it."""
        nodes = self._forward.plan.nodes
        return Run(
            plan=Plan.chain(nodes[place].step for place in self._places),
            handlers=self._handlers,
            results=[None] * len(self._places),
            info=self._forward.info,
            new_context=lambda node, number: self._context(Call(None, node, number)),
            call_context=self._context,
            on_done=on_done,
            watch=self,
            log=None if self._journal is None else _UndoLog(self._forward, self._places, self._journal),
            commit_first=self._forward.commit_first,
            inline=self._forward.inline and not self._forward.guarded,  # it can be given up on, too
            stoppable=False,
        )

    def _context(self, call: Call) -> StepContext:
        place = self._places[call.node.place]
        done = self._forward.results[place]
        output = None if done is None else done.output
        return StepContext.of_undo(self._forward.info, self._forward.plan.nodes[place], call, output)

    def started(self, node: Node, moment: float) -> None:
        """Say nothing: step_rollback tells the whole story."""

    def timed_out(self, node: Node, attempt: int, error: str) -> None:
        """Pass it on."""
        self._reporter.timed_out(node, attempt, error)

    def retrying(self, node: Node, attempt: int, delay: float, error: str) -> None:
        """Pass it on."""
        self._reporter.retrying(node, attempt, delay, error)

    def settled(self, node: Node, result: StepResult) -> None:
        """Take note of what an undo came to. One that skips had nothing to undo, which is as good."""
        place = self._places[node.place]
        done = self._forward.results[place]
        if result.status is StepStatus.FAILED or done is None:
            self.left.append(f"{node.step.name} ({result.error})")
            logger.error(
                "rollback of step %s failed, execution %s: %s",
                node.step.name,
                self._forward.info.execution_id,
                result.error,
            )
        else:
            self._forward.results[place] = attrs.evolve(done, status=StepStatus.ROLLED_BACK)
        self._reporter.undone(node, result)


class _UndoLog:
    """Writes what became of each undo into the row of the step that was undone."""

    def __init__(self, forward: Run, places: Sequence[int], journal: "Journal") -> None:
        self._forward = forward
        self._places = places
        self._journal = journal
        self._committed: set[int] = set()

    def settled(self, node: Node, result: StepResult, outcome: Outcome) -> None:  # noqa: ARG002
        """Write it, unless `commit` has."""
        if node.place not in self._committed:
            self._write(node, result, None)

    def commit(self, node: Node, result: StepResult, outcome: Outcome, then: Callable[[], None]) -> None:  # noqa: ARG002
        """Write it, and call *then* once that is committed."""
        self._committed.add(node.place)
        self._write(node, result, then)

    def begun(
        self,
        node: Node,  # noqa: ARG002
        result: StepResult,  # noqa: ARG002
        due: float | None,  # noqa: ARG002
        then: Callable[[], None] | None = None,
    ) -> None:
        """Go on at once: an undo may have to be done again, and nobody can decide on it meanwhile."""
        if then is not None:
            then()

    def skipped_again(self, node: Node, result: StepResult, outcome: Outcome, age: int) -> None:
        """Say nothing: nothing of an undoing is kept from an earlier one."""

    def withdrawn(self, node: Node) -> None:
        """Say nothing: it was not said to have begun."""

    def backing_off(self, node: Node, attempt: int, delay: float) -> None:
        """Say nothing: a handler does it."""

    def _write(self, node: Node, result: StepResult, then: Callable[[], None] | None) -> None:
        done = self._forward.results[self._places[node.place]]
        assert done is not None
        failed = result.status is StepStatus.FAILED
        kept = done if failed else attrs.evolve(done, status=StepStatus.ROLLED_BACK)
        self._journal.undone(node.step.name, kept, result.error if failed else None, then)
