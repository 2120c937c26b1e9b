"""Text for a terminal: what came from anywhere made harmless, and times made short."""

import json
import shlex
from collections.abc import Mapping
from datetime import datetime

from szal.events.progress import Printed
from szal.expressions.path import Json
from szal.legible import LONGEST_LINE, clean, elapsed, one_line
from szal.storable import repr_of, standing_in

__all__ = ["brief", "clean", "clean_lines", "elapsed", "moment", "one_line", "pairs", "shell_word"]


def clean_lines(text: str) -> list[str]:
    r"""Return the lines of *text*, each clean; what stands in one is what it was written over with last.

    >>> clean_lines("  one\n\x1b[31m10%\r20%\x1b[0m\r\n")
    ['  one', '20%', '']
    """
    if text.replace("\n", "").isprintable():  # most is, and a command that prints much waits for this
        return text.split("\n")
    if "\r" in text:
        text = "\n".join(map(standing_in, text.split("\n")))
    return clean(text).split("\n")


def brief(value: Json) -> str:
    r"""Return any value (an output, what a step reports) as one clean line. Never raises.

    Of a line that was overwritten, as progress bars do, it is what stood there in the end; of several lines that a
    command printed the last.

    >>> brief("10%\r20%\r")
    '20%'
    >>> brief({"done": 3, "of": 10}), brief({"stream": "stdout", "line": "ok"}), brief(None), brief({1, 1})
    ('{"done": 3, "of": 10}', 'ok', '', '{1}')
    """
    if isinstance(value, Printed):
        value = value.text().rstrip().rpartition("\n")[2]
    elif isinstance(value, dict) and isinstance(value.get("line"), str):
        value = value["line"]
    if value is None:
        return ""
    if isinstance(value, str):
        return one_line(standing_in(value[:LONGEST_LINE].replace("\r\n", "\n").rstrip()))
    try:
        return one_line(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        return one_line(repr_of(value))


def pairs(values: Mapping[str, Json]) -> str:
    """Return inputs or labels as one clean line.

    >>> pairs({"n": 3, "who": "me"})
    'n=3  who=me'
    """
    return "  ".join(f"{one_line(key)}={brief(value)}" for key, value in values.items())


def shell_word(text: str) -> str:
    r"""Return *text* as one word of a shell that reads as just that: bash, zsh, ksh and newer ones where it is odd.

    >>> print(shell_word("order-42"), shell_word("it's"), shell_word("a\nb\x1b"))
    order-42 'it'"'"'s' $'a\nb\x1b'
    """
    if clean(text) == text and "\n" not in text:
        return shlex.quote(text)
    return "$'" + "".join(_escaped(char) for char in text) + "'"


def _escaped(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char == "\n":
        return "\\n"
    if clean(char) == char and char != "\t":
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def moment(time: datetime, to: str = "seconds") -> str:
    """Return an aware time as local time, to the second (or as `datetime.isoformat` names it)."""
    return time.astimezone().replace(tzinfo=None).isoformat(" ", to)
