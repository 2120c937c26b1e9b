"""Logging that cannot break what it tells of.

A filter or handler of the program's logging is foreign code, and may raise. What guards foreign code, or must go on
whatever happens, would then fail because a failure could not be logged.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Final

from szal.clock import monotonic
from szal.errors import StoreError
from szal.interruption import is_interruption

__all__ = ["LINES", "Lines", "SafeLogger", "Trouble"]

_PATIENCE: Final = 0.5
"""Seconds for which a fork waits for lines that are being logged; a handler may hang."""


class Lines:
    """The lines that szal is logging, for a fork to wait for.

    What a line is written to has locks of its own: a stream's buffer, whatever a handler has. A lock that another
    thread holds during a fork is held in the child for ever, and so its first line would hang.

    One lock for each thread that logs, as a handler that hangs must not keep other threads from logging.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget the parent's threads, in the child of a fork."""
        self._gate = threading.RLock()
        self._locks: dict[int, threading.RLock] = {}  # by thread

    def line(self) -> threading.RLock:
        """Return what this thread has to hold while it logs a line."""
        thread = threading.get_ident()
        lock = self._locks.get(thread)
        if lock is None:
            with self._gate:
                lock = self._locks.setdefault(thread, threading.RLock())
        return lock

    def rest(self, patience: float = _PATIENCE) -> Generator[None, None, None]:
        """Wait for the lines of other threads, *patience* seconds at most, and let none begin until it is closed."""
        with self._gate:
            until = monotonic() + patience
            locks = [lock for thread, lock in self._locks.items() if thread != threading.get_ident()]
            try:
                for lock in locks:
                    lock.acquire(timeout=max(0.0, until - monotonic()))
                yield
            finally:
                for lock in locks:
                    with suppress(RuntimeError):  # it was not to be had
                        lock.release()


LINES: Final = Lines()


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
            with LINES.line():
                self.logger.log(level, msg, *args, **kwargs)  # type: ignore[arg-type]
        except BaseException as error:
            if is_interruption(error):
                raise
            _show(error)

    def shows(self, level: int) -> bool:
        """Whether a line of that *level* is seen on stderr: there, or where all handlers together write none."""
        if not self.logger.isEnabledFor(level):
            return False
        handlers = [*_handlers(self.logger)]
        return not handlers or any(handler.level <= level and _is_stderr(handler) for handler in handlers)


class Trouble:
    """What keeps a loop from its work, each time that it tries: logged once for as long as it is the same.

    >>> from szal.errors import StoreUnavailable
    >>> trouble = Trouble(SafeLogger(logging.getLogger(__name__)))
    >>> trouble.met(StoreUnavailable("app.db", "no route to host"), "cannot look")
    >>> trouble.is_over(), trouble.is_over()
    (True, False)
    """

    def __init__(self, logger: SafeLogger) -> None:
        self._logger = logger
        self._told = ""

    def met(self, error: BaseException, what: str) -> None:
        """Log *what* cannot be done, and why; with the traceback, unless it is the store's, which may be away."""
        problem = f"{type(error).__name__}: {error}"
        if problem != self._told:
            self._told = problem
            self._logger.error("%s: %s", what, error, exc_info=None if isinstance(error, StoreError) else error)

    def is_over(self) -> bool:
        """Take note that all is well; return whether it was not."""
        was_met, self._told = bool(self._told), ""
        return was_met


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield those that a line of *logger* comes to."""
    each: logging.Logger | None = logger
    while each is not None:
        yield from each.handlers
        each = each.parent if each.propagate else None


def _is_stderr(handler: logging.Handler) -> bool:
    """Whether *handler* writes to stderr, as a StreamHandler does that is told no other stream."""
    stream = getattr(handler, "stream", None)
    if stream is None or sys.stderr is None:
        return False
    try:
        return stream is sys.stderr or stream.fileno() == sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # it may be anything, and closed
        return False


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
