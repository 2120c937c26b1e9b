"""What a function asks for: its parameters, which are bound by name."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date
from functools import partial
from inspect import Parameter as Kind
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import attrs

from szal.errors import NotAHandler
from szal.function import check_handler

__all__ = ["NOTHING", "Parameter", "parameters_of"]

NOTHING: Final = inspect.Parameter.empty
"""The default of a parameter that has none."""

_TYPES: Final[Mapping[object, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    date: "date",
    list: "list",
    dict: "object",
}


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
        types = {_type_of(each) for each in _alternatives(self.annotation)}
        return types.pop() if len(types) == 1 else "number" if types == {"integer", "number"} else None


def parameters_of(function: Callable[..., Any], what: str) -> tuple[Parameter, ...]:
    """Return what *function* is to be given; raise `NotAHandler` where nothing can be bound to it, or it is none.

    >>> [each.name for each in parameters_of(lambda ctx, build, *, retries=3: None, "the function of step 'test'")]
    ['ctx', 'build', 'retries']
    """
    check_handler(function, what, None)
    try:
        signature = _signature_of(function)
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


def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return its signature; its annotations are read, where they are texts, and stay texts where they cannot be."""
    signature = inspect.signature(function)
    if any(isinstance(each.annotation, str) for each in signature.parameters.values()):
        with suppress(Exception):  # what they name may be there for type checkers only
            return inspect.signature(function, eval_str=True)
    return signature


def _alternatives(annotation: Any) -> list[Any]:
    """Return what an annotation allows, but for None.

    >>> _alternatives(int | None), _alternatives(Annotated[str, "a name"])
    ([<class 'int'>], [<class 'str'>])
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return [each for some in get_args(annotation) if some is not NoneType for each in _alternatives(some)]
    return [annotation]


def _type_of(annotation: Any) -> str | None:
    if isinstance(annotation, str):
        return next((said for type_, said in _TYPES.items() if getattr(type_, "__name__", "") == annotation), None)
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return "string"
    return _TYPES.get(kind) if isinstance(kind, type) else None


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
