"""A child process that attempts are made in, as the engine's process sees it: its start, its end, what it says.

It has a session of its own, so a terminal's Ctrl-C does not reach it, and whatever its handlers start ends with it. The
supervisor knows of it, and ends it if this process dies.
"""

import fcntl
import os
import select
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import szal
from szal.clock import monotonic
from szal.process_table import group_has_ended
from szal.steps.exit_status import ExitStatus
from szal.steps.messages import Mailing, Setup
from szal.steps.stop_policy import GRACE_OF_PARENT, StopPolicy, share_of_parents_grace
from szal.steps.supervisor import supervisor

__all__ = ["MOST_AFTER_KILL", "Bell", "ChildProcess"]

MOST_AFTER_KILL: Final = 5.0
"""Seconds for a process that was killed to be gone: the kernel may hold it."""
_LOOKS_AGAIN: Final = 1.0
"""Seconds after which it is asked whether a process is there that says nothing: a fork of it may keep its end open."""
_PAUSE: Final = 0.002

_PROGRAM: Final = (
    "import sys; sys.path[:] = [*filter(None, sys.path), {folder!r}]; from szal.steps.child import main; main({number})"
)


def _beyond_stderr(link: socket.socket) -> socket.socket:
    """Return *link* as a file that nobody takes for stdout, where this process has closed that."""
    if link.fileno() > 2:
        return link
    with link:
        return socket.socket(fileno=fcntl.fcntl(link, fcntl.F_DUPFD_CLOEXEC, 3))


class Bell:
    """What wakes a thread that waits for a file. It looks like a lock that is released (`StepContext.woken`)."""

    def __init__(self) -> None:
        self._there, self._here = socket.socketpair()
        for each in (self._there, self._here):
            each.setblocking(False)

    def fileno(self) -> int:
        """Return the number of the file that can be read from once it has rung."""
        return self._here.fileno()

    def locked(self) -> bool:
        """Whether it may be rung: at any time."""
        return True

    def release(self) -> None:
        """Ring. From any thread, and from a signal handler."""
        with suppress(OSError):  # it is full: that will do; or closed
            self._there.send(b"!")

    def hush(self) -> None:
        """Forget that it has rung."""
        with suppress(OSError):
            while self._here.recv(64):
                pass

    def close(self) -> None:
        """Let go of it."""
        self._there.close()
        self._here.close()


class ChildProcess:
    """One of them, started at once. It has *grace* seconds from SIGTERM to SIGKILL; orphaned, *orphaned* seconds.

    Used by one thread at a time.
    """

    def __init__(self, preparation: "dict[str, object]", options: list[str], grace: float, orphaned: float) -> None:
        self.grace = grace
        self.was_used = False
        """Whether it has made an attempt."""
        self.idle_since = 0.0
        here, there = map(_beyond_stderr, socket.socketpair())
        supervised = supervisor().begin(StopPolicy(grace=min(grace, orphaned, share_of_parents_grace(0.0))))
        folder = str(Path(szal.__file__).parents[1])
        program = _PROGRAM.format(folder=folder, number=there.fileno())
        try:
            with there:
                self._process = subprocess.Popen(
                    [*options, "-c", program],
                    env={**os.environ, **supervised.environment, GRACE_OF_PARENT: f"{grace:g}"},
                    stdin=subprocess.DEVNULL,
                    pass_fds=[there.fileno()],
                    start_new_session=True,
                )
        except BaseException:
            here.close()
            supervised.over()
            raise
        supervised.started(self._process.pid)
        self._supervised = supervised
        self._status = ExitStatus(self._process)
        self.mailing = Mailing(here)
        self.bell = Bell()
        self._stream = here
        self.mailing.send(Setup(preparation, grace))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it has ended, once it has: negative where a signal killed it; None where nobody can tell."""
        return self._status.code

    def wait(self, seconds: float) -> None:
        """Wait until it says something, its bell rings, or it has ended: for *seconds* at most, or a little less."""
        poll = select.poll()
        poll.register(self.bell, select.POLLIN)
        if not self.mailing.has_ended:
            poll.register(self._stream, select.POLLIN | (select.POLLOUT if self.mailing.is_waiting else 0))
        ready = dict(poll.poll(1000 * max(0.0, min(seconds, _LOOKS_AGAIN))))
        if self.bell.fileno() in ready:
            self.bell.hush()
        if ready.get(self._stream.fileno(), 0) & select.POLLOUT:
            self.mailing.go_on()

    def has_ended(self) -> bool:
        """Whether it is gone, or as good as gone: nobody hears it any more."""
        return self.mailing.has_ended or self._status.has_ended()

    def is_there(self) -> bool:
        """Whether it can be given an attempt, as far as one can see."""
        return not self._status.has_ended()

    def ask(self) -> None:
        """Send it SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send it, and all that it has started, SIGKILL."""
        self._send(signal.SIGKILL)

    def let_go(self) -> None:
        """Have it see that no more attempts come; it ends, then. From any thread."""
        self.mailing.finish()

    def end(self, until: float) -> bool:
        """Wait until it has ended, and kill it if it has not by *until*, with all that it has started; return whether.

        It is gone then, or the kernel holds it.
        """
        self.let_go()
        if not self._dies(until):
            self.kill()
            self._dies(monotonic() + MOST_AFTER_KILL)
        is_gone = self._status.has_ended()
        if is_gone:
            self.kill()  # what it has left behind; its number is its own until it is reaped
            self._status.reap()
            self._await_rest()
            self._supervised.over()
        self.mailing.close()
        self.bell.close()
        return is_gone

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""
        self.mailing.close()
        self.bell.close()
        self._process.returncode = 0

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _dies(self, until: float) -> bool:
        pause = _PAUSE
        while not self._status.has_ended():
            if (left := until - monotonic()) <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.05)
        return True

    def _await_rest(self) -> None:
        until = monotonic() + MOST_AFTER_KILL
        while monotonic() < until:
            try:
                os.killpg(self._process.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            if group_has_ended(self._process.pid):
                return
            time.sleep(_PAUSE)
