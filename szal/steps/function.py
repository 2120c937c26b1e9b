"""What can be a handler: a function that has done its work when it returns."""

import inspect
from collections.abc import Mapping
from functools import partial

from szal.errors import NotAHandler

__all__ = ["check_handler", "does_nothing_yet"]


def check_handler(handler: object, what: str) -> None:
    """Raise `NotAHandler` unless *handler* is a function that does its work when it is called; *what* it is to be.

    >>> check_handler(dict, "the handler")
    Traceback (most recent call last):
    szal.errors.NotAHandler: the handler is the class dict: give an instance of it, or a function
    """
    problem = _problem_of(handler)
    if problem is not None:
        raise NotAHandler(what, problem)


def _problem_of(handler: object) -> str | None:
    if isinstance(handler, type):
        return f"is the class {handler.__name__}: give an instance of it, or a function"
    if not callable(handler):
        hint = ": register functions in a Handlers()" if isinstance(handler, Mapping) else ""
        return f"is no function, but of type {type(handler).__name__}{hint}"
    return does_nothing_yet(handler)


def does_nothing_yet(function: object) -> str | None:
    """Return why a call of *function* would return before it has done anything, as the end of a sentence; None: not.

    >>> async def fetch(ctx): ...
    >>> does_nothing_yet(fetch)
    'is fetch, an async function: szal calls plain functions, each on a thread'
    """
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", type(inner).__name__)
    for called in (inner, type(inner).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            return f"is {name}, an async function: szal calls plain functions, each on a thread"
        if inspect.isgeneratorfunction(called):
            return f"is {name}, a generator function, whose body a call does not run: return a list"
    return None
