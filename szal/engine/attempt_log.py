"""How the attempts of steps ended, for the rows of these steps: so that somebody who looks at one later sees why."""

import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from szal.errors import describe
from szal.interruption import is_interruption
from szal.model.json import MOST_ATTEMPTS, AttemptEnd
from szal.model.redaction import Redaction
from szal.storable import storable

__all__ = ["MOST_OF_A_TRACEBACK", "AttemptLog", "traceback_of"]

MOST_OF_A_TRACEBACK: Final = 8_000
"""Of a traceback so many bytes are kept, the last ones."""

_MOST_OF_A_MESSAGE: Final = 1_000  # characters: the whole of the last one is in the step's result


class AttemptLog:
    """What there is to tell of the attempts of one execution's steps, by the step's name. Used by one thread.

    Of a step of which an attempt failed it knows the last attempts until the execution ends, and the last error until
    the step has settled.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._ends: dict[str, deque[AttemptEnd]] = {}
        self._errors: dict[str, BaseException] = {}

    def __bool__(self) -> bool:
        return bool(self._ends)

    def add(self, step_name: str, started: float, ended: float, error: BaseException | None) -> None:
        """Add an attempt, which began and ended at these Unix times, and failed with *error* if there is one."""
        said = None if error is None else describe(error, self._redaction.mask)[:_MOST_OF_A_MESSAGE]
        end = AttemptEnd(datetime.fromtimestamp(started, UTC), datetime.fromtimestamp(ended, UTC), said)
        ends = self._ends.setdefault(step_name, deque(maxlen=MOST_ATTEMPTS))
        if ends and ends[-1].started_at == end.started_at:  # it was to be committed with its transaction, and was not
            ends.pop()
        ends.append(end)
        if error is not None:
            self._errors[step_name] = error

    def ends(self, step_name: str) -> tuple[AttemptEnd, ...]:
        """Return how the last attempts ended, where there was more than one: of a single one the result tells."""
        found = self._ends.get(step_name, ())
        return tuple(found) if len(found) > 1 else ()

    def take_traceback(self, step_name: str) -> str | None:
        """Return the traceback of the last failure, once: the step has settled, and the error may go."""
        error = self._errors.pop(step_name, None)
        return None if error is None else traceback_of(error, self._redaction.mask)


def traceback_of(error: BaseException, mask: Callable[[str], str] | None = None) -> str | None:
    """Return the end of the traceback of *error*, as the interpreter would print it; None where it cannot be had.

    *mask* masks what must not be seen in it.

    >>> try:
    ...     int("five")
    ... except ValueError as error:
    ...     traceback_of(error).splitlines()[-1]
    "ValueError: invalid literal for int() with base 10: 'five'"
    """
    try:
        lines = "".join(traceback.format_exception(error))
    except BaseException as broken:  # the error's class is foreign code
        if is_interruption(broken):
            raise
        return None
    text = storable(lines if mask is None else mask(lines)).encode()
    return text[-MOST_OF_A_TRACEBACK:].decode("utf-8", "ignore")
