"""The definition of a flow: its steps and the mode that wires them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from szal.errors import InvalidFlow
from szal.expressions.copies import as_written
from szal.expressions.path import Json
from szal.model.analysis import Analysis, FlowMode, walk
from szal.model.concurrency import problems_of_key, template_of_key
from szal.model.fields import problems_of_flow
from szal.model.input_faults import problems_of_inputs
from szal.model.inputs import Input
from szal.model.moment import kept_limit
from szal.model.step import Isolation, StepDef, new_id
from szal.model.texts import unread_in_flow
from szal.model.validation import analyse
from szal.number import shown

if TYPE_CHECKING:
    from szal.pictures.standing import Seen

__all__ = ["FlowDef", "FlowMode", "definition_of"]


class Defined(Protocol):
    """What has a definition: a `szal.Flow`."""

    @property
    def definition(self) -> "FlowDef": ...


def definition_of(flow: "FlowDef | Defined") -> "FlowDef":
    """Return the definition of what is taken as a flow; raise TypeError for what is none."""
    if isinstance(flow, FlowDef):
        return flow
    if not hasattr(type(flow), "definition"):
        raise TypeError(f"this is no flow, but of type {type(flow).__name__}: a FlowDef or a szal.Flow is wanted")
    return flow.definition


def _mode(value: FlowMode | str) -> FlowMode:
    return FlowMode.named(value)  # type: ignore[no-any-return]


def _steps(value: Iterable[StepDef]) -> list[StepDef]:
    return list(value)


def _flows(value: "Iterable[Any]") -> "tuple[FlowDef, ...]":
    return tuple(each.definition if hasattr(type(each), "definition") else each for each in value)


@attrs.define(kw_only=True)
class FlowDef:
    """Steps, and the mode that wires them.

    `name`: what executions are recorded and found under.
    `mode`: what a step waits for: its dependencies (DAG), the step before it (SEQUENTIAL), nothing (PARALLEL), the step
    that it is a part of (HIERARCHICAL). Its name will do, too: "dag".
    `id`: that of its first execution, where that is given none.
    `description`: what it is for, in words.
    `version`: what migrations count from; to be raised where executions are to go on with changed steps.
    `steps`: in the order in which their results stand.
    `rollback_on_failure`: a run that does not succeed is undone, the sub-flows that it ran included, whatever they say
    themselves.
    `fail_fast`: the first failure that ends it, an item's too, stops what still runs, its sub-flows included, and skips
    what has not begun.
    `isolation`: of its steps that say nothing of theirs (`StepDef.isolation`), those of its sub-flows not included.
    `concurrency_key`: a text with inputs in it (``"customer-{{inputs.id}}"``): of the executions for which it comes to
    the same, of whichever flow, one runs at a time in all engines of a store, from its beginning to its end, waits
    included. docs/limits.md says what becomes of the others.
    `timeout`: limits a whole run, as that of a step; None: nothing does.
    `inputs`: the inputs that a run takes, each with its default or a declaration: an object with only the keys `type`
    (string, integer, number, boolean, date, list, object), `default`, `required`, `enum` and `help`. Any other input is
    refused, and conditions and templates may name no other; a flow without them takes whatever it is given.
    `sub_flows`: what its sub_flow steps name, and those of these flows: they are recorded with it, and come before
    those of `EngineConfig.storage`.
    `file`: where it was loaded from, and no part of the definition: its commands run in that folder.
    `parameters`: no part of the definition either: the inputs that its functions take, where all of these are known
    (`szal.Flow`). A flow that declares no `inputs` then takes these, and those that its texts name.

    >>> flow = FlowDef("ci", FlowMode.DAG)
    >>> build = flow.add_step(StepDef("build"))
    >>> test = flow.add_step(StepDef("test", depends_on=[build]))
    >>> flow.validate()
    """

    name: str = attrs.field(kw_only=False)
    mode: FlowMode = attrs.field(default=FlowMode.SEQUENTIAL, converter=_mode, kw_only=False)
    id: str = attrs.field(factory=new_id)
    description: str = ""
    version: int = 1
    steps: list[StepDef] = attrs.field(factory=list, converter=_steps)
    rollback_on_failure: bool = False
    fail_fast: bool = False
    isolation: Isolation | None = None
    concurrency_key: str | None = None
    timeout: float | None = attrs.field(default=None, converter=kept_limit)
    inputs: Mapping[str, Json] = attrs.field(factory=dict, eq=as_written)
    sub_flows: "tuple[FlowDef, ...]" = attrs.field(default=(), converter=_flows)
    file: str | None = attrs.field(default=None, eq=False)
    parameters: Mapping[str, Input] | None = attrs.field(default=None, eq=False, repr=False)
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
        return self._analyse(configs=False)

    def _analyse(self, *, configs: bool) -> Analysis:
        problems = [*problems_of_flow(self), *unread_in_flow(self)]
        declared: object = self.inputs
        inputs = declared if isinstance(declared, Mapping) and declared else None
        problems += problems_of_inputs(inputs or {})
        problems += self._problems_of_sub_flows(configs=configs)
        problems += problems_of_key(self.concurrency_key, inputs)
        found = analyse(self.name, self.mode, self.steps, problems, inputs, configs=configs)
        found.key = None if self.concurrency_key is None else template_of_key(self.concurrency_key)
        return found

    def _problems_of_sub_flows(self, *, configs: bool) -> Iterator[str]:
        names: list[object] = [self.name]  # which may be anything
        for flow in self.sub_flows:
            given: object = flow
            if not isinstance(given, FlowDef):
                yield f"the flow's sub_flows hold what is no FlowDef ({shown(given)})"
                continue
            if flow.name in names:
                yield f"sub-flow {flow.name!r}: another flow here has that name"
            names.append(flow.name)
            if flow.sub_flows:
                yield f"sub-flow {flow.name!r}: it has sub_flows of its own: put them beside it"
                continue
            if flow.concurrency_key is not None:
                yield f"sub-flow {flow.name!r}: it has a concurrency_key, and runs within another: give that the key"
            try:
                flow._analyse(configs=configs)
            except InvalidFlow as error:
                yield from (f"sub-flow {flow.name!r}: {problem}" for problem in error.problems)

    def validate(self) -> None:
        """Raise `InvalidFlow` (`CycleDetected` for a cycle) listing every problem, each with its step's name.

        Linear in the size of the flow and not recursive. Runs nothing and imports nothing.

        >>> FlowDef("bad", steps=[StepDef("a", max_retries=-1), StepDef("a")]).validate()
        Traceback (most recent call last):
        szal.errors.InvalidFlow: invalid flow 'bad': 2 problems
          - step 'a': duplicate step name
          - step 'a': max_retries is negative (-1)
        """
        self._analyse(configs=True)

    def to_svg(self, status: "Seen | None" = None) -> str:
        """Return a picture of it; with *status*, what a run or `Engine.look` returned, of that execution of it.

        Raises `InvalidFlow`, and `MissingExtra` without ``szal[graph]``. The same flow makes the same text.

        >>> FlowDef("ci", steps=[StepDef("build"), StepDef("test")]).to_svg().startswith("<svg")
        True
        """
        from szal.pictures.graph import graph_svg

        return graph_svg(self, status)

    def _repr_svg_(self) -> str | None:
        """Return what a notebook shows; None where it cannot be drawn."""
        from szal.pictures.notebook import svg_of

        return svg_of(self)

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows where it cannot be drawn: text for Mermaid."""
        from szal.pictures.notebook import html_of

        return html_of(self)
