"""What a command prints, taken in as it comes: its last bytes, and its lines."""

import os
from collections.abc import Callable
from typing import IO, Final, Protocol

from szal.storable import storable

__all__ = ["CHUNK", "MAX_OUTPUT", "Caller", "Stream"]

MAX_OUTPUT: Final = 1 << 20
"""How many bytes of each stream are kept: the last ones."""

CHUNK: Final = 1 << 16
"""How many bytes are read at a time."""

_MAX_LINE: Final = 8192  # a longer line is reported in pieces of this size


class Caller(Protocol):
    """On whose behalf a process runs; a `StepContext` is one."""

    @property
    def cancelled(self) -> bool: ...
    def remaining(self) -> float | None: ...
    def report(self, data: object) -> None: ...


class Stream:
    """What comes from one pipe: its last bytes, and its lines, reported as they come."""

    def __init__(self, name: str, pipe: IO[bytes] | None, report: Callable[[object], None]) -> None:
        assert pipe is not None
        self.name = name
        self.pipe = pipe
        self.truncated = False
        self._report = report
        self._kept = bytearray()
        self._line = b""

    def read(self) -> bool:
        """Take in what has come, which blocks where nothing has; False at the end."""
        chunk = os.read(self.pipe.fileno(), CHUNK)
        self._kept += chunk
        if len(self._kept) > 2 * MAX_OUTPUT:
            self._cut()
        *lines, rest = (self._line + chunk).split(b"\n")
        for line in lines:
            self._tell(line)
        while len(rest) > _MAX_LINE:
            self._tell(rest[:_MAX_LINE])
            rest = rest[_MAX_LINE:]
        self._line = rest
        return bool(chunk)

    def close(self) -> None:
        """Report what has come after the last line end, if anything has."""
        self.pipe.close()
        if self._line:
            self._tell(self._line)

    def _tell(self, line: bytes) -> None:
        self._report({"stream": self.name, "line": _text(line.removesuffix(b"\r"))})

    def _cut(self) -> None:
        self.truncated = True
        del self._kept[:-MAX_OUTPUT]

    def text(self) -> str:
        """Return what has come; where it was cut, from the first whole line on, or the end of its only line."""
        if len(self._kept) > MAX_OUTPUT:
            self._cut()
        start = self._start_of_line() if self.truncated else 0
        return _text(self._kept[start:])

    def _start_of_line(self) -> int:
        """Return where in what was cut a line begins, or, where it is all of one line, a character."""
        start = self._kept.find(b"\n") + 1
        if 0 < start < len(self._kept):
            return start
        return next((place for place in range(4) if self._kept[place] & 0xC0 != 0x80), 0)


def _text(printed: bytes | bytearray) -> str:
    return storable(printed.decode(errors="replace"))
