"""Text from outside, as every store can hold it and people read it: what a command printed, what an exception says."""

import re
from typing import AnyStr, Final

__all__ = ["as_text", "repr_of", "standing_in", "storable"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """Return *text* with U+FFFD in place of each NUL, which PostgreSQL cannot hold, and each lone surrogate.

    Bytes that are no UTF-8 become the same. A value of a program's own is never changed so: it is refused.

    >>> ascii(storable("a\\0b\\udc80"))
    "'a\\\\ufffdb\\\\ufffd'"
    """
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def repr_of(value: object) -> str:
    """Return the repr of any value, or what it is where it has none. Raises nothing.

    >>> repr_of(...), repr_of([10**5000])
    ('Ellipsis', '<unprintable list>')
    """
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 (a foreign __repr__ may itself be broken)
        return f"<unprintable {type(value).__name__}>"


def as_text(printed: bytes | bytearray) -> str:
    """Return what a command printed as text that every store can hold."""
    return storable(printed.decode(errors="replace"))


def standing_in(line: AnyStr) -> AnyStr:
    r"""Return what is to be seen in the end of a line that was written over after each ``\r``.

    >>> standing_in("10%\r20%\r"), standing_in("one\r")
    ('20%', 'one')
    """
    cr = "\r" if isinstance(line, str) else b"\r"  # type: ignore[redundant-expr]  # for each type it is
    return line.rstrip(cr).rpartition(cr)[2]
