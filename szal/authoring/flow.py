"""A flow written as functions."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, overload

import attrs

from szal.authoring.fields import (
    OF_A_FLOW,
    OF_A_STEP,
    Needed,
    check_fields,
    check_type,
    listed,
    name_of,
    names_of,
    problem_of_name,
    said_of,
    with_templates,
)
from szal.authoring.functions import Functions
from szal.authoring.including import included, side_by_side, with_inputs
from szal.authoring.parameters import parameters_of
from szal.authoring.script import run_as_program
from szal.authoring.step import Step, StepDecorator
from szal.authoring.wiring import Function, Wired, Written, wire
from szal.engine.one_shot import run
from szal.errors import InvalidFlow, NotAHandler
from szal.expressions.path import Json
from szal.model.analysis import FlowMode
from szal.model.flow import FlowDef, definition_of
from szal.model.migration import Migration, MigrationRegistry
from szal.model.results import FlowResult
from szal.model.step import ENGINE_TYPES, StepDef
from szal.number import shown
from szal.steps.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from szal.engine.opening import StoreLike
    from szal.pictures.standing import Seen
    from szal.steps.resolving import Resolver

__all__ = ["Flow"]

P = ParamSpec("P")
R = TypeVar("R")


class Flow:
    """A flow whose steps are functions. What a step needs, its parameters say, by name.

    ``ctx`` is the step's context; ``item`` and ``index`` are an element of what it is done for each of (`foreach`) and
    its place; the name of a step makes that a dependency, and is its output; any other name is an input of the flow.
    The default of a parameter is what it is where the input was not given, or the step has no output.

    It owns a `FlowDef` (`definition`; mode DAG unless said otherwise, and all its other fields as keywords), and what
    does its steps, which an engine that goes on with an execution finds by the names of flow and step. Everything that
    takes a flow takes this. Where `inputs` declares none, it takes those that parameters and texts name, and no other.

    >>> ci = Flow("ci", rollback_on_failure=True)
    >>> @ci.step(max_retries=2, timeout="1m")
    ... def build(revision):
    ...     return {"wheel": f"ci-{revision}.whl"}
    >>> @ci.step
    ... def publish(build, channel="staging"):
    ...     return f"{build['wheel']} to {channel}"
    >>> @publish.rollback
    ... def unpublish(publish):
    ...     print("took back", publish)
    >>> ci.run({"revision": 7})["publish"].output
    'ci-7.whl to staging'
    """

    def __init__(self, name: str, mode: FlowMode | str = FlowMode.DAG, **fields: Any) -> None:
        check_fields(f"flow {name!r}", fields, OF_A_FLOW)
        self._definition = FlowDef(name, mode, **fields)
        self._functions = Functions(self)
        self._written: dict[str, Written] = {}
        self._brought: dict[str, Json] = {}  # inputs that included flows declare, where this one declares none
        self._sub_flows: list[Flow | FlowDef] = []
        self._migrations = MigrationRegistry(name)
        self._wired: Wired | None = None
        self._wired_of: tuple[list[StepDef], list[FlowDef]] = ([], [])

    @property
    def name(self) -> str:
        """The name of the flow."""
        return self._definition.name

    @property
    def definition(self) -> FlowDef:
        """What is run and recorded. Raises `InvalidFlow` with all that is wrong with it."""
        _ = self.wired
        return self._definition

    @property
    def handlers(self) -> Handlers:
        """What does its steps, as `definition` has them."""
        return self.wired.handlers

    def __repr__(self) -> str:
        return f"<flow {self.name!r}>"

    def to_svg(self, status: "Seen | None" = None) -> str:
        """Return a picture of it; with *status*, what a run or `Engine.look` returned, of that execution of it.

        Raises `InvalidFlow`, and `MissingExtra` without ``szal[graph]``. A notebook shows that picture by itself.

        >>> ci = Flow("ci")
        >>> @ci.step
        ... def build(): return "ci.whl"
        >>> ci.to_svg(ci.run()).count("completed") > 0
        True
        """
        return self.definition.to_svg(status)

    def _repr_svg_(self) -> str | None:
        """Return what a notebook shows; None where it cannot be drawn."""
        from szal.pictures.notebook import svg_of

        return svg_of(self)

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows where it cannot be drawn: text for Mermaid."""
        from szal.pictures.notebook import html_of

        return html_of(self)

    # -- steps -----------------------------------------------------------------------------------------

    @overload
    def step(
        self,
        function: Callable[P, R],
        /,
        *,
        name: str | None = None,
        needs: "Needed | Iterable[Needed]" = (),
        **fields: Any,
    ) -> Step[P, R]: ...

    @overload
    def step(
        self, /, *, name: str | None = None, needs: "Needed | Iterable[Needed]" = (), **fields: Any
    ) -> StepDecorator: ...

    def step(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        needs: "Needed | Iterable[Needed]" = (),
        **fields: Any,
    ) -> "Step[..., Any] | StepDecorator":
        """Make a step of a function, or of anything that can be called: as a decorator, or in a call.

        *name* is that of the function, if it says no other; *needs* are steps that come first, without their outputs.
        *fields* are those of `StepDef`. `foreach` is a path, a step (``foreach=list_files``), or an input
        (``foreach=szal.each("files")``).

        Raises `NotAHandler` where nothing can be bound to the function's parameters, `InvalidFlow` for a name that is
        taken, and TypeError for a field that there is not.

        >>> flow = Flow("tables")
        >>> for table in ("orders", "clients"):
        ...     _ = flow.step(lambda ctx: f"loading {ctx.step.name}", name=table)
        >>> flow.run().outputs
        {'orders': 'loading orders', 'clients': 'loading clients'}
        """
        if function is None:

            def decorate(function: Callable[P, R], /) -> Step[P, R]:
                return self.step(function, name=name, needs=needs, **fields)

            return decorate
        before = function if isinstance(function, Step) else None
        if isinstance(function, Step):
            function = function.function
        if isinstance(function, str):
            raise NotAHandler("what flow.step is given", f"is a text: write @flow.step(name={function!r})")
        given: object = function
        if isinstance(given, Flow | FlowDef):
            written = f"flow.sub_flow({given.name!r}, …)"
            raise NotAHandler("what flow.step is given", f"is the flow {given.name!r}: write {written}")
        name = name_of(function) if name is None else name
        if name is None:
            raise InvalidFlow(self.name, (f"{shown(function)} has no name of its own: write flow.step(…, name='…')",))
        check_fields(f"step {name!r}", fields, OF_A_STEP)
        if fields.get("step_type") in ENGINE_TYPES:
            problem = f"step {name!r} is of type {fields['step_type']!r}, which calls no function: use flow.add_step"
            raise InvalidFlow(self.name, (problem,))
        does = Function(function, parameters_of(function, f"the function of step {name!r}"))
        self._add(name, needs, fields, does)
        return Step(self, name, function, before)

    def add_step(self, step: StepDef, *, needs: "Needed | Iterable[Needed]" = ()) -> StepDef:
        """Add a step that is no function: a wait, a sleep, a command. Its name is what parameters call it.

        >>> flow = Flow("order")
        >>> approve = flow.add_step(StepDef("approve", step_type="wait", config={"signal": "ok", "default": "yes"}))
        >>> @flow.step
        ... def ship(approve): ...
        >>> flow.definition.steps[1].depends_on == (approve.id,)
        True
        """
        check_type("flow.add_step", step, "a StepDef (a function is a step by flow.step)", StepDef)
        return self._write(step, needs, None)

    def _add(
        self, name: str, needs: "Needed | Iterable[Needed]", fields: Mapping[str, Any], does: Function | None
    ) -> StepDef:
        said = said_of(self, fields)
        below = [*names_of(self, name, said.below)]
        steps = self._definition.steps
        if below:
            own = {step.name: step for step in steps if step.name in below}
            sub_steps = [own[each.name] if isinstance(each, Step) else each for each in fields["sub_steps"]]
            said = attrs.evolve(said, fields={**said.fields, "sub_steps": sub_steps})
        step = self._write(StepDef(name, **said.fields), [*listed(needs), *said.needs], does)
        if below:
            steps[:] = [step for step in steps if step.name not in below]
        return step

    def _write(self, step: StepDef, needs: "Needed | Iterable[Needed]", does: Function | None) -> StepDef:
        problem = (
            f"step {step.name!r}: duplicate step name" if step.name in self._written else problem_of_name(step.name)
        )
        if problem is not None:
            raise InvalidFlow(self.name, (problem,))
        written = Written(step, does, needs=tuple(names_of(self, step.name, needs)))
        self._written[step.name] = written
        self._definition.add_step(step)
        self._wired = None
        return step

    def register_undo(self, step: str, function: Callable[..., Any]) -> None:
        """Have *function* undo the step of that name: what `Step.rollback` does. The engine's own."""
        written = self._written[step]
        if written.undoes is not None:
            raise InvalidFlow(self.name, (f"step {step!r} has a rollback already",))
        written.undoes = Function(function, parameters_of(function, f"the rollback of step {step!r}"))
        self._wired = None

    @property
    def wired(self) -> Wired:
        """What its functions are bound to: made once for as long as it says the same."""
        definition, below = self._definition, [definition_of(flow) for flow in self._sub_flows]
        if self._wired is None or self._wired_of != (definition.steps, below):
            latest = self._migrations.latest_version
            if latest is not None and latest > definition.version:
                problem = f"there is a migration to version {latest}, and this is version {definition.version}"
                raise InvalidFlow(self.name, (f"{problem}: write Flow({self.name!r}, version={latest})",))
            definition.sub_flows = tuple(side_by_side(below))
            wired = wire(definition, self._written, self._brought)
            definition.parameters = wired.parameters
            self._wired, self._wired_of = wired, (list(definition.steps), below)
        return self._wired

    # -- other flows -----------------------------------------------------------------------------------

    def include(self, other: "Flow", *, prefix: str = "") -> list[StepDef]:
        """Add the steps that *other* has now, under names that begin with *prefix*, and return them.

        What their parameters, conditions, templates and `foreach` name is what it was in *other*. Its inputs become
        this flow's; its time limit, its rollback and its migrations do not.

        >>> table = Flow("table")
        >>> @table.step
        ... def extract(day): return [day]
        >>> @table.step
        ... def load(extract): return len(extract)
        >>> etl = Flow("etl")
        >>> _, done = etl.include(table, prefix="eu_")
        >>> etl.run({"day": "2026-11-26"}).outputs
        {'eu_extract': ['2026-11-26'], 'eu_load': 1}
        """
        check_type("flow.include", other, "a szal.Flow", Flow)
        check_type("prefix", prefix, "a text", str)
        theirs = other.definition
        if theirs.mode is not self._definition.mode:
            problem = f"it is of mode {self._definition.mode}, and cannot include flow {other.name!r}, of {theirs.mode}"
            raise InvalidFlow(self.name, (problem,))
        found = included(theirs, other._written, prefix)
        taken = [each.step.name for each in found if each.step.name in self._written]
        if taken:
            raise InvalidFlow(self.name, tuple(f"step {name!r}: duplicate step name" for name in taken))
        inputs = with_inputs(self._definition, self._brought, other.name, theirs.inputs or other._brought)
        if self._definition.inputs:
            self._definition.inputs = inputs
        else:
            self._brought = inputs
        self._sub_flows += [flow for flow in other._sub_flows if flow not in self._sub_flows]
        for each in found:
            self._written[each.step.name] = each
            self._definition.add_step(each.step)
        self._wired = None
        return [each.step for each in found]

    def sub_flow(
        self,
        name: str,
        other: "Flow | FlowDef",
        *,
        inputs: "Mapping[str, Json | Step[..., Any]] | None" = None,
        needs: "Needed | Iterable[Needed]" = (),
        **fields: Any,
    ) -> StepDef:
        """Add a step that runs *other* as an execution of its own, with *inputs*; its outputs are the step's output.

        Where an input is a step, or has one in it, that is the step's output, and templates are filled in. *other*
        brings what does its steps.

        >>> deploy = Flow("deploy")
        >>> @deploy.step
        ... def push(wheel): return f"pushed {wheel}"
        >>> ci = Flow("ci")
        >>> @ci.step
        ... def build(): return "ci.whl"
        >>> _ = ci.sub_flow("deploy", deploy, inputs={"wheel": build})
        >>> ci.run()["deploy"].output
        {'push': 'pushed ci.whl'}
        """
        check_type("flow.sub_flow", other, "a szal.Flow or a FlowDef", Flow, FlowDef)
        check_type(f"step {name!r}: inputs", {} if inputs is None else inputs, "a mapping of names to values", Mapping)
        if other is self or (isinstance(other, Flow) and self in other._below()):
            raise InvalidFlow(self.name, (f"step {name!r}: a flow cannot be its own sub-flow",))
        check_fields(f"step {name!r}", fields, OF_A_STEP - {"step_type", "config"})
        taken: list[Step[..., Any]] = []
        config = {"flow_name": other.name, "inputs": with_templates(self, inputs or {}, taken)}
        said = {**fields, "step_type": "sub_flow", "config": config}
        step = self._add(name, [*listed(needs), *taken], said, None)
        if other not in self._sub_flows:
            self._sub_flows.append(other)
        return step

    def _below(self) -> "list[Flow]":
        """Return all flows that are sub-flows of this one, directly or not."""
        own = [flow for flow in self._sub_flows if isinstance(flow, Flow)]
        return [*own, *(below for flow in own for below in flow._below())]

    def migration(self, from_version: int, to_version: int) -> Callable[[Migration], Migration]:
        """Return a decorator for what brings recorded definitions of this flow forward (`MigrationRegistry`).

        >>> ci = Flow("ci", version=2)
        >>> @ci.migration(1, 2)
        ... def test_became_check(flow):
        ...     flow.steps = [attrs.evolve(step, name="check") if step.name == "test" else step for step in flow.steps]
        ...     return flow
        """
        self._wired = None
        return self._migrations.register(from_version, to_version)

    # -- for engines -----------------------------------------------------------------------------------

    def resolvers(self) -> "Mapping[str, Resolver]":
        """Return what does the steps of this flow and its sub-flows, by the flows' names. The engine's own."""
        found: dict[str, Resolver] = {self.name: self._functions}
        for flow in self._sub_flows:
            if isinstance(flow, Flow):
                found.update(flow.resolvers())
        return found

    def registries(self) -> "Mapping[str, MigrationRegistry]":
        """Return the migrations of this flow and its sub-flows, by the flows' names. The engine's own."""
        found = {} if self._migrations.latest_version is None else {self.name: self._migrations}
        for flow in self._sub_flows:
            if isinstance(flow, Flow):
                found.update(flow.registries())
        return found

    def run(
        self,
        inputs: Mapping[str, Json] | None = None,
        *,
        store: "StoreLike | None" = None,
        execution_id: str | None = None,
        **options: Any,
    ) -> FlowResult:
        """Run it with an engine made for that: `szal.run`, which has the *options*."""
        return run(self, inputs, store=store, execution_id=execution_id, **options)

    def main(self, arguments: "Sequence[str] | None" = None) -> NoReturn:
        """Run it as the command line says, and end the process: the last line of a script.

        Each input is an option (``python etl.py --day 2026-11-26``; ``--help`` lists them), beside those of
        ``szal run``: ``--store``, ``--id``, ``--timeout``, … The exit statuses are those of ``szal run``, too. This
        needs the extra ``szal[cli]``.
        """
        run_as_program(self, arguments)
