"""Text for a terminal: what came from anywhere made harmless, and times made short."""

import json
import re
import shlex
from collections.abc import Mapping
from datetime import datetime

from szal.events.progress import Printed
from szal.expressions.path import Json
from szal.storable import standing_in

__all__ = ["brief", "clean", "clean_lines", "elapsed", "moment", "one_line", "pairs", "shell_word"]

# Escape sequences: CSI (colours, cursor), strings (titles, links) up to their end or that of the line, character sets,
# and the short ones.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# Other control characters, those that reorder or hide text, and halves of surrogate pairs.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_REPLACED = "\N{REPLACEMENT CHARACTER}"
_LONGEST_LINE = 4000  # characters that are looked at: more fit on no screen


def clean(text: str) -> str:
    r"""Return *text* without escape sequences; other characters that a terminal would act on are replaced.

    Line ends stay, tabs become spaces.

    >>> clean("\x1b[31mred\x1b[0m\x1b]0;title\x07 \x07bell\r\nnext")
    'red �bell\nnext'
    """
    text = _ESCAPE.sub("", text.replace("\r\n", "\n")).expandtabs(4)
    return _CONTROL.sub(_REPLACED, text)


def one_line(text: str) -> str:
    r"""Return *text* as one clean line.

    >>> one_line("first\n  second\n")
    'first second'
    """
    return " ".join(line.strip() for line in clean(text[:_LONGEST_LINE].strip()).split("\n"))


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
        return one_line(standing_in(value[:_LONGEST_LINE].replace("\r\n", "\n").rstrip()))
    try:
        return one_line(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return one_line(repr(value))
    except Exception:  # noqa: BLE001 (a foreign __repr__ may itself be broken)
        return f"<unprintable {type(value).__name__}>"


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


def elapsed(seconds: float) -> str:
    """Return a duration in at most six characters.

    >>> [elapsed(seconds) for seconds in (0.0123, 0.96, 9.96, 12.3, 75, 3600, 360000)]
    ['12ms', '960ms', '10.0s', '12.3s', '1m15s', '1h00m', '4d04h']
    """
    if seconds < 0.9995:
        return f"{max(seconds, 0.0) * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02}m"
    return f"{hours // 24}d{hours % 24:02}h"


def moment(time: datetime, to: str = "seconds") -> str:
    """Return an aware time as local time, to the second (or as `datetime.isoformat` names it)."""
    return time.astimezone().replace(tzinfo=None).isoformat(" ", to)
