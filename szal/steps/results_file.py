"""What a command writes to the file ``$SZAL_RESULT``: its outputs by name, as lines or as one JSON object."""

import os
import re
import stat
from collections.abc import Iterator
from typing import Final

from szal.errors import CommandResultUnusable
from szal.expressions.path import Json
from szal.steps.printed import json_in

__all__ = ["MAX_RESULT", "outputs_in", "read_outputs"]

MAX_RESULT: Final = 1 << 20
"""How many bytes such a file may have."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_LINE: Final = re.compile(r"(.*?)(=|<<)(.*)", re.DOTALL)
_RULE: Final = "write name=value, name<<END with lines up to one that is END, or one JSON object"
_NAMES: Final = "a name has letters, digits, '_', '-' and '.', and begins with a letter or '_'"


def read_outputs(path: str) -> dict[str, Json]:
    """Return what the file at *path* says; nothing where it is empty, or gone. Raises `CommandResultUnusable`."""
    content = _content(path)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise CommandResultUnusable(f"{_line_at(content, error.start)}: it is no UTF-8") from None
    if "\0" in text:
        where = _line_at(content, content.index(b"\0"))
        raise CommandResultUnusable(f"{where}: it contains a NUL character, which not every store can hold")
    return outputs_in(text)


def outputs_in(text: str) -> dict[str, Json]:
    r"""Return the outputs that *text* says, or raise `CommandResultUnusable` with the line.

    >>> outputs_in("tag=v1.2\nnotes<<END\nFirst\nSecond\nEND\n")
    {'tag': 'v1.2', 'notes': 'First\nSecond'}
    >>> outputs_in('{"files": 3}')
    {'files': 3}
    """
    if text.lstrip()[:1] != "{":
        return dict(_lines(text))
    found: dict[str, Json] = json_in(text, CommandResultUnusable)
    return found


def _content(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # should it have made a pipe of it
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise CommandResultUnusable(error.strerror or str(error)) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise CommandResultUnusable("it is no file any more")
        content = _read(descriptor) if found.st_size else b""
    finally:
        os.close(descriptor)
    if len(content) > MAX_RESULT:
        problem = f"it is more than the {MAX_RESULT} bytes that are kept: write a file of your own, and its name here"
        raise CommandResultUnusable(problem)
    return content


def _read(descriptor: int) -> bytes:
    """Return what the file has, and one byte more than it may at most."""
    content = b""
    while len(content) <= MAX_RESULT and (read := os.read(descriptor, MAX_RESULT + 1 - len(content))):
        content += read
    return content


def _line_at(content: bytes, position: int) -> str:
    return f"line {content[:position].count(10) + 1}"  # of line ends


def _lines(text: str) -> Iterator[tuple[str, str]]:
    lines = enumerate(text.removesuffix("\n").split("\n"), 1)
    for number, line in lines:
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.removesuffix("\r"))
        if match is None:
            raise CommandResultUnusable(f"line {number}: there is no '=' in {_shown(line)}: {_RULE}")
        name, sign, value = match.groups()
        if not _NAME.fullmatch(name):
            raise CommandResultUnusable(f"line {number}: {_shown(name)} is no name: {_NAMES}")
        yield name, value if sign == "=" else _up_to(value, number, lines)


def _up_to(end: str, number: int, lines: "enumerate[str]") -> str:
    if not end.strip():
        raise CommandResultUnusable(f"line {number}: after << comes the line that ends the value, as in notes<<END")
    found: list[str] = []
    for _, line in lines:
        if line.removesuffix("\r") == end:
            return "\n".join(found)
        found.append(line)
    raise CommandResultUnusable(f"line {number}: no line after it is {_shown(end)}, which ends the value")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
