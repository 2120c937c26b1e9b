"""SIGINT, SIGTERM and SIGHUP while a flow is run: the first stops it in order, the next ones are less patient."""

import signal
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Final, Self

__all__ = ["Interruption", "Terminated"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ON_ITS_WAY: Final = 0.05  # seconds in which what the first signal raised, or did, has come to where it is acted on


class Terminated(BaseException):
    """SIGTERM or SIGHUP: a machine wants this process to end, and another one may go on with what it runs."""


class Interruption:
    """While it is entered, the first signal stops the run, a second one ends the grace of what still runs.

    With *cancel*, the first calls that. Without, both raise: KeyboardInterrupt where the first was a person's SIGINT,
    else `Terminated`. The engine takes that as an interruption, and raises it in the end. A third raises in any case.

    What takes time is done on other threads, as this one may be in the midst of anything: *say* is told of the first
    two, by name and how many there were; *end_grace* is called after the second, and *get_out* after the third: what
    holds up this thread may not let it go.

    Only the main thread may enter this, and it must be the one that runs the flow. A signal that is ignored (nohup)
    stays so.
    """

    def __init__(
        self,
        *,
        say: Callable[[signal.Signals, int], object],
        end_grace: Callable[[], object],
        get_out: Callable[[int], object],
        cancel: Callable[[], object] | None = None,
    ) -> None:
        self.signal: signal.Signals | None = None
        """The first one that came."""
        self.is_over = False
        """Set once there is nothing left to stop: from then on none raises."""
        self._say = say
        self._cancel = cancel
        self._end_grace = end_grace
        self._get_out = get_out
        self._count = 0
        self._came: SimpleQueue[tuple[signal.Signals, int] | None] = SimpleQueue()
        self._before: dict[int, Any] = {}

    @property
    def status(self) -> int | None:
        """The exit status that tells of the signal, if there was one."""
        return None if self.signal is None else 128 + self.signal

    def __enter__(self) -> Self:
        threading.Thread(target=self._attend, name="szal-signals", daemon=True).start()
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._came.put(None)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        came = signal.Signals(number)
        self._count += 1
        count = self._count  # another signal may come, and be handled, in the midst of this
        self.signal = self.signal or came
        if count == 1 and self._cancel is not None:
            self._cancel()
        self._came.put((came, count))
        if count == 3:
            threading.Thread(target=self._get_out, args=(self.status,), name="szal-exit", daemon=True).start()
        if not self.is_over and (self._cancel is None or count > 2):
            raise KeyboardInterrupt if self.signal is signal.SIGINT else Terminated

    def _attend(self) -> None:
        """Do what takes time, on a thread of its own."""
        while (item := self._came.get()) is not None:
            came, count = item
            if count <= 2 and not self.is_over:
                self._say(came, count)
            if count == 2:
                time.sleep(_ON_ITS_WAY)
                self._end_grace()
