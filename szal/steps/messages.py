"""What an engine and a child process of its tell each other, and how it gets across: pickles, each after a head.

What is the program's own in a message is a pickle of its own: whoever cannot load that still knows what it is of.
A handler may write to any file of its process: so each head has a mark, and what its message comes to.
"""

import pickle
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

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
    "Preload",
    "Promised",
    "Reply",
    "Reported",
    "Setup",
    "Unreadable",
    "Up",
    "framed",
    "next_message",
]


@attrs.frozen
class Setup:
    """To the child, first: how to become like the engine's process (see `multiprocessing.spawn`), and its grace."""

    preparation: dict[str, Any]
    environment: dict[str, str] | None
    """None: it has it."""
    grace: float


@attrs.frozen
class Preload:
    """To a server that is to be forked, first: how to become like the engine's process, and what to import."""

    preparation: dict[str, Any]
    modules: tuple[str, ...]


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
    """From the child, or a server: it cannot be what it was to be, and why; it ends."""

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


class Unreadable(Exception):
    """What has come is no message: something else has written into the file that it came from, or read from that."""


_MARK: Final = b"szal"
_HEAD: Final = struct.Struct("!4sQII")  # the mark, the length of what follows, its checksum, that of the length
_CHUNK: Final = 1 << 20
_SHOWN: Final = 40


def framed(message: object) -> bytes:
    """Return *message* as it gets across."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _HEAD.pack(_MARK, len(data), crc32(data), _sum_of(len(data))) + data


def next_message(stream: socket.socket) -> Any:
    """Return the next message of *stream*, waiting for it; None at its end. In the child. Raises `Unreadable`."""
    head = _read(stream, _HEAD.size)
    if head is None or (length := _length_of(head)) is None or (data := _read(stream, length)) is None:
        return None
    return _loaded(head, data)


def _length_of(found: bytes | bytearray) -> int | None:
    """Return how long the message is whose head is the beginning of *found*; None: not all of the head is there."""
    if not _MARK.startswith(bytes(found[: len(_MARK)])):
        raise Unreadable(f"{bytes(found[:_SHOWN])!r} came")
    if len(found) < _HEAD.size:
        return None
    _, length, _, checksum = _HEAD.unpack_from(found)
    if checksum != _sum_of(length):
        raise Unreadable(f"{bytes(found[:_SHOWN])!r} came")
    return int(length)


def _sum_of(length: int) -> int:
    return crc32(length.to_bytes(8, "big"))


def _loaded(head: bytes | bytearray, data: bytes | memoryview) -> Any:
    if _HEAD.unpack_from(head)[2] != crc32(data):
        raise Unreadable("something came in the middle of a message")
    return pickle.loads(data)  # noqa: S301 (of the engine that started this process, or of a child of this one)


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
        """Yield the messages that have come whole. Raises `Unreadable`: nothing can be told of what follows that."""
        self.has_more = self._take_in()
        while (length := _length_of(self._taken)) is not None:
            end = _HEAD.size + length
            if len(self._taken) < end:
                return
            with memoryview(self._taken) as taken, taken[_HEAD.size : end] as data:
                message = _loaded(self._taken, data)
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
