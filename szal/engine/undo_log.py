"""What is recorded of an undoing: what became of each undo, in the row of the step that was undone."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from szal.errors import NotSupportedHere
from szal.model.results import StepResult
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

    def is_whole(self, node: Node) -> bool:
        """Whether the step is undone with *node* of the chain: nothing else belongs to that."""


class UndoLog:
    """Writes what became of each undo into the row of the step that was undone."""

    def __init__(self, rollback: Undoing, journal: "Journal") -> None:
        self._rollback = rollback
        self._journal = journal
        self._committed: set[int] = set()

    def settled(self, node: Node, result: StepResult, outcome: Outcome) -> None:  # noqa: ARG002
        """Write it, unless `commit` has."""
        if node.place not in self._committed:
            self._write(node, result, None)

    def commit(self, node: Node, result: StepResult, outcome: Outcome, then: Then) -> None:  # noqa: ARG002
        """Write it, and call *then* once that is committed."""
        self._committed.add(node.place)
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
        return self._journal.undone_row(node, changed[0], self._rollback.before(node))

    def recorded(self, node: Node, row: "SaveStep") -> None:
        """Take note that this is committed."""
        self._committed.add(node.place)
        self._journal.recorded(node, row)
        self._journal.undone_for_others(node, row.data)

    def attempt_ended(self, node: Node, started: float, ended: float, error: BaseException | None) -> None:
        """Say nothing: what is told of an undo is how it ended."""

    def polled(self, node: Node, result: StepResult, following: NextPoll) -> None:
        """Say nothing: an undo does not poll."""

    def backing_off(self, node: Node, attempt: int, delay: float) -> None:
        """Say nothing: a handler does it."""

    def _write(self, node: Node, result: StepResult, then: Then | None) -> None:
        outcome = self._rollback.outcome(node, result)
        if outcome is not None:
            changed, error = outcome
            self._journal.undone(node, changed, self._rollback.before(node), error, then)
        elif then is not None:
            then(None)
