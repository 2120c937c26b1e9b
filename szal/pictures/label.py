"""Text in a picture, cut to the room that there is."""

import unicodedata
from functools import lru_cache
from typing import Final

from szal.legible import LONGEST_LINE, one_line
from szal.number import shown

__all__ = ["cut", "line", "width"]

# In parts of the font's size, as wide as in the widest of the usual fonts (DejaVu Sans): so nothing overflows.
_WIDTHS: Final = {
    char: width
    for width, chars in (
        (0.30, "'ijlI"),
        (0.34, " ,./:;\\|"),
        (0.42, "!()-[]ft"),
        (0.46, '"`r'),
        (0.56, "*?JL_csz"),
        (0.60, "Fkvxy"),
        (0.70, "ABCKRVXZ"),
        (0.79, "&DGHNOQU"),
        (0.87, "#+<=>M^w~"),
        (1.00, "%@Wm"),
    )
    for char in chars
}
_OTHER: Final = 0.64  # digits, and most small letters
_BOLD: Final = 1.15


def line(text: object) -> str:
    """Return anything as one clean line."""
    words = one_line(text if isinstance(text, str) else shown(text))
    return " ".join(words.split()) or " "


@lru_cache(maxsize=2048)
def _width_of(char: str) -> float:
    if char.isascii():
        return _WIDTHS.get(char, _OTHER)
    if unicodedata.combining(char) or char in "\u200d\ufe0e\ufe0f":
        return 0.0
    # what the font does not have comes from another one, which may be wider
    return 1.4 if unicodedata.east_asian_width(char) in "WF" or ord(char) >= 0x1F000 else 1.1


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return how wide *text* is at most, in pixels, in a font of *size*.

    >>> width("build", 13) < width("build", 13, bold=True) < width("MMMMM", 13)
    True
    """
    return sum(map(_width_of, text)) * size * (_BOLD if bold else 1.0)


def cut(text: str, room: float, size: float, *, bold: bool = False, keep_end: bool = False) -> str:
    """Return *text*, or so much of it that it is no wider than *room*; with *keep_end*, its end too.

    What tells names apart is at their beginning or at their end.

    >>> cut("load-customers-of-central-europe-into-the-warehouse", 180, 13, keep_end=True)
    'load-custom…-warehouse'
    >>> cut("RuntimeError: the warehouse is closed", 180, 13)
    'RuntimeError: the ware…'
    """
    text = text[:LONGEST_LINE]
    if width(text, size, bold=bold) <= room:
        return text
    left = room - width("…", size, bold=bold)
    head = _begin(text, left * 0.55 if keep_end else left, size, bold=bold)
    tail = ""
    if keep_end:
        rest = text[len(head) :][::-1]
        tail = _begin(rest, left - width(head, size, bold=bold), size, bold=bold)[::-1]
    while tail and not _width_of(tail[0]):  # it belongs to a letter that is not there
        tail = tail[1:]
    return f"{head}…{tail}"


def _begin(text: str, room: float, size: float, *, bold: bool) -> str:
    """Return as much of the beginning of *text* as there is room for."""
    scale, taken = size * (_BOLD if bold else 1.0), 0.0
    for place, char in enumerate(text):
        taken += _width_of(char) * scale
        if taken > room:
            return text[:place]
    return text
