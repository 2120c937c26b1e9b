"""What a command prints, taken in as it comes: its last bytes, and its lines, where somebody listens."""

import os
from typing import IO, Final, Protocol

from szal.events.progress import Hearing, Printed
from szal.model.redaction import Redaction
from szal.storable import as_text, standing_in

__all__ = ["CHUNK", "MAX_OUTPUT", "Listener", "Stream"]

MAX_OUTPUT: Final = 1 << 20
"""How many bytes of each stream are kept: the last ones."""

CHUNK: Final = 1 << 16
"""How many bytes are read at a time."""

_MAX_LINE: Final = 8192  # a longer line is told in pieces of this size


class Listener(Protocol):
    """Who is told what is printed, and how; a `StepContext` is one."""

    @property
    def hearing(self) -> Hearing: ...
    @property
    def redaction(self) -> Redaction: ...
    def report(self, data: object) -> None: ...


class Stream:
    r"""What comes from one pipe: its last bytes, and, where somebody listens, its lines as they come.

    A line ends with ``\n``. One that is written anew after a ``\r``, as progress bars are, is told each time it has
    changed, as it stands then.
    """

    def __init__(self, name: str, pipe: IO[bytes] | None, listener: Listener) -> None:
        assert pipe is not None
        self.name = name
        self.pipe = pipe
        self.truncated = False
        self._report = listener.report
        self._hearing = listener.hearing
        self._redaction = listener.redaction
        self._kept = bytearray()
        self._line = b""  # what has come after the last line end, as far as it can still be seen
        self._shown = b""  # what was told of it

    def read(self) -> bool:
        """Take in what has come, which blocks where nothing has; False at the end."""
        chunk = os.read(self.pipe.fileno(), CHUNK)
        self._kept += chunk
        if len(self._kept) > 2 * MAX_OUTPUT:
            self._cut()
        if self._hearing is not Hearing.NOTHING and chunk:
            self._hear(chunk)
        return bool(chunk)

    def close(self) -> None:
        """Tell what has come after the last line end, if anything has."""
        self.pipe.close()
        if line := standing_in(self._line):
            self._tell(line + b"\n")

    # -- what is told --------------------------------------------------------------------------------------

    def _hear(self, chunk: bytes) -> None:
        lines, end, line = (self._line + chunk).rpartition(b"\n")
        if end:
            self._tell(lines + end)
            self._shown = b""
        if b"\r" in line:
            line = self._written_over(line)
        self._line = line if len(line) <= _MAX_LINE else self._in_pieces(line)

    def _written_over(self, line: bytes) -> bytes:
        """Tell how a line with carriage returns stands now, if that is new; return what can still be seen of it."""
        standing = standing_in(line)
        if self._redaction.is_active:
            self._tell_open(standing)
        elif standing and standing != self._shown:
            self._tell(standing + b"\r")
            self._shown = standing
        return b"\r" + standing + (b"\r" if line.endswith(b"\r") else b"")

    def _tell_open(self, standing: bytes) -> None:
        """Tell how a line stands that may end in the middle of what must not be seen, if that is new."""
        shown = self._redaction.end_open(self._redaction.text(standing.decode(errors="surrogateescape")))
        told = shown.encode(errors="surrogateescape")
        if told and told != self._shown:
            self._tell(told + b"\r")
            self._shown = told

    def _in_pieces(self, line: bytes) -> bytes:
        """Tell what has come of a very long line, but for its last piece, which is returned.

        Of what must not be seen no part is told before the whole has come.
        """
        if self._redaction.is_active:
            shown = self._redaction.text(line.decode(errors="surrogateescape"))
            line = shown.encode(errors="surrogateescape")
        while len(line) > _MAX_LINE + 4 * self._redaction.longest:
            end = _start_of_character(line, _MAX_LINE)
            self._tell(line[:end] + b"\n")
            line = line[end:]
        return line

    def _tell(self, data: bytes) -> None:
        printed = Printed(self.name, data)
        if self._hearing is Hearing.PRINTED:
            self._report(printed)
        else:
            for line in printed.lines():
                self._report(line)

    # -- what is kept --------------------------------------------------------------------------------------

    def _cut(self) -> None:
        self.truncated = True
        del self._kept[:-MAX_OUTPUT]

    def text(self) -> str:
        """Return what has come; where it was cut, from a whole line on, unless that would cost much of a long one."""
        if len(self._kept) > MAX_OUTPUT:
            self._cut()
        if not self.truncated:
            return as_text(self._kept)
        return self._redaction.beginning_cut(as_text(self._kept[self._start() :]))

    def _start(self) -> int:
        """Return where in what was cut a line begins that is not far, or else a character."""
        first = (place for place in range(4) if _is_start(self._kept[place]))
        return self._kept.find(b"\n", 0, _MAX_LINE) + 1 or next(first, 0)


def _is_start(byte: int) -> bool:
    """Whether a character may begin with *byte*, in UTF-8."""
    return byte & 0xC0 != 0x80


def _start_of_character(text: bytes, place: int) -> int:
    """Return where the character begins that the byte at *place* belongs to; *place* itself where it is of none."""
    return next((start for start in range(place, place - 4, -1) if _is_start(text[start])), place)
