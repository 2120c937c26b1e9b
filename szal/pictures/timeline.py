"""When each step of an execution ran, as SVG: its attempts, what it waited for between them, and its undos."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

from szal.legible import elapsed
from szal.model.json import Checkpoint
from szal.pictures.label import cut, line
from szal.pictures.markup import said, tag
from szal.pictures.row import Row, Segment, rows_of
from szal.pictures.scale import Scale
from szal.pictures.standing import Seen, counts_of_items
from szal.pictures.style import picture, sign

__all__ = ["timeline_svg"]

_TOP: Final = 28.0  # of the first row, in pixels
_HEAD: Final = 24.0  # of a row, with its name
_BAR: Final = 9.0
_LANE: Final = 4.0
_BELOW: Final = 7.0
_NAME_ROOM: Final = 196.0  # both fit side by side where there are 360 pixels
_TOLD_ROOM: Final = 134.0


def timeline_svg(
    status: Seen,
    checkpoints: Mapping[str, Checkpoint] | None = None,
    *,
    styled: bool = True,
    link: Callable[[str], str] | None = None,
    now: datetime | None = None,
) -> str:
    """Return when each step of an execution ran as SVG: as wide as there is room, from 360 pixels on.

    *checkpoints* (`checkpoints_of`) tell of each attempt, where a step had several, and of each attempt to undo it;
    without them a step is one bar.
    What has not ended is drawn up to *now*. *styled* and *link* are those of `graph_svg`, which needs an extra; this
    needs none.

    >>> from szal import FlowDef, StepDef, run
    >>> print(timeline_svg(run(FlowDef("ci", steps=[StepDef("build")]), handler=lambda ctx: 1))[:33])
    <svg xmlns="http://www.w3.org/200
    """
    rows, total = rows_of(status, checkpoints or {}, now)
    busy = (each.span for row in rows for each in row.spans if each.kind != "waiting")
    scale = Scale.of(total, busy)
    high, drawn = _TOP, []
    for row in rows:
        drawn.append(_drawn(row, high, scale, link))
        high += _HEAD + max(_BAR, _LANE * len(row.lanes)) + _BELOW
    described = f"timeline, {len(rows)} step{'s' * (len(rows) != 1)} in {elapsed(total)}"
    inside = [*_axis(scale, high), *drawn]
    return picture("szal-timeline", described, inside, "100%", high, styled=styled, has_links=link is not None)


def _axis(scale: Scale, high: float) -> Iterator[str]:
    for start, end in scale.gaps:
        left, right = scale.at(start), scale.at(end)
        yield tag(
            "g",
            tag("title", said(f"{elapsed(end - start)} in which nothing ran")),
            tag("rect", x=_percent(left), y=18, width=_percent(right - left), height=high - 18),
            tag("text", "⋯", class_="szal-small", x=_percent((left + right) / 2), y=12, text_anchor="middle"),
            class_="szal-gap",
        )
    for place, told in scale.ticks():
        at, anchor = _percent(place), "start" if place < 4 else "middle"
        yield tag("line", class_="szal-tick", x1=at, x2=at, y1=18, y2=high)
        yield tag("text", said(told), class_="szal-small", x=at, y=12, text_anchor=anchor)


def _percent(place: float) -> str:
    return f"{place:.3f}%"


def _drawn(row: Row, top: float, scale: Scale, link: Callable[[str], str] | None) -> str:
    standing, result = row.standing, row.standing.result
    name = line(result.step_name or result.step_id)
    told = line(standing.brief if result.items is None else counts_of_items(result.items))
    fitting = cut(name, _NAME_ROOM, 13, bold=True, keep_end=True), cut(told, _TOLD_ROOM, 11)
    y, bars = top + _HEAD, []
    for number, lane in enumerate(row.lanes):
        bars += [_bar(segment, y + number * _LANE, _LANE - 1, scale) for segment in lane]
    drawn = tag(
        "g",
        tag("title", said("\n".join(part for part in (name, standing.told, result.error) if part))),
        tag("line", class_="szal-track", x1="0", x2="100%", y1=top, y2=top),
        sign(standing.word, 8, top + 12),
        tag("text", said(fitting[0]), class_="szal-name", x=22, y=top + 16.5),
        tag("text", said(fitting[1]), class_="szal-small", x="100%", y=top + 16.5, text_anchor="end"),
        *(bars or [_bar(segment, y, _BAR, scale) for segment in row.segments]),
        class_=f"szal-row szal-{standing.word}",
    )
    return drawn if link is None else tag("a", drawn, href=link(result.step_name))


def _bar(segment: Segment, y: float, high: float, scale: Scale) -> str:
    left, right = scale.at(segment.start), scale.at(segment.end)
    title, start, middle = tag("title", said(segment.title)), _percent(left), y + high / 2
    if segment.kind == "waiting":
        return tag("line", title, class_="szal-wait", x1=start, x2=_percent(right), y1=middle, y2=middle)
    if segment.kind == "failed":
        y, high = y + high / 4, high / 2
    return tag(
        "rect",
        title,
        class_=f"szal-bar{' szal-undo' * segment.is_undo} szal-{segment.kind}",
        x=start,
        y=y,
        width=_percent(right - left),
        height=high,
        rx=1,
    )
