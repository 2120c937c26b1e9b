"""Putting back what a store has of the items of steps that run over a list: each has a row of its own."""

import attrs

from szal.engine.journal import Journal
from szal.engine.rows_of_items import gather
from szal.engine.waiting import Waits
from szal.model.json import Checkpoint, decode_checkpoint
from szal.model.key import item_in
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.scheduler.before import History, KeptItem
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import Run
from szal.scheduler.stage import SETTLED

__all__ = ["RestoredItems", "history_of"]


@attrs.define
class RestoredItems:
    """The items that go back into a run, row by row, in the order in which they settled; and then their steps."""

    run: Run
    journal: Journal
    waits: Waits
    undecided: list[Node] = attrs.field(factory=list)
    """Those that must not run twice, and may have been done."""
    not_undone: dict[str, str] = attrs.field(factory=dict)
    """Those that could not be undone, with why."""
    _wholes: list[tuple[int, StepResult, int]] = attrs.field(factory=list)

    def put_back(self, key: str, data: str) -> None:
        """Put back what is known of one item, if *key* is one's."""
        run, found = self.run, item_in(key)
        place = None if found is None else run.plan.places.get(found[0])
        if found is None or place is None or run.plan.nodes[place].foreach is None:
            return
        if run.stages[place] is SETTLED:  # it belongs to the other run: of finally steps, or of all others
            return
        node, index = run.plan.nodes[place], found[1]
        checkpoint = decode_checkpoint(data, node.step.name, node.step.id)
        result = checkpoint.result
        if checkpoint.outcome is not None:
            outcome = Outcome(checkpoint.outcome)
        elif result.status is StepStatus.RUNNING and (checkpoint.is_undecided or not node.step.idempotent):
            outcome = None
            self.undecided.append(run.plan.node_called(key))
        elif checkpoint.polls and checkpoint.due is not None:
            self._put_back_poll(place, index, checkpoint, checkpoint.due)
            return
        else:
            return
        if checkpoint.age or checkpoint.undos or checkpoint.attempts or checkpoint.traceback:
            self.journal.keep(key, checkpoint)
        if checkpoint.undo_error is not None:
            self.not_undone[key] = checkpoint.undo_error
        run.items_before.setdefault(place, {})[index] = KeptItem(result, outcome, checkpoint.age, checkpoint.item)
        is_half_done = outcome is Outcome.FAILED and node.step.undo_on_failure
        if (outcome is Outcome.COMPLETED or is_half_done) and not checkpoint.is_lent:
            run.completed.append((place, index))

    def _put_back_poll(self, place: int, index: int, checkpoint: Checkpoint, due: float) -> None:
        """Have an item that polls go on with that."""
        now = self.waits.now()
        history = history_of(checkpoint, self.run, now)
        kept = KeptItem(
            checkpoint.result, None, 0, checkpoint.item, history, self.run.info.clock.monotonic() + due - now
        )
        self.run.items_before.setdefault(place, {})[index] = kept

    def note_whole(self, place: int, result: StepResult, count: int) -> None:
        """Take note of a step as a whole, which ran over a list of so many."""
        self._wholes.append((place, result, count))

    def gather(self) -> None:
        """Give the results of steps what the rows of their items have."""
        for place, result, count in self._wholes:
            kept = self.run.items_before.get(place, {})
            gather(result, {index: item.result for index, item in kept.items()}, count)


def history_of(checkpoint: Checkpoint, run: Run, now: float) -> History:
    """Return what is known of a step between two attempts, or two polls; *now* is the time as its row has it (Unix).

    The attempts of a step that polls start anew, as those of other handlers do.
    """
    moment, result = run.info.clock.monotonic(), checkpoint.result
    if not checkpoint.polls:
        return History(moment, moment, result.attempts, run.info.settled, None)
    until_by = None if checkpoint.until_by is None else moment + checkpoint.until_by - now
    return History(moment, moment, 0, run.info.settled, None, checkpoint.polls, until_by, result.output)
