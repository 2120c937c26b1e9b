"""Where the command line writes to: streams that never fail it, and consoles that take no markup from anybody."""

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import IO, TextIO

import attrs
import click
from rich.console import Console

__all__ = [
    "Stream",
    "console_for",
    "diverted_stdout",
    "documents",
    "flush_standard_files",
    "open_standard_files",
    "printed",
    "stderr",
    "stdout",
    "write",
]

_PADDING = re.compile(r" +\n")
_WIDE = 160  # of a table in a file or a pipe: nobody scrolls there


@attrs.define(eq=False)
class Stream:
    """A text stream that never fails: what cannot be written is dropped, and that is told once, on stderr.

    Nothing is told of a reader that goes away (``| head``, a terminal that is closed), unless what writes *goes on*
    without it. A character that its encoding does not have is written as an escape; the spaces that a table has at the
    ends of its lines go to terminals only. None stands for a stream that was closed before the program began.
    """

    _stream: TextIO | None
    goes_on: bool = False
    is_lost: bool = attrs.field(default=False, init=False)
    """Whether something could not be written, though nobody had gone away."""
    _has_failed: bool = attrs.field(default=False, init=False)

    def write(self, text: str) -> int:
        """Write *text*, and return its length in any case."""
        if self._stream is None:
            if not self._has_failed:
                self._lose("it is closed")
            return len(text)
        with self._may_fail(self._stream):
            if not self._stream.isatty():
                text = _PADDING.sub("\n", text)
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        """Hand what was written to the system."""
        if self._stream is not None:
            with self._may_fail(self._stream):
                self._stream.flush()

    @contextlib.contextmanager
    def _may_fail(self, stream: TextIO) -> Iterator[None]:
        try:
            yield
        except ValueError:  # code of a step has closed it
            self._lose("it is closed")
            self._stream, self._has_failed = None, True
        except OSError as error:
            has_left = isinstance(error, BrokenPipeError | ConnectionResetError) or _is_hung_up(stream, error)
            with contextlib.suppress(OSError, ValueError):  # what it has buffered would fail again at exit
                _point(stream.fileno(), os.devnull)
            if not has_left:
                self._lose(error.strerror or str(error))
            elif self.goes_on:
                self._tell(error.strerror or str(error))
            self._stream, self._has_failed = None, True

    def _lose(self, why: str) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._tell(why)

    def _tell(self, why: str) -> None:
        if self._stream is not sys.stderr:
            follows = "; the run goes on without it" if self.goes_on else ""
            write(stderr(), f"szal: stdout cannot be written: {why}{follows}")

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be written any more: whoever goes on writing may as well end."""
        return self._stream is None

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor; raises OSError where there is none, as a stream does."""
        if self._stream is None:
            raise OSError("this stream is closed")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        """The name of its encoding."""
        return (None if self._stream is None else self._stream.encoding) or "utf-8"


def _is_hung_up(stream: TextIO | None, error: OSError) -> bool:
    """Whether *error* says that the terminal which *stream* writes to is gone."""
    return error.errno == errno.EIO and stream is not None and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)


def _point(descriptor: int, path: str) -> None:
    opened = os.open(path, os.O_WRONLY)
    try:
        os.dup2(opened, descriptor)
    finally:
        os.close(opened)


def stdout() -> Stream:
    """Return standard output."""
    return Stream(sys.stdout)


def stderr() -> Stream:
    """Return standard error."""
    return Stream(sys.stderr)


def console_for(stream: Stream) -> Console:
    """Return a rich console on *stream* that prints text as it is: no markup, no emoji, no guessed highlights."""
    file: IO[str] = stream  # type: ignore[assignment]
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def write(stream: Stream, text: str) -> None:
    """Write a line, and hand it to the system."""
    stream.write(text + "\n")
    stream.flush()


def printed(stream: Stream) -> None:
    """End a command that does nothing but print: with status 1 where what it was to print could not be written."""
    if stream.is_lost:
        click.get_current_context().exit(1)


@contextlib.contextmanager
def documents(*, divert: bool) -> Iterator[Stream]:
    """Yield stdout, for a run; with *divert*, what anybody else writes to it goes to stderr meanwhile."""
    if divert:
        with diverted_stdout(goes_on=True) as document:
            yield document
    else:
        yield Stream(sys.stdout, goes_on=True)


@contextlib.contextmanager
def diverted_stdout(*, goes_on: bool = False) -> Iterator[Stream]:
    """Send to stderr what anybody else writes to stdout, child processes too; yield the true stdout.

    What steps and imported modules print must not get into a document that another program reads.
    """
    true = _duplicate()
    if true is None:  # no descriptor: a test's stream, or closed
        target = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield Stream(target, goes_on)
        return
    with true:
        stdout().flush()
        saved = os.dup(1)
        try:
            os.dup2(2, 1)
            with contextlib.redirect_stdout(sys.stderr):
                yield Stream(true, goes_on)
        finally:
            os.dup2(saved, 1)
            os.close(saved)


def _duplicate() -> TextIO | None:
    """Return a stream on what descriptor 1 is now, if that is what sys.stdout writes to, and there is a stderr."""
    try:
        if sys.stdout is None or sys.stdout.fileno() != 1:
            return None
        os.fstat(2)
        return open(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # noqa: PTH123
    except (OSError, ValueError):
        return None


def open_standard_files() -> None:
    """Have nothing else become descriptor 0, 1 or 2 where one of them was closed before the program began.

    Whatever writes to that would write into it: a connection, a database.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: that one
    if sys.stderr is None:  # which what steps print to stdout goes to, with --json
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def flush_standard_files() -> None:
    """Write what is still to be written: at exit it would fail, and be the exit status, where it cannot be."""
    for file in (sys.stdout, sys.stderr):
        if file is not None and not file.closed:
            Stream(file).flush()
