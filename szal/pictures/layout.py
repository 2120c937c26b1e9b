"""Where boxes and edges go: igraph's Sugiyama layout, which knows neither sizes nor units, made one of pixels.

Boxes stand in layers. In a layer an edge goes straight on, in a place of its own; between two layers it bends. So no
edge crosses a box, and where boxes have several sizes, none lies on another. `along` is the way in which the layers
follow one another, `across` the other one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Final

import attrs

from szal.errors import MissingExtra
from szal.model.graph import successors, topological_order

if TYPE_CHECKING:
    from igraph import Graph

__all__ = ["Layout", "Place", "Size", "arrange", "layers_of"]

_APART: Final = 18.0  # pixels between two boxes of a layer
_LANE: Final = 12.0  # between an edge and what is beside it
_MOST_BENDS: Final = 20_000  # edges that pass more layers than that in all are drawn straight, the longest first
_ROUNDS: Final = 24  # in which crossings are taken out


Cell = tuple[float, int]
"""A column and a layer, as igraph has them."""


@attrs.frozen
class Size:
    """Of a box, in pixels."""

    across: float
    along: float


@attrs.frozen
class Place:
    """Where a box is: the middle of it across, and its beginning along."""

    across: float
    along: float


@attrs.frozen
class Layout:
    """Where all boxes are, and through which points each edge goes: the first and the last are at its boxes.

    From each second point on an edge bends to the next. One of two points is straight, whatever is in its way: it would
    pass too many layers.
    """

    places: Sequence[Place]
    routes: Sequence[Sequence[Place]]
    size: Size


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


def arrange(
    sizes: Sequence[Size],
    edges: Sequence[tuple[int, int]],
    layers: Sequence[int],
    hidden: frozenset[int],
    *,
    gap: float,
    room: float,
) -> Layout:
    """Return where the boxes of these *sizes* go, and their *edges*; with *gap* pixels between layers.

    The *hidden* edges, by place, only draw things together. What hangs together is in one piece; pieces stand beside
    one another as far as there is *room* for that across. Raises `MissingExtra` without ``szal[graph]``.
    """
    whole = _Whole(sizes, edges, layers, hidden, _far(edges, layers, hidden))
    places: dict[int, Place] = {}
    routes: dict[int, Sequence[Place]] = {}
    across = along = width = end = 0.0
    for piece in whole.pieces():
        found, paths, size = piece.arranged(gap)
        if across and across + size.across > room:
            across, along = 0.0, end + gap
        places |= {box: _moved(place, across, along) for box, place in found.items()}
        routes |= {edge: [_moved(place, across, along) for place in path] for edge, path in paths.items()}
        across, end = across + size.across, max(end, along + size.along)
        width = max(width, across)
    ordered = [places[box] for box in range(len(sizes))]
    return Layout(ordered, [routes[place] for place in range(len(edges))], Size(width, end))


def _moved(place: Place, across: float, along: float) -> Place:
    return Place(place.across + across, place.along + along)


@attrs.frozen
class _Whole:
    """All that is to be arranged."""

    sizes: Sequence[Size]
    edges: Sequence[tuple[int, int]]
    layers: Sequence[int]
    hidden: frozenset[int]
    far: frozenset[int]

    def pieces(self) -> "list[_Piece]":
        """Return what hangs together, in the order of the first box of each."""
        number_of = _graph(len(self.sizes), self.edges).connected_components(mode="weak").membership
        pieces: dict[int, _Piece] = {}
        for box, number in enumerate(number_of):
            pieces.setdefault(number, _Piece(self, [], [])).boxes.append(box)
        for edge, (source, _) in enumerate(self.edges):
            pieces[number_of[source]].edges.append(edge)
        return [*pieces.values()]


@attrs.frozen
class _Piece:
    """Boxes that edges connect with one another, and these edges, by their places in `whole`."""

    whole: "_Whole"
    boxes: list[int]
    edges: list[int]

    def arranged(self, gap: float) -> tuple[dict[int, Place], dict[int, Sequence[Place]], Size]:
        """Return where they go, and how large all is.

        A piece by itself: of a graph in several pieces igraph 1.0 mixes up which way is whose.
        """
        sizes, edges = self.whole.sizes, self.whole.edges
        boxes, bends = self._cells()
        grid = _Grid.of([(boxes[box], sizes[box]) for box in self.boxes], [*chain(*bends.values())], gap)
        places = {box: grid.place(cell, sizes[box]) for box, cell in boxes.items()}
        routes: dict[int, Sequence[Place]] = {}
        for edge in self.edges:
            source, target = edges[edge]
            start = attrs.evolve(places[source], along=places[source].along + sizes[source].along)
            way = [point for cell in bends.get(edge, ()) for point in grid.ends(cell)]
            way = [grid.ends(boxes[source])[1], *way, grid.ends(boxes[target])[0]]
            routes[edge] = (start, *([] if edge in self.whole.far else way), places[target])
        return places, routes, grid.size

    def _cells(self) -> tuple[dict[int, Cell], dict[int, list[Cell]]]:
        """Return in which cells the boxes are, and through which each edge goes, as igraph has it."""
        whole = self.whole
        own = {box: number for number, box in enumerate(self.boxes)}
        near = [edge for edge in self.edges if edge not in whole.far]
        first = min(whole.layers[box] for box in self.boxes)
        layers = [whole.layers[box] - first for box in self.boxes]
        graph = _graph(len(own), [(own[source], own[target]) for source, target in map(whole.edges.__getitem__, near)])
        found = graph.layout_sugiyama(layers=layers, maxiter=_ROUNDS)
        taken: set[Cell] = set()
        boxes = {box: _free((found[number][0], layers[number]), taken) for box, number in own.items()}
        bends = {
            edge: [_free((across, round(layer)), taken) for across, layer in sorted(points, key=lambda each: each[1])]
            for edge, points in zip(near, found.edge_routing, strict=True)
            if edge not in whole.hidden
        }
        return boxes, bends


def _free(cell: Cell, taken: set[Cell]) -> Cell:
    """Return that cell, or where it is taken already, as happens in one of some hundred graphs, one beside it."""
    column, layer = round(cell[0], 3), cell[1]
    while (column, layer) in taken:
        column = round(column + 0.001, 3)
    taken.add((column, layer))
    return column, layer


@attrs.frozen
class _Grid:
    """What igraph's columns and layers are in pixels."""

    columns: Mapping[float, float]
    layers: Sequence[tuple[float, float]]  # from where to where
    size: Size

    @classmethod
    def of(cls, boxes: Sequence[tuple[Cell, Size]], bends: Sequence[Cell], gap: float) -> "_Grid":
        """Return a grid in which there is room for boxes and edges, each in its cell."""
        count = max(layer for (_, layer), _ in boxes) + 1
        rows: list[list[tuple[float, float]]] = [[] for _ in range(count)]  # columns, and half of the room they need
        thick = [0.0] * count
        for (column, layer), size in boxes:
            rows[layer].append((column, (size.across + _APART) / 2))
            thick[layer] = max(thick[layer], size.along)
        for column, layer in bends:
            rows[layer].append((column, _LANE / 2))
        columns, width = _columns(rows)
        starts = [0.0, *accumulate(each + gap for each in thick)]
        layers = [(start, start + each) for start, each in zip(starts, thick, strict=False)]
        return cls(columns, layers, Size(width, starts[-1] - gap))

    def place(self, cell: Cell, size: Size) -> Place:
        """Return where a box of that size is: in the middle of its layer."""
        start, end = self.layers[cell[1]]
        return Place(self.columns[cell[0]], (start + end - size.along) / 2)

    def ends(self, cell: Cell) -> tuple[Place, Place]:
        """Return where a line through that cell comes into its layer, and where it leaves it."""
        start, end = self.layers[cell[1]]
        return Place(self.columns[cell[0]], start), Place(self.columns[cell[0]], end)


