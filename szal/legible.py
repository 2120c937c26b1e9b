"""Text that came from anywhere, and times, as people can read them."""

import re
from typing import Final

__all__ = ["LONGEST_LINE", "clean", "elapsed", "one_line"]

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
LONGEST_LINE: Final = 4000
"""Of a line so many characters are looked at: more fit on no screen."""


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
    return " ".join(line.strip() for line in clean(text[:LONGEST_LINE].strip()).split("\n"))


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
