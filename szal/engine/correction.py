"""What a corrected definition is to an execution that began with another one: what differs, and what runs again."""

from typing import TYPE_CHECKING

import attrs

from szal.engine.config import EngineConfig
from szal.engine.lineage import Reading, last_sub_flow
from szal.engine.spec import stored_flow
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
    def of(cls, ledger: Reading, known: "Snapshot", flow: FlowDef, config: EngineConfig) -> "Correction":
        """Compare; raises what `stored_flow` does, and ValueError where *flow* is another one altogether."""
        execution_id = known.record.execution_id
        stored = stored_flow(execution_id, known, config)
        if flow.name != stored.name:
            raise ValueError(f"execution {execution_id} is of the flow {stored.name!r}, not of {flow.name!r}")
        lines, changed = list(differences(stored, flow)), set(changed_steps(stored, flow))
        sub_flows = {name: decode_checkpoint(data, name).sub_flow for name, _, data in known.steps}
        plan = Plan.of(flow)
        for place in sorted(plan.engine_steps):
            step = plan.steps[place]
            if step.step_type != "sub_flow" or step.name in changed:
                continue
            child = last_sub_flow(ledger, execution_id, step, sub_flows.get(step.name))
            below = None if child is None else _below(ledger, child, config)
            if below is not None and below.differences:
                lines += (f"sub-flow of step {step.name!r}: {line}" for line in below.differences)
                changed |= {step.name} if below.changed else set()
        return cls(tuple(lines), frozenset(changed))


def _below(ledger: Reading, child: "Snapshot", config: EngineConfig) -> Correction | None:
    """Return how what is in the engine's storage now differs from a sub-flow; None: there is none of its name."""
    now = None if config.storage is None else config.storage.get_by_name(child.record.flow_name)
    return Correction.of(ledger, child, now, config) if isinstance(now, FlowDef) else None


def inputs_given_to(record: ExecutionRecord, flow: FlowDef) -> dict[str, Json]:
    """Return the inputs of an execution of *flow* that were given to it: those that are not simply the flow's own."""
    own = Plan.of(flow).inputs.defaults
    return {name: value for name, value in record.inputs.items() if name not in own or value != own[name]}
