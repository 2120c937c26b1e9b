"""The steps of one flow as steps of another, under names that begin with a prefix."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from szal.authoring.wiring import Written
from szal.errors import InvalidFlow
from szal.expressions.path import Json
from szal.expressions.renaming import renamed_condition, renamed_path, renamed_template
from szal.model.flow import FlowDef
from szal.model.step import StepDef

__all__ = ["included", "side_by_side", "with_inputs"]

_RENAMED: Final[Mapping[str, Callable[[Any, Mapping[str, str]], Any]]] = {
    "condition": renamed_condition,
    "until": renamed_condition,
    "foreach": lambda value, names: renamed_path(value, names) if isinstance(value, str) else value,
    "config": renamed_template,
}
"""The fields of a step that may name other steps, and how they are changed."""


def included(flow: FlowDef, written: Mapping[str, Written], prefix: str) -> list[Written]:
    """Return the steps of *flow*, which were *written* so, as another flow has them: under ids of their own.

    What their parameters and texts name is what these named before.
    """
    names = {step.name: prefix + step.name for step in flow.walk()}
    ids = {step.id: str(uuid.uuid4()) for step in flow.walk()}
    return [_as_included(step, written.get(step.name), names, ids) for step in flow.steps]


def _as_included(step: StepDef, written: Written | None, names: Mapping[str, str], ids: Mapping[str, str]) -> Written:
    meant = (
        names
        if written is None or written.names is None
        else {parameter: names[name] for parameter, name in written.names.items() if name in names}
    )
    return Written(
        _renamed(step, names, ids),
        does=None if written is None else written.does,
        undoes=None if written is None else written.undoes,
        names=meant,
    )


def _renamed(step: StepDef, names: Mapping[str, str], ids: Mapping[str, str]) -> StepDef:
    texts = {
        field: change(value, names)
        for field, change in _RENAMED.items()
        if (value := getattr(step, field, None)) is not None
    }
    return attrs.evolve(
        step,
        name=names[step.name],
        id=ids[step.id],
        depends_on=_each(step.depends_on, ids),
        sub_steps=[_renamed(sub_step, names, ids) for sub_step in step.sub_steps],
        **texts,
    )


def _each(depends_on: Iterable[str], ids: Mapping[str, str]) -> list[str]:
    return [ids.get(id_, id_) for id_ in depends_on]


def with_inputs(
    flow: FlowDef, brought: Mapping[str, Json], other: str, declared: Mapping[str, Json]
) -> dict[str, Json]:
    """Return the inputs that *flow* declares, or those that were *brought*, with those that the flow *other* declares.

    Raises `InvalidFlow` for one that they declare differently.
    """
    ours = flow.inputs or brought
    for name, said in declared.items():
        if name in ours and ours[name] != said:
            problem = f"input {name!r}: flow {other!r}, which it includes, declares it otherwise"
            raise InvalidFlow(flow.name, (problem,))
    return {**ours, **declared}


def side_by_side(flows: Iterable[FlowDef]) -> Iterator[FlowDef]:
    """Yield *flows*, and what is below them, each once: a definition brings all of them itself."""
    seen: set[str] = set()
    for flow in flows:
        for each in (flow, *flow.sub_flows):
            if each.id not in seen:
                seen.add(each.id)
                yield attrs.evolve(each, sub_flows=()) if each.sub_flows else each
