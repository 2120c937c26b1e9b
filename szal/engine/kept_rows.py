"""What an execution that is run again as a new one keeps of its steps."""

from collections.abc import Container, Iterable, Mapping

from szal.engine.lineage import Reading, Undone, family_key, last_sub_flow
from szal.errors import did_you_mean
from szal.expressions.path import Json
from szal.model.json import Checkpoint, decode_checkpoint, encode_checkpoint
from szal.model.json.text import as_recorded
from szal.model.key import memo_key
from szal.model.results import StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.model.step import StepDef
from szal.scheduler.plan import Outcome, Plan
from szal.stores.ledger import Snapshot, StepRow, StepRows

__all__ = ["given_rows", "kept_rows", "memos_of_failed", "with_descendants"]


def kept_rows(
    ledger: Reading,
    known: "Snapshot",
    plan: Plan,
    again: Container[int],
    *,
    in_place: bool = False,
) -> "StepRows":
    """Return what a rerun of *known* begins with, but of the steps at the places *again*.

    Of what completed and was not undone, by this execution or by a rerun, the outcome, which stands unless something
    before it runs again (`Run.kept`); that a step was skipped, so that it is known to be as it was if it is skipped
    again; and which sub-flows there were that did not complete. *in_place*: that is the same execution, reopened.
    """
    execution_id = None if in_place else known.record.execution_id
    rows: list[StepRow] = []
    checkpoints = {name: decode_checkpoint(data, name) for name, _, data in known.steps}
    undone = Undone(ledger)
    begun = (node.step.name for node in plan.nodes if node.step.step_type == "sub_flow")
    for name in dict.fromkeys([*checkpoints, *begun]):
        item, place = plan.item_in(name), plan.place_of(name)
        if place is None or place in again or place in plan.finals:  # it is not there any more, or is to run
            continue
        step, checkpoint = plan.nodes[place].step, checkpoints.get(name)
        if step.step_type == "sub_flow":
            taken_over = None if checkpoint is None else checkpoint.sub_flow
            child = last_sub_flow(ledger, family_key(known.record), step, taken_over)
            row = _row_of_sub_flow(step, checkpoint, child, execution_id)
        elif checkpoint is None or (checkpoint.origin is not None and name in undone.by(checkpoint.origin)):
            row = None
        elif item is not None:
            row = _row_of_item(checkpoint, execution_id, of_done=_is_done(checkpoints.get(item[0])))
        else:
            row = _row_of(checkpoint, execution_id)
        if row is not None:
            rows.append(StepRow(name, len(rows), row))
    return rows


def given_rows(plan: Plan, outputs: Mapping[str, Json], from_step: str | None) -> "StepRows":
    """Return rows of steps that count as completed with *outputs*, in this execution, which has not run them.

    So they are not undone with it; and what comes after them runs again, as it is older than they are. Raises
    ValueError for what is no such step, and `EncodeError`.
    """
    rows: list[StepRow] = []
    for name, output in outputs.items():
        place = plan.places.get(name)
        if place is None:
            raise ValueError(f"outputs: no step {name!r} in this flow{did_you_mean(name, [*plan.places])}")
        if place in plan.finals:
            raise ValueError(f"outputs: step {name!r} is a finally step, which runs whatever happened")
        if name == from_step:
            raise ValueError(f"outputs: step {name!r} is given one, and is the step that is to run again (from_step)")
        value = as_recorded(output, f"outputs[{name!r}]")[1]
        done = StepResult(plan.steps[place].id, name, StepStatus.COMPLETED, value)
        rows.append(StepRow(name, len(rows), encode_checkpoint(done, int(Outcome.COMPLETED), lent=True)))
    return rows


def _is_done(checkpoint: Checkpoint | None) -> bool:
    return (
        checkpoint is not None and checkpoint.outcome is not None and checkpoint.result.status is StepStatus.COMPLETED
    )


def _is_skipped(result: StepResult) -> bool:
    """Whether a step was skipped before its first attempt."""
    return result.status is StepStatus.SKIPPED and not result.attempts


def _row_of(checkpoint: Checkpoint, execution_id: str | None) -> str | None:
    if _is_done(checkpoint):
        return _as_it_stands(checkpoint, execution_id)
    return encode_checkpoint(checkpoint.result, age=checkpoint.age + 1) if _is_skipped(checkpoint.result) else None


def _row_of_item(checkpoint: Checkpoint, execution_id: str | None, *, of_done: bool) -> str | None:
    """Return what is kept of an item: that it completed, or, *of_done*, a step that did, what it was skipped for."""
    is_kept = _is_done(checkpoint) or (of_done and checkpoint.outcome is not None)
    return _as_it_stands(checkpoint, execution_id) if is_kept else None


def _as_it_stands(checkpoint: Checkpoint, execution_id: str | None) -> str:
    return encode_checkpoint(
        checkpoint.result,
        checkpoint.outcome,
        age=checkpoint.age + 1,
        origin=checkpoint.origin or execution_id,
        lent=checkpoint.is_lent,
        item=checkpoint.item,
        item_count=checkpoint.items,
    )


def _row_of_sub_flow(
    step: StepDef, checkpoint: Checkpoint | None, child: "Snapshot | None", execution_id: str | None
) -> str | None:
    """Return what is kept of a sub_flow step: that it completed, or which execution the next one is a rerun of."""
    if child is None:
        return None if checkpoint is None else _row_of(checkpoint, execution_id)
    child_id, state = child.record.execution_id, child.record.state
    age = 1
    if checkpoint is not None and checkpoint.sub_flow == child_id:  # taken over from an earlier one
        age = checkpoint.age + 1
    if state is WorkflowState.ROLLED_BACK:
        return None
    if checkpoint is not None and _is_done(checkpoint) and state is WorkflowState.COMPLETED:
        return encode_checkpoint(checkpoint.result, int(Outcome.COMPLETED), age=age, sub_flow=child_id)
    if checkpoint is not None and _is_skipped(checkpoint.result):
        result = checkpoint.result
    else:
        result = StepResult(step.id, step.name, StepStatus.FAILED, error=child.record.error)
    return encode_checkpoint(result, age=age, sub_flow=child_id)


def memos_of_failed(known: "Snapshot") -> "StepRows":
    """Return what the failed steps of an execution, and items of them, have found out: they go on with that.

    What runs again after one of them begins anew.
    """
    results = ((name, decode_checkpoint(data, name).result) for name, _, data in known.steps)
    failed = tuple(memo_key(name, "") for name, result in results if result.status is StepStatus.FAILED)
    return [row for row in known.memos if row.step_name.startswith(failed)]


def with_descendants(plan: Plan, steps: Iterable[str]) -> set[int]:
    """Return the places of *steps* and of all that comes after them. Raises ValueError: there is no such step."""
    pending: list[int] = []
    for step in steps:
        if step not in plan.places:
            raise ValueError(f"no step {step!r} in this flow")
        pending.append(plan.places[step])
    found = set(pending)
    for place in pending:  # grows while it is read
        for target, _ in plan.successors(place):
            if target not in found:
                found.add(target)
                pending.append(target)
    return found
