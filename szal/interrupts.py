"""What signal handlers raise, kept for a moment at which it does no harm.

They run on the main thread, between any two instructions. In a step's handler what they raise is as it should be; in
the midst of the engine's own bookkeeping it would leave a run half settled and never recorded, in the midst of the
start of a process it would lose that. So while a run is driven by the main thread, the program's handlers are called
as ever, but what they raise becomes a message to the run, unless a step's handler is being called. The standard
library does the same with Ctrl-C for its event loops.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import compress
from types import FrameType
from typing import Any, Final, Self

from szal.clock import monotonic
from szal.interruption import run_to_end

__all__ = ["Interrupts"]

_NEVER_HANDLED: Final = (
    *("SIGKILL", "SIGSTOP"),
    *("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSTKFLT"),
    *("SIGRTMIN", "SIGRTMAX"),
)
"""What no program can handle, none in Python, and few: the many real-time signals."""

_SIGNALS: Final = tuple(each.value for each in signal.Signals if each.name not in _NEVER_HANDLED)
"""Those that programs handle. Each run asks for each of them."""

# What `signal.getsignal` and `signal.signal` call. These make enums of what is asked and answered: 25 µs of each run.
_own: Final = sys.modules.get("_signal", signal)
_handler_of: Final[Callable[[int], Any]] = _own.getsignal
_handle_by: Final[Callable[[int, Any], object]] = _own.signal

_PATIENCE: Final = 0.3
"""For how many seconds one may be kept before whoever should take note of it counts as held up."""


class Interrupts:
    """A context in which what a signal handler raises is kept, and *deliver* told, instead of coming up here and now.

    At its end it is raised, if nobody has taken it. It comes up at once while *in_handler* says that a step's handler
    runs on this thread, and when the one before has not been taken note of for a while: a sink or a database that hangs
    can be got out of. Does nothing on other threads than the main one. A signal handler that the program installs
    meanwhile is not touched.
    """

    def __init__(
        self,
        deliver: "Callable[[Interrupts], object]" = lambda _: None,
        in_handler: Callable[[], bool] = lambda: False,
    ) -> None:
        self.pending: BaseException | None = None
        """What was raised and nobody has taken note of yet."""
        self._deliver = deliver
        self._in_handler = in_handler
        self._before: dict[int, Any] = {}
        self._since = 0.0  # when `pending` was raised
        self._pid = 0  # of the process that entered it

    def __enter__(self) -> Self:
        if threading.get_ident() == threading.main_thread().ident:
            try:
                self._install()
            except BaseException:  # of a signal whose handler is not in here yet
                run_to_end(self._put_back)
                raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._before:
            run_to_end(self._put_back)
        if self.pending is not None:  # it came when there was nothing left to stop
            raise self.pending

    def take(self) -> BaseException | None:
        """Return what was raised, if anything was, and keep it no longer: the caller deals with it."""
        pending, self.pending = self.pending, None
        return pending

    def _install(self) -> None:
        self._pid = os.getpid()
        before, handle = self._before, self._handle
        for number in compress(_SIGNALS, map(callable, map(_handler_of, _SIGNALS))):
            before[number] = _handler_of(number)
            _handle_by(number, handle)

    def _put_back(self) -> None:
        """Give each signal its handler back, but where the program has installed another; may be done again."""
        handle = self._handle
        for number, before in self._before.items():
            if _handler_of(number) == handle:
                _handle_by(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            self._before[number](number, frame)
        except BaseException as error:
            if self._pid != os.getpid():  # a child of a fork, which drives no run
                raise
            if self._in_handler() or (self.pending is not None and monotonic() > self._since + _PATIENCE):
                raise
            if self.pending is not None:
                return
            self.pending, self._since = error, monotonic()
        else:
            return
        self._deliver(self)
