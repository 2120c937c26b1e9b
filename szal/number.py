"""What counts as a number where somebody else gives one: finite, and no text, boolean or Decimal; or types one."""

import math
import re
from typing import Final

__all__ = ["JSON_NUMBER", "as_typed", "check", "check_wait", "problem_of", "shown"]

JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
"""A number, as JSON writes it."""


def problem_of(value: object, *, whole: bool = False) -> str | None:
    """Return what keeps *value* from being a number that can be counted with, as the end of a sentence; None: nothing.

    >>> problem_of(2.5), problem_of("2.5"), problem_of(2.5, whole=True)
    (None, "is not a number ('2.5')", 'is not a whole number (2.5)')
    >>> problem_of(10**400) == problem_of(float("nan")) == "is too large, or no number at all"
    True
    """
    if not _is_number(value):
        return f"is not a number ({shown(value)})"
    try:
        finite = math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond every float
        finite = False
    if not finite:
        return "is too large, or no number at all"
    return f"is not a whole number ({shown(value)})" if whole and not isinstance(value, int) else None


def check(name: str, value: object, *, whole: bool = False) -> None:
    """Raise TypeError where *value*, which the caller knows as *name*, is no number, ValueError for a useless one.

    >>> check("lease_ttl", float("inf"))
    Traceback (most recent call last):
    ValueError: lease_ttl is too large, or no number at all
    """
    problem = problem_of(value, whole=whole)
    if problem is not None:
        raise (ValueError if _is_number(value) else TypeError)(f"{name} {problem}")


def check_wait(name: str, value: object) -> None:
    """As `check`, for how long to wait: not a negative time, but for ever is one.

    >>> check_wait("drain", float("inf"))
    >>> check_wait("drain", -1)
    Traceback (most recent call last):
    ValueError: drain must not be negative, and is -1
    """
    if isinstance(value, float) and value == math.inf:
        return
    check(name, value)
    if value < 0:  # type: ignore[operator]
        raise ValueError(f"{name} must not be negative, and is {shown(value)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: object) -> str:
    """Return *value* for an error message: its repr, cut, or its type where it has none.

    >>> shown("1s"), shown(10**5000), len(shown("x" * 1000))
    ("'1s'", '<int>', 80)
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (foreign code, or an integer of too many digits)
        return f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def as_typed(number: float, text: str) -> float | str:
    """Return *number*, which *text* was read as, where it prints as that again; else the text, as it was typed.

    So a version, a code or a hash that looks like a number does not become another one on the way.

    >>> [as_typed(float(text), text) for text in ("1.5", "1.10", "1234567e3")]
    [1.5, '1.10', '1234567e3']
    """
    return number if repr(number) == text else text
