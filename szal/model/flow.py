"""The definition of a flow: its steps and the mode that wires them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from szal.expressions.copies import as_written
from szal.expressions.path import Json
from szal.model.fields import problems_of_flow
from szal.model.moment import kept_limit
from szal.model.step import StepDef, new_id
from szal.model.texts import unread_in_flow
from szal.model.validation import Analysis, FlowMode, analyse, walk

__all__ = ["FlowDef", "FlowMode"]


def _steps(value: Iterable[StepDef]) -> list[StepDef]:
    return list(value)


@attrs.define(kw_only=True)
class FlowDef:
    """Steps, and the mode that wires them. `timeout` limits a whole run, in seconds; None means no limit.

    `inputs` are defaults: what a run is given is laid over them. Where there are any, conditions and templates may name
    no others. `rollback_on_failure`: a run that does not succeed is
    undone, the sub-flows that it ran included, whatever they say themselves.

    >>> flow = FlowDef("ci", FlowMode.DAG)
    >>> build = flow.add_step(StepDef("build"))
    >>> test = flow.add_step(StepDef("test", depends_on=[build]))
    >>> flow.validate()
    """

    name: str = attrs.field(kw_only=False)
    mode: FlowMode = attrs.field(default=FlowMode.SEQUENTIAL, kw_only=False)
    id: str = attrs.field(factory=new_id)
    description: str = ""
    version: int = 1
    steps: list[StepDef] = attrs.field(factory=list, converter=_steps)
    rollback_on_failure: bool = False
    timeout: float | None = attrs.field(default=None, converter=kept_limit)
    inputs: Mapping[str, Json] = attrs.field(factory=dict, eq=as_written)
    _plan: Any = attrs.field(default=None, init=False, repr=False, eq=False)  # `Plan.of` keeps its work here
    _definition: Any = attrs.field(default=None, init=False, repr=False, eq=False)  # and `Definition.of`

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: all but what is made of it when it runs."""
        return {field.name: getattr(self, field.name) for field in attrs.fields(type(self)) if field.init}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become that copy, with a list of steps of its own."""
        self._plan = self._definition = None
        for name, value in state.items():
            setattr(self, name, value)

    def add_step(self, step: StepDef) -> StepDef:
        """Append *step* and return it, so that later steps can depend on it."""
        self.steps.append(step)
        return step

    def walk(self) -> Iterator[StepDef]:
        """Yield every step, sub-steps included, depth first: the order of a run's results."""
        return (step for step, _ in walk(self.steps))

    def analyse(self) -> Analysis:
        """Return the flow's graph and compiled texts; raise `InvalidFlow` listing every problem."""
        declared: object = self.inputs
        inputs = declared if isinstance(declared, Mapping) and declared else None
        return analyse(self.name, self.mode, self.steps, (*problems_of_flow(self), *unread_in_flow(self)), inputs)

    def validate(self) -> None:
        """Raise `InvalidFlow` (`CycleDetected` for a cycle) listing every problem, each with its step's name.

        Linear in the size of the flow and not recursive. Runs nothing and imports nothing.

        >>> FlowDef("bad", steps=[StepDef("a", max_retries=-1), StepDef("a")]).validate()
        Traceback (most recent call last):
        szal.errors.InvalidFlow: invalid flow 'bad': 2 problems
          - step 'a': duplicate step name
          - step 'a': max_retries is negative (-1)
        """
        self.analyse()
