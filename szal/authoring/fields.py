"""The fields of a step of functions, as they are written: with steps where a definition has paths and ids."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import attrs

from szal.authoring.step import Each, Step
from szal.errors import did_you_mean
from szal.expressions.path import spelled
from szal.model.flow import FlowDef
from szal.model.step import StepDef

__all__ = ["OF_A_FLOW", "OF_A_STEP", "Needed", "Said", "check_fields", "listed", "name_of", "said_of"]

Needed: TypeAlias = "Step[..., Any] | StepDef | str"
"""A step that another one needs: a decorated function, a definition, or its name."""

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


def said_of(fields: Mapping[str, Any]) -> Said:
    """Return what *fields* say.

    >>> said_of({"foreach": Each("files"), "timeout": 3}).fields
    {'foreach': 'inputs.files', 'timeout': 3}
    """
    said, needs, below = dict(fields), list[Needed](), list[Step[..., Any]]()
    source = said.get("foreach")
    if isinstance(source, Each):
        said["foreach"] = spelled(("inputs", source.name))
    elif isinstance(source, Step | StepDef):
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
    """Return one step as a list, and several as one."""
    return [steps] if isinstance(steps, str | StepDef | Step) else list(steps)


def name_of(function: object) -> str | None:
    """Return the name that a function has as a step, if it has one."""
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) and name.isidentifier() else None


def check_fields(what: str, fields: Mapping[str, object], known: frozenset[str]) -> None:
    """Raise TypeError for a field that is none of those that are *known*."""
    for field in fields:
        if field not in known:
            raise TypeError(f"{what}: there is no {field!r}{did_you_mean(field, sorted(known))}")
