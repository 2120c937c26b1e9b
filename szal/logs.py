"""Logging that cannot break what it tells of.

A filter or handler of the program's logging is foreign code, and may raise. What guards foreign code, or must go on
whatever happens, would then fail because a failure could not be logged.
"""

import logging
import sys
import traceback

from szal.interruption import is_interruption

__all__ = ["SafeLogger"]


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose methods raise nothing but interruptions; what logging itself raises goes to stderr.

    >>> logger = SafeLogger(logging.getLogger(__name__))
    >>> logger.logger.addFilter(lambda record: 1 / 0)
    >>> logger.error("step %s failed", "build")
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: object) -> None:
        """Log as `logging.Logger.log` does; every other method comes by here."""
        kwargs["stacklevel"] = int(kwargs.get("stacklevel", 1)) + 1  # type: ignore[call-overload]
        try:
            self.logger.log(level, msg, *args, **kwargs)  # type: ignore[arg-type]
        except BaseException as error:
            if is_interruption(error):
                raise
            _show(error)


def _show(error: BaseException) -> None:
    """Print *error* where the standard library prints what a handler of logging raised, if it is to be seen."""
    if not logging.raiseExceptions or sys.stderr is None:
        return
    try:
        sys.stderr.write("--- Logging error ---\n")
        traceback.print_exception(error, file=sys.stderr)
    except BaseException as closed:  # stderr may be anything
        if is_interruption(closed):
            raise
