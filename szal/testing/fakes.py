"""Fakes, by the names of steps: a resolver that stands in front of what really does them."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from szal.model.flow import FlowDef
from szal.model.step import ENGINE_TYPES, StepDef
from szal.scheduler.context import Handler
from szal.steps.resolving import Handling, Resolver, migrations_of, resolver_of
from szal.steps.up_to_date import IsDone
from szal.testing.names import step_named
from szal.testing.stand_in import Place, handler_of

if TYPE_CHECKING:
    from szal.model.inputs import Input
    from szal.model.migration import MigrationRegistry

__all__ = ["Faked", "Fakes"]

Fakes: TypeAlias = Mapping[str, Any]
"""By the names of steps: an output, an exception to raise, or a function, which is bound as the step's own is."""


class Faked:
    """What brings *flows* to an engine, and does their steps: what *handling* does, but for those that are faked.

    *others* are flows that these may have as sub-flows, and whose steps are not faked. Raises what `step_named` and
    `handler_of` do, and ValueError for the undo of a step that is not undone.
    """

    def __init__(
        self,
        flows: Sequence[FlowDef],
        handling: Handling | Sequence[Handling],
        *,
        fakes: Fakes,
        undos: Fakes,
        others: Sequence[FlowDef] = (),
    ) -> None:
        self.flows = flows
        self._handling = handling
        self._others = others
        behind = self._behind = resolver_of(handling)
        self._does: dict[tuple[str, str], Handler] = {}
        self._undoes: dict[tuple[str, str], Handler] = {}
        for what, given, found in (("fakes", fakes, self._does), ("undos", undos, self._undoes)):
            for name, fake in given.items():
                flow, step = step_named(flows, name, what)
                is_undo = what == "undos"
                if is_undo and not step.rollbackable and behind.resolve_rollback(step, flow.name) is None:
                    raise ValueError(f"undos: step {name!r} is not undone: it has no rollback")
                place = Place.of(flow, step, behind, is_undo=is_undo, called=f"{what}[{name!r}]")
                found[flow.name, step.name] = handler_of(fake, place)

    def definition(self, flow: FlowDef) -> FlowDef:
        """Return *flow* as it is run: a faked step that the engine would do itself is one with a handler."""
        below = tuple(self.definition(sub_flow) for sub_flow in flow.sub_flows)
        steps = [self._with_handler(flow.name, step) for step in flow.steps]
        return (
            flow
            if below == flow.sub_flows and steps == flow.steps
            else attrs.evolve(flow, steps=steps, sub_flows=below)
        )

    def _with_handler(self, flow_name: str, step: StepDef) -> StepDef:
        below = tuple(self._with_handler(flow_name, sub_step) for sub_step in step.sub_steps)
        is_faked = step.step_type in ENGINE_TYPES and (flow_name, step.name) in self._does
        if not is_faked and below == tuple(step.sub_steps):
            return step
        return attrs.evolve(step, step_type=None if is_faked else step.step_type, sub_steps=below)

    # -- for an engine --------------------------------------------------------------------------------

    def resolvers(self) -> Mapping[str, Resolver]:
        """Return what does the steps of all flows, by their names: this."""
        known = [*self.flows, *(sub_flow for flow in self.flows for sub_flow in flow.sub_flows), *self._others]
        return dict.fromkeys((flow.name for flow in known), self)

    def registries(self) -> "Mapping[str, MigrationRegistry]":
        """Return the migrations that the flows bring."""
        return migrations_of(self._handling)

    # -- as a resolver --------------------------------------------------------------------------------

    def resolve_all(self, steps: Sequence[StepDef], flow_name: str) -> list[Handler | None]:
        """Return what does each of *steps*, or None."""
        found = self._behind.resolve_all(steps, flow_name)
        return [self._does.get((flow_name, step.name), does) for step, does in zip(steps, found, strict=True)]

    def resolve_rollback(self, step: StepDef, flow_name: str) -> Handler | None:
        """Return what undoes *step*, or None."""
        return self._undoes.get((flow_name, step.name)) or self._behind.resolve_rollback(step, flow_name)

    def step_types(self, flow_name: str) -> Collection[str]:
        """Return the types of steps that are done."""
        return self._behind.step_types(flow_name)

    def all_done_when(self, flow_name: str) -> Mapping[str, IsDone]:
        """Return what says of steps, by name, whether their work is there."""
        return self._behind.all_done_when(flow_name)

    def inputs_of(self, flow_name: str) -> "Mapping[str, Input] | None":
        """Return the inputs that functions take."""
        return self._behind.inputs_of(flow_name)
