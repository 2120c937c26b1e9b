"""The fields of a step of functions, as they are written: with steps where a definition has paths and ids."""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from szal.authoring.step import Each, Owner, Step
from szal.errors import InvalidFlow, did_you_mean
from szal.expressions.path import spelled
from szal.model.flow import FlowDef
from szal.model.step import StepDef
from szal.number import shown

__all__ = [
    "OF_A_FLOW",
    "OF_A_STEP",
    "Needed",
    "Said",
    "check_fields",
    "check_type",
    "listed",
    "name_of",
    "names_of",
    "problem_of_name",
    "said_of",
    "with_templates",
]

Needed: TypeAlias = "Step[..., Any] | StepDef | str"
"""A step that another one needs: a decorated function, a definition, or its name."""

BOUND_ALIKE: Final = ("ctx", "item", "index")
"""The parameters that are the same whatever steps there are."""

OF_A_STEP: Final = frozenset(field.name for field in attrs.fields(StepDef)) - {"name"}
"""The fields that a step may be given."""
OF_A_FLOW: Final = frozenset(field.name for field in attrs.fields(FlowDef) if field.init) - {
    *("name", "mode", "steps", "sub_flows", "file", "parameters"),
}
"""The fields that a flow may be given."""


@attrs.frozen
class Said:
    """What was said of a step: its fields, as a definition has them, the steps that it needs, and those below it."""

    fields: Mapping[str, Any]
    needs: list[Needed]
    below: list[Step[..., Any]]


def said_of(flow: Owner, fields: Mapping[str, Any]) -> Said:
    """Return what *fields* say of a step of *flow*.

    >>> said_of(FlowDef("thumbs"), {"foreach": Each("files"), "timeout": 3}).fields
    {'foreach': 'inputs.files', 'timeout': 3}
    """
    said, needs, below = dict(fields), list[Needed](), list[Step[..., Any]]()
    source = said.get("foreach")
    if isinstance(source, Each):
        said["foreach"] = spelled(("inputs", source.name))
    elif isinstance(source, Step | StepDef):
        source = source.in_flow(flow) if isinstance(source, Step) else source
        needs.append(source)
        said["foreach"] = spelled(("steps", source.name, "output"))
    if "depends_on" in said:
        several = listed(said["depends_on"])
        needs += [each for each in several if isinstance(each, Step)]
        said["depends_on"] = [each for each in several if not isinstance(each, Step)]
    if "sub_steps" in said:
        below += [each for each in said["sub_steps"] if isinstance(each, Step)]
    return Said(said, needs, below)


def listed(steps: Any) -> list[Any]:
    """Return one step as a list, and several as one; what is neither as if it were one."""
    return [steps] if isinstance(steps, str | StepDef | Step) or not isinstance(steps, Iterable) else list(steps)


def names_of(flow: Owner, step: str, needs: "Needed | Iterable[Needed]") -> Iterator[str]:
    """Yield the names of the steps of *flow* that *step* needs; they may be written later. Raises `InvalidFlow`."""
    for each in listed(needs):
        given: object = each
        if isinstance(given, Step):
            given = given.in_flow(flow)
            if given.flow is not flow:
                problem = f"step {step!r} needs {given.name!r}, which is a step of flow {given.flow.name!r}"
                raise InvalidFlow(flow.name, (problem,))
        if not isinstance(given, str | StepDef | Step):
            problem = f"step {step!r} needs what is no step and no name of one ({shown(given)})"
            raise InvalidFlow(flow.name, (f"{problem}: give what flow.step returned, or the step's name",))
        yield given if isinstance(given, str) else given.name


def with_templates(flow: Owner, value: Any, taken: list[Step[..., Any]]) -> Any:
    """Return *value* with the templates of their outputs in the places of steps, which are added to *taken*."""
    if isinstance(value, Step):
        taken.append(step := value.in_flow(flow))
        return f"{{{{{spelled(('steps', step.name, 'output'))}}}}}"
    if isinstance(value, Mapping):
        return {key: with_templates(flow, each, taken) for key, each in value.items()}
    return [with_templates(flow, each, taken) for each in value] if isinstance(value, list | tuple) else value


def problem_of_name(name: object, taken: Container[str] = ()) -> str | None:
    """Return what keeps *name* from being a step's whose output parameters can ask for; None: nothing.

    >>> problem_of_name("item")
    "step 'item': a parameter of that name is never an output: ctx, item and index are the same in all"
    """
    if not isinstance(name, str) or not name:
        return f"a step's name must be a text that is not empty, not {shown(name)}"
    if name in BOUND_ALIKE:
        return f"step {name!r}: a parameter of that name is never an output: ctx, item and index are the same in all"
    return f"step {name!r}: duplicate step name" if name in taken else None


def name_of(function: object) -> str | None:
    """Return the name that a function has as a step, if it has one."""
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) and name.isidentifier() else None


def check_fields(what: str, fields: Mapping[str, object], known: frozenset[str]) -> None:
    """Raise TypeError for a field that is none of those that are *known*."""
    for field in fields:
        if field not in known:
            raise TypeError(f"{what}: there is no {field!r}{did_you_mean(field, sorted(known))}")


def check_type(what: str, value: object, wanted: str, *kinds: type) -> None:
    """Raise TypeError where *value*, which the caller knows as *what*, is none of these *kinds*: what is *wanted*."""
    if not isinstance(value, kinds):
        raise TypeError(f"{what} takes {wanted}, not {shown(value)}")
