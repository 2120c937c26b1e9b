"""Putting back what a store has of the items of steps that run over a list: each has a row of its own."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from szal.engine.journal import Journal
from szal.model.json import Checkpoint, decode_checkpoint
from szal.model.key import item_in
from szal.model.results import StepResult, outputs_of
from szal.model.state import StepStatus
from szal.scheduler.before import KeptItem
from szal.scheduler.plan import Node, Outcome, Plan
from szal.scheduler.run import Run
from szal.scheduler.stage import SETTLED

if TYPE_CHECKING:
    from szal.stores.ledger import StepRow

__all__ = ["RestoredItems", "items_in_rows", "with_items"]


@attrs.define
class RestoredItems:
    """The items that go back into a run, row by row, in the order in which they settled; and then their steps."""

    run: Run
    journal: Journal
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
        elif result.status is StepStatus.RUNNING and not node.step.idempotent:
            outcome = None
            self.undecided.append(run.plan.node_called(key))
        else:
            return
        if checkpoint.age:
            self.journal.keep(key, checkpoint)
        if checkpoint.undo_error is not None:
            self.not_undone[key] = checkpoint.undo_error
        run.items_before.setdefault(place, {})[index] = KeptItem(result, outcome, checkpoint.age, checkpoint.item)
        if outcome is Outcome.COMPLETED and not checkpoint.is_lent:
            run.completed.append((place, index))

    def note_whole(self, place: int, checkpoint: Checkpoint) -> None:
        """Take note of the row of a step as a whole, if it ran over a list."""
        if checkpoint.items is not None:
            self._wholes.append((place, checkpoint.result, checkpoint.items))

    def gather(self) -> None:
        """Give the results of steps what the rows of their items have."""
        for place, result, count in self._wholes:
            kept = self.run.items_before.get(place, {})
            gather(result, {index: item.result for index, item in kept.items()}, count)


def items_in_rows(rows: "Iterable[StepRow]", plan: Plan) -> dict[str, dict[int, StepResult]]:
    """Return what is known of items, by the name of their step, and index: as whoever looks at an execution sees it."""
    found: dict[str, dict[int, StepResult]] = {}
    for key, _, data in rows:
        item = None if key in plan.places else item_in(key)
        place = None if item is None else plan.places.get(item[0])
        if item is not None and place is not None and plan.nodes[place].foreach is not None:
            name, index = item
            found.setdefault(name, {})[index] = decode_checkpoint(data, name, plan.nodes[place].step.id).result
    return found


def with_items(result: StepResult, items: Mapping[int, StepResult], count: int | None = None) -> StepResult:
    """Return the result of a step that ran over a list, or is about to, with its *items* as far as they are known."""
    known = max(items, default=-1) + 1 if count is None else count
    found = attrs.evolve(result)
    gather(found, items, known)
    return found


def gather(whole: StepResult, items: Mapping[int, StepResult], count: int) -> None:
    """Give the result of a step that ran over a list its items, and its output, which is made of theirs."""
    missing = StepResult(whole.step_id, whole.step_name, StepStatus.PENDING)
    whole.items = [items.get(index, missing) for index in range(count)]
    if whole.status in (StepStatus.COMPLETED, StepStatus.ROLLED_BACK):
        whole.output = outputs_of(whole.items)
