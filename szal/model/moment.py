"""Times, as they are kept and as they are shown.

The engine keeps Unix seconds, since making a datetime costs as much as calling a handler. JSON has whole milliseconds
for durations, as szal-rs does.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from szal.model.duration import in_seconds

__all__ = ["NO_LIMIT_MS", "as_datetime", "as_ms", "in_ms", "in_utc", "kept_limit"]

NO_LIMIT_MS: Final = 2**64 - 1  # Rust's u64::MAX: how a StepDef without a time limit is written
_LONGEST_LIMIT_MS: Final = (
    2**64 - 2**13
)  # of those that are seconds, as a float, and not NO_LIMIT_MS when written again

_None = TypeVar("_None", None, datetime)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def as_datetime(moment: datetime | float | _None) -> datetime | _None:
    """Return *moment* as an aware datetime.

    >>> as_datetime(0.0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    if not isinstance(moment, float):
        return moment
    return _EPOCH + timedelta(microseconds=int(moment * 1_000_000 + 0.5))  # as it is written


def in_utc(moment: Any) -> Any:
    """Return an aware datetime in UTC, as a record comes back, and anything else as it is.

    One that UTC has no year for stays too: it cannot be written.
    """
    if not isinstance(moment, datetime) or moment.tzinfo is UTC:
        return moment
    try:
        return moment if moment.utcoffset() is None else moment.astimezone(UTC)
    except OverflowError:
        return moment


def as_ms(seconds: Any) -> int | None:
    """Return a duration in whole milliseconds; None where it is none: no number, NaN or infinite.

    One that a clock made negative is 0, and one that is beyond all milliseconds of szal-rs the longest of them.

    >>> as_ms(0.0005), as_ms(0.0004), as_ms(-1), as_ms(float("nan"))
    (1, 0, 0, None)
    """
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return None
    try:
        ms = int(seconds * 1000 + 0.5) if seconds < 1e12 else _exact_ms(seconds)
    except (ValueError, OverflowError):
        return None
    return max(0, min(ms, NO_LIMIT_MS))


def _exact_ms(seconds: float) -> int:
    from fractions import Fraction  # takes long to import, for the times of thirty thousand years

    return round(Fraction(seconds) * 1000)


def in_ms(seconds: Any) -> Any:
    """Return what two durations that are recorded alike have in common; what is none stays as it is."""
    ms = as_ms(seconds)
    return seconds if ms is None else ms


def kept_limit(seconds: Any) -> Any:
    """Return a limit in seconds, as it comes back from a record: whole milliseconds, a positive one at least 1.

    One that is longer than a record can tell is none.
    What is no duration stays as it is: `validate` says so.

    >>> kept_limit(0.0004), kept_limit(1.23456), kept_limit("1m30s"), kept_limit("soon")
    (0.001, 1.235, 90.0, 'soon')
    """
    seconds = in_seconds(seconds)
    ms = as_ms(seconds)
    if ms is None or seconds < 0:
        return seconds
    return None if ms > _LONGEST_LIMIT_MS else (ms or int(seconds > 0)) / 1000
