"""A child process that attempts are made in, as the engine's process sees it: its start, its end, what it says.

It has a session of its own, so a terminal's Ctrl-C does not reach it, and whatever its handlers start ends with it. The
supervisor knows of it, and ends it if this process dies.
"""

import os
import select
import signal
import time
from contextlib import suppress
from typing import Final

from szal.clock import monotonic
from szal.process_table import group_has_ended
from szal.scheduler.context import StepContext
from szal.steps.bell import Bell, linked
from szal.steps.messages import Mailing, Setup
from szal.steps.start import Start, preparation
from szal.steps.stop_policy import GRACE_OF_PARENT, StopPolicy, share_of_parents_grace
from szal.steps.supervisor import supervisor

__all__ = ["MOST_AFTER_KILL", "ChildProcess"]

MOST_AFTER_KILL: Final = 5.0
"""Seconds for a process that was killed to be gone: the kernel may hold it."""
_LOOKS_AGAIN: Final = 1.0
"""Seconds after which it is asked whether a process is there that says nothing: a fork of it may keep its end open."""
_PAUSE: Final = 0.002


class ChildProcess:
    """One of them, started at once for the attempt of *ctx*. It has *grace* seconds from SIGTERM to SIGKILL.

    Used by one thread at a time.
    """

    def __init__(self, start: Start, ctx: StepContext, grace: float) -> None:
        self.grace = grace
        self.was_used = False
        """Whether it has made an attempt."""
        self.idle_since = 0.0
        here, there = linked()
        orphaned = min(grace, ctx.orphan_grace, share_of_parents_grace(0.0))
        supervised = supervisor().begin(StopPolicy(grace=orphaned))
        environment = {**os.environ, **supervised.environment, GRACE_OF_PARENT: f"{grace:g}"}
        try:
            with there:
                self._started = start.start(there, environment, ctx)
        except BaseException:
            here.close()
            supervised.over()
            raise
        supervised.started(self._started.pid)
        self._supervised = supervised
        self.mailing = Mailing(here)
        self.bell = Bell()
        self._stream = here
        self.mailing.send(Setup(preparation(), None if self._started.has_environment else environment, grace))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._started.pid

    @property
    def exit_code(self) -> int | None:
        """How it has ended, once it has: negative where a signal killed it; None where nobody can tell."""
        return self._started.code

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
        return self.mailing.has_ended or self._started.has_ended()

    def is_there(self) -> bool:
        """Whether it can be given an attempt, as far as one can see."""
        return not self._started.has_ended()

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
        is_gone = self._started.has_ended()
        if is_gone:
            self.kill()  # what it has left behind; its number is its own until it is reaped
            self._started.reap()
            self._await_rest()
            self._supervised.over()
        self.mailing.close()
        self.bell.close()
        return is_gone

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""
        self.mailing.close()
        self.bell.close()
        self._started.forget()

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._started.pid, number)

    def _dies(self, until: float) -> bool:
        pause = _PAUSE
        while not self._started.has_ended():
            if (left := until - monotonic()) <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.05)
        return True

    def _await_rest(self) -> None:
        until = monotonic() + MOST_AFTER_KILL
        while monotonic() < until:
            try:
                os.killpg(self._started.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            if group_has_ended(self._started.pid):
                return
            time.sleep(_PAUSE)
