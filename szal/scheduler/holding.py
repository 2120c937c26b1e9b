"""Whether a condition of a step holds: the one that it runs under, or the one until which it polls."""

from collections.abc import Sequence

import attrs

from szal.errors import NotComparable
from szal.expressions.condition import CompiledCondition
from szal.expressions.path import Json
from szal.scheduler.plan import Node
from szal.scheduler.run_info import RunInfo

__all__ = ["holds", "is_come_to"]


def holds(
    info: RunInfo, node: Node, condition: CompiledCondition, named: Sequence[tuple[str, int]], **more: Json
) -> bool:
    """Whether *condition* of *node* holds, which sees the steps *named* (with their places), the inputs and *more*.

    Raises `NotComparable`, `ValueNotJson` for what has no JSON and is read, and what foreign objects raise.
    """
    seen, steps = info.seen, {}
    for name, place in named:
        if (result := info.results[place]) is not None:
            steps[name] = seen.outcome(place, result)
    try:
        return condition.evaluate({"inputs": seen.inputs, "steps": steps, **more})
    except NotComparable as error:
        field = "until" if condition is node.until else "condition"
        raise attrs.evolve(error, step=node.step.name, field=field) from None


def is_come_to(info: RunInfo, node: Node, output: Json) -> bool:
    """Whether *output* is what *node* polls for. Raises as `holds` does."""
    assert node.until is not None
    own = {"output": info.seen.own_output(output)}
    if node.item is not None:
        own |= {"item": info.seen.element(node.item.value), "index": node.item.index}
    return holds(info, node, node.until, node.seen_by_until, **own)