def _graph(count: int, edges: Sequence[tuple[int, int]]) -> "Graph":
    try:
        from igraph import Graph
    except ImportError as error:
        raise MissingExtra("drawing a flow", "graph") from error
    return Graph(count, list(edges), directed=True)


def _far(edges: Sequence[tuple[int, int]], layers: Sequence[int], hidden: frozenset[int]) -> frozenset[int]:
    """Return the edges, the longest ones, without which the others pass no more layers than there may be."""
    passed = [layers[target] - layers[source] - 1 for source, target in edges]
    too_many, far = sum(passed) - _MOST_BENDS, set[int]()
    if too_many <= 0:
        return frozenset()
    for place in sorted(range(len(edges)), key=lambda place: (place not in hidden, -passed[place], place)):
        if too_many <= 0:
            break
        too_many -= passed[place]
        far.add(place)
    return frozenset(far)


def _columns(rows: Sequence[Sequence[tuple[float, float]]]) -> tuple[dict[float, float], float]:
    """Return the middle of each column of a grid, in pixels, and how wide all is.

    *rows* have for each of their cells its column and half of its width. Each column is put as far to the left as the
    cells let it, then as far to the right, and then in the middle: what has room is centred.
    """
    names = sorted({column for row in rows for column, _ in row})
    if not names:
        return {}, 0.0
    half = dict.fromkeys(names, 0.0)
    next_to: list[tuple[float, float, float]] = []
    for row in rows:
        cells = sorted(row)
        for column, size in cells:
            half[column] = max(half[column], size)
        next_to += [(left, right, one + other) for (left, one), (right, other) in pairwise(cells)]
    leftmost = _pushed(names, next_to, half)
    width = max(leftmost[column] + half[column] for column in names)
    mirrored = [(-right, -left, apart) for left, right, apart in next_to]
    rightmost = _pushed([-name for name in reversed(names)], mirrored, {-name: size for name, size in half.items()})
    return {name: (leftmost[name] + width - rightmost[-name]) / 2 for name in names}, width


def _pushed(
    names: Sequence[float], next_to: Sequence[tuple[float, float, float]], half: dict[float, float]
) -> dict[float, float]:
    """Return each column as far to the left as possible, in the order of *names*."""
    left_of: dict[float, list[tuple[float, float]]] = {name: [] for name in names}
    for left, right, apart in next_to:
        left_of[right].append((left, apart))
    found: dict[float, float] = {}
    last = 0.0
    for name in names:
        last = max(last, half[name], *(found[left] + apart for left, apart in left_of[name]), 0.0)
        found[name] = last
    return found


def bends(route: Sequence[Place]) -> Iterator[tuple[Place, Place]]:
    """Yield the pairs of points between which an edge bends."""
    yield from zip(route[1::2], route[2::2], strict=False)
