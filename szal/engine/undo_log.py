"""What is recorded of an undoing: what became of each undo, in the row of the step that was undone."""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from szal.engine.attempt_log import UndoEnd, add_end, attempt_end
from szal.errors import NotSupportedHere
from szal.model.json import AttemptEnd
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler.call import NextPoll
from szal.scheduler.observers import Joined, Shared, Then
from szal.scheduler.plan import Node, Outcome

if TYPE_CHECKING:
    from szal.engine.journal import Journal
    from szal.stores.writes import SaveStep

__all__ = ["UndoLog"]


class Undoing(Protocol):
    """The chain of undos that this writes of."""

    def outcome(self, node: Node, result: StepResult) -> tuple[StepResult, str | None] | None:
        """Return what the step is now that *node* of the chain has ended, and why it is not undone, if it is not.

        None: nothing has changed yet, or nothing had to be undone.
        """

    def before(self, node: Node) -> Outcome:
        """Return what the step that *node* undoes was to its successors."""

    def target(self, node: Node) -> tuple[Node, StepResult]:
        """Return the step that *node* of the chain undoes, and its result, or that of the one item."""

    def undoes(self, node: Node) -> bool:
        """Whether something is undone with *node* of the chain, and it does not only stand for its items."""

    def is_whole(self, node: Node) -> bool:
        """Whether the step is undone with *node* of the chain: nothing else belongs to that."""


class UndoLog:
    """Writes what became of each undo into the row of the step that was undone."""

    def __init__(self, rollback: Undoing, journal: "Journal") -> None:
        self._rollback = rollback
        self._journal = journal
        self._committed: set[int] = set()
        self._attempts: dict[str, deque[AttemptEnd]] = {}  # by the key of what is undone: a sub_flow step has two undos

    def settled(self, node: Node, result: StepResult, outcome: Outcome) -> None:  # noqa: ARG002
        """Write it, unless `commit` has."""
        if node.place not in self._committed:
            self._note_only(node, result)
            self._write(node, result, None)

    def commit(self, node: Node, result: StepResult, outcome: Outcome, then: Then) -> None:  # noqa: ARG002
        """Write it, and call *then* once that is committed."""
        self._committed.add(node.place)
        self._note_only(node, result)
        self._write(node, result, then)

    def begun(
        self,
        node: Node,  # noqa: ARG002
        result: StepResult,  # noqa: ARG002
        due: float | None,  # noqa: ARG002
        then: Then | None = None,
    ) -> None:
        """Go on at once: an undo may have to be done again, and nobody can decide on it meanwhile."""
        if then is not None:
            then(None)

    def undecided(self, node: Node, result: StepResult) -> None:
        """Say nothing: an undo that does not know whether it was done has failed."""

    def skipped_again(self, node: Node, result: StepResult, outcome: Outcome, age: int) -> None:
        """Say nothing: nothing of an undoing is kept from an earlier one."""

    def withdrawn(self, node: Node) -> None:
        """Say nothing: it was not said to have begun."""

    def open(self, node: Node, check: Callable[[], None]) -> Shared:
        """Begin a transaction that what became of the step is committed with."""
        self._check_whole(node)
        return self._journal.transactions().open(self, check)

    def catch_up(self) -> None:
        """Wait until what is queued is committed."""
        self._journal.catch_up()

    def join(self, node: Node, connection: object) -> Joined:
        """Return the application's, for what became of the step to be recorded in."""
        self._check_whole(node)
        return self._journal.transactions().join(self, connection)

    def _check_whole(self, node: Node) -> None:
        if not self._rollback.is_whole(node):
            why = "what undoes a sub_flow step is half of it: its sub-flow is undone after that"
            raise NotSupportedHere("ctx.transaction()", why)

    def row(self, node: Node, result: StepResult, following: NextPoll | None) -> "SaveStep":  # noqa: ARG002
        """Return the write of the step as it is, now that it is undone."""
        changed = self._rollback.outcome(node, result)
        assert changed is not None
        self._note_only(node, result)
        end = UndoEnd(*changed, self._ends(node))
        return self._journal.undone_row(node, self._rollback.before(node), end)

    def recorded(self, node: Node, row: "SaveStep") -> None:
        """Take note that this is committed."""
        self._committed.add(node.place)
        self._journal.recorded(node, row)
        self._journal.undone_for_others(node, row.data)

    def attempt_ended(self, node: Node, started: float, ended: float, error: BaseException | None) -> None:
        """Take note of it, and write at once that it failed: the process may die before the undo has ended."""
        self._note(node, attempt_end(started, ended, error, self._journal.redaction))
        if error is not None and self._rollback.undoes(node):
            so_far = UndoEnd(self._rollback.target(node)[1], None, self._ends(node))
            self._journal.undo_failed(node, self._rollback.before(node), so_far)

    def polled(self, node: Node, result: StepResult, following: NextPoll) -> None:
        """Say nothing: an undo does not poll."""

    def backing_off(self, node: Node, attempt: int, delay: float) -> None:
        """Say nothing: a handler does it."""

    def _write(self, node: Node, result: StepResult, then: Then | None) -> None:
        outcome = self._rollback.outcome(node, result)
        if outcome is not None:
            self._journal.undone(node, self._rollback.before(node), UndoEnd(*outcome, self._ends(node)), then)
        elif then is not None:
            then(None)

    def _note_only(self, node: Node, result: StepResult) -> None:
        """Take note of the only attempt that there was: others have been noted as they ended, and those that failed."""
        began = result.started_at
        if began is not None and result.attempts == 1 and result.status is not StepStatus.FAILED:
            self._note(node, AttemptEnd(began, began + timedelta(seconds=result.duration)))

    def _note(self, node: Node, end: AttemptEnd) -> None:
        if self._rollback.undoes(node):
            add_end(self._attempts, node.key, end)

    def _ends(self, node: Node) -> Sequence[AttemptEnd]:
        return tuple(self._attempts.get(node.key, ()))
