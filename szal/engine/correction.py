"""What a corrected definition is to an execution that began with another one: what differs, and what runs again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from szal.engine.config import EngineConfig
from szal.engine.lineage import Reading, family_key, last_sub_flow
from szal.engine.recorded_flows import stored_flow
from szal.expressions.path import Json
from szal.model.definition import changed_steps, differences
from szal.model.flow import FlowDef
from szal.model.json import decode_checkpoint
from szal.model.results import ExecutionRecord
from szal.scheduler.plan import Plan

if TYPE_CHECKING:
    from szal.stores.ledger import Snapshot

__all__ = ["Correction", "inputs_given_to"]


@attrs.frozen
class Correction:
    """How a flow differs from what an execution began with, brought forward where there are migrations.

    `differences` are lines for people, those of its sub-flows included; `changed` names the steps of the flow that are
    new, or would not do what they did.
    """

    differences: tuple[str, ...]
    changed: frozenset[str]

    @classmethod
    def of(
        cls, ledger: Reading, known: "Snapshot", flow: FlowDef, config: EngineConfig, brought: Sequence[FlowDef] = ()
    ) -> "Correction":
        """Compare; raises what `stored_flow` does, and ValueError where *flow* is another one altogether.

        *brought* are the sub-flows that come with the flow that *flow* is a sub-flow of.
        """
        execution_id = known.record.execution_id
        stored = stored_flow(execution_id, known, config)
        if flow.name != stored.name:
            raise ValueError(f"execution {execution_id} is of the flow {stored.name!r}, not of {flow.name!r}")
        lines, changed = list(differences(stored, flow)), set(changed_steps(stored, flow))
        sub_flows = {name: decode_checkpoint(data, name).sub_flow for name, _, data in known.steps}
        plan, brought = Plan.of(flow), flow.sub_flows or brought
        for place in sorted(plan.engine_steps):
            step = plan.steps[place]
            if step.step_type != "sub_flow" or step.name in changed:
                continue
            child = last_sub_flow(ledger, family_key(known.record), step, sub_flows.get(step.name))
            if child is None:
                continue
            name = child.record.flow_name
            own = next((each for each in brought if each.name == name), None)
            now: object = config.storage.get_by_name(name) if own is None and config.storage is not None else own
            if not isinstance(now, FlowDef):
                continue
            below = cls.of(ledger, child, now, config, brought)
            if below.changed:
                changed.add(step.name)
            if own is None:  # else it is told already, with the flow that brings it
                lines += (f"sub-flow of step {step.name!r}: {line}" for line in below.differences)
        return cls(tuple(lines), frozenset(changed))


def inputs_given_to(record: ExecutionRecord, flow: FlowDef) -> dict[str, Json]:
    """Return the inputs of an execution of *flow* that were given to it: those that are not simply the flow's own."""
    own = Plan.of(flow).inputs.defaults
    return {name: value for name, value in record.inputs.items() if name not in own or value != own[name]}
