"""What a drawing says: the edges between steps, and the lines in the box of each.

The edges are the plan's, so that what is drawn is what is run. A condition stands in its step, a trigger other than
"all" at the edges that it weighs. In hierarchical mode a dotted edge leads from a step to what is under it.
"""

from collections.abc import Iterator

import attrs

from szal.files.vocabulary import name_of_trigger
from szal.legible import clean, one_line
from szal.model.step import StepDef, TriggerMode
from szal.scheduler.plan import EdgeKind, Plan

__all__ = ["Edge", "edges_of", "is_under", "lines_of"]


@attrs.frozen
class Edge:
    """One edge of a plan, by the places of its nodes."""

    source: int
    target: int
    label: str
    dotted: bool


def edges_of(plan: Plan) -> Iterator[Edge]:
    """Yield the edges of a plan, by their sources."""
    for node in plan.nodes:
        for target, kind in plan.successors(node.place):
            trigger = plan.nodes[target].step.trigger_mode
            label = "" if trigger is TriggerMode.ALL else name_of_trigger(trigger).replace("_", " ")
            yield Edge(node.place, target, label, is_under(kind, node.place, target))


def is_under(kind: EdgeKind, source: int, target: int) -> bool:
    """Whether an edge says no more than that a step is a part of another one: not that it comes next."""
    return kind is EdgeKind.PARENT and target != source + 1


def lines_of(step: StepDef) -> list[str]:
    """Return what is written into a step's box."""
    lines = [one_line(step.name)]
    if isinstance(step.foreach, str):
        lines.append(f"for each of {' '.join(clean(step.foreach).split())}")
    elif step.foreach is not None:
        lines.append(f"for each of {len(step.foreach)}")
    if step.condition is not None:
        lines.append(f"if {' '.join(clean(step.condition).split())}")
    if step.until is not None:
        lines.append(f"until {' '.join(clean(step.until).split())}")
    return [*lines, "finally"] if step.finally_ else lines
