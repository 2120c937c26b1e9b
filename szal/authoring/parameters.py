"""What a function asks for: its parameters, which are bound by name."""

import inspect
from collections.abc import Callable
from datetime import date
from functools import partial
from inspect import Parameter as Kind
from typing import Any, Final, get_origin

import attrs

from szal.errors import NotAHandler
from szal.function import check_handler

__all__ = ["NOTHING", "Parameter", "parameters_of"]

NOTHING: Final = inspect.Parameter.empty
"""The default of a parameter that has none."""

_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean", date: "date", list: "list"}


@attrs.frozen
class Parameter:
    """A parameter of a function, which is given by keyword."""

    name: str
    default: Any = NOTHING
    annotation: Any = NOTHING
    by_keyword_only: bool = False

    @property
    def type(self) -> str | None:
        """The type of inputs that its annotation comes to, if it says one."""
        origin = get_origin(self.annotation) or self.annotation
        if isinstance(origin, str):
            return next((said for type_, said in _TYPES.items() if type_.__name__ == origin), None)
        return "object" if origin is dict else _TYPES.get(origin) if isinstance(origin, type) else None


def parameters_of(function: Callable[..., Any], what: str) -> tuple[Parameter, ...]:
    """Return what *function* is to be given; raise `NotAHandler` where nothing can be bound to it, or it is none.

    >>> [each.name for each in parameters_of(lambda ctx, build, *, retries=3: None, "the function of step 'test'")]
    ['ctx', 'build', 'retries']
    """
    check_handler(function, what, None)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise NotAHandler(what, "does not tell its parameters: wrap it in a function that names them") from None
    fixed = _fixed(function)
    found = []
    for each in signature.parameters.values():
        problem = _problem_of(each)
        if problem is not None:
            raise NotAHandler(what, problem)
        if each.name not in fixed:
            found.append(Parameter(each.name, each.default, each.annotation, each.kind is Kind.KEYWORD_ONLY))
    return tuple(found)


def _problem_of(parameter: inspect.Parameter) -> str | None:
    name = parameter.name
    if name in ("self", "cls") and parameter.default is NOTHING:
        return f"takes {name!r}, as a method of a class does: give that of an object, as in flow.step(thing.method)"
    if parameter.kind is Kind.VAR_POSITIONAL:
        return f"takes *{name}: parameters are bound by name, so each needs one"
    if parameter.kind is Kind.VAR_KEYWORD:
        return f"takes **{name}: parameters are bound by name, so each has to be named"
    if parameter.kind is Kind.POSITIONAL_ONLY:
        return f"has the positional-only parameter {name!r}: parameters are bound by name"
    return None


def _fixed(function: Callable[..., Any]) -> set[str]:
    """Return the parameters that a `functools.partial` has given already."""
    names: set[str] = set()
    while isinstance(function, partial):
        names |= function.keywords.keys()
        function = function.func
    return names
