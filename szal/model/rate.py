"""Rates: how many attempts begin in a time."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from szal.number import shown

__all__ = ["interval_of", "problem_of_rates", "problems_between"]

_RATE: Final = re.compile(r"([1-9][0-9]{0,8})\s*/\s*(s|m|h)", re.ASCII)
_SECONDS: Final[Mapping[str, float]] = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MEANT: Final = "is no rate: write 10/s, 10/m or 10/h"


def interval_of(rate: str) -> float:
    """Return the seconds between two points in time of a rate, which are spread evenly. Raises ValueError.

    >>> interval_of("10/s"), interval_of("90/h")
    (0.1, 40.0)
    >>> interval_of("10/day")
    Traceback (most recent call last):
    ValueError: '10/day' is no rate: write 10/s, 10/m or 10/h
    """
    found = _RATE.fullmatch(rate)
    if found is None:
        raise ValueError(f"{rate!r} {_MEANT}")
    return _SECONDS[found[2]] / int(found[1])


def problem_of_rates(value: object, problem_of_name: Any) -> str | None:
    """Return what keeps *value* from saying how often what is shared is used; None: nothing."""
    if not isinstance(value, Mapping):
        return f"is no mapping of names to rates ({shown(value)})"
    for name, rate in value.items():
        if (problem := problem_of_name(name)) is not None:
            return f"has a name that {problem}"
        if not isinstance(rate, str) or _RATE.fullmatch(rate) is None:
            return f"of {name!r} {_MEANT} ({shown(rate)})"
    return None


def problems_between(steps: Iterable[Any]) -> Iterator[str]:
    """Yield where two steps of one flow name different rates for one name: nobody could say which of them holds."""
    first: dict[str, tuple[float, str, str]] = {}
    for step in steps:
        given = getattr(step, "rate", None)  # anything may stand among steps
        if not given or problem_of_rates(given, lambda _: None) is not None:
            continue
        for name, rate in given.items():
            interval, before, other = first.setdefault(name, (interval_of(rate), rate, step.name))
            if interval != interval_of(rate):
                yield f"step {step.name!r}: its rate of {name!r} is {rate}, and that of step {other!r} is {before}"
