"""Which box is beside which: igraph's Sugiyama layout, in columns and layers. How large boxes are is not asked here.

Raises `MissingExtra` without ``szal[graph]``.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from szal.errors import MissingExtra
from szal.extra import optional
from szal.model.graph import successors, topological_order

if TYPE_CHECKING:
    from igraph import Graph

__all__ = ["Cell", "Edge", "Piece", "can_draw", "layers_of", "pieces_of"]

Edge: TypeAlias = tuple[int, int]
"""From which box to which, by their numbers."""

Cell: TypeAlias = tuple[float, int]
"""A column and a layer."""

_MOST_BENDS: Final = 20_000  # edges that pass more layers than that in all go straight, the longest first
_ROUNDS: Final = 24  # in which crossings are taken out


@attrs.frozen
class Piece:
    """Boxes that edges connect with one another: the cell of each, and those through which each edge goes between."""

    boxes: dict[int, Cell] = attrs.field(factory=dict)
    bends: dict[int, list[Cell]] = attrs.field(factory=dict)


def layers_of(before: Sequence[Sequence[int]]) -> list[int]:
    """Return the layer of each box: after all that it waits for; what waits for nothing, right before what needs it."""
    order, after = topological_order(before), successors(before)
    layers = [0] * len(before)
    for box in order:
        layers[box] = max((layers[source] + 1 for source in before[box]), default=0)
    for box in order:
        if not before[box] and after[box]:
            layers[box] = min(layers[target] for target in after[box]) - 1
    return layers


def pieces_of(layers: Sequence[int], edges: Sequence[Edge], hidden: frozenset[int]) -> list[Piece]:
    """Return the pieces of a graph of boxes in *layers*, in the order of the first box of each.

    The *hidden* edges, by number, only draw things together. Those that would pass too many layers are in no piece.
    """
    near = list(_near(edges, layers, hidden))
    whole = _graph(len(layers), [edges[number] for number in near])
    piece_of = whole.connected_components(mode="weak").membership
    boxes: dict[int, list[int]] = {}
    within: dict[int, list[int]] = {}
    for box, piece in enumerate(piece_of):
        boxes.setdefault(piece, []).append(box)
    for number in near:
        within.setdefault(piece_of[edges[number][0]], []).append(number)
    return [_piece(own, within.get(piece, []), layers, edges, hidden) for piece, own in boxes.items()]


def _near(edges: Sequence[Edge], layers: Sequence[int], hidden: frozenset[int]) -> Iterator[int]:
    """Yield all edges but the longest ones, without which the others pass no more layers than there may be."""
    passed = [layers[target] - layers[source] - 1 for source, target in edges]
    left = sum(passed)
    far = set()
    if left > _MOST_BENDS:
        for number in sorted(range(len(edges)), key=lambda number: (number not in hidden, -passed[number])):
            if left <= _MOST_BENDS:
                break
            left -= passed[number]
            far.add(number)
    return (number for number in range(len(edges)) if number not in far)


def _piece(
    boxes: Sequence[int], within: Sequence[int], layers: Sequence[int], edges: Sequence[Edge], hidden: frozenset[int]
) -> Piece:
    """Return a piece by itself: of a graph in several ones igraph 1.0 mixes up which way is whose."""
    own = {box: number for number, box in enumerate(boxes)}
    first = min(layers[box] for box in boxes)
    in_layers = [layers[box] - first for box in boxes]
    graph = _graph(len(boxes), [(own[edges[number][0]], own[edges[number][1]]) for number in within])
    found = graph.layout_sugiyama(layers=in_layers, maxiter=_ROUNDS)
    piece, taken = Piece(), set[Cell]()
    for box, number in own.items():
        piece.boxes[box] = _free(found[number][0], in_layers[number], taken)
    for edge, points in zip(within, found.edge_routing, strict=True):
        if edge not in hidden:
            piece.bends[edge] = [_free(column, round(layer), taken) for column, layer in points]
            piece.bends[edge].sort(key=lambda cell: cell[1])
    return piece


def _free(column: float, layer: int, taken: set[Cell]) -> Cell:
    """Return that cell, or where it is taken already, as happens in one of some hundred graphs, one beside it."""
    column = round(column, 3)
    while (column, layer) in taken:
        column = round(column + 0.001, 3)
    taken.add((column, layer))
    return column, layer


def can_draw() -> bool:
    """Whether igraph is installed."""
    try:
        _graph(0, [])
    except MissingExtra:
        return False
    return True


def _graph(count: int, edges: list[Edge]) -> "Graph":
    with optional("igraph", extra="graph", feature="drawing a flow"):
        from igraph import Graph
    return Graph(count, edges, directed=True)
