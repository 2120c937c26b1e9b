"""A part of a flow: some steps to be run, with those before them, whose outcomes another execution has."""

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

import attrs

from szal.engine.kept_rows import with_descendants
from szal.engine.lineage import Reading, Undone
from szal.errors import CannotReuse, did_you_mean
from szal.model.flow import Defined, FlowDef, definition_of
from szal.model.json import decode_checkpoint, encode_checkpoint
from szal.model.key import item_in
from szal.model.state import StepStatus
from szal.model.step import StepDef
from szal.scheduler.plan import Outcome, Plan
from szal.stores.ledger import StepRow

if TYPE_CHECKING:
    from szal.stores.ledger import Snapshot, StepRows

__all__ = ["Part"]


@attrs.frozen
class Part:
    """A part of a flow, which is a flow itself: `flow`. Of its steps, those in `runs` are run.

    The flow's finally steps are among these. `needs` are the others: all that comes before those. Their outcomes are
    taken from an execution that has them, and are not undone with this one.

    >>> ci = FlowDef("ci", steps=[StepDef("build"), StepDef("test"), StepDef("deploy")])
    >>> part = Part.only(ci, "test")
    >>> part.needs, part.runs, [step.name for step in part.flow.steps]
    (('build',), ('test',), ['build', 'test'])
    """

    flow: FlowDef
    step: str
    runs: tuple[str, ...]
    needs: tuple[str, ...]

    @classmethod
    def from_step(cls, flow: FlowDef | Defined, step: str) -> "Part":
        """Return *step* and all that comes after it. Raises ValueError: there is no such step."""
        flow = definition_of(flow)
        _check_there_is(flow, step)
        return cls._of(flow, step, with_descendants(Plan.of(flow), [step]))

    @classmethod
    def only(cls, flow: FlowDef | Defined, step: str) -> "Part":
        """Return *step* alone. Raises ValueError: there is no such step."""
        flow = definition_of(flow)
        _check_there_is(flow, step)
        return cls._of(flow, step, {Plan.of(flow).places[step]})

    @classmethod
    def _of(cls, flow: FlowDef, step: str, places: set[int]) -> "Part":
        plan = Plan.of(flow)
        if not places <= plan.finals:
            places |= plan.finals
        before = _all_before(plan, places)
        names = {plan.steps[place].name for place in places | before}
        return cls(
            flow=attrs.evolve(flow, steps=_steps_among(flow.steps, names)),
            step=step,
            runs=tuple(plan.steps[place].name for place in sorted(places)),
            needs=tuple(plan.steps[place].name for place in sorted(before)),
        )

    def rows_from(self, ledger: Reading, known: "Snapshot") -> "StepRows":
        """Return what it begins with: the outcomes of `needs` in the execution *known*.

        Raises `CannotReuse`, with every step that did not complete there, or was undone.
        """
        execution_id = known.record.execution_id
        checkpoints = {name: decode_checkpoint(data, name) for name, _, data in known.steps}
        rows: list[StepRow] = []
        missing: dict[str, str] = {}
        undone = Undone(ledger)
        for name, checkpoint in checkpoints.items():  # in the order in which they settled
            result, outcome = checkpoint.result, checkpoint.outcome
            is_item = name not in self.needs and (item := item_in(name)) is not None and item[0] in self.needs
            if not (is_item or name in self.needs):
                continue
            is_undone = checkpoint.origin is not None and name in undone.by(checkpoint.origin)
            if outcome is None or outcome not in (Outcome.COMPLETED, Outcome.PASSED) or is_undone:
                missing[name] = str(StepStatus.ROLLED_BACK if is_undone else result.status)
            elif result.status not in (StepStatus.COMPLETED, StepStatus.SKIPPED):
                missing[name] = str(result.status)
            else:
                origin = checkpoint.origin or execution_id
                data = encode_checkpoint(
                    result, outcome, age=1, origin=origin, lent=True, item=checkpoint.item, item_count=checkpoint.items
                )
                rows.append(StepRow(name, len(rows), data))
        not_there = {name: "not run" for name in self.needs if name not in checkpoints}
        if missing or not_there:
            found = {name: missing.get(name) or not_there[name] for name in self.needs if name in missing | not_there}
            raise CannotReuse(execution_id, self.step, tuple(f"{name} ({how})" for name, how in found.items()))
        return rows


def _check_there_is(flow: FlowDef, step: str) -> None:
    names = list(Plan.of(flow).places)
    if step not in names:
        raise ValueError(f"no step {step!r} in the flow {flow.name!r}{did_you_mean(step, names)}")


def _all_before(plan: Plan, places: set[int]) -> set[int]:
    """Return the places of all that comes before some steps, but for these themselves."""
    if plan.linear:
        last = max(places - plan.finals, default=0)
        return set(range(last)) - places - plan.finals
    found: set[int] = set()
    pending = list(places)
    for place in pending:  # grows while it is read
        fresh = [source for source in plan.sources(place) if source not in found]
        found.update(fresh)
        pending += fresh
    return found - places


def _steps_among(steps: Iterable[StepDef], names: Container[str]) -> list[StepDef]:
    """Return the steps of these names; one in which others are has only those of them."""
    kept = (step for step in steps if step.name in names)
    return [
        attrs.evolve(step, sub_steps=_steps_among(step.sub_steps, names)) if step.sub_steps else step for step in kept
    ]
