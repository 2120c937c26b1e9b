"""A process group that never outlives the call that runs it, and its output as it comes.

The thread that calls `ProcessGroup.run` does it all: none is started. Nothing can wake that thread for a
cancellation while it waits for output, so it asks for one every `_TICK` seconds.
"""

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from szal import process_events
from szal.clock import monotonic
from szal.errors import ExitStatusUnknown
from szal.interrupts import Interrupts
from szal.logs import SafeLogger
from szal.steps.exit_status import ExitStatus
from szal.steps.stream import CHUNK, MAX_OUTPUT, Caller, Stream

__all__ = ["ProcessGroup", "missing_here"]

logger = SafeLogger(logging.getLogger(__name__))

_TICK: Final = 0.05


def missing_here() -> str:
    """Return what a process group needs and this system does not have; empty where it has all."""
    names = [f"os.{name}" for name in ("killpg", "setsid", "WNOHANG") if not hasattr(os, name)]
    return ", ".join(names + [f"signal.{name}" for name in ("SIGTERM", "SIGKILL") if not hasattr(signal, name)])


@attrs.define(eq=False)
class _Ending:
    """SIGTERM, the grace, SIGKILL: for one process group, once. Also done at the end of this process."""

    group: int
    grace: float
    asked: float | None = None  # when SIGTERM was sent
    is_over: bool = False

    def send(self, number: int) -> bool:
        """Send a signal (0: none) to all of the group; return whether there is any that can be sent one."""
        try:
            os.killpg(self.group, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def lives(self) -> bool:
        """Whether any of the group is still running. Costs more where the answer is not simply no."""
        return self.send(0) and not _only_zombies(self.group)

    def ask(self) -> float:
        """Send SIGTERM, once; return when the grace is over."""
        if self.asked is None:
            self.asked = monotonic()
            self.send(signal.SIGTERM)
        return self.asked + self.grace

    # -- forks and the end: see `process_events` -----------------------------------------------------------

    def before_fork(self) -> None:
        """Nothing to do."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """Leave the group alone: it is the parent's."""
        self.is_over = True

    def begin_exit(self) -> None:
        """Ask it to end, while the daemon thread that waits for it may still be doing so."""
        if not self.is_over:
            self.ask()

    def finish_exit(self, began: float) -> None:  # noqa: ARG002 (each group has a grace of its own)
        """End it."""
        if self.is_over:
            return
        until = self.ask()
        while self.lives() and monotonic() < until:
            time.sleep(0.02)
        self.send(signal.SIGKILL)


def _only_zombies(group: int) -> bool:
    """Whether *group* waits for nothing but to be reaped, for which the init of many a container takes its time."""
    found = False
    for file in Path("/proc").glob("[0-9]*/stat"):  # none, where this is not Linux
        with contextlib.suppress(OSError):  # it has ended
            state, _, its_group = file.read_bytes().rpartition(b") ")[2].split(maxsplit=3)[:3]
            if int(its_group) == group:
                found = True
                if state not in (b"Z", b"X"):
                    return False
    return found


class ProcessGroup:
    """A program in a session of its own, from its start to the end of its last process.

    It is ended, with SIGTERM and *grace* seconds later SIGKILL, when *caller* is cancelled or out of time. What is
    left of the group when the program itself has exited is ended likewise. Without standard input.
    """

    has_started = False
    """Whether there is, or was, a process: `stdout` and `stderr` are there from then on."""

    def __init__(
        self,
        command: Sequence[str],
        caller: Caller,
        *,
        cwd: str | None = None,
        environment: Mapping[str, str] | None = None,
        grace: float = 2.0,
    ) -> None:
        self._caller = caller
        self._command = command
        self._cwd = cwd
        self._environment = environment
        self._grace = grace
        self._selector = selectors.DefaultSelector()
        self._pause = 0.0

    def run(self) -> int | None:
        """Wait until all has ended and all output is here; return the exit code (negative: killed by that signal).

        None: the program had to be ended, for the caller's sake. Raises OSError where there is no such program, or
        directory, and `ExitStatusUnknown` where nobody can tell how it ended.
        """
        has_started = False
        with self._selector:
            try:
                with Interrupts():  # in the midst of a start it would lose the process
                    self._start()
                    has_started = self.has_started = True
                return self._watch()
            except BaseException:  # Ctrl-C, where this is the main thread
                if has_started:
                    self._end_whatever_happens()
                raise
            finally:
                if has_started:
                    self.stdout.close()
                    self.stderr.close()

    @property
    def exit_code(self) -> int | None:
        """The exit code, as `run` returns it, also where the program had to be ended; None where it is not known."""
        return self._status.code if self.has_started else None

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._ending = _Ending(self._process.pid, self._grace)
        process_events.enroll(self._ending)
        self._status = ExitStatus(self._process)
        self.stdout = Stream("stdout", self._process.stdout, self._caller)
        self.stderr = Stream("stderr", self._process.stderr, self._caller)
        for stream in (self.stdout, self.stderr):
            self._selector.register(stream.pipe, selectors.EVENT_READ, stream)

    def _watch(self) -> int | None:
        while not (exited := self._status.has_ended()) and not self._is_over():
            self._read(_TICK)
        self._linger()
        self._end()
        for _ in range(2 * MAX_OUTPUT // CHUNK):  # what has left the group may go on writing for ever
            if not self._read(0):
                break
        if exited and self._status.code is None:
            raise ExitStatusUnknown(self._status.why_unknown())
        return self._status.code if exited else None

    def _is_over(self) -> bool:
        return self._caller.cancelled or self._caller.remaining() == 0.0

    def _read(self, timeout: float) -> bool:
        """Wait for output, at most *timeout* or until the caller's time is up; return whether any came."""
        left = self._caller.remaining()
        if left:
            timeout = min(timeout, left)
        if not self._selector.get_map():
            self._pause = min(2 * self._pause + 0.0005, timeout)
            time.sleep(self._pause)
            return False
        ready = self._selector.select(timeout)
        for key, _ in ready:
            if not key.data.read():
                self._selector.unregister(key.fileobj)
        return bool(ready)

    def _linger(self) -> None:
        """Let what the program has left behind write to the end, as in ``make > >(tee log)``."""
        until = monotonic() + self._ending.grace
        while self._selector.get_map() and not self._is_over() and monotonic() < until:
            self._read(_TICK)

    def _end(self) -> None:
        if not self._dies(self._ending.ask()):
            self._kill()
        self._ending.is_over = True

    def _end_whatever_happens(self) -> None:
        try:
            self._end()
        except BaseException:
            self._kill()
            self._ending.is_over = True
            raise

    def _kill(self) -> None:
        self._ending.send(signal.SIGKILL)
        if not self._dies(monotonic() + self._ending.grace + 1):  # the kernel holds it, as with a dead file server
            logger.error("process group %d was killed, and does not end", self._process.pid)

    def _dies(self, until: float) -> bool:
        """Wait until all of the group has ended, taking in what it writes; return whether that was so in time."""
        pause = 0.002
        while self._lives():
            if monotonic() >= until:
                return False
            self._read(pause)
            pause = min(2 * pause, _TICK)
        return True

    def _lives(self) -> bool:
        if not self._status.has_ended():
            return True
        self._status.reap()
        return self._ending.lives()
