"""Exceptions that travel to another process with a result, if they can: no exception keeps the result from arriving.

Many cannot be pickled. Many more cannot be unpickled, as their class takes other arguments than they keep; that breaks
the process pool which tries it. So the exception is a pickle in the pickle, and left out where either end fails.
"""

from collections.abc import Callable
from typing import Any

from szal.interruption import is_interruption
from szal.raised import cause_of, is_a, set_cause

__all__ = ["Luggage"]


class Luggage:
    """An exception, as part of what is copied or pickled. A copy has the same exception, not another one."""

    def __init__(self, exception: BaseException | None) -> None:
        self.exception = exception

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Luggage":
        return self

    def __reduce__(self) -> tuple[Callable[..., "Luggage"], tuple[bytes | None, bytes | None]]:
        return _unpacked, (
            _packed(self.exception),
            _packed(None if self.exception is None else cause_of(self.exception)),
        )


def _packed(exception: BaseException | None) -> bytes | None:
    try:
        import pickle  # whoever copies results has it

        return None if exception is None else pickle.dumps(exception)
    except BaseException as problem:  # whatever the exception's own code makes of it
        if is_interruption(problem):
            raise
        return None


def _loaded(packed: bytes | None) -> BaseException | None:
    try:
        import pickle

        loaded = None if packed is None else pickle.loads(packed)  # noqa: S301 - part of a pickle that is being loaded
    except BaseException as problem:  # the same; or this process does not have its class
        if is_interruption(problem):
            raise
        return None
    return loaded if is_a(loaded, BaseException) else None


def _unpacked(packed: bytes | None, packed_cause: bytes | None) -> Luggage:
    exception = _loaded(packed)
    if exception is not None:
        set_cause(exception, _loaded(packed_cause))
    return Luggage(exception)
