"""What is drawn of a plan: each step, or a block of those that stand for one another, and joins of edges.

Steps that wait for the same and are waited for by the same make one block, if they are many: so two hundred of them are
a block with an edge, and not a fan of two hundred. A long chain is in rows, as text is. Where many wait for many
others, their edges meet in one point.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import attrs

from szal.pictures.skeleton import layers_of
from szal.pictures.wording import is_under
from szal.scheduler.plan import EdgeKind, Plan

__all__ = ["Drawn", "Link", "units_of"]

_MANY: Final = 6
"""So many steps with the same edges are a block."""

_LONG: Final = 16
"""So many steps one after another are in rows."""


@attrs.frozen
class Unit:
    """The steps that are drawn together, by their places: none, where it is a join."""

    places: Sequence[int] = ()
    is_chain: bool = False


@attrs.frozen
class Link:
    """An edge between two units, by their numbers. A hidden one only draws them together."""

    source: int
    target: int
    is_dotted: bool = False
    is_hidden: bool = False


@attrs.frozen
class Drawn:
    """What is drawn."""

    units: Sequence[Unit]
    links: Sequence[Link]
    layers: Sequence[int]
    before_finals: int | None = None
    """The hidden join between the finally steps and all others."""


def units_of(plan: Plan) -> Drawn:
    """Return what is drawn of *plan*."""
    units = _blocks(plan)
    unit_of = {place: number for number, unit in enumerate(units) for place in unit.places}
    units, links = _with_chains(units, _links(plan, units, unit_of))
    final = {number for number, unit in enumerate(units) if unit.places and unit.places[0] in plan.finals}
    join = None
    if final and len(final) < len(units):
        join = len(units)
        units.append(Unit())
        links += _before_finals(len(units) - 1, links, final)
    before: list[list[int]] = [[] for _ in units]
    for link in links:
        before[link.target].append(link.source)
    return Drawn(units, links, layers_of(before), join)


def _blocks(plan: Plan) -> list[Unit]:
    """Return the steps by what they wait for and what waits for them, in the flow's order; of few each on its own."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for node in plan.nodes:
        key = node.gate, tuple(node.edges), node.place in plan.finals
        alike.setdefault(key, []).append(node.place)
    units = []
    for places in alike.values():
        units += [Unit(places)] if len(places) >= _MANY else [Unit([place]) for place in places]
    return sorted(units, key=lambda unit: unit.places[0])


def _links(plan: Plan, units: list[Unit], unit_of: dict[int, int]) -> list[Link]:
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
            units.append(Unit())
            join = len(units) - 1
            links += [Link(source, join) for source in sources[gate]]
            links += [Link(join, target) for target in targets]
            continue
        links += [
            Link(source, target, is_dotted=is_under(kind, units[source].places[0], units[target].places[0]))
            for source, kind in sources[gate].items()
            for target in targets
        ]
    return links


def _with_chains(units: list[Unit], links: list[Link]) -> tuple[list[Unit], list[Link]]:
    """Return units and links, the long chains among them each as one unit, without the links within."""
    after: dict[int, list[Link]] = {}
    fed = Counter(link.target for link in links)
    for link in links:
        after.setdefault(link.source, []).append(link)
    following = {
        source: out[0].target
        for source, out in after.items()
        if len(out) == 1 and fed[out[0].target] == 1 and not out[0].is_dotted
        if len(units[source].places) == len(units[out[0].target].places) == 1
    }
    merged: dict[int, list[int]] = {}
    for first in following.keys() - following.values():
        chain = [first]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        if len(chain) >= _LONG:
            merged[first] = chain
    within = {number: chain[0] for chain in merged.values() for number in chain}
    kept = [number for number in range(len(units)) if within.get(number, number) == number]
    new = {number: place for place, number in enumerate(kept)}
    number_of = [new[within.get(number, number)] for number in range(len(units))]
    found = [
        Unit([units[each].places[0] for each in merged[number]], is_chain=True) if number in merged else units[number]
        for number in kept
    ]
    ends = ((number_of[link.source], number_of[link.target], link) for link in links)
    return found, [Link(source, target, link.is_dotted) for source, target, link in ends if source != target]


def _before_finals(join: int, links: Sequence[Link], final: set[int]) -> list[Link]:
    """Return hidden links by way of a *join*, the last unit, that put the finally steps behind all others."""
    sources = {link.source for link in links}
    fed = {link.target for link in links}
    ends = [number for number in range(join) if number not in sources and number not in final]
    found = [Link(number, join, is_hidden=True) for number in ends]
    return found + [Link(join, number, is_hidden=True) for number in sorted(final - fed)]
