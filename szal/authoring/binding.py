"""Handlers made of functions: each parameter is looked up where it was bound to, once for all runs."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import attrs

from szal.authoring.parameters import NOTHING, Parameter
from szal.errors import InvalidInputs
from szal.expressions.path import Json
from szal.scheduler.context import Handler, StepContext
from szal.steps.errand import Errand, Hole

__all__ = ["Argument", "bound", "input_of", "item_of", "output_of", "own_output_of", "whole_context"]

Argument: TypeAlias = Callable[[StepContext], Any]
"""What finds the value of a parameter."""


def whole_context(ctx: StepContext) -> StepContext:
    """Return the context itself: what ``ctx`` is bound to."""
    return ctx


def own_output_of(parameter: Parameter) -> Argument:
    """Return what finds what the step itself came to, which is being undone; its default where that has no output."""
    default = None if parameter.default is NOTHING else parameter.default
    return lambda ctx: default if ctx.output is None and ctx.step.name not in ctx.outputs else ctx.output


def item_of(name: str) -> Argument:
    """Return what finds the element that this call is for (``item``), or its place (``index``)."""
    return _INDEX if name == "index" else _ITEM


def _item(ctx: Any) -> Any:
    return ctx.item


def _index(ctx: Any) -> Any:
    return ctx.index


_ITEM: Final[Argument] = _item
_INDEX: Final[Argument] = _index


def output_of(step: str, parameter: Parameter) -> Argument:
    """Return what finds the output of a step; where it has none, that is the parameter's default, or None."""
    default = None if parameter.default is NOTHING else parameter.default
    return lambda ctx: ctx.outputs.get(step, default)


def input_of(parameter: Parameter, *, null_is_none: bool) -> Argument:
    """Return what finds an input of the flow; where it was not given, that is the parameter's default.

    *null_is_none*: an input that is null was not given.
    """
    name, default = parameter.name, parameter.default

    def find(ctx: StepContext) -> Any:
        found = ctx.inputs.get(name, NOTHING)
        if found is not NOTHING and not (null_is_none and found is None and default is not NOTHING):
            return found
        if default is NOTHING:
            problem = f"input {name!r} is required: step {ctx.step.name!r} takes it"
            raise InvalidInputs(ctx.flow_name, (problem,), (name,))
        return default

    return find


def bound(function: Callable[..., Any], arguments: Sequence[tuple[Parameter, Argument]]) -> Handler:
    """Return the handler that calls *function* with its arguments. One that takes the context alone is that itself.

    >>> bound(len, [(Parameter("ctx"), whole_context)]) is len
    True
    """
    match arguments:
        case [(parameter, find)] if find is whole_context and not parameter.by_keyword_only:
            return function
    return Bound(function, tuple((parameter.name, find) for parameter, find in arguments))


@attrs.frozen(eq=False)
class Bound:
    """A handler that calls a function with what its parameters are bound to."""

    function: Callable[..., Any]
    _arguments: tuple[tuple[str, Argument], ...] = attrs.field(repr=False)

    def __call__(self, ctx: StepContext) -> Json:
        """Call it for one attempt."""
        return self.function(**{name: find(ctx) for name, find in self._arguments})

    def errand(self, ctx: StepContext) -> Errand:
        """Return the function and its arguments, for an attempt that is made elsewhere: found here, and sent."""
        found = {name: Hole.CONTEXT if find is whole_context else find(ctx) for name, find in self._arguments}
        return Errand(self.function, (), found)
