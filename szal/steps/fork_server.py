"""The process that child processes are forked from, from within.

It has one thread, and has imported what all of them need. It is told by the engine to fork, by a byte that comes with
the files of the child, and tells over one of these, of each child: its pid, as it begins; and how it has ended. A child
that has ended is reaped when the engine has let go of that file: until then its pid is its own.
"""

import gc
import os
import selectors
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import spawn
from pathlib import Path
from typing import Any, Final

import attrs

from szal.errors import describe
from szal.steps import child
from szal.steps.exit_status import ExitStatus
from szal.steps.messages import Broken, Preload, framed, next_message
from szal.steps.preparing import MAIN, preparing

__all__ = ["BEGUN", "ENDED", "FILES", "REFUSED", "TOLD", "main"]

FILES: Final = 4
"""How many come with each byte: the child's link to the engine, the one of what is told of it, stdout and stderr."""
TOLD: Final = struct.Struct("!ci")
"""What is told of a child: one of the next three, and a number."""
BEGUN: Final = b"b"  # its pid
ENDED: Final = b"e"  # its exit code
REFUSED: Final = b"r"  # the errno of the fork


@attrs.define(eq=False)
class _Process:
    """A child, as `ExitStatus` knows processes."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        return None


@attrs.define(eq=False)
class _Forked:
    """A child, and the file over which the engine hears of it, None: it has let go of that."""

    status: ExitStatus
    control: socket.socket | None
    is_told: bool = False


class _Server:
    """Forks, and tells how what was forked has ended. Its one thread may be in another process after `serve`."""

    def __init__(self, engine: socket.socket) -> None:
        self._engine = engine
        self._is_open = True
        self._children: list[_Forked] = []
        self._selector = selectors.DefaultSelector()
        self._woken, self._wakes = socket.socketpair()
        for each in (self._woken, self._wakes):
            each.setblocking(False)
        self._selector.register(engine, selectors.EVENT_READ, self._fork)
        self._selector.register(self._woken, selectors.EVENT_READ, self._hush)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> int | None:
        """Do what the engine asks for, until it asks for nothing more and all children are gone.

        In a child return the number of its link, and at the end None.
        """
        while self._is_open or self._children:
            for key, _ in self._selector.select():
                if (link := key.data()) is not None:
                    return int(link)
            self._look_after()
        return None

    def _hush(self) -> None:
        with suppress(BlockingIOError):
            while self._woken.recv(64):
                pass

    def _fork(self) -> int | None:
        """Fork once, if that is what the engine says; return the number of the link in the child."""
        try:
            said, files, _, _ = socket.recv_fds(self._engine, 1, FILES)
        except OSError:
            said, files = b"", []
        if not said:
            self._is_open = False
            self._selector.unregister(self._engine)
            return None
        link, told, *standard = files
        control = socket.socket(fileno=told)
        try:
            pid = os.fork()
        except OSError as error:
            _tell(control, REFUSED, error.errno or 0)
            control.close()
        else:
            if pid == 0:
                self._let_go()
                return _begin(link, control, standard)
            forked = _Forked(ExitStatus(_Process(pid)), control)
            self._children.append(forked)
            self._selector.register(control, selectors.EVENT_READ, lambda: self._dismiss(forked))
        for number in (link, *standard):
            os.close(number)
        return None

    def _dismiss(self, forked: _Forked) -> None:
        """Take note that the engine wants to know no more of a child: it says nothing over that file."""
        if forked.control is not None:
            self._selector.unregister(forked.control)
            forked.control.close()
            forked.control = None

    def _look_after(self) -> None:
        """Tell of those that have ended, and reap those of which nobody wants to know more."""
        for forked in self._children.copy():
            if not forked.status.has_ended():
                continue
            if forked.control is None:
                forked.status.reap()
                self._children.remove(forked)
            elif not forked.is_told:
                forked.is_told = True
                _tell(forked.control, ENDED, forked.status.code or 0)

    def _let_go(self) -> None:
        """Be a server no more, in a child."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        controls = [forked.control for forked in self._children if forked.control is not None]
        for each in (self._engine, self._woken, self._wakes, *controls):
            each.close()


def _begin(link: int, control: socket.socket, standard: list[int]) -> int:
    """Be a process of its own, in a child, and tell the engine; return *link*."""
    os.setsid()
    for number, file in enumerate(standard, start=1):
        os.dup2(file, number)
        os.close(file)
    _tell(control, BEGUN, os.getpid())
    control.close()
    return link


def _tell(control: socket.socket, what: bytes, number: int) -> None:
    with suppress(OSError):  # the engine has gone
        control.sendall(TOLD.pack(what, number))


def _preload(asked: Preload) -> None:
    """Import what children need, on this one thread; raise RuntimeError for what has started another one."""
    without_main = {key: value for key, value in asked.preparation.items() if not key.startswith("init_main_from_")}
    spawn.prepare(without_main)
    for name in asked.modules:
        with preparing(), _naming(name):
            spawn.prepare(asked.preparation) if name == MAIN else import_module(name)
        if (threads := _threads()) > 1:
            raise RuntimeError(f"process_preload: {name!r} has {threads - 1} threads started, which no fork has")
    gc.collect()
    gc.freeze()  # a collection in a child would copy the memory of all this


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Have what the import of a module raises say which one it was."""
    try:
        yield
    except BaseException as error:  # whatever the program's modules do
        raise RuntimeError(f"process_preload: {name!r} cannot be imported: {describe(error)}") from error


def _threads() -> int:
    """Return how many threads this process has; not those of libraries, where the system does not tell."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return threading.active_count()


def main(number: int) -> None:
    """Be the server; *number* is that of the file that leads to the engine. In what it forks, be a child process."""
    engine = socket.socket(fileno=number)
    engine.set_inheritable(False)
    asked: Any = next_message(engine)
    if asked is None:
        return
    try:
        _preload(asked)
    except BaseException as error:  # noqa: BLE001 (whatever the program's modules do)
        with suppress(OSError):
            engine.sendall(framed(Broken(describe(error))))
        sys.exit(1)
    link = _Server(engine).serve()
    if link is not None:
        child.main(link)
