"""Something that happens in the middle of a call: at each of its instructions in turn, or whenever a signal comes."""

import gc
import inspect
import linecache
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any


class Injection:
    """Calls *act* once, before the given line or instruction of the functions of *modules*, but for those *without*.

    Used as a context manager around the call. `happened` tells whether there was such a moment.
    """

    def __init__(
        self,
        moment: int,
        modules: Iterable[ModuleType],
        act: Callable[[], object],
        *,
        opcodes: bool,
        without: Collection[str] = (),
    ) -> None:
        self.happened = False
        self.line = ""  # of source, where it happened
        self._left = moment
        self._files = {module.__file__ for module in modules}
        self._act = act
        self._opcodes = opcodes
        self._without = without

    def __enter__(self) -> "Injection":
        if self._opcodes and (frame := inspect.currentframe()) is not None:
            frame.f_trace_opcodes = True  # Python 3.12 tells of instructions only where this was set before
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self._files or frame.f_code.co_name in self._without:
            return None
        frame.f_trace_opcodes = self._opcodes
        if event == ("opcode" if self._opcodes else "line") and not self.happened:
            if self._left == 0:
                self.happened = True
                self.line = linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0)
                self._act()
            self._left -= 1
        return self._trace


def each_moment(test: Callable[[int], Injection]) -> int:
    """Call *test* with 0, 1, 2, … until it returns an injection that did not happen any more; return that number."""
    moment = 0
    while test(moment).happened:
        moment += 1
    return moment


_is_awaited = threading.Event()  # between `alarm_in` and `alarm_off`


def alarm_in(microseconds: float) -> None:
    """Return so long before SIGALRM comes, about. It may also come in here."""
    _is_awaited.set()
    due = time.perf_counter() + 200e-6
    signal.setitimer(signal.ITIMER_REAL, 200e-6)  # with a tenth of that, some virtual machines lose timers
    while time.perf_counter() < due - microseconds * 1e-6:
        pass


def alarm_off() -> None:
    """Let no SIGALRM come any more. One that the interpreter has not handled yet comes up in here, not later."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for _ in range(2):
        pass  # the interpreter looks for signals wherever a loop begins again
    _is_awaited.clear()  # the system may have given it to another thread, which hears of it when it runs again


@contextmanager
def untraced() -> Iterator[None]:
    """Have coverage trace neither this thread nor those that are started meanwhile.

    It holds a lock in the middle of its tracing, and keeps it where a signal handler raises there: the next line of
    new code would wait for ever. And it keeps something of each thread that there ever was.
    """
    here, others, monitored = sys.gettrace(), threading.gettrace(), _monitored()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    if monitored:
        sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, 0)
    try:
        yield
    finally:
        if monitored:
            sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, monitored)
        threading.settrace(others)  # type: ignore[arg-type]
        sys.settrace(here)


def _monitored() -> int:
    """Return what coverage is told of where it does not trace, but is told by the interpreter: from Python 3.12 on."""
    if sys.version_info < (3, 12) or sys.monitoring.get_tool(sys.monitoring.COVERAGE_ID) is None:
        return 0
    return sys.monitoring.get_events(sys.monitoring.COVERAGE_ID)


@contextmanager
def _collecting_quietly() -> Iterator[None]:
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    try:
        yield
    finally:
        gc.callbacks[:] = callbacks


@contextmanager
def alarms(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have SIGALRM, and nothing but a test's own, go to *handler*; nothing is traced meanwhile.

    Nor does anything hear of the garbage collector: what a signal handler raises in such a callback (hypothesis has
    one) is printed and goes no further, and a test that waits for it would wait for ever.
    """
    with untraced(), _collecting_quietly():
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)  # the test's time limit
        before = signal.signal(signal.SIGALRM, lambda *told: _is_awaited.is_set() and handler(*told))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, left)
