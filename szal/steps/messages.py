"""What an engine and a child process of its tell each other, and how it gets across: pickles, each after its length.

What is the program's own in a message is a pickle of its own: whoever cannot load that still knows what it is of.
"""

import pickle
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import attrs

from szal.steps.pickling import Packed

__all__ = [
    "Asked",
    "Begun",
    "Broken",
    "Do",
    "Ended",
    "Logged",
    "Made",
    "Mailing",
    "Promised",
    "Reply",
    "Reported",
    "Setup",
    "Up",
    "framed",
    "next_message",
]


@attrs.frozen
class Setup:
    """To the child, first: how to become like the engine's process (see `multiprocessing.spawn`), and its grace."""

    preparation: dict[str, Any]
    grace: float


@attrs.frozen
class Do:
    """To the child: an attempt, and from which level on lines are logged: by whoever, and by ``ctx.log``."""

    parcel: Packed
    levels: tuple[int, int]


@attrs.frozen
class Reply:
    """To the child: what has become of what it `Asked` for: make it, here it is, or it could not be had."""

    number: int
    is_to_be_made: bool = False
    value: Packed = b""
    failure: Packed | None = None


@attrs.frozen
class Up:
    """From the child: it is there."""


@attrs.frozen
class Broken:
    """From the child: it cannot be what it was to be, and why; it ends."""

    told: str


@attrs.frozen
class Begun:
    """From the child: all is imported, and the handler is about to be called."""


@attrs.frozen
class Reported:
    """From the child: something for the progress sink."""

    data: Packed


@attrs.frozen
class Logged:
    """From the child: a line that was logged there."""

    record: Packed


@attrs.frozen
class Promised:
    """From the child: the attempt ends so many seconds after it is told to, from now on; None: no more."""

    number: int
    seconds: float | None


@attrs.frozen
class Asked:
    """From the child: what is kept under that key of `ctx.once`?"""

    number: int
    key: Packed


@attrs.frozen
class Made:
    """From the child: what the function of `ctx.once` has come to."""

    number: int
    value: Packed = b""
    failure: Packed | None = None


@attrs.frozen
class Ended:
    """From the child: what the attempt has come to."""

    answer: Packed


_LENGTH: Final = struct.Struct("!Q")
_CHUNK: Final = 1 << 20


def framed(message: object) -> bytes:
    """Return *message* as it gets across."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


def next_message(stream: socket.socket) -> Any:
    """Return the next message of *stream*, waiting for it; None at its end. In the child."""
    head = _read(stream, _LENGTH.size)
    data = None if head is None else _read(stream, _LENGTH.unpack(head)[0])
    return None if data is None else pickle.loads(data)  # noqa: S301 (of the engine that started this process)


def _read(stream: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        try:
            chunk = stream.recv(min(size - len(data), _CHUNK))
        except OSError:
            return None
        if not chunk:
            return None
        data += chunk
    return bytes(data)


class Mailing:
    """The engine's end: it never waits. What the child does not take is kept, and sent when it takes more."""

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self._stream = stream
        self._unsent = bytearray()
        self._taken = bytearray()
        self.has_ended = False
        """Whether nothing more can come."""
        self.has_more = False
        """Whether more may be there than was received."""

    @property
    def is_waiting(self) -> bool:
        """Whether something is left to be sent."""
        return bool(self._unsent)

    def send(self, message: object) -> None:
        """Send *message*, or as much as is taken now."""
        self._unsent += framed(message)
        self.go_on()

    def go_on(self) -> None:
        """Send what is left, as much as is taken now. What a child that has ended does not take is dropped."""
        try:
            while self._unsent:
                with memoryview(self._unsent) as left:
                    sent = self._stream.send(left[:_CHUNK])
                del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()

    def receive(self) -> Iterator[Any]:
        """Yield the messages that have come whole."""
        self.has_more = self._take_in()
        while len(self._taken) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._taken)[0]
            if len(self._taken) < end:
                return
            with memoryview(self._taken) as taken:
                message = pickle.loads(taken[_LENGTH.size : end])  # noqa: S301 (of a child that this process started)
            del self._taken[:end]
            yield message

    def _take_in(self) -> bool:
        """Take in some of what has come; return whether there was anything."""
        try:
            data = self._stream.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self._taken += data
        self.has_ended = not data
        return bool(data)

    def finish(self) -> None:
        """Let the child see that nothing more comes. From any thread."""
        with suppress(OSError):
            self._stream.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of it."""
        self._stream.close()
