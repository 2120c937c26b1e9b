"""Calls that are tried again by tenacity, which costs those that succeed nothing."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tenacity import Retrying

from szal.clock import monotonic

__all__ = ["call"]

P = ParamSpec("P")
T = TypeVar("T")


def call(retrying: Callable[[float], Retrying], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what *function* returns; a failure goes to *retrying*, called with the seconds it took, as the first.

    Most calls fail never, and tenacity takes 25 µs to begin with: one in ten of what a small transaction takes.

    >>> from tenacity import stop_after_attempt
    >>> attempts = iter(["not a number", "7"])
    >>> call(lambda seconds: Retrying(stop=stop_after_attempt(2)), lambda: int(next(attempts)))
    7
    """
    began = monotonic()
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - whether it is to be tried again is for tenacity to say
        failures = [error]

    def attempt() -> T:
        if failures:
            raise failures.pop()
        return function(*args, **kwargs)

    strategy = retrying(monotonic() - began)
    try:
        return strategy(attempt)
    finally:
        strategy.iter_state.reset()  # it refers to itself there, and to all that it calls
