"""Steps of which nobody knows whether they were done, and what a person says became of them."""

from typing import Literal

import attrs

from szal.engine.journal import NOBODY, Journal
from szal.engine.leased_store import LeasedStore
from szal.engine.recorded_flows import recorded_flow
from szal.expressions.path import Json
from szal.model.json import Checkpoint, decode_checkpoint
from szal.model.key import item_in
from szal.model.results import StepResult
from szal.model.state import StepStatus
from szal.model.step import StepDef
from szal.scheduler.plan import Node, Outcome, Plan
from szal.stores.ledger import Snapshot

__all__ = ["Resolution", "nothing_to_decide", "resolve", "rows_of", "steps_left_open", "undecided"]

Resolution = Literal["completed", "failed", "retry"]


def resolve(leased: LeasedStore, execution_id: str, step: str, decision: Resolution, output: Json) -> None:
    """Write what became of a step, or of an item, of which nothing was known. *output* is as it is recorded.

    Raises ValueError where nothing is to be decided on it, `ExecutionOwned`, and `ExecutionNotFound`.
    """
    nothing = nothing_to_decide(execution_id, step)
    snapshot = leased.take_over(execution_id)
    if snapshot.epoch is None or snapshot.flow is None:
        raise nothing
    journal = Journal(leased, execution_id, snapshot.epoch, NOBODY)  # what is lost, `flush` raises
    journal.restore(snapshot.steps)
    for name, _, data in snapshot.steps:
        if (checkpoint := decode_checkpoint(data, name)).age:
            journal.keep(name, checkpoint)
    begun = undecided(snapshot, step)
    if begun is not None:
        plan = Plan.of(recorded_flow(snapshot.flow))
        _decide(journal, _node(plan, step, begun), begun.result, decision, output)
    journal.release(wake=0.0)
    leased.flush([execution_id])
    if begun is None:  # somebody else has decided meanwhile
        raise nothing


def _decide(journal: Journal, node: Node, begun: StepResult, decision: Resolution, output: Json) -> None:
    begun = attrs.evolve(begun, error=None)
    if decision == "retry":
        journal.begun(node, attrs.evolve(begun, status=StepStatus.PENDING), None)
    elif decision == "completed":
        done = attrs.evolve(begun, status=StepStatus.COMPLETED, output=output, attempts=1)
        journal.settled(node, done, Outcome.COMPLETED)
    else:
        failed = attrs.evolve(begun, status=StepStatus.FAILED, attempts=1, error="resolved as failed")
        failed.is_caught = node.failure is Outcome.CAUGHT
        journal.settled(node, failed, node.failure)


def nothing_to_decide(execution_id: str, step: str, told: str | None = None) -> ValueError:
    """Return what to raise where nothing is to be decided on a step; *told* is why the execution is paused."""
    hint = f"; {told}" if told else ""  # which names what is to be decided, an item or in a sub-flow
    return ValueError(f"execution {execution_id}: nothing is to be decided on step {step!r}{hint}")


def _node(plan: Plan, key: str, begun: Checkpoint) -> Node:
    node = plan.node_called(key)
    if node.item is not None:
        node.item.digest = begun.item
    return node


def rows_of(known: Snapshot, step: StepDef) -> list[str]:
    """Return what the rows of a step are called: by its name, or those of its items by theirs."""
    if step.foreach is None:
        return [step.name]
    return [name for name, _, _ in known.steps if (item := item_in(name)) is not None and item[0] == step.name]


def steps_left_open(known: Snapshot) -> set[str]:
    """Return the steps whose handlers did not know whether they were done, themselves or for an item."""
    keys = (name for name, _, data in known.steps if decode_checkpoint(data, name).is_undecided)
    return {key if (item := item_in(key)) is None else item[0] for key in keys}


def undecided(snapshot: Snapshot, step: str) -> Checkpoint | None:
    """Return what is known of a step, or of an item, that began and was not heard of again; None: that is not so."""
    if snapshot.epoch is None:
        return None
    for name, _, data in snapshot.steps:
        if name == step:
            checkpoint = decode_checkpoint(data, name)
            is_open = checkpoint.outcome is None and checkpoint.result.status is StepStatus.RUNNING
            return checkpoint if is_open and checkpoint.due is None else None
    return None
