"""Child processes that are forks of one that has imported szal already, as the engine's process sees that.

It is not this process that is forked: it has threads, and a fork of it may hang. Nor is it the server of
`multiprocessing`. A program has one of those, with the environment that it was started with, and what it preloads is
said for the whole program; and it reaps what has ended by itself, so a pid that is sent a signal may be another's.
"""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from szal.clock import monotonic
from szal.errors import Cancelled, ProcessDied
from szal.process_table import start_of
from szal.scheduler.context import StepContext
from szal.steps.bell import Bell, linked
from szal.steps.exit_status import ExitStatus
from szal.steps.fork_server import BEGUN, ENDED, REFUSED, TOLD
from szal.steps.messages import Preload, Unreadable, framed, next_message
from szal.steps.start import Started, interpreter, preparation
from szal.steps.stop_policy import StopPolicy
from szal.steps.supervisor import supervisor

__all__ = ["Forks"]

_MOST_TO_BEGIN: Final = 60.0
"""Seconds for the server to start and to import what it preloads."""
_MOST_TO_END: Final = 2.0
_PAUSE: Final = 0.002


class Forks:
    """Starts child processes as forks of a server, which preloads *modules*, and is started with the first of them."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = tuple(modules)
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def start(self, link: socket.socket, environment: Mapping[str, str], ctx: StepContext) -> Started:  # noqa: ARG002
        """Start one; see `Start`.

        Raises `ProcessDied` where there can be no server, and `Cancelled` or `StepTimeout` where the attempt is to end.
        """
        while True:
            server = self._running()
            was_up, control = server.is_up, server.ask(link)
            try:
                pid = _begun(control, ctx)
            except BaseException:
                control.close()
                raise
            if pid is not None:
                server.is_up = True
                return _Forked(control, pid)
            control.close()
            code, told = self._drop(server)
            if not was_up:  # else somebody has ended it meanwhile: another one is started
                raise ProcessDied(ctx.step.name, code, f" before it could begin: {told}")

    def _running(self) -> "_Server":
        with self._lock:
            if self._server is None:
                self._server = _Server(self._modules)
            return self._server

    def _drop(self, server: "_Server") -> tuple[int | None, str]:
        with self._lock:
            if self._server is server:
                self._server = None
        return server.end()

    def let_go(self) -> Callable[[], object]:
        """Return what ends the server; the next process has another one started."""
        with self._lock:
            server, self._server = self._server, None
        return (lambda: None) if server is None else server.end

    def forget(self) -> None:
        """Leave the server to the process that this one was forked from."""
        server, self._server, self._lock = self._server, None, threading.Lock()
        if server is not None:
            server.forget()


class _Server:
    """The process that is forked, as seen from here. From any thread."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.is_up = False
        """Whether it has forked something."""
        self._lock = threading.Lock()
        self._over: tuple[int | None, str] | None = None
        here, there = linked()
        supervised = supervisor().begin(StopPolicy(grace=0.0))
        try:
            with there:
                environment = {**os.environ, **supervised.environment}
                self._process = interpreter("szal.steps.fork_server", there, environment)
        except BaseException:
            here.close()
            supervised.over()
            raise
        supervised.started(self._process.pid)
        self._supervised = supervised
        self._status = ExitStatus(self._process)
        self._link = here
        with suppress(OSError):  # it has died: whoever asks it for something sees that
            here.sendall(framed(Preload(preparation(), modules)))

    def ask(self, link: socket.socket) -> socket.socket:
        """Ask for a fork that has *link*; return the file over which it is told what becomes of it."""
        here, there = linked()
        with there, ExitStack() as opened, suppress(OSError):  # it has died: then nothing is told
            files = [link.fileno(), there.fileno(), *(_standard(number, opened) for number in (1, 2))]
            socket.send_fds(self._link, [b"f"], files)
        return here

    def end(self) -> tuple[int | None, str]:
        """Have it end, and see to it that it has; return its exit code, and why it has ended, where it has said so."""
        with self._lock:
            if self._over is None:
                self._over = self._end()
            return self._over

    def _end(self) -> tuple[int | None, str]:
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)
        if not self._dies():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._dies()
        told = f"the server that it is forked from has ended, or has said nothing for {_MOST_TO_BEGIN:.0f} s"
        self._link.settimeout(0.0)
        with suppress(Unreadable):
            if (message := next_message(self._link)) is not None:
                told = message.told
        self._link.close()
        self._status.reap()
        self._supervised.over()
        return self._status.code, told

    def _dies(self) -> bool:
        until = monotonic() + _MOST_TO_END
        while not self._status.has_ended():
            if monotonic() > until:
                return False
            time.sleep(_PAUSE)
        return True

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""
        self._link.close()
        self._process.returncode = 0


class _Forked:
    """A process that the server has forked, and the file over which that tells how it has ended."""

    has_environment = False
    code: int | None = None

    def __init__(self, control: socket.socket, pid: int) -> None:
        control.setblocking(False)
        self._control = control
        self._has_ended = False
        self.pid = pid

    def has_ended(self) -> bool:
        """Whether it has; see `Started`."""
        if not self._has_ended:
            try:
                told = self._control.recv(TOLD.size)
            except BlockingIOError:
                return False
            except OSError:
                told = b""
            if told:
                self.code = TOLD.unpack(told)[1]
            self._has_ended = bool(told) or not _is_there(self.pid)  # the server has ended before it
        return self._has_ended

    def reap(self) -> None:
        """Have the server reap it."""
        self._control.close()

    forget = reap


def _begun(control: socket.socket, ctx: StepContext) -> int | None:
    """Return the pid of what is forked; None: the server is gone. Raises OSError where there could be no fork.

    Raises as `StepContext.check` does where the attempt is to end.
    """
    until = monotonic() + _MOST_TO_BEGIN
    poll = select.poll()
    bell = Bell()
    try:
        for each in (control, bell):
            poll.register(each, select.POLLIN)
        with ctx.wakes(bell):
            while True:
                ctx.check()
                if ctx.cancelled:
                    raise Cancelled("cancelled")
                ready = dict(poll.poll(1000 * max(0.0, until - monotonic())))
                if control.fileno() in ready:
                    break
                if not ready:
                    return None
                bell.hush()
    finally:
        bell.close()
    what, number = TOLD.unpack(control.recv(TOLD.size) or TOLD.pack(ENDED, 0))
    if what == REFUSED:
        raise OSError(number, os.strerror(number))
    return int(number) if what == BEGUN else None


def _standard(number: int, opened: ExitStack) -> int:
    """Return the file that is stdout or stderr, by its *number*, or one that stands for it where there is none."""
    try:
        os.fstat(number)
    except OSError:
        return opened.enter_context(Path(os.devnull).open("wb")).fileno()
    return number


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return start_of(str(pid)) != "ended"
