"""A flow, or an execution of it, as SVG."""

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Final

import attrs

from szal.model.flow import Defined, FlowDef, definition_of
from szal.pictures.box import Box, box_of
from szal.pictures.grid import TIP, Grid, edge, tip
from szal.pictures.label import line
from szal.pictures.layout import Layout, Place, Size, bends, laid_out
from szal.pictures.markup import tag
from szal.pictures.skeleton import Piece, pieces_of
from szal.pictures.standing import Seen, standings_of
from szal.pictures.style import picture
from szal.pictures.unit import Drawn, units_of
from szal.scheduler.plan import Plan

__all__ = ["graph_svg"]

_MARGIN: Final = 12
_WIDEST: Final = 1000.0
"""A drawing that is wider goes from left to right, if that is narrower."""
_DOWN_GAP: Final = 40.0  # between layers
_ASIDE_GAP: Final = 54.0
_JOIN: Final = Size(8, 8)


def graph_svg(
    flow: "FlowDef | Defined",
    status: Seen | None = None,
    *,
    styled: bool = True,
    link: Callable[[str], str] | None = None,
) -> str:
    """Return *flow* as SVG; with *status*, what `Engine.look` or a run returned, as an execution of it.

    Without *styled* it has no style sheet of its own: a page with several pictures has `STYLE` once, where its policy
    allows that. *link* makes the address that a step's box leads to of the step's name. The same flow makes the same
    text. Raises `InvalidFlow`, and `MissingExtra` without ``szal[graph]``.

    >>> from szal import StepDef
    >>> graph_svg(FlowDef("ci", steps=[StepDef("build"), StepDef("test")])).count('class="szal-node"')
    2
    """
    flow = definition_of(flow)
    plan = Plan.of(flow)
    standings = standings_of(status)
    boxes = [box_of(flow, node.step, standings.get(node.step.name)) for node in plan.nodes]
    drawn = units_of(plan)
    hidden = frozenset(number for number, link in enumerate(drawn.links) if link.is_hidden)
    pieces = pieces_of(drawn.layers, [(each.source, each.target) for each in drawn.links], hidden)
    down = _Picture.of(boxes, drawn, pieces, is_down=True)
    picture = down
    if down.layout.size.across > _WIDEST:
        aside = _Picture.of(boxes, drawn, pieces, is_down=False)
        picture = min(down, aside, key=lambda each: each.size[0])
    return picture.svg(_described(flow, status), styled=styled, link=link)


def _described(flow: FlowDef, status: Seen | None) -> str:
    steps = sum(1 for _ in flow.walk())
    told = f"flow {line(flow.name)}, {steps} step{'s' * (steps != 1)}"
    return told if status is None else f"{told}, {status.state or 'run'}"


@attrs.frozen
class _Picture:
    """Boxes and edges with their places, from above down or from left to right."""

    grids: Sequence[Grid | None]  # None: a join
    drawn: Drawn
    layout: Layout
    is_down: bool

    @classmethod
    def of(cls, boxes: Sequence[Box], drawn: Drawn, pieces: Sequence[Piece], *, is_down: bool) -> "_Picture":
        wide = max((box.wanted for box in boxes), default=0.0)
        grids = [
            Grid.of([boxes[place] for place in unit.places], wide, is_chain=unit.is_chain) if unit.places else None
            for unit in drawn.units
        ]
        sizes = []
        for grid in grids:
            across, along = (_JOIN.across, _JOIN.along) if grid is None else grid.size
            sizes.append(Size(across, along) if is_down or grid is None else Size(along, across))
        edges = [(link.source, link.target) for link in drawn.links]
        gap, room = (_DOWN_GAP, _WIDEST) if is_down else (_ASIDE_GAP, inf)
        return cls(grids, drawn, laid_out(pieces, sizes, edges, gap=gap, room=room), is_down)

    @property
    def size(self) -> tuple[float, float]:
        size = self.layout.size
        return (size.across, size.along) if self.is_down else (size.along, size.across)

    def at(self, place: Place) -> tuple[float, float]:
        """Return where that is in the picture."""
        x, y = (place.across, place.along) if self.is_down else (place.along, place.across)
        return x + _MARGIN, y + _MARGIN

    def svg(self, described: str, *, styled: bool, link: Callable[[str], str] | None) -> str:
        wide, high = (round(each + 2 * _MARGIN) for each in self.size)
        inside = [*self._rule(wide, high), *self._edges(), *self._boxes(link)]
        box = f"0 0 {wide} {high}"
        return picture(
            "szal-graph", described, inside, wide, high, styled=styled, has_links=link is not None, viewBox=box
        )

    def _rule(self, wide: float, high: float) -> Iterator[str]:
        """Yield what stands between the finally steps and all others."""
        if self.drawn.before_finals is None:
            return
        place = self.layout.places[self.drawn.before_finals]
        x, y = self.at(attrs.evolve(place, along=place.along + _JOIN.along / 2))
        if self.is_down:
            yield tag("line", class_="szal-rule", x1=_MARGIN, x2=wide - _MARGIN, y1=y, y2=y)
            yield tag("text", "finally", class_="szal-small", x=_MARGIN + 2, y=y + 14)
        else:
            yield tag("line", class_="szal-rule", x1=x, x2=x, y1=_MARGIN, y2=high - _MARGIN)
            yield tag("text", "finally", class_="szal-small", x=x + 6, y=_MARGIN + 12)

    def _boxes(self, link: Callable[[str], str] | None) -> Iterator[str]:
        for grid, place in zip(self.grids, self.layout.places, strict=True):
            x, y = self.at(place)
            if grid is not None:
                wide, high = grid.size
                x, y = (x - wide / 2, y) if self.is_down else (x, y - high / 2)
                yield from grid.draw(round(x, 1), round(y, 1), link)

    def _edges(self) -> Iterator[str]:
        for number, link in enumerate(self.drawn.links):
            if link.is_hidden:
                continue
            route = self.layout.routes[number]
            is_off = self._is_off(link.source) or self._is_off(link.target)
            has_tip = self.grids[link.target] is not None
            yield edge(self._path(route, has_tip=has_tip), is_off=is_off, kind=" szal-under" * link.is_dotted)
            if has_tip:
                yield tip(self.at(route[-1]), (0, 1) if self.is_down else (1, 0), is_off=is_off)

    def _is_off(self, unit: int) -> bool:
        """Whether nothing goes by way of a unit: it was skipped."""
        grid = self.grids[unit]
        return grid is not None and all(box.word == "skipped" for box in grid.boxes)

    def _path(self, route: Sequence[Place], *, has_tip: bool) -> str:
        if has_tip:  # the tip is the end of it
            route = [*route[:-2], *(attrs.evolve(place, along=place.along - TIP) for place in route[-2:])]
        if len(route) == 2:
            first = self.at(attrs.evolve(route[0], along=route[0].along + TIP * has_tip))
            return f"M{_point(first)}L{_point(self.at(route[1]))}"
        parts = [f"M{_point(self.at(route[0]))}"]
        for start, end in bends(route):
            middle = (start.along + end.along) / 2
            turns = (Place(start.across, middle), Place(end.across, middle), end)
            parts.append(f"L{_point(self.at(start))}C{' '.join(_point(self.at(each)) for each in turns)}")
        return f"{''.join(parts)}L{_point(self.at(route[-1]))}"


def _point(point: tuple[float, float]) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
