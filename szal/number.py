"""What counts as a number where somebody else gives one: finite, and no text, boolean or Decimal."""

import math

__all__ = ["check", "problem_of"]


def problem_of(value: object, *, whole: bool = False) -> str | None:
    """Return what keeps *value* from being a number that can be counted with, as the end of a sentence; None: nothing.

    >>> problem_of(2.5), problem_of("2.5"), problem_of(2.5, whole=True)
    (None, "is not a number ('2.5')", 'is not a whole number (2.5)')
    >>> problem_of(10**400) == problem_of(float("nan")) == "is too large, or no number at all"
    True
    """
    if not _is_number(value):
        return f"is not a number ({value!r})"
    try:
        finite = math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond every float
        finite = False
    if not finite:
        return "is too large, or no number at all"
    return f"is not a whole number ({value!r})" if whole and not isinstance(value, int) else None


def check(name: str, value: object, *, whole: bool = False) -> None:
    """Raise TypeError where *value*, which the caller knows as *name*, is no number, ValueError for a useless one.

    >>> check("lease_ttl", float("inf"))
    Traceback (most recent call last):
    ValueError: lease_ttl is too large, or no number at all
    """
    problem = problem_of(value, whole=whole)
    if problem is not None:
        raise (ValueError if _is_number(value) else TypeError)(f"{name} {problem}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
