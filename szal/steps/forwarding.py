"""Lines that are logged in a child process, on their way to the logging of the engine's."""

import logging
from collections.abc import Callable
from typing import Any, Final

from szal.logs import SafeLogger
from szal.steps.pickling import Packed, pickled, problem_of_pickling, unpickled

__all__ = ["Forwards", "levels", "log_here"]

logger = SafeLogger(logging.getLogger(__name__))

_FORMAT: Final = logging.Formatter()


class Forwards(logging.Handler):
    """Hands on what is logged, each record as a pickle."""

    def __init__(self, hand_on: Callable[[Packed], object]) -> None:
        super().__init__()
        self._hand_on = hand_on

    def emit(self, record: logging.LogRecord) -> None:
        """Hand *record* on: its text is made here, as what is in it may not cross."""
        try:
            data = _packed(record)
        except Exception:  # noqa: BLE001 (its arguments are foreign code)
            self.handleError(record)
            return
        self._hand_on(data)


def _packed(record: logging.LogRecord) -> Packed:
    fields: dict[str, Any] = {**vars(record), "msg": record.getMessage(), "args": None, "exc_info": None}
    if record.exc_info:
        fields["exc_text"] = record.exc_text or _FORMAT.formatException(record.exc_info)
    try:
        return pickled(fields)
    except Exception:  # noqa: BLE001 (something of the program's that was logged with it)
        crossing = {name: value for name, value in fields.items() if problem_of_pickling(value) is None}
        return pickled(crossing)


def levels() -> tuple[int, int]:
    """Return from which level on lines are logged here: by whoever, and by ``ctx.log``."""
    root, step = logging.getLogger(), logging.getLogger("szal.step")
    return root.getEffectiveLevel(), step.getEffectiveLevel()


def log_here(data: Packed) -> None:
    """Log a line that comes from a child process, as if it had been logged here."""
    try:
        record = logging.makeLogRecord(unpickled(data))
        found = logging.getLogger(record.name)
        if found.isEnabledFor(record.levelno):
            found.handle(record)
    except Exception as error:
        logger.error("a line that a child process has logged is lost", exc_info=error)
