"""A process group that never outlives the call that runs it, and its output as it comes.

The thread that calls `ProcessGroup.run` does it all: none is started. Nothing can wake that thread for a
cancellation while it waits for output, so it asks for one every `_TICK` seconds. What must not outlive this process
either, if that dies, the supervisor knows of.
"""

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

import attrs

from szal import process_events
from szal.clock import monotonic
from szal.errors import ExitStatusUnknown
from szal.interrupts import Interrupts
from szal.process_table import group_has_ended, sees_this_process
from szal.steps.exit_status import ExitStatus
from szal.steps.stop_policy import GRACE_OF_PARENT, StopPolicy, share_of_parents_grace
from szal.steps.stream import CHUNK, MAX_OUTPUT, Listener, Stream
from szal.steps.supervisor import supervisor

__all__ = ["Caller", "ProcessGroup", "missing_here"]

_TICK: Final = 0.05
_MOST_AFTER_KILL: Final = 5.0
"""Seconds for what was killed to be gone: the kernel may hold it, as with a dead file server."""
_MOST_BESIDE: Final = 2.0
"""Seconds for all else at the end: the last output, and whoever is told of it."""


class Caller(Listener, Protocol):
    """On whose behalf a process runs; a `StepContext` is one."""

    @property
    def cancelled(self) -> bool: ...
    @property
    def is_hurried(self) -> bool: ...
    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]": ...
    @property
    def orphan_grace(self) -> float: ...
    def remaining(self) -> float | None: ...
    def ends_within(self, seconds: float) -> AbstractContextManager[None]: ...


def missing_here() -> str:
    """Return what a process group needs and this system does not have; empty where it has all."""
    names = [f"os.{name}" for name in ("killpg", "setsid", "WNOHANG") if not hasattr(os, name)]
    return ", ".join(names + [f"signal.{name}" for name in ("SIGTERM", "SIGKILL") if not hasattr(signal, name)])


@attrs.define(eq=False)
class _Ending:
    """The stop signal, the grace, SIGKILL: for one process group, once. Also done at the end of this process."""

    group: int
    policy: StopPolicy
    asked: float | None = None  # when the stop signal was sent
    is_over: bool = False

    def send(self, number: int) -> None:
        """Send a signal to all of the group that can be sent one."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, number)

    def lives(self) -> bool:
        """Whether any of the group is still running. Costs more where the answer is not simply no."""
        try:
            os.killpg(self.group, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # they are another user's; or, on macOS, wait to be reaped
            return sees_this_process() and not group_has_ended(self.group)
        return not group_has_ended(self.group)

    def ask(self) -> float:
        """Send the stop signal, once; return when the grace is over."""
        if self.asked is None:
            self.asked = monotonic()
            self.send(self.policy.number)
        return self.asked + self.policy.grace

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


class ProcessGroup:
    """A program in a session of its own, from its start to the end of its last process.

    It is ended as *policy* says when *caller* is cancelled or out of time, and killed when that is hurried. What is
    left of the group when the program itself has exited is ended likewise, and all of it if this process dies. Without
    standard input.
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
        policy: StopPolicy | None = None,
    ) -> None:
        self._caller = caller
        self._command = command
        self._cwd = cwd
        self._environment = environment
        self._policy = (policy or StopPolicy()).within_parents_grace()
        self._selector = selectors.DefaultSelector()
        self._pause = 0.0

    def run(self) -> int | None:
        """Wait until all has ended and all output is here; return the exit code (negative: killed by that signal).

        None: the program had to be ended, for the caller's sake. Raises OSError where there is no such program, or
        directory, and `ExitStatusUnknown` where nobody can tell how it ended.
        """
        with self._caller.ends_within(self._policy.grace + _MOST_AFTER_KILL + _MOST_BESIDE):
            return self._run()

    def _run(self) -> int | None:
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
        # Who runs it again must not begin beside it, be it a szal that this one is a command of.
        orphaned = min(self._policy.grace, self._caller.orphan_grace, share_of_parents_grace(0.0))
        supervised = supervisor().begin(attrs.evolve(self._policy, grace=orphaned))
        environment = os.environ if self._environment is None else self._environment
        try:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env={**environment, **supervised.environment, GRACE_OF_PARENT: f"{self._policy.grace:g}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            supervised.over()
            raise
        supervised.started(self._process.pid)
        self._supervised = supervised
        self._ending = _Ending(self._process.pid, self._policy)
        process_events.enroll(self._ending)
        self._status = ExitStatus(self._process)
        self.stdout = Stream("stdout", self._process.stdout, self._caller)
        self.stderr = Stream("stderr", self._process.stderr, self._caller)
        for stream in (self.stdout, self.stderr):
            self._selector.register(stream.pipe, selectors.EVENT_READ, stream)

    def _watch(self) -> int | None:
        while not (exited := self._status.has_ended()) and not self._is_over():
            if not self._read(_TICK):
                supervisor().look_after()
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
        until = monotonic() + self._policy.grace
        while self._selector.get_map() and not self._is_over() and monotonic() < until:
            self._read(_TICK)

    def _end(self) -> None:
        if self._caller.is_hurried or not self._dies(self._ending.ask()):
            self._kill()
        self._has_ended()

    def _end_whatever_happens(self) -> None:
        try:
            self._end()
        except BaseException:
            self._kill()
            self._has_ended()
            raise

    def _has_ended(self) -> None:
        self._ending.is_over = True
        self._supervised.over()

    def _kill(self) -> None:
        self._ending.send(signal.SIGKILL)
        if not self._dies(monotonic() + _MOST_AFTER_KILL, is_killed=True):
            self._caller.log.error("process group %d was killed, and does not end", self._process.pid)

    def _dies(self, until: float, *, is_killed: bool = False) -> bool:
        """Wait until all of the group has ended, taking in what it writes; return whether that was so in time."""
        pause = 0.002
        while self._lives():
            if monotonic() >= until or (self._caller.is_hurried and not is_killed):
                return False
            self._read(pause)
            pause = min(2 * pause, _TICK)
        return True

    def _lives(self) -> bool:
        if not self._status.has_ended():
            return True
        self._status.reap()
        return self._ending.lives()
