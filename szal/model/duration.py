"""Durations as people write them: seconds, a `timedelta`, or a text like "1m30s". They are kept as seconds."""

import math
import re
from datetime import timedelta
from typing import Any, Final

from szal.number import shown

__all__ = ["DURATION", "in_seconds", "parse_duration"]

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+", re.ASCII)
"""Roughly what a duration is as text; no unit comes twice."""


def parse_duration(text: str) -> float:
    """Return the seconds that a text like "90s" stands for; raise ValueError if it is none.

    >>> [parse_duration(text) for text in ("250ms", "1h30m", "2d", "1.5s")]
    [0.25, 5400.0, 172800.0, 1.5]
    """
    parts = _PART.findall(text) if DURATION.fullmatch(text) else []
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)  # infinite, where it is too large
    if not parts or len({unit for _, unit in parts}) < len(parts) or math.isinf(seconds):
        raise ValueError(f'{shown(text)} is no duration, as "90s", "10m", "1h30m" and "250ms" are')
    return seconds


def in_seconds(duration: Any) -> Any:
    """Return a duration in seconds; what is none stays as it is: `validate` says so.

    >>> in_seconds(2.5), in_seconds(timedelta(minutes=1)), in_seconds("1m30s"), in_seconds("soon")
    (2.5, 60.0, 90.0, 'soon')
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if not isinstance(duration, str):
        return duration
    try:
        return parse_duration(duration)
    except ValueError:
        return duration
