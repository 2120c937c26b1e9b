"""Text from outside, as every store can hold it: what a command printed, what an exception says."""

import re
from typing import Final

__all__ = ["storable"]

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
