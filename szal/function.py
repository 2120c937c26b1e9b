"""What can be called to do something: a function that has done its work when it returns."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from szal.errors import NotAHandler

__all__ = ["ONE_CONTEXT", "check_handler", "does_nothing_yet", "problem_of_function"]

ONE_CONTEXT: Final = ("ctx",)
"""What a handler is called with."""


def check_handler(handler: object, what: str, called_with: Sequence[str] | None = ONE_CONTEXT) -> None:
    """Raise `NotAHandler` unless *handler* is a function that does its work when it is called; *what* it is to be.

    *called_with* names the arguments that it has to take; None: whatever it asks for.

    >>> check_handler(dict, "the handler")
    Traceback (most recent call last):
    szal.errors.NotAHandler: the handler is the class dict: give an instance of it, or a function
    """
    problem = problem_of_function(handler, called_with)
    if problem is not None:
        raise NotAHandler(what, problem)


def problem_of_function(value: object, called_with: Sequence[str] | None) -> str | None:
    """Return why a call of *value* with these arguments would do nothing, as the end of a sentence; None: it works.

    >>> problem_of_function(lambda: None, ["ctx"])
    'is called with (ctx), and takes ()'
    """
    if isinstance(value, type):
        return f"is the class {value.__name__}: give an instance of it, or a function"
    problem = does_nothing_yet(value)
    if problem is None and called_with is not None:
        problem = _problem_of_arguments(value, called_with)
    return problem


def _problem_of_arguments(function: object, called_with: Sequence[str]) -> str | None:
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # some builtins have none
        return None
    try:
        signature.bind(*called_with)
    except TypeError:
        return f"is called with ({', '.join(called_with)}), and takes {signature}"
    return None


def does_nothing_yet(function: object) -> str | None:
    """Return why a call of *function* would do nothing, or nothing yet, as the end of a sentence; None: it does.

    >>> async def fetch(ctx): ...
    >>> does_nothing_yet(fetch)
    'is fetch, an async function: szal calls plain functions, each on a thread'
    """
    if not callable(function):
        hint = ": register functions in a Handlers()" if isinstance(function, Mapping) else ""
        return f"is no function, but of type {type(function).__name__}{hint}"
    inner: object = function
    while isinstance(inner, partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", type(inner).__name__)
    for called in (inner, type(inner).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            return f"is {name}, an async function: szal calls plain functions, each on a thread"
        if inspect.isgeneratorfunction(called):
            return f"is {name}, a generator function, whose body a call does not run: return a list"
    return None
