"""Keys that are made of names: what they name is never mixed up, whatever the names contain."""

__all__ = ["ROLLBACK", "key_of"]

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
