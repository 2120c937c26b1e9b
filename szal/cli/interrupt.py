"""Ctrl-C, SIGTERM and SIGHUP, as a cancellation of the run."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

from szal.scheduler.cancel import CancellationToken

__all__ = ["Interruption"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """While it is entered, the first signal cancels `token`, a second calls *on_second*, a third raises.

    The second is to end the grace of what still runs; KeyboardInterrupt is for where nobody listens any more.
    *on_second* is called by the signal handler, in the midst of anything. Only the main thread may enter this, and
    it must be the one that runs the flow. A signal that is ignored (nohup) stays so.
    """

    def __init__(
        self,
        on_first: Callable[[str], object] = lambda _name: None,
        on_second: Callable[[], object] = lambda: None,
    ) -> None:
        self.token = CancellationToken()
        self.signal: signal.Signals | None = None
        """The first one that came."""
        self._on_first = on_first
        self._on_second = on_second
        self._count = 0
        self._before: dict[int, Any] = {}

    @property
    def status(self) -> int | None:
        """The exit status that tells of the signal, if there was one."""
        return None if self.signal is None else 128 + self.signal

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self.signal = signal.Signals(number)
            # Not KeyboardInterrupt, which could fall into the middle of the coordinator's bookkeeping.
            self.token.cancel()
            # On a thread, as this one may be in the middle of writing. It lives for a line of text.
            threading.Thread(target=self._on_first, args=(self.signal.name,), name="szal-notice", daemon=True).start()
        elif self._count == 2:
            self._on_second()
        else:
            raise KeyboardInterrupt
