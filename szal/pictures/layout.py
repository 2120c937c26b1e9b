"""Where boxes and edges go, in pixels: columns as wide, and layers as thick, as what is in them.

In a layer an edge goes straight on, in a place of its own; between two layers it bends. So no edge crosses a box, and
of boxes of several sizes none lies on another. `along` is the way in which the layers follow one another, `across` the
other one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import Final

import attrs

from szal.pictures.skeleton import Cell, Edge, Piece

__all__ = ["Layout", "Place", "Size", "bends", "laid_out"]

_APART: Final = 18.0  # pixels between two boxes of a layer
_LANE: Final = 12.0  # between an edge and what is beside it


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

    From each second point on an edge bends to the next. One of two points is straight, whatever is in its way.
    """

    places: Sequence[Place]
    routes: Sequence[Sequence[Place]]
    size: Size


def bends(route: Sequence[Place]) -> Iterator[tuple[Place, Place]]:
    """Yield the pairs of points between which an edge bends."""
    yield from zip(route[1::2], route[2::2], strict=False)


def laid_out(
    pieces: Sequence[Piece], sizes: Sequence[Size], edges: Sequence[Edge], *, gap: float, room: float
) -> Layout:
    """Return where boxes of these *sizes* go, and their edges; with *gap* pixels between layers.

    Pieces stand beside one another as far as there is *room* for that across.
    """
    places: dict[int, Place] = {}
    ways: dict[int, list[Place]] = {}
    across = along = width = end = 0.0
    for piece in pieces:
        grid = _Grid.of(piece, sizes, gap)
        if across and across + grid.size.across > room:
            across, along = 0.0, end + gap
        shift = Place(across, along)
        places |= {box: _moved(grid.place(cell, sizes[box]), shift) for box, cell in piece.boxes.items()}
        for edge, cells in piece.bends.items():
            first, last = (piece.boxes[box] for box in edges[edge])
            way = [grid.ends(first)[1], *chain(*map(grid.ends, cells)), grid.ends(last)[0]]
            ways[edge] = [_moved(place, shift) for place in way]
        across, end = across + grid.size.across, max(end, along + grid.size.along)
        width = max(width, across)
    routes = []
    for number, (source, target) in enumerate(edges):
        start = _moved(places[source], Place(0.0, sizes[source].along))
        routes.append([start, *ways.get(number, ()), places[target]])
    return Layout([places[box] for box in range(len(sizes))], routes, Size(width, end))


def _moved(place: Place, by: Place) -> Place:
    return Place(place.across + by.across, place.along + by.along)


@attrs.frozen
class _Grid:
    """What the columns and the layers of a piece are in pixels."""

    columns: Mapping[float, float]
    layers: Sequence[tuple[float, float]]  # from where to where
    size: Size

    @classmethod
    def of(cls, piece: Piece, sizes: Sequence[Size], gap: float) -> "_Grid":
        """Return a grid in which there is room for boxes and edges, each in its cell."""
        count = max(layer for _, layer in piece.boxes.values()) + 1
        rows: list[list[tuple[float, float]]] = [[] for _ in range(count)]  # columns, and half of the room they need
        thick = [0.0] * count
        for box, (column, layer) in piece.boxes.items():
            rows[layer].append((column, (sizes[box].across + _APART) / 2))
            thick[layer] = max(thick[layer], sizes[box].along)
        for column, layer in chain(*piece.bends.values()):
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
