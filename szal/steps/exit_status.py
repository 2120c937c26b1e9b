"""How a process of this one has ended: its exit code, or that nobody can know it any more.

The system tells it once. Where this process ignores SIGCHLD it tells nobody, and where something else waits for
whatever child ends (an old daemon's loop, an event loop) it has told that. `subprocess` then says 0. So the system is
asked here, and `subprocess` is believed only under gevent: its loop is what has been told, and passes it on.
"""

import os
import signal
from typing import Final, Protocol

from szal.clock import monotonic

__all__ = ["ExitStatus"]

_ON_ITS_WAY: Final = 1.0  # seconds in which gevent's loop has passed on what it was told


class Process(Protocol):
    """A child of this process, as `subprocess.Popen` has it."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...


class ExitStatus:
    """That of *process*, which nobody else may wait for. Its id stays its own until `reap`, where that can be had."""

    code: int | None = None
    """The exit code, negative where a signal killed it; None as long as it runs, or where it is not known."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ended = False
        self._missed_at: float | None = None  # when it was found that somebody else has been told

    def has_ended(self) -> bool:
        """Whether the process has; from then on `code` is what can be known of it."""
        if not self._ended:
            try:
                self.code = self._ask()
                self._ended = self.code is not None
            except ChildProcessError:
                self._ended = self._was_passed_on()
        return self._ended

    def reap(self) -> None:
        """Have the system forget the process, which has ended."""
        self._process.poll()

    def why_unknown(self) -> str:
        """Return why `code` is None though the process has ended, and what to do about it."""
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            return "this process ignores SIGCHLD: call signal.signal(signal.SIGCHLD, signal.SIG_DFL) when it begins"
        return "something else in this process waits for its children: have it wait for those that it started"

    def _ask(self) -> int | None:
        pid = self._process.pid
        if hasattr(os, "waitid"):
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return None
            return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return None
        self._process.returncode = os.waitstatus_to_exitcode(status)  # as nobody else will be told now
        return self._process.returncode

    def _was_passed_on(self) -> bool:
        """Take what gevent says; return False as long as it may still come to say it."""
        if not type(self._process).__module__.startswith("gevent."):
            return True
        self.code = self._process.poll()
        self._missed_at = self._missed_at or monotonic()
        return self.code is not None or monotonic() > self._missed_at + _ON_ITS_WAY
