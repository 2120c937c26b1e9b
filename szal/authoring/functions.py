"""What does the steps of a flow of functions, for an engine that knows the flow."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from szal.authoring.wiring import Wired, Written
from szal.errors import InvalidFlow
from szal.model import graph
from szal.model.flow import FlowDef
from szal.model.inputs import Input
from szal.model.step import StepDef
from szal.scheduler.context import Handler
from szal.steps.up_to_date import IsDone

__all__ = ["Functions"]


class Owner(Protocol):
    """A flow of functions."""

    @property
    def definition(self) -> FlowDef: ...
    @property
    def wired(self) -> Wired: ...


class Functions:
    """The functions that a flow has when a run begins, as a resolver."""

    def __init__(self, flow: Owner) -> None:
        self._flow = flow

    def resolve_all(self, steps: Sequence[StepDef], flow_name: str) -> list[Handler | None]:
        """Return what does each of *steps*, or None.

        They may be those of a recorded definition: raises `InvalidFlow` where a function takes what does not come
        before its step there.
        """
        wired = self._flow.wired
        if wired.sources and steps != [*self._flow.definition.walk()]:
            is_linear = self._flow.definition.mode.is_linear
            problems = tuple(_not_before(steps, wired.sources, is_linear=is_linear))
            if problems:
                raise InvalidFlow(flow_name, problems)
        return wired.handlers.resolve_all(steps, flow_name)

    def resolve_rollback(self, step: StepDef, flow_name: str) -> Handler | None:
        """Return what undoes *step*, or None."""
        return self._flow.wired.handlers.resolve_rollback(step, flow_name)

    def all_done_when(self, flow_name: str) -> Mapping[str, IsDone]:  # noqa: ARG002
        """Return what says of steps, by name, whether their work is there."""
        return self._flow.wired.done_when

    def inputs_of(self, flow_name: str) -> Mapping[str, Input] | None:  # noqa: ARG002
        """Return the inputs that the functions take."""
        return self._flow.wired.parameters

    def written(self, step_name: str) -> Written | None:
        """Return a step as it was written; None where it is none of the flow's own."""
        return self._flow.wired.written.get(step_name)

    def step_types(self, flow_name: str) -> Collection[str]:
        """Return the types of steps that are done whatever they are called."""
        return self._flow.wired.handlers.step_types(flow_name)


def _not_before(steps: Sequence[StepDef], sources: Mapping[str, Sequence[str]], *, is_linear: bool) -> Iterator[str]:
    """Yield which functions take the output of a step that does not come before their own."""
    places = {step.name: place for place, step in enumerate(steps)}
    by_id = {step.id: place for place, step in enumerate(steps)}
    before = [[by_id[id_] for id_ in step.depends_on if id_ in by_id] for step in steps]
    for place, step in enumerate(steps):
        for source in sources.get(step.name, ()):
            found = places.get(source)
            is_before = found is not None and (
                found < place if is_linear else found in before[place] or found in graph.ancestors(before, place)
            )
            if not is_before:
                problem = f"step {step.name!r} takes the output of step {source!r}, which does not come before it"
                yield f"{problem} in the definition that was recorded"
