"""What the rows of items, of steps that run over a list, come to together."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from szal.model.json import Checkpoint, decode_checkpoint
from szal.model.results import StepResult, outputs_of
from szal.model.state import StepStatus
from szal.scheduler.plan import Plan

if TYPE_CHECKING:
    from szal.stores.ledger import StepRow

__all__ = ["gather", "items_in_rows", "next_polls", "with_items"]


def items_in_rows(rows: "Iterable[StepRow]", plan: Plan) -> dict[str, dict[int, StepResult]]:
    """Return what is known of items, by the name of their step, and index: as whoever looks at an execution sees it."""
    found: dict[str, dict[int, StepResult]] = {}
    for name, index, checkpoint in _items(rows, plan):
        found.setdefault(name, {})[index] = checkpoint.result
    return found


def next_polls(rows: "Iterable[StepRow]", plan: Plan) -> dict[str, float]:
    """Return when the next item is called again of each step over a list whose items poll, by its name (Unix)."""
    found: dict[str, float] = {}
    for name, _, checkpoint in _items(rows, plan):
        if checkpoint.due is not None:
            found[name] = min(checkpoint.due, found.get(name, checkpoint.due))
    return found


def _items(rows: "Iterable[StepRow]", plan: Plan) -> Iterator[tuple[str, int, Checkpoint]]:
    """Yield the rows of items, each with the name of its step and its index."""
    for key, _, data in rows:
        item, place = plan.item_in(key), plan.place_of(key)
        if item is not None and place is not None and plan.nodes[place].foreach is not None:
            yield *item, decode_checkpoint(data, item[0], plan.nodes[place].step.id)


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
    if whole.status in (StepStatus.COMPLETED, StepStatus.ROLLED_BACK) and whole.error is None:
        whole.output = outputs_of(whole.items)
        whole.is_masked = whole.is_masked or any(item.is_masked for item in whole.items)
