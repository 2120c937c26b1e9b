"""Times: the engine keeps Unix seconds, since making a datetime costs as much as calling a handler."""

from datetime import UTC, datetime
from typing import TypeVar

__all__ = ["as_datetime"]

_None = TypeVar("_None", None, datetime)


def as_datetime(moment: datetime | float | _None) -> datetime | _None:
    """Return *moment* as an aware datetime.

    >>> as_datetime(0.0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(moment, UTC) if isinstance(moment, float) else moment
