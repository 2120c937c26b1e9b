"""The conditions and templates of a flow: compiled, with what is wrong with each, and where nothing reads one."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from szal.errors import ConditionError
from szal.expressions.comparison import Kind
from szal.expressions.condition import CompiledCondition
from szal.expressions.parser import Parsed, parse
from szal.expressions.path import Json, Path
from szal.expressions.template import CompiledTemplate
from szal.model.comparisons import problems_of_comparisons
from szal.model.config import misplaced_in
from szal.model.references import Scope, problem_of_reference
from szal.model.shapes import kind_at, remedy
from szal.model.step import StepDef
from szal.number import shown

__all__ = [
    "ROLLBACK",
    "condition_of",
    "foreach_of",
    "has_braces",
    "misplaced_in_step",
    "template_of",
    "template_of_undo",
    "undo_of",
    "unread_in_flow",
    "unread_in_step",
    "until_of",
]

Report = Callable[[str], None]
"""Is told a problem."""

ROLLBACK: Final = "rollback"
"""What undoes a step, in its config: it is filled in when it does, and not before."""


def condition_of(step: StepDef, scope: Scope, report: Report) -> CompiledCondition | None:
    """Return the condition of *step*; None where it has none, or one that does not parse."""
    parsed = _parsed(step.condition, "condition", report)
    if parsed is None:
        return None
    for path in parsed.references:
        if step.foreach is not None and path.segments[0] in ("item", "index"):
            report(f"condition: {path} is of an item, and the condition of the step as a whole")
        elif (problem := problem_of_reference(path, scope)) is not None:
            report(f"condition: {problem}")
    return _compiled(step.condition or "", parsed, "condition", scope, report)


def until_of(step: StepDef, scope: Scope, report: Report) -> CompiledCondition | None:
    """Return the condition until which *step* is called; None where it has none, or one that does not parse."""
    parsed = _parsed(step.until, "until", report)
    if parsed is None:
        return None
    for path in parsed.references:
        if (problem := problem_of_reference(path, scope)) is not None:
            report(f"until: {problem}")
    if all(path.segments[0] != "output" for path in parsed.references):
        report("until names nothing of the output: it would hold at once, or never")
    return _compiled(step.until or "", parsed, "until", scope, report)


def _parsed(text: object, label: str, report: Report) -> Parsed | None:
    if text is None:
        return None
    if not isinstance(text, str):
        report(f"{label} is not a string ({shown(text)})")
        return None
    try:
        return parse(text, strict=True)
    except ConditionError as error:
        report(f"{label}: {error}")
        return None


def _compiled(text: str, parsed: Parsed, label: str, scope: Scope, report: Report) -> CompiledCondition:
    for problem in problems_of_comparisons(parsed, scope.steps):
        report(f"{label}: {problem}")
    return CompiledCondition.of(text, parsed, strict=True)


def foreach_of(step: StepDef, scope: Scope, report: Report) -> Path | None:
    """Return the path to the list that *step* runs over; None where it has none, or one that leads to no list."""
    given: object = step.foreach
    if given is None or isinstance(given, list):
        _check_list(given or [], report)
        return None
    if not isinstance(given, str):
        report(f"foreach is neither a path nor a list ({shown(given)})")
        return None
    try:
        path = Path.parse(given)
    except ConditionError as error:
        inner = given.strip().removeprefix("{{").removesuffix("}}").strip()
        report(f"foreach is a path: write {inner!r}" if has_braces(given) else f"foreach: {error}")
        return None
    problem, kind = problem_of_reference(path, scope), kind_at(path, scope.steps)
    if problem is None and path.segments == ("inputs",):
        problem = "inputs is no list: name one of them, as in inputs.files"
    if problem is None and kind is not None and kind is not Kind.LIST:
        problem = f"{path} is {kind.value}, and no list{remedy(path, scope.steps)}"
    if problem is not None:
        report(f"foreach: {problem}")
        return None
    return path


def _check_list(elements: list[Json], report: Report) -> None:
    try:
        is_constant = CompiledTemplate.compile(elements).is_constant
    except ConditionError as error:
        report(f"foreach: {error}")
        return
    if not is_constant:
        report(f"its foreach {_UNREAD}")


def template_of(step: StepDef, scope: Scope, report: Report) -> CompiledTemplate | None:
    """Return the template that the config of *step* is; None where it is none, or one that does not parse."""
    verbatim = () if undo_of(step) is None else (ROLLBACK,)
    return _template(step.config, "config", scope, report, verbatim)


def undo_of(step: StepDef) -> Mapping[str, Json] | None:
    """Return how *step* is undone, where its config says so."""
    undo = step.config.get(ROLLBACK) if isinstance(step.config, Mapping) else None
    return undo if isinstance(undo, Mapping) and ("run" in undo or "call" in undo) else None


def template_of_undo(step: StepDef, scope: Scope, report: Report) -> CompiledTemplate | None:
    """Return the template that the undo in the config of *step* is."""
    undo = undo_of(step)
    scope = scope if undo is None else attrs.evolve(scope, steps=scope.steps.in_undo_of(step))
    return None if undo is None else _template(undo, f"config.{ROLLBACK}", scope, report, ())


def misplaced_in_step(step: StepDef) -> Iterator[str]:
    """Yield what is wrong with the places of placeholders in the commands of *step*."""
    if step.step_type == "shell" and isinstance(step.config, Mapping):
        yield from map(str, misplaced_in(step.config))
    yield from (f"config.{ROLLBACK}: {fault}" for fault in misplaced_in(undo_of(step) or {}))


def _template(
    value: Json, label: str, scope: Scope, report: Report, verbatim: tuple[str, ...]
) -> CompiledTemplate | None:
    if value is None:
        return None
    try:
        template = CompiledTemplate.compile(value, strict=True, verbatim=verbatim)
    except ConditionError as error:
        report(f"{label}: {error}")
        return None
    for path in template.references:
        if (problem := problem_of_reference(path, scope)) is not None:
            report(f"{label}: {{{{{path}}}}}: {problem}")
    return None if template.is_constant else template


# -- where nothing is filled in ----------------------------------------------------------------------

_FLOW_TEXTS: Final = ("name", "description")
_STEP_TEXTS: Final = ("name", "description", "step_type")
_CONFIG_TEXTS: Final = {"shell": ("shell", "output", "stop"), "python": ("call",)}
_UNDO_TEXTS: Final = ("shell", "stop", "call")
_UNREAD: Final = "holds {{, and nothing is filled in there"


def has_braces(value: object) -> bool:
    """Whether there is a text with ``{{`` in *value*, a JSON value, keys included."""
    if value is None or type(value) is str:  # as most are
        return value is not None and "{{" in value
    pending = [value]
    met: set[int] = set()  # it may hold itself
    for item in pending:  # grows while it is read
        if isinstance(item, str):
            if "{{" in item:
                return True
        elif isinstance(item, Mapping | list | tuple) and id(item) not in met:
            met.add(id(item))
            pending += [*item, *item.values()] if isinstance(item, Mapping) else item
    return False


def unread_in_flow(flow: Any) -> Iterator[str]:
    """Yield the fields of a flow with a placeholder that nothing would fill in."""
    for field in _FLOW_TEXTS:
        if has_braces(getattr(flow, field)):
            yield f"the flow's {field} {_UNREAD}"
    if isinstance(flow.inputs, Mapping):
        for name, default in flow.inputs.items():
            if has_braces(name) or has_braces(default):
                yield f"the flow's inputs: {name!r} {_UNREAD}"


def unread_in_step(step: StepDef) -> Iterator[str]:
    """Yield the fields of *step* with a placeholder that nothing would fill in."""
    for field in _STEP_TEXTS:
        if has_braces(getattr(step, field)):
            yield f"its {field} {_UNREAD}"
    for field in ("retry_on", "give_up_on"):
        if has_braces(getattr(step, field)):
            yield f"its {field} {_UNREAD}"
    if not isinstance(step.config, Mapping):
        return
    kind: object = step.step_type  # anything may stand there
    for key in _CONFIG_TEXTS.get(kind, ()) if isinstance(kind, str) else ():
        if has_braces(step.config.get(key)):
            yield f"config.{key} {_UNREAD}"
    for key in _UNDO_TEXTS:
        if has_braces((undo_of(step) or {}).get(key)):
            yield f"config.{ROLLBACK}.{key} {_UNREAD}"
