"""SIGINT, SIGTERM and SIGHUP while a flow is run: the first stops it in order, the next ones are less patient."""

import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

from szal import process_events

__all__ = ["Interruption", "Terminated", "hear_of_children"]

_SIGNALS: Final = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_PATIENCE: Final = 0.5  # seconds for the thread that tells of them to end
_ON_ITS_WAY: Final = 0.05  # seconds in which what the first signal raised, or did, has come to where it is acted on


class Terminated(BaseException):
    """SIGTERM or SIGHUP: a machine wants this process to end, and another one may go on with what it runs."""


class Interruption:
    """While it is entered, the first signal stops the run, a second one ends the grace of what still runs.

    On the main thread each of them calls *cancel*, or else raises: KeyboardInterrupt where the first was a person's
    SIGINT, otherwise `Terminated`. The engine takes that as an interruption, and raises it in the end.

    That thread may be in the midst of anything: it may hear of a signal late, and what holds it up may not let it go.
    So another thread hears of them too, as soon as they come. It has *say* tell the first two, calls *end_grace* after
    the second, and *get_out*, with the exit status, after a third.

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
        self._before: dict[int, Any] = {}
        self._wakeup: socket.socket | None = None
        self._listener: threading.Thread | None = None
        self._wakeup_before = -1

    @property
    def status(self) -> int | None:
        """The exit status that tells of the signal, if there was one."""
        return None if self.signal is None else 128 + self.signal

    def __enter__(self) -> Self:
        heard, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        self._listener = _on_a_thread(self._listen, heard)
        process_events.enroll(self)
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._wakeup is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            self._wakeup.close()  # which ends the thread
            self._wakeup = None
        if self._listener is not None:  # the interpreter must not end while it is writing
            self._listener.join(_PATIENCE)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        if self.is_over:
            return
        if self._cancel is None:
            raise KeyboardInterrupt if self.signal is signal.SIGINT else Terminated
        self._cancel()

    # -- on a thread of its own ----------------------------------------------------------------------

    def _listen(self, heard: socket.socket) -> None:
        count, first = 0, 0
        with heard:
            while came := heard.recv(1):
                number = came[0]
                if number not in self._before:
                    continue
                count, first = count + 1, first or number
                if count == 2:
                    _on_a_thread(self._end_grace_soon)
                if count == 3:
                    _on_a_thread(self._get_out, 128 + first)
                elif count < 3 and not self.is_over:
                    self._say(signal.Signals(number), count)

    def _end_grace_soon(self) -> None:
        while self.signal is None and not self.is_over:
            time.sleep(_ON_ITS_WAY)
        time.sleep(_ON_ITS_WAY)
        self._end_grace()

    # -- forks and the end: see `process_events` --------------------------------------------------------

    def before_fork(self) -> None:
        """Nothing to do."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """Have the child's signals not counted as this process's."""
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)

    def begin_exit(self) -> None:
        """Nothing to do."""

    def finish_exit(self, began: float) -> None:
        """Nothing to do."""


def hear_of_children() -> None:
    """Have the system tell this process how its children end, which a parent that ignores SIGCHLD has turned off."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _on_a_thread(function: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, name="szal-signals", daemon=True)
    thread.start()
    return thread
