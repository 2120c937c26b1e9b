"""The boxes of a unit: one, or many in rows, of a chain with arrows from each to the next."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import attrs

from szal.pictures.box import Box, draw_box
from szal.pictures.markup import tag

__all__ = ["TIP", "Grid", "edge", "tip"]

Point: TypeAlias = tuple[float, float]

TIP: Final = 7.0
"""Pixels that the tip of an arrow is long."""

_CELL: Final = 8.0  # between boxes that have nothing to do with one another
_STEP: Final = 30.0  # between a box and the next one of a chain
_EDGE: Final = 14.0  # between these and what is around
_CAPTION: Final = 14.0  # for the line above many
_MOST_COLUMNS: Final = 6
_OF_A_CHAIN: Final = 4


def edge(path: str, *, is_off: bool = False, kind: str = "") -> str:
    """Return a line; *is_off*: nothing goes that way."""
    return tag("path", class_=f"szal-edge{' szal-off' * is_off}{kind}", d=path)


def tip(end: Point, direction: Point, *, is_off: bool = False) -> str:
    """Return the tip of an arrow that ends at that point, as it comes from that direction (a unit vector)."""
    (x, y), (to_x, to_y), back = end, direction, TIP + 1
    base_x, base_y = x - to_x * back, y - to_y * back
    corners = ((base_x - to_y * 4, base_y + to_x * 4), (base_x + to_y * 4, base_y - to_x * 4), end)
    drawn = "L".join(f"{each[0]:.1f} {each[1]:.1f}" for each in corners)
    return tag("path", class_="szal-tip" + " szal-off" * is_off, d=f"M{drawn}Z")


@attrs.frozen
class Grid:
    """Boxes in rows, as people read; each so wide and so high."""

    boxes: Sequence[Box]
    columns: int
    wide: float
    high: float
    is_chain: bool

    @classmethod
    def of(cls, boxes: Sequence[Box], wide: float, *, is_chain: bool) -> "Grid":
        """Return them in a grid that is about as wide as it is high, but never very wide."""
        high = max(box.height for box in boxes)
        columns = min(max(round((len(boxes) * 2.2 * high / wide) ** 0.5), 2), _MOST_COLUMNS) if len(boxes) > 1 else 1
        return cls(boxes, min(columns, _OF_A_CHAIN) if is_chain else columns, wide, high, is_chain)

    @property
    def _apart(self) -> float:
        return _STEP if self.is_chain else _CELL

    @property
    def _around(self) -> float:
        return _EDGE if self.is_chain else _CELL

    @property
    def size(self) -> tuple[float, float]:
        """How wide and how high all is."""
        if len(self.boxes) == 1:
            return self.wide, self.high
        rows = -(-len(self.boxes) // self.columns)
        apart, around = self._apart, 2 * self._around
        return (
            self.columns * (self.wide + apart) - apart + around,
            rows * (self.high + apart) - apart + around + _CAPTION,
        )

    def draw(self, x: float, y: float, link: Callable[[str], str] | None) -> Iterator[str]:
        """Yield it as SVG, with its corner at that place."""
        if len(self.boxes) == 1:
            yield _linked(self.boxes[0], draw_box(self.boxes[0], x, y, self.wide), link)
            return
        wide, high = self.size
        kind = "szal-block szal-chain" if self.is_chain else "szal-block"
        yield tag("rect", class_=kind, x=x, y=y, width=wide, height=high, rx=10)
        how = "one after another" if self.is_chain else "side by side"
        caption = f"{len(self.boxes)} steps {how}"
        yield tag("text", caption, class_="szal-small", x=x + self._around + 2, y=y + self._around + 7)
        corners = [self._corner(place, x, y) for place in range(len(self.boxes))]
        if self.is_chain:
            for (one, start), (other, end) in pairwise(zip(self.boxes, corners, strict=True)):
                yield from self._arrow(start, end, is_off="skipped" in (one.word, other.word))
        for box, (left, top) in zip(self.boxes, corners, strict=True):
            yield _linked(box, draw_box(box, left, top, self.wide), link)

    def _corner(self, place: int, x: float, y: float) -> Point:
        row, column = divmod(place, self.columns)
        left, top = column * (self.wide + self._apart), row * (self.high + self._apart)
        return x + self._around + left, y + self._around + _CAPTION + top

    def _arrow(self, start: Point, end: Point, *, is_off: bool) -> Iterator[str]:
        """Yield the arrow from a box to the next one: to its right, or the first one of the next row."""
        if start[1] == end[1]:
            y = start[1] + self.high / 2
            yield edge(f"M{start[0] + self.wide:.1f} {y:.1f}L{end[0] - TIP:.1f} {y:.1f}", is_off=is_off)
            yield tip((end[0], y), (1, 0), is_off=is_off)
            return
        out, into = start[0] + self.wide / 2, end[0] + self.wide / 2
        below, turn = start[1] + self.high, start[1] + self.high + self._apart / 2 - 2
        points = ((out, below), (out, turn), (into, turn), (into, end[1] - TIP))
        yield edge("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), is_off=is_off)
        yield tip((into, end[1]), (0, 1), is_off=is_off)


def _linked(box: Box, drawn: str, link: Callable[[str], str] | None) -> str:
    return drawn if link is None else tag("a", drawn, href=link(box.step.name))
