"""A flow as whoever goes on with an execution of it sees it: with configs as they are recorded."""

from collections.abc import Sequence

import attrs

from szal.errors import EncodeError
from szal.expressions.path import Json
from szal.model.flow import FlowDef
from szal.model.json.text import SCALARS, dumps, loads
from szal.model.step import StepDef

__all__ = ["as_read_again"]


def as_read_again(flow: FlowDef) -> FlowDef | None:
    """Return *flow*, which is valid, with what its configs are once they are recorded; None: that they are already.

    None also where JSON cannot hold one: recording it tells.

    >>> flow = as_read_again(FlowDef("f", steps=[StepDef("a", config={"sizes": (1, 2)})]))
    >>> flow.steps[0].config
    {'sizes': [1, 2]}
    """
    if all(_is_json(step.config) and _is_json(step.foreach) for step in flow.walk()):
        return None
    try:
        return attrs.evolve(flow, steps=_again(flow.steps))
    except (EncodeError, RecursionError):
        return None


def _again(steps: Sequence[StepDef]) -> list[StepDef]:
    return [
        attrs.evolve(
            step,
            config=loads(dumps(step.config, "config")),
            foreach=loads(dumps(step.foreach, "foreach")),
            sub_steps=_again(step.sub_steps),
        )
        for step in steps
    ]


def _is_json(value: Json) -> bool:
    """Whether reading it again gives the same types. Not recursive; *value* is finite, as what validates is."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is dict:
            if any(type(key) is not str for key in item):
                return False
            stack += item.values()
        elif type(item) is list:
            stack += item
        elif type(item) not in SCALARS:
            return False
    return True
