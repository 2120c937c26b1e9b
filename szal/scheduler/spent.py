"""Exceptions that tell the engine something, and for whom: an exception counts for the one attempt that raised it.

A handler may run a flow of its own, and raise what came out of that: the exception of one of its steps. There it has
told its engine what it had to tell. To the step that it comes to next it is a failure like any other.

So what an attempt ended with is kept as a copy that says so. The exception itself is left as it was: programs raise
one object many times.
"""

from typing import Final

from szal.errors import (
    Cancelled,
    GiveUp,
    MissingValue,
    OutputNotSerializable,
    RetryAfter,
    SkipStep,
    UnknownOutcome,
    ValueNotJson,
)
from szal.interruption import is_interruption
from szal.raised import attributes_of, bare_copy, is_a, take_after

__all__ = ["is_meant", "is_telling", "spent"]

_TELLING: Final = (
    SkipStep,
    GiveUp,
    UnknownOutcome,
    RetryAfter,
    Cancelled,
    MissingValue,
    OutputNotSerializable,
    ValueNotJson,
)
_MARK: Final = "_ended_an_attempt"


def is_meant(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether *error* is one of *kinds* and was raised for the attempt that it came from.

    >>> error = GiveUp("no licence")
    >>> is_meant(error, GiveUp, SkipStep), is_meant(spent(error), GiveUp), is_meant(error, SkipStep)
    (True, False, False)
    """
    return is_a(error, *kinds) and _MARK not in attributes_of(error)


def is_telling(error: BaseException) -> bool:
    """Whether *error* tells the engine something for the attempt that it came from: to give up, to skip it, to wait."""
    return is_meant(error, *_TELLING)


def spent(error: BaseException) -> BaseException:
    """Return *error* as it is kept once an attempt has ended with it: for other attempts it means nothing.

    What could not mean anything is returned as it is; so is what cannot be copied, and then it is marked itself.
    """
    if not is_telling(error):
        return error
    kept = error
    try:
        kept = bare_copy(error)
        take_after(kept, error)
    except BaseException as problem:
        if is_interruption(problem):
            raise
        kept = error
    attributes_of(kept)[_MARK] = True
    return kept
