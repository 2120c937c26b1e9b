"""Ctrl-C while a run is being coordinated.

KeyboardInterrupt comes up between any two instructions. In a handler that is as it should be; in the midst of the
engine's own bookkeeping it would leave a run half settled and never recorded. So while a run is driven by the
main thread, the signal becomes a message to it, unless a handler is being called. The standard library does the
same for its event loops.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

__all__ = ["Interrupts"]


class Interrupts:
    """A context in which Ctrl-C calls *deliver* instead of raising KeyboardInterrupt here and now.

    It raises all the same while *in_handler* says that one runs on this thread, and when the one before has not
    been taken note of: a sink or a database that hangs can be got out of. Does nothing on other threads than the
    main one, and nothing where the program has a SIGINT handler of its own.
    """

    def __init__(self, deliver: Callable[[], None], in_handler: Callable[[], bool]) -> None:
        self.pending = False
        """Whether an interrupt has been delivered and nobody has taken note of it yet."""
        self._deliver = deliver
        self._in_handler = in_handler
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            current = signal.getsignal(signal.SIGINT)
            if current is signal.default_int_handler or isinstance(getattr(current, "__self__", None), Interrupts):
                self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self.pending and kind is None:  # it came when there was nothing left to cancel
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pending or self._in_handler():
            signal.default_int_handler(number, frame)
        self.pending = True
        self._deliver()
