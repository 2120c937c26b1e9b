"""The flows that executions were begun with, as stores have them: each definition is read once, for a while."""

import uuid
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from szal.collector import without_collector
from szal.engine.config import EngineConfig
from szal.errors import DefinitionMismatch, StoreError
from szal.model.fields import problem_of_id
from szal.model.flow import FlowDef
from szal.model.json import decode_flow
from szal.model.step import StepDef
from szal.recent import Recent

if TYPE_CHECKING:
    from szal.stores.ledger import Snapshot

__all__ = ["recorded_flow", "stored_flow"]

_recorded_flows: Final = Recent[FlowDef](up_to=16_000_000)  # characters: some forty thousand steps


def recorded_flow(text: str) -> FlowDef:
    """Return the flow of a recorded definition; that of the same text is the same, with its plan, for a while.

    Executions that are taken up together are of few definitions.
    """
    flow = _recorded_flows.get(text)
    if flow is None:
        flow = without_collector(partial(_flow_of, text), len(text) // _OF_A_STEP)
        _recorded_flows.keep(text, flow, len(text))
    return flow


_OF_A_STEP: Final = 250  # characters, of one that says nothing of itself


def _flow_of(text: str) -> FlowDef:
    """Return the flow of a recorded definition.

    Earlier versions took any text for the id of a flow or a step: UUIDs take the place of those that are none. Nothing
    is recorded by these ids, and definitions are compared by names.
    """
    flow = decode_flow(text)
    others = {id_: _uuid_for(id_) for id_ in (flow.id, *(step.id for step in flow.walk())) if problem_of_id(id_)}
    if not others:
        return flow

    def again(step: StepDef) -> StepDef:
        return attrs.evolve(
            step,
            id=others.get(step.id, step.id),
            depends_on=[others.get(id_, id_) for id_ in step.depends_on],
            sub_steps=[again(sub_step) for sub_step in step.sub_steps],
        )

    return attrs.evolve(flow, id=others.get(flow.id, flow.id), steps=[again(step) for step in flow.steps])


def _uuid_for(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def stored_flow(execution_id: str, known: "Snapshot", config: EngineConfig) -> FlowDef:
    """Return the definition that an execution began with, brought forward where there are migrations.

    Raises `DefinitionMismatch` where a step that has begun or ended is no longer there, `MigrationFailed`, and
    `StoreError` where it is not recorded.
    """
    if known.flow is None:
        raise StoreError(f"execution {execution_id} has no recorded definition: it was not run by szal's engine")
    stored = recorded_flow(known.flow)
    registry = config.migrations.get(stored.name)
    if registry is None:
        return stored
    flow = registry.migrate_latest(stored)
    names = {step.name for step in flow.walk()}
    if any(name not in names for name, _, _ in known.steps):
        from szal.model.definition import differences

        raise DefinitionMismatch(execution_id, tuple(differences(stored, flow)))
    return flow
