"""Putting back what a store has of an execution, before it goes on."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import attrs

from szal.collector import without_collector
from szal.engine.journal import Journal
from szal.engine.restored_items import RestoredItems, history_of
from szal.engine.waiting import Waits
from szal.model.json import Checkpoint, decode_checkpoint
from szal.model.state import StepStatus
from szal.scheduler.plan import Node, Outcome
from szal.scheduler.run import Run
from szal.scheduler.stage import READY, SETTLED, UNDECIDED

if TYPE_CHECKING:
    from szal.stores.ledger import Snapshot

__all__ = ["Restored", "open_sub_flows", "restore"]


@attrs.frozen
class Restored:
    """What an execution has to be told of, besides what is back in its run."""

    undecided: list[Node]
    """Steps that must not run twice, and may have been done."""
    backing_off: list[tuple[Node, float]]
    """Steps between two attempts, with when the next one begins (Unix time, of the database's clock)."""
    not_undone: dict[str, str]
    """Steps that could not be undone, with why."""
    sub_flows: dict[int, str]
    """By place: the executions that steps stand for, where these belong to an earlier execution."""


def restore(snapshot: "Snapshot", run: Run, journal: Journal, waits: Waits) -> Restored:
    """Put back what has settled, and what had begun. Raises `DecodeError`."""
    if not run.is_final:  # else that has been done, with the first run
        journal.restore(snapshot.steps)
        for name, _, text in snapshot.memos:
            run.info.memos.put_back(name, text)
    return without_collector(partial(_restore, snapshot, run, journal, waits), len(snapshot.steps))


def _restore(snapshot: "Snapshot", run: Run, journal: Journal, waits: Waits) -> Restored:
    restored = Restored([], [], {}, {})
    backing_off: list[tuple[Node, Checkpoint, float]] = []
    items = RestoredItems(run, journal, waits)
    outcomes: dict[int | None, Outcome | None] = {None: None, **{outcome.value: outcome for outcome in Outcome}}
    for name, node, data in _rows_of(run, snapshot):
        if node is None:
            items.put_back(name, data)
            continue
        place = node.place
        checkpoint = decode_checkpoint(data, name, node.step.id)
        if checkpoint.age or checkpoint.undos or checkpoint.attempts or checkpoint.traceback:
            journal.keep(name, checkpoint)
        if checkpoint.sub_flow is not None:
            restored.sub_flows[place] = checkpoint.sub_flow
        result, due = checkpoint.result, checkpoint.due
        if checkpoint.items is not None:
            items.note_whole(place, result, checkpoint.items)
        if checkpoint.outcome is not None or checkpoint.age:
            run.put_back(node, result, outcomes[checkpoint.outcome], checkpoint.age, is_lent=checkpoint.is_lent)
            if checkpoint.undo_error is not None:
                restored.not_undone[name] = checkpoint.undo_error
        elif due is not None and result.status is StepStatus.PENDING:
            backing_off.append((node, checkpoint, due))
        elif due is not None:
            waits.due[name] = due
            waits.attempts[name] = result.attempts
        elif result.status is StepStatus.RUNNING and (checkpoint.is_undecided or not node.step.idempotent):
            run.enter(place, UNDECIDED)
            restored.undecided.append(node)
    items.gather()
    restored.undecided.extend(items.undecided)
    restored.not_undone.update(items.not_undone)
    run.take_back_all()
    restored.backing_off.extend(_between_attempts(run, backing_off, waits))
    return restored


def _between_attempts(
    run: Run, found: list[tuple[Node, Checkpoint, float]], waits: Waits
) -> Iterator[tuple[Node, float]]:
    """Yield the steps that go on with another attempt, with when that is due."""
    for node, checkpoint, due in found:
        if run.is_open(node):  # otherwise it waits for a step that is new here, and then begins anew
            run.history[node.place] = history_of(checkpoint, run, waits.now())
            run.enter(node.place, READY)
            yield node, due


def _rows_of(run: Run, snapshot: "Snapshot") -> Iterator[tuple[str, Node | None, str]]:
    """Yield what is recorded of the steps of *run*, and of what is none: finally steps have a run of their own."""
    places, nodes, stages = run.plan.places, run.plan.nodes, run.stages
    for name, _, data in snapshot.steps:
        place = places.get(name)
        if place is None:
            yield name, None, data
        elif stages[place] is not SETTLED:
            yield name, nodes[place], data


def open_sub_flows(run: Run) -> Iterator[Node]:
    """Yield the sub_flow steps that have no result yet, but for finally steps."""
    nodes, stages = run.plan.nodes, run.stages
    return (node for node in nodes if node.step.step_type == "sub_flow" and stages[node.place] is not SETTLED)
