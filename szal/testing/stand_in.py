"""What stands in the place of what does a step, or undoes it: an output, an exception, or a function."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from szal.authoring.binding import Argument, bound, input_of, item_of, output_of, own_output_of, whole_context
from szal.authoring.functions import Functions
from szal.authoring.parameters import NOTHING, Parameter, parameters_of
from szal.authoring.step import Step
from szal.authoring.wiring import Written
from szal.errors import did_you_mean
from szal.expressions.copies import own_copy
from szal.expressions.path import Json
from szal.model import graph
from szal.model.flow import FlowDef
from szal.model.step import StepDef
from szal.scheduler.context import Handler, StepContext
from szal.scheduler.plan import Plan
from szal.steps.resolving import ByFlow, Resolver

__all__ = ["Place", "handler_of"]


@attrs.frozen(kw_only=True)
class Place:
    """What a fake stands in for: *step* of *flow*, or its undo. *written*: as it was, in a flow of functions."""

    flow: FlowDef
    step: StepDef
    written: Written | None
    is_undo: bool
    called: str
    """In messages."""

    @classmethod
    def of(cls, flow: FlowDef, step: StepDef, behind: Resolver, *, is_undo: bool, called: str) -> "Place":
        """Return the place of a step that *behind* does."""
        functions = behind.of(flow.name) if isinstance(behind, ByFlow) else behind
        written = functions.written(step.name) if isinstance(functions, Functions) else None
        return cls(flow=flow, step=step, written=written, is_undo=is_undo, called=called)

    @property
    def own_parameters(self) -> Sequence[Parameter]:
        """What the step's own function asks for."""
        own = None if self.written is None else self.written.undoes if self.is_undo else self.written.does
        return (Parameter("ctx"),) if own is None else own.parameters


def handler_of(fake: Any, place: Place) -> Handler:
    """Return what does what *fake* says: returns it, raises it, or calls it with what its parameters are bound to.

    What takes any keyword, as a mock does, is called as the step's own function is. Raises ValueError for a parameter
    that nothing can be bound to, and `NotAHandler` for what no function can be.
    """
    if isinstance(fake, BaseException) or (isinstance(fake, type) and issubclass(fake, BaseException)):
        return _Raising(fake)
    function = fake.function if isinstance(fake, Step) else fake
    if not callable(function):
        return _Returning(fake)
    parameters = place.own_parameters if _takes_any(function) else parameters_of(function, place.called)
    return bound(function, [(each, _argument(each, place)) for each in parameters])


def _takes_any(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # which `parameters_of` tells
        return False
    return any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def _argument(parameter: Parameter, place: Place) -> Argument:
    """Return what finds the value of a parameter: as `authoring.wiring` binds that of the step's own function."""
    name, step = parameter.name, place.step
    if name == "ctx":
        return whole_context
    if name in ("item", "index"):
        if step.foreach is None:
            raise ValueError(f"{place.called} takes {name!r}, and step {step.name!r} runs over no list")
        return item_of(name)
    source = _step_meant(name, place)
    if source is None:
        return _input(parameter, place)
    if source == step.name:
        if not place.is_undo:
            raise ValueError(f"{place.called} takes the step's own output, which there is not before it has run")
        return own_output_of(parameter)
    if not place.is_undo and not _comes_before(source, place):
        raise ValueError(f"{place.called} takes the output of step {source!r}, which does not come before it")
    return output_of(source, parameter)


def _step_meant(name: str, place: Place) -> str | None:
    names = None if place.written is None else place.written.names
    if names is not None:
        return names.get(name)
    return name if any(step.name == name for step in place.flow.walk()) else None


def _comes_before(source: str, place: Place) -> bool:
    found = place.flow.analyse()
    here, there = found.places[place.step.name], found.places[source]
    if found.mode.is_linear:
        return there < here
    return not graph.not_ancestors(found.before, found.order, [(here, there)])


def _input(parameter: Parameter, place: Place) -> Argument:
    inputs = Plan.of(place.flow).inputs
    if inputs.is_closed and parameter.name not in inputs.by_name and parameter.default is NOTHING:
        known = [*inputs.by_name, *(step.name for step in place.flow.walk())]
        hint = did_you_mean(parameter.name, known)
        raise ValueError(f"{place.called} takes {parameter.name!r}, which is no step and no input of the flow{hint}")
    return input_of(parameter, null_is_none=parameter.name in place.flow.inputs)


@attrs.frozen
class _Returning:
    """Returns an output, a copy each time."""

    output: Json

    def __call__(self, ctx: StepContext) -> Json:  # noqa: ARG002
        return own_copy(self.output)


@attrs.frozen
class _Raising:
    """Raises an exception, each time."""

    error: BaseException | type[BaseException]

    def __call__(self, ctx: StepContext) -> Json:  # noqa: ARG002
        raise self.error if isinstance(self.error, type) else self.error.with_traceback(None)
