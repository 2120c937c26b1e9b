"""Comparisons in a condition that come to the same whatever happens, so that something else was meant."""

from collections.abc import Iterator
from typing import Final

from szal.errors import did_you_mean
from szal.expressions.comparison import ORDERINGS, Kind, kind_of
from szal.expressions.parser import Comparison, Operand, Parsed
from szal.model.shapes import Steps, kind_at, remedy
from szal.model.state import StepStatus

__all__ = ["problems_of_comparisons"]


def problems_of_comparisons(parsed: Parsed, steps: Steps) -> Iterator[str]:
    """Yield what is wrong with the comparisons of a condition, and what to write.

    >>> from szal.expressions.parser import parse
    >>> next(problems_of_comparisons(parse("steps.test.status == 'success'"), Steps()))
    "no status is 'success': write steps.test.status == 'completed'"
    """
    for comparison in parsed.comparisons:
        problem = _problem(comparison, steps)
        if problem is not None:
            yield problem
    for operand in parsed.truths:
        if operand.is_literal and isinstance(operand.literal, str):
            yield f"{operand.text} is text, and holds whatever happens: compare it with something"
        elif _is_status(operand):
            yield f"{operand.text} is text, and holds whatever happens: write {operand.text} == 'completed'"


def _problem(comparison: Comparison, steps: Steps) -> str | None:
    left, right = comparison.left, comparison.right
    if comparison.operator == "contains":
        left, right = right, left
    if comparison.operator in ("in", "contains"):
        return _problem_of_part(comparison, left, right, steps)
    kinds = _kind(left, steps), _kind(right, steps)
    if comparison.operator in ORDERINGS:
        for operand, kind in zip((left, right), kinds, strict=True):
            if kind is not None and kind not in (Kind.NUMBER, Kind.STRING, Kind.NULL):
                return f"{comparison.text}: {operand.text} is {kind.value}, which has no order{_not_binds(operand)}"
    if _differ(*kinds):
        return _mismatch(comparison, kinds, steps)
    if comparison.operator in ("==", "!="):
        for path, literal in ((left, right), (right, left)):
            if _is_status(path) and (problem := _problem_of_status(path.text, comparison.operator, literal.literal)):
                return problem
    return None


def _problem_of_part(comparison: Comparison, part: Operand, whole: Operand, steps: Steps) -> str | None:
    """Return what is wrong where a part is looked for in a whole."""
    kind, of_part = _kind(whole, steps), _kind(part, steps)
    if kind in (Kind.BOOLEAN, Kind.NUMBER, Kind.NULL):
        return f"{comparison.text}: nothing is in {kind.value}{remedy(whole.path, steps) if whole.path else ''}"
    if kind in (Kind.STRING, Kind.OBJECT) and _differ(of_part, Kind.STRING):
        hint = remedy(whole.path, steps) if whole.path else ""
        return f"{comparison.text}: in {kind.value} there is only text, and {_always(part, of_part)}{hint}"
    if whole.is_literal and isinstance(whole.literal, list):
        if whole.literal and all(_differ(of_part, kind_of(each)) for each in whole.literal):
            hint = remedy(part.path, steps) if part.path else ""
            return f"{comparison.text}: {_always(part, of_part)}, and nothing in the list is{hint}"
        if _is_status(part):
            found = (_problem_of_status(part.text, "==", each) for each in whole.literal)
            return next(filter(None, found), None)
    return None


def _mismatch(comparison: Comparison, kinds: tuple[Kind | None, Kind | None], steps: Steps) -> str:
    left, right = comparison.left, comparison.right
    both = f"{_always(left, kinds[0])}, and {_always(right, kinds[1])}"
    what = "they have no order" if comparison.operator in ORDERINGS else "they are never equal"
    paths = [operand.path for operand in (left, right) if operand.path is not None]
    hint = next(filter(None, (remedy(path, steps) for path in paths)), "")
    return f"{comparison.text}: {both}; {what}{hint}{_not_binds(left)}"


def _kind(operand: Operand, steps: Steps) -> Kind | None:
    return operand.kind if operand.path is None else kind_at(operand.path, steps)


def _differ(left: Kind | None, right: Kind | None) -> bool:
    return left is not right and None not in (left, right) and Kind.NULL not in (left, right)


def _always(operand: Operand, kind: Kind | None) -> str:
    return f"{operand.text} is {'' if operand.is_literal else 'always '}{kind.value if kind else ''}"


def _not_binds(operand: Operand) -> str:
    return " (! binds to the value next to it: write !(...))" if operand.text.startswith("!") else ""


# -- statuses ----------------------------------------------------------------------------------------

_STATUSES: Final = tuple(map(str, StepStatus))
_MEANT: Final = {
    **dict.fromkeys(
        ("success", "succeeded", "successful", "ok", "done", "passed", "complete", "finished"), "completed"
    ),
    **dict.fromkeys(("failure", "fail", "error", "errored", "timeout", "timed_out", "cancelled"), "failed"),
    **dict.fromkeys(("skip", "ignored", "upstream_failed"), "skipped"),
}


def _is_status(operand: Operand) -> bool:
    return operand.path is not None and operand.path.segments[2:] == ("status",) and operand.path.step is not None


def _problem_of_status(path: str, operator: str, literal: object) -> str | None:
    if not isinstance(literal, str) or literal in _STATUSES:
        return None
    lower = literal.lower()
    meant = lower if lower in _STATUSES else _MEANT.get(lower)
    if meant is not None:
        return f"no status is {literal!r}: write {path} {operator} '{meant}'"
    return f"no status is {literal!r}: they are {', '.join(_STATUSES)}{did_you_mean(literal, _STATUSES)}"
