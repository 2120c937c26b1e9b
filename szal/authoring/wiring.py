"""From functions and their parameters to a definition: what each is bound to, and what each step waits for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from szal.authoring.binding import Argument, bound, input_of, item_of, output_of, own_output_of, whole_context
from szal.authoring.parameters import NOTHING, Parameter
from szal.errors import ConditionError, InvalidFlow, did_you_mean
from szal.expressions.path import Json, Path
from szal.model import graph
from szal.model.analysis import FlowMode
from szal.model.flow import FlowDef
from szal.model.inputs import Input, is_declaration
from szal.model.step import StepDef
from szal.steps.handlers import Handlers
from szal.steps.up_to_date import IsDone

__all__ = ["Function", "Wired", "Written", "wire"]


@attrs.frozen(eq=False)
class Function:
    """A function, and what it asks for."""

    call: Callable[..., Any]
    parameters: tuple[Parameter, ...]


@attrs.define(eq=False)
class Written:
    """A step as it was written: `does` and `undoes` it; it `needs` other steps, by name.

    `names`: which steps its parameters mean, where these are not all steps of the flow by their own names.
    """

    step: StepDef
    does: Function | None = None
    undoes: Function | None = None
    needs: tuple[str, ...] = ()
    names: Mapping[str, str] | None = None


@attrs.frozen(eq=False)
class Wired:
    """What a flow comes to: its handlers, the inputs that its functions take, and whose outputs each step takes.

    `done_when` has what says, by step, whether its work is there; `written` is what it was made of.
    """

    handlers: Handlers
    parameters: Mapping[str, Input]
    sources: Mapping[str, Sequence[str]]
    done_when: Mapping[str, IsDone]
    written: Mapping[str, Written]


def wire(definition: FlowDef, written: Mapping[str, Written], brought: Mapping[str, Json]) -> Wired:
    """Give the steps of *definition* their dependencies, and return what does them.

    *brought* are declarations of inputs, by name, in a flow that takes others besides.

    Raises `InvalidFlow` with every problem, those of the definition included.
    """
    return _Wiring(definition, written, brought).run()


class _Wiring:
    def __init__(self, definition: FlowDef, written: Mapping[str, Written], brought: Mapping[str, Json]) -> None:
        self.definition = definition
        self.steps = {step.name: step for step in definition.walk()}
        self.written = {name: each for name, each in written.items() if name in self.steps}
        self.problems: list[str] = []
        self.parameters: dict[str, Input] = {name: Input.of(name, said) for name, said in brought.items()}
        self._sources: dict[str, list[str]] = {}  # by step: those whose outputs its functions take
        self._questions: list[tuple[str, str, str]] = []  # step, which function of it, the step that it takes
        self._declared = definition.inputs or brought
        self._is_closed = bool(definition.inputs)
        self._is_dag = definition.mode is FlowMode.DAG

    def run(self) -> Wired:
        handlers, wired = Handlers(), {}
        for name, each in self.written.items():
            before = [*each.needs]
            if each.does is not None:
                arguments = [*self._arguments(name, each, each.does, before)]
                handlers.step(name)(bound(each.does.call, arguments))
            if each.undoes is not None:
                arguments = [*self._arguments(name, each, each.undoes, None)]
                handlers.rollback(name)(bound(each.undoes.call, arguments))
            wired[name] = self._step(name, each, before)
        self.definition.steps[:] = [_again(step, wired) for step in self.definition.steps]
        self._check()
        done_when = {name: step.done_when for name, step in self.steps.items() if step.done_when is not None}
        return Wired(handlers, self.parameters, self._sources, done_when, self.written)

    def _step(self, name: str, each: Written, before: Sequence[str]) -> StepDef:
        """Return the definition of a step with what it waits for, and whether it is undone."""
        for other in each.needs:
            if other not in self.steps:
                hint = did_you_mean(other, list(self.steps))
                self.problems.append(f"step {name!r} needs a step {other!r}, which there is not{hint}")
        source = _list_of(each.step) if self._is_dag else None
        named = [*before, *([] if source is None else [source])]
        ids = [self.steps[other].id for other in named if other in self.steps]
        return attrs.evolve(
            each.step,
            depends_on=tuple(dict.fromkeys([*each.step.depends_on, *ids])),
            rollbackable=each.step.rollbackable or each.undoes is not None,
        )

    def _arguments(
        self, name: str, each: Written, function: Function, before: list[str] | None
    ) -> Iterator[tuple[Parameter, Argument]]:
        """Yield what each parameter is bound to; those that are steps go to *before*, which an undo has none of."""
        for parameter in function.parameters:
            if parameter.name == "ctx":
                yield parameter, whole_context
            elif parameter.name in ("item", "index"):
                yield parameter, self._item(name, each, parameter)
            else:
                source = self._step_meant(each, parameter.name)
                if source is None:
                    yield parameter, self._input(name, parameter)
                elif source == name:
                    yield parameter, self._itself(name, parameter, is_undo=before is None)
                else:
                    yield parameter, output_of(source, parameter)
                    self._sources.setdefault(name, []).append(source)
                    if before is None or not self._is_dag:
                        self._questions.append((name, "the undo of step" if before is None else "step", source))
                    else:
                        before.append(source)

    def _step_meant(self, each: Written, name: str) -> str | None:
        """Return the step that a parameter of this name is, if it is one."""
        if each.names is not None:
            return each.names.get(name)
        return name if name in self.steps else None

    def _item(self, name: str, each: Written, parameter: Parameter) -> Argument:
        if each.step.foreach is None:
            self.problems.append(
                f"step {name!r} takes {parameter.name!r}, and has no foreach= to take it from: "
                "an input needs another name"
            )
        return item_of(parameter.name)

    def _itself(self, name: str, parameter: Parameter, *, is_undo: bool) -> Argument:
        if not is_undo:
            self.problems.append(f"step {name!r} takes its own output, which there is not before it has run")
        return own_output_of(parameter) if is_undo else output_of(name, parameter)

    def _input(self, name: str, parameter: Parameter) -> Argument:
        key = parameter.name
        if key not in self._declared and not self._is_closed:
            self.parameters[key] = _as_input(name, parameter, self.parameters.get(key))
            return input_of(parameter, null_is_none=False)
        if key not in self._declared:
            hint = did_you_mean(key, [*self.steps, *self._declared])
            self.problems.append(f"step {name!r} takes {key!r}, which is no step and no input of the flow{hint}")
            return input_of(parameter, null_is_none=False)
        said = self._declared[key]
        return input_of(parameter, null_is_none=is_declaration(said) and "default" not in said)

    def _check(self) -> None:
        """Raise what is wrong, all of it."""
        problems = self.problems
        try:
            found = self.definition.analyse()
        except InvalidFlow as error:
            if not problems:
                raise
            raise InvalidFlow(self.definition.name, (*problems, *error.problems)) from None
        questions = {
            (found.places[name], found.places[source]): (what, name, source) for name, what, source in self._questions
        }
        if found.mode.is_linear:
            impossible = [question for question in questions if question[1] >= question[0]]
        else:
            impossible = sorted(graph.not_ancestors(found.before, found.order, questions))
        for question in impossible:
            what, name, source = questions[question]
            problems.append(f"{what} {name!r} takes the output of step {source!r}, which cannot have run before it")
        if problems:
            raise InvalidFlow(self.definition.name, tuple(problems))


def _list_of(step: StepDef) -> str | None:
    """Return the name of the step whose output *step* runs over, or a list in it."""
    if not isinstance(step.foreach, str):
        return None
    try:
        return Path.parse(step.foreach).step
    except ConditionError:  # which `validate` tells
        return None


def _again(step: StepDef, wired: Mapping[str, StepDef]) -> StepDef:
    now = wired.get(step.name, step)
    if step.sub_steps:
        now = attrs.evolve(now, sub_steps=[_again(sub_step, wired) for sub_step in step.sub_steps])
    return step if now == step else now


def _as_input(step: str, parameter: Parameter, before: Input | None) -> Input:
    """Return the input that *parameter* of *step* is, as other steps take it, too: the first that needs it says so."""
    required = parameter.default is NOTHING
    if before is not None and (before.required or not required):
        return before if before.reads_as else attrs.evolve(before, reads_as=_type_of(parameter))
    return Input(
        parameter.name,
        required=required,
        taken_by=step,
        reads_as=_type_of(parameter) or (before.reads_as if before is not None else None),
        standing_in="" if required else repr(parameter.default),
    )


def _type_of(parameter: Parameter) -> str | None:
    default: object = parameter.default
    return parameter.type or {str: "string", bool: "boolean"}.get(type(default))
