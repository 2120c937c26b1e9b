"""The child process that attempts are made in, one after another: what runs there.

Its main thread calls the handlers; another one listens to the engine, and sees when that is gone. It is told to end by
SIGTERM, whoever sends that: the engine, at a time-out or a cancellation; who looks after the commands of an engine that
was killed (`supervisor`); itself, once the engine does not answer. A handler that has asked whether it is cancelled is
trusted to end by itself; in any other, SystemExit comes up where it is.
"""

import fcntl
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing import spawn
from queue import SimpleQueue
from types import FrameType
from typing import Any, Final, NoReturn

from szal import process_events
from szal.errors import FailedElsewhere, describe
from szal.expressions.path import Json
from szal.model.luggage import Luggage
from szal.steps.forwarding import Forwards
from szal.steps.messages import (
    Asked,
    Begun,
    Broken,
    Do,
    Ended,
    Logged,
    Made,
    Promised,
    Reply,
    Reported,
    Setup,
    Unreadable,
    Up,
    framed,
    next_message,
)
from szal.steps.pickling import Packed, pickled, unpickled
from szal.steps.preparing import preparing
from szal.steps.remote import perform
from szal.waiters import Flag

__all__ = ["main"]

_TOLD: Final = 128 + signal.SIGTERM
_HIGH: Final = 200
"""The least number of the file that leads to the engine: programs close and open those with low ones."""


class Child:
    """The link to the engine, and what is done for it. `work` runs on the main thread, `attend` on another one."""

    def __init__(self, stream: socket.socket, grace: float) -> None:
        self._stream = stream
        self._file = os.fstat(stream.fileno())
        self._grace = grace
        self._pid = os.getpid()
        self._sending = threading.Lock()
        self._tasks: SimpleQueue[Do | None] = SimpleQueue()
        self._replies: dict[int, SimpleQueue[Reply]] = {}
        self._keys: dict[object, threading.RLock] = {}  # a second thread with the same waits for the first
        self._numbers = count(1)
        self._told = Flag()
        self._is_busy = False
        self._is_trusted = False  # it looks whether it is told
        self._is_between = False  # the main thread is where nothing may come up
        self._owes = False  # something was to come up there
        self._is_fork = False
        process_events.enroll_renewal(self, Child._forked)

    def _forked(self) -> None:
        """Let go of the link, in what a handler has forked: only one process answers."""
        self._is_fork = True
        self._stream.close()

    def attend(self) -> None:
        """Listen; once the engine is gone, or has let go of this process, have what still runs end, and all of it."""
        self.listen()
        if self._is_busy:
            os.kill(self._pid, signal.SIGTERM)
        time.sleep(self._grace)  # a daemon thread: the process may be gone before
        os.killpg(0, signal.SIGKILL)

    def listen(self) -> None:
        """Take what the engine says, until it says nothing more: then no more attempts come."""
        try:
            while (message := next_message(self._stream)) is not None:
                if isinstance(message, Do):
                    self._tasks.put(message)
                elif isinstance(message, Reply) and (box := self._replies.get(message.number)) is not None:
                    box.put(message)
        except Unreadable:
            _say("a handler has read from the file that leads to the engine, so its process ends")
        self._tasks.put(None)

    def work(self) -> None:
        """Make the attempts that come, until no more come."""
        while (task := self._tasks.get()) is not None:
            for name, level in zip((None, "szal.step"), task.levels, strict=True):
                logging.getLogger(name).setLevel(level)
            self._is_trusted, self._keys = False, {}
            self._is_busy = True
            answer = perform(task.parcel, self)
            self._is_busy = False
            if self._is_fork:
                _leave(answer)
            if self._told.is_set():  # it ends by what it was told by, whoever that was
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(self._pid, signal.SIGTERM)
            self.send(Ended(answer))
            del task, answer

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Have what runs end. A signal handler, for SIGTERM."""
        is_new = not self._told.is_set()  # another one must not come up in what the first has begun to clean up
        self._told.set()
        if not self._is_busy:
            os._exit(0)
        if not is_new:
            return
        if self._is_between:
            self._owes = True
        elif not self._is_trusted:
            raise SystemExit(_TOLD)

    def send(self, message: object) -> None:
        """Tell the engine something; what it does not hear any more is dropped, and what a fork of this would say."""
        if self._is_fork:
            return
        data = framed(message)
        with self._uninterrupted(), self._sending, suppress(OSError):
            self._end_if_cut_off()
            self._stream.sendall(data)

    def _end_if_cut_off(self) -> None:
        """End this process where a handler has closed the file that leads to the engine, as `os.closerange(3, …)` does.

        Else the engine waits for ever, as the thread that listens keeps the socket. Its number may have another file.
        """
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._stream.fileno()), self._file):
                return
        _say("a handler has closed the file that leads to the engine, so its process ends")
        os._exit(1)

    @contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Have no SystemExit come up in the midst of a block, but at its end: half a message would break all others."""
        if self._is_between or threading.get_ident() != threading.main_thread().ident:
            yield
            return
        self._is_between = True
        try:
            yield
        finally:
            self._is_between = False
        if self._owes and not self._is_trusted:
            self._owes = False
            raise SystemExit(_TOLD)

    # -- what handlers ask for: see `Link` -------------------------------------------------------------------

    def begin(self) -> None:
        self.send(Begun())

    def is_told(self) -> bool:
        self._is_trusted = True
        return self._told.is_set()

    def wait(self, seconds: float | None) -> None:
        self._is_trusted = True
        self._told.wait(seconds)

    @contextmanager
    def ends_within(self, seconds: float) -> Iterator[None]:
        self._is_trusted = True
        number = next(self._numbers)
        self.send(Promised(number, seconds))
        try:
            yield
        finally:
            self.send(Promised(number, None))

    def report(self, data: Json) -> None:
        self.send(Reported(_sendable("what ctx.report() is given", data)))

    def log(self, record: bytes) -> None:
        """Have a line logged by the engine's process."""
        self.send(Logged(record))

    def once(self, key: object, function: Callable[[], Any]) -> Any:
        if self._is_fork:
            raise RuntimeError("ctx.once() in a fork of a handler's process: only that process can reach the engine")
        with self._keys.setdefault(key if isinstance(key, str) else None, threading.RLock()):
            number = next(self._numbers)
            box = self._replies[number] = SimpleQueue()
            try:
                self.send(Asked(number, _sendable("the key of ctx.once()", key)))
                reply = box.get()
                if reply.is_to_be_made:
                    reply = self._make(key, number, box, function)
            finally:
                del self._replies[number]
        if reply.failure is not None:
            raise unpickled(reply.failure).exception or FailedElsewhere(f"ctx.once({key!r}, …) failed")
        return unpickled(reply.value)

    def _make(self, key: object, number: int, box: "SimpleQueue[Reply]", function: Callable[[], Any]) -> Reply:
        """Call what is to be kept, tell the engine, and return what that has made of it."""
        try:
            value = _sendable(f"what ctx.once({key!r}, …) is to keep", function())
        except BaseException as error:
            self.send(Made(number, failure=pickled(Luggage(error))))
            box.get()
            raise
        self.send(Made(number, value))
        return box.get()


