"""SIGINT, SIGTERM and SIGHUP while a flow is run: the first stops it in order, the next ones are less patient."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

__all__ = ["Interruption", "Terminated"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
    """SIGTERM or SIGHUP: a machine wants this process to end, and another one may go on with what it runs."""


class Interruption:
    """While it is entered, the first signal stops the run, a second one ends the grace of what still runs.

    With *cancel* the first calls that, and the second *end_grace*. Without, both raise: KeyboardInterrupt where the
    first was a person's SIGINT, else `Terminated`. The engine takes that as an interruption, and raises it in the end.
    A third raises in any case, and calls *get_out*, on a thread of its own: what holds up this one may not let it go.
    *say* is told of the first two, by name and how many there were, on a thread of its own too: this one may be in the
    middle of writing.

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
        came = signal.Signals(number)
        self._count += 1
        self.signal = self.signal or came  # nothing is called above: another signal could come in between
        if self._count == 3:
            _on_a_thread(self._get_out, self.status)
        if self.is_over:
            return
        if self._count < 3:
            _on_a_thread(self._say, came, self._count)
        if self._cancel is None or self._count > 2:
            raise KeyboardInterrupt if self.signal is signal.SIGINT else Terminated
        if self._count == 1:
            self._cancel()
        else:
            self._end_grace()


def _on_a_thread(function: Callable[..., object], *arguments: object) -> None:
    thread = threading.Thread(target=function, args=arguments, name="szal-signal", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread to be had: then nobody is told, but it stops all the same
        return
