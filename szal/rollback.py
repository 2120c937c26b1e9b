"""Undoing a failed run: its completed rollbackable steps, in reverse order of completion.

What is undone is a run of its own, a plain chain, so it has the scheduler's retries and time limits; one undo
that fails does not stop the rest.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import attrs

from szal.context import StepContext
from szal.execution import StepResult
from szal.handlers import Handler
from szal.plan import Node, Plan
from szal.reporting import Reporter
from szal.running import Run
from szal.state import StepStatus

__all__ = ["Rollback"]

logger = logging.getLogger(__name__)


class Rollback:
    """The undoing of one run. Steps that it undoes get the status ROLLED_BACK in the results of that run.

    `left` names what could not be undone, with why.
    """

    def __init__(self, forward: Run, handlers: Sequence[Handler | None], reporter: Reporter) -> None:
        self._forward = forward
        self._places = [place for place in reversed(forward.completed) if forward.plan.nodes[place].step.rollbackable]
        self._handlers = [handlers[place] for place in self._places]
        self._reporter = reporter
        self.left: list[str] = []

    def run(self, on_done: Callable[[Run], None]) -> Run:
        """Return the run that does it."""
        nodes = self._forward.plan.nodes
        return Run(
            plan=Plan.chain(nodes[place].step for place in self._places),
            handlers=self._handlers,
            results=[None] * len(self._places),
            new_context=self._context,
            on_done=on_done,
            scope=self._forward.scope,
            watch=self,
            stoppable=False,
        )

    def _context(self, node: Node, attempt: int) -> StepContext:
        place = self._places[node.place]
        context = StepContext(self._forward.scope, self._forward.plan.nodes[place], attempt)
        done = self._forward.results[place]
        context.output = None if done is None else done.output
        context._is_undo = True
        return context

    def started(self, node: Node, moment: datetime) -> None:
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
                self._forward.scope.execution_id,
                result.error,
            )
        else:
            self._forward.results[place] = attrs.evolve(done, status=StepStatus.ROLLED_BACK)
        self._reporter.undone(node, result)
