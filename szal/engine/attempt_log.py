"""How the attempts of steps ended, for the rows of these steps: so that somebody who looks at one later sees why."""

import traceback
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs

from szal.errors import describe
from szal.interruption import is_interruption
from szal.model.json import MOST_ATTEMPTS, AttemptEnd, Checkpoint
from szal.model.redaction import Redaction
from szal.model.results import StepResult
from szal.storable import storable

__all__ = ["MOST_OF_A_TRACEBACK", "AttemptLog", "UndoEnd", "add_end", "attempt_end", "traceback_of"]

MOST_OF_A_TRACEBACK: Final = 8_000
"""Of a traceback so many bytes are kept, the last ones."""

_MOST_OF_A_MESSAGE: Final = 1_000  # characters: the whole of the last one is in the step's result


class AttemptLog:
    """What there is to tell of the attempts of one execution's steps, by the step's name. Used by one thread.

    Of a step of which an attempt failed it knows the last attempts until the execution ends, and the last error until
    the step has settled. Of one that a run before this one has made attempts at, in whatever process, it knows what
    the row tells of them.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._ends: dict[str, deque[AttemptEnd]] = {}
        self._errors: dict[str, BaseException] = {}
        self._tracebacks: dict[str, str] = {}  # of what is undone although it failed: its row is written again
        self._before: dict[str, Checkpoint] = {}

    def __bool__(self) -> bool:
        return bool(self._ends)

    def add(self, step_name: str, started: float, ended: float, error: BaseException | None) -> None:
        """Add an attempt, which began and ended at these Unix times, and failed with *error* if there is one."""
        add_end(self._ends, step_name, attempt_end(started, ended, error, self._redaction))
        if error is not None:
            self._errors[step_name] = error

    def remember(self, step_name: str, row: Checkpoint) -> None:
        """Take note of what the *row* of a step tells of its attempts."""
        self._before[step_name] = row

    def ends(self, step_name: str) -> Sequence[AttemptEnd]:
        """Return how the last attempts ended, where there was more than one: of a single one the result tells."""
        found = self._ends.get(step_name)
        if found is not None:
            return tuple(found) if len(found) > 1 else ()
        return self._before[step_name].attempts if step_name in self._before else ()

    def undos_before(self, step_name: str) -> Sequence[AttemptEnd]:
        """Return how attempts to undo a step have ended in a run before this one."""
        return self._before[step_name].undos if step_name in self._before else ()

    def take_traceback(self, step_name: str, *, keep: bool) -> str | None:
        """Return the traceback of the last failure, once: the step has settled, and the error may go.

        *keep*: the text is kept, for `traceback`.
        """
        error = self._errors.pop(step_name, None)
        text = None if error is None else traceback_of(error, self._redaction.mask)
        if keep and text is not None:
            self._tracebacks[step_name] = text
        return text

    def traceback(self, step_name: str) -> str | None:
        """Return the traceback of a step that has settled, where that is kept, or its row has one."""
        before = self._before.get(step_name)
        return self._tracebacks.get(step_name, None if before is None else before.traceback)


@attrs.frozen
class UndoEnd:
    """What a step is now, after *attempts* to undo it in this run, and why it is not undone, if it could not be."""

    result: StepResult
    error: str | None
    attempts: Sequence[AttemptEnd]


def attempt_end(started: float, ended: float, error: BaseException | None, redaction: Redaction) -> AttemptEnd:
    """Return what is told of an attempt, which began and ended at these Unix times, and failed with *error*, if so."""
    said = None if error is None else describe(error, redaction.mask)[:_MOST_OF_A_MESSAGE]
    return AttemptEnd(datetime.fromtimestamp(started, UTC), datetime.fromtimestamp(ended, UTC), said)


def add_end(ends: dict[str, deque[AttemptEnd]], key: str, end: AttemptEnd) -> None:
    """Add *end* to the last attempts at what is called *key*, in the place of what was told of the same one before."""
    found = ends.setdefault(key, deque(maxlen=MOST_ATTEMPTS))
    if found and found[-1].started_at == end.started_at:  # it was to be committed with its transaction, and was not
        found.pop()
    found.append(end)


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