def _sendable(what: str, value: object) -> Packed:
    """Return *value* as a pickle; raise TypeError where it is none, which says *what* it is."""
    try:
        return pickled(value)
    except Exception as error:
        raise TypeError(f"{what} cannot be sent to the engine: {describe(error)}") from error


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"szal: {text}\n".encode())


def _leave(answer: Packed) -> NoReturn:
    """End a fork of this process that has come back from its handler: it is the process itself that answers."""
    failed = unpickled(answer).failure is not None
    if failed:
        _say(f"a fork of a handler's process has failed: {unpickled(answer).told}")
    os._exit(int(failed))


def _out_of_the_way(number: int) -> socket.socket:
    """Return the link, where no program looks for a file of its own: what a handler starts does not inherit it."""
    for standard in range(3):
        try:
            os.fstat(standard)
        except OSError:  # the engine's process has none: what is opened next would be taken for it
            os.open(os.devnull, os.O_RDWR)
    try:
        moved = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # there are not as many
        os.set_inheritable(number, False)
        return socket.socket(fileno=number)
    os.close(number)
    return socket.socket(fileno=moved)


def _take_on(environment: dict[str, str]) -> None:
    """Have this process's environment be what that of the engine's is."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    if hasattr(time, "tzset"):
        time.tzset()


def main(number: int) -> None:
    """Be a child process; *number* is that of the file that leads to the engine."""
    stream = _out_of_the_way(number)
    setup = next_message(stream)
    if setup is None:
        return
    assert isinstance(setup, Setup)
    child = Child(stream, setup.grace)
    signal.signal(signal.SIGTERM, child.on_signal)
    logging.getLogger().addHandler(Forwards(child.log))
    try:
        if setup.environment is not None:
            _take_on(setup.environment)
        with preparing():
            spawn.prepare(setup.preparation)
    except BaseException as error:  # noqa: BLE001 (whatever the program's main module does)
        child.send(Broken(describe(error)))
        sys.exit(1)
    child.send(Up())
    threading.Thread(target=child.attend, name="szal-child-listener", daemon=True).start()
    child.work()
