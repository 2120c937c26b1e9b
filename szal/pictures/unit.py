"""What is drawn of a plan: each step, or a block of those that stand for one another, and joins of edges.

Steps that wait for the same and are waited for by the same make one block, if they are many: so two hundred of them are
a block with an edge, and not a fan of two hundred. Where many wait for many others, their edges meet in one point.
"""

from collections.abc import Sequence
from typing import Final

import attrs

from szal.pictures.skeleton import layers_of
from szal.pictures.wording import is_under
from szal.scheduler.plan import EdgeKind, Plan

__all__ = ["Drawn", "Link", "units_of"]

_MANY: Final = 6
"""So many steps with the same edges are a block."""


@attrs.frozen
class Link:
    """An edge between two units. `targets` are the steps that it leads to in the end, of a join all of them."""

    source: int
    target: int
    is_dotted: bool = False
    is_hidden: bool = False


@attrs.frozen
class Drawn:
    """What is drawn. `units` have the places of their steps: none, where one is a join."""

    units: Sequence[Sequence[int]]
    links: Sequence[Link]
    layers: Sequence[int]
    first_final: int | None
    """The layer with which the finally steps begin."""


def units_of(plan: Plan) -> Drawn:
    """Return what is drawn of *plan*."""
    units = _blocks(plan)
    unit_of = {place: number for number, unit in enumerate(units) for place in unit}
    links = _links(plan, units, unit_of)
    final = {number for number, unit in enumerate(units) if unit and unit[0] in plan.finals}
    if final and len(final) < len(units):
        links += _before_finals(units, links, final)
    before: list[list[int]] = [[] for _ in units]
    for link in links:
        before[link.target].append(link.source)
    layers = layers_of(before)
    return Drawn(units, links, layers, min((layers[each] for each in final), default=None))


def _blocks(plan: Plan) -> list[list[int]]:
    """Return the steps by what they wait for and what waits for them, in the flow's order; of few each on its own."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for node in plan.nodes:
        key = node.gate, tuple(node.edges), node.place in plan.finals
        alike.setdefault(key, []).append(node.place)
    units = []
    for places in alike.values():
        units += [places] if len(places) >= _MANY else [[place] for place in places]
    return sorted(units)


def _links(plan: Plan, units: list[list[int]], unit_of: dict[int, int]) -> list[Link]:
    """Return the edges between units, and add joins to these."""
    sources: list[dict[int, EdgeKind]] = [{} for _ in plan.gates]  # units, by the gate that they lead to
    for node in plan.nodes:
        for gate, kind in node.edges:
            sources[gate].setdefault(unit_of[node.place], kind)
    links = []
    for gate, behind in enumerate(plan.gates):
        targets = list(dict.fromkeys(unit_of[node.place] for node in behind))
        many, few = len(sources[gate]), len(targets)
        if many * few > many + few + 2:
            units.append([])
            join = len(units) - 1
            links += [Link(source, join) for source in sources[gate]]
            links += [Link(join, target) for target in targets]
            continue
        links += [
            Link(source, target, is_dotted=is_under(kind, units[source][0], units[target][0]))
            for source, kind in sources[gate].items()
            for target in targets
        ]
    return links


def _before_finals(units: list[list[int]], links: Sequence[Link], final: set[int]) -> list[Link]:
    """Return hidden links, by way of a hidden join, that put the finally steps behind all others."""
    sources = {link.source for link in links}
    fed = {link.target for link in links}
    units.append([])
    join = len(units) - 1
    ends = [number for number, unit in enumerate(units[:-1]) if number not in sources and number not in final]
    found = [Link(number, join, is_hidden=True) for number in ends]
    return found + [Link(join, number, is_hidden=True) for number in sorted(final - fed)]
