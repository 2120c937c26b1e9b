"""Keys that are made of names: what they name is never mixed up, whatever the names contain."""

import re
from typing import Final

__all__ = ["MEMO", "ROLLBACK", "is_memo", "item_in", "item_key", "key_of", "memo_key"]

ROLLBACK = "rollback"
"""The last part of the key of an undo."""


def key_of(*parts: str) -> str:
    """Return *parts*, none of which is empty, joined by ":". Two lists of parts never have the same key.

    A part that holds a ":" itself is escaped as in a URL, and begins with a ":", which says so. One that holds none
    stays as it is.

    >>> key_of("order-42", "pay")
    'order-42:pay'
    >>> key_of("tenant:7", "pay")
    ':tenant%3A7:pay'
    """
    return ":".join(parts if not any(":" in part for part in parts) else map(_escaped, parts))


def _escaped(part: str) -> str:
    return ":" + part.replace("%", "%25").replace(":", "%3A") if ":" in part else part


_ITEM: Final = re.compile(r"(.+)\[(0|[1-9][0-9]{0,9})\]", re.DOTALL)


def item_key(step_name: str, index: int) -> str:
    """Return what one item of a step is called, where steps are called by their names: no other step may be.

    >>> item_key("thumbnail", 3)
    'thumbnail[3]'
    """
    return f"{step_name}[{index}]"


def item_in(key: str) -> tuple[str, int] | None:
    """Return the name of the step and the index of the item that *key* may be of; None: it is a step's own name.

    >>> item_in("thumbnail[3]"), item_in("thumbnail")
    (('thumbnail', 3), None)
    """
    found = _ITEM.fullmatch(key) if key.endswith("]") else None
    return None if found is None else (found[1], int(found[2]))


MEMO: Final = "\x1fonce\x1f"
"""What the row of a memo begins with, where steps are called by their names: no name of a step may."""


def memo_key(step: str, key: str) -> str:
    """Return what the memo *key* of a step, or of an item of one, is called where steps are called by their names.

    >>> memo_key("crawl", "page 3")
    '\\x1fonce\\x1fcrawl:page 3'
    """
    return MEMO + key_of(step, key)


def is_memo(key: str) -> bool:
    """Whether that is what `memo_key` returns."""
    return key.startswith(MEMO)
