"""The box of a step: what is written in it, its form, its size."""

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Final

import attrs

from szal.legible import elapsed
from szal.model.flow import FlowDef
from szal.model.step import WAIT_TYPES, StepDef, TriggerMode
from szal.number import problem_of
from szal.pictures.label import cut, line, width
from szal.pictures.markup import said, tag
from szal.pictures.standing import Standing, counts_of_items
from szal.pictures.style import sign

__all__ = ["Box", "Line", "box_of", "draw_box"]

_NAME: Final = 13  # sizes of text
_SMALL: Final = 11
_ROW: Final = 15  # height of a line below the name
_NARROWEST: Final = 96
_WIDEST: Final = 240
_PAD: Final = 12
_BADGE: Final = 22  # room for the sign of a state
_MOST_LINES: Final = 4
_STACK: Final = 6
_MARK: Final = 16  # room for a sign beside the name
_CLOCK: Final = "M0-5A5 5 0 1 0 .1-5ZM0-2.8V0L2 1.4"

_WHEN: Final[Mapping[TriggerMode, str]] = {
    TriggerMode.ANY: "as soon as one of them completed",
    TriggerMode.ALL_COMPLETED: "if all of them completed",
    TriggerMode.ALL_DONE: "when all are over, whatever came of it",
    TriggerMode.ONE_FAILED: "as soon as one of them failed",
    TriggerMode.ONE_DONE: "as soon as one of them is over",
}


@attrs.frozen
class Line:
    """A line in a box, below the name; `kind` is its class."""

    text: str
    kind: str = "szal-small"


@attrs.frozen
class Box:
    """What is to be drawn of a step."""

    step: StepDef
    lines: tuple[Line, ...]
    standing: Standing | None

    @property
    def word(self) -> str | None:
        """How the step stands; None in a picture of a definition."""
        return None if self.standing is None else self.standing.word

    @property
    def left(self) -> int:
        """Where its text begins."""
        return _PAD if self.standing is None else _PAD + _BADGE

    @property
    def stack(self) -> int:
        """Room for the boxes behind it, of a step that is done for each of a list."""
        return 0 if self.step.foreach is None else _STACK

    @property
    def wanted(self) -> float:
        """How wide it would be at best."""
        name = width(line(self.step.name), _NAME, bold=True) + _MARK * self.waits
        texts = [name, *(width(each.text, _SMALL) for each in self.lines)]
        return min(max(_NARROWEST, ceil(self.left + max(texts) + _PAD + self.stack)), _WIDEST)

    @property
    def height(self) -> float:
        """How high it is."""
        return 32.0 + _ROW * len(self.lines) + self.stack

    @property
    def waits(self) -> bool:
        """Whether the step does nothing but wait."""
        return self.step.step_type in WAIT_TYPES

    @property
    def title(self) -> str:
        """All that there is to say, whole."""
        told = [self.step.name, self.step.description, *(each.text for each in self.lines)]
        if self.standing is not None and self.standing.result.error:
            told.append(self.standing.result.error)
        return "\n".join(part for part in told if part.strip())


def box_of(flow: FlowDef, step: StepDef, standing: Standing | None) -> Box:
    """Return what is to be drawn of a step of *flow*."""
    lines = []
    if standing is not None and standing.told:
        lines.append(Line(line(standing.told), "szal-told"))
    if standing is not None and standing.result.items:
        lines.append(Line(counts_of_items(standing.result.items)))
    if standing is not None and standing.word == "failed" and standing.result.error:
        lines.append(Line(line(standing.result.error)))
    lines += _defined(step, is_run=standing is not None)
    if standing is None and flow.rollback_on_failure and step.rollbackable:
        lines.append(Line("undone if the flow fails"))
    return Box(step, tuple(lines[:_MOST_LINES]), standing)


def _defined(step: StepDef, *, is_run: bool) -> Iterator[Line]:
    """Yield what the definition of a step says of it, the most important first."""
    if step.finally_:
        yield Line("whatever happens")
    if step.condition is not None:
        yield Line(f"if {line(step.condition)}")
    if step.foreach is not None:
        over = line(step.foreach) if isinstance(step.foreach, str) else f"{len(step.foreach)} items"
        yield Line(f"for each of {over}")
    if (when := _WHEN.get(step.trigger_mode)) is not None:
        yield Line(when)
    if step.until is not None:
        yield Line(f"until {line(step.until)}")
    yield from _does(step)
    if not is_run and step.max_retries:
        yield Line(f"up to {step.max_retries + 1} attempts")
    if step.continue_on_error:
        yield Line("may fail")


def _does(step: StepDef) -> Iterator[Line]:
    config = step.config if isinstance(step.config, Mapping) else {}
    if step.step_type == "shell" and isinstance(config.get("run"), str):
        yield Line(f"$ {line(config['run'].strip().partition(chr(10))[0])}")
    elif step.step_type == "wait":
        signal = config.get("signal")
        yield Line("waits for a time" if signal is None else f"waits for signal {line(signal)}")
    elif step.step_type == "sleep":
        seconds = config.get("seconds")
        if isinstance(seconds, int | float) and problem_of(seconds) is None:
            yield Line(f"sleeps {elapsed(seconds)}")
    elif step.step_type == "sub_flow":
        yield Line(f"runs flow {line(config.get('flow_name', ''))}")
    elif step.step_type is not None and step.step_type != "python":
        yield Line(line(step.step_type))


def draw_box(box: Box, x: float, y: float, across: float) -> str:
    """Return the box as SVG, with its corner at that place, and so wide."""
    stack, wide, high = box.stack, across - box.stack, box.height - box.stack
    right = wide - _PAD
    parts = [tag("title", said(box.title))]
    parts += [_outline(box, back, stack - back, wide, high) for back in range(stack, -1, -3)]
    if box.step.step_type == "sub_flow":
        sides = f"M4.5 {stack}v{high:g}M{wide - 4.5:g} {stack}v{high:g}"
        parts.append(tag("path", class_="szal-mark", d=sides))
    if box.word is not None:
        parts.append(sign(box.word, _PAD + 7, stack + 16))
    if box.waits:
        parts.append(tag("path", class_="szal-mark", transform=f"translate({right - 4:g} {stack + 16})", d=_CLOCK))
        right -= _MARK
    name = cut(line(box.step.name), right - box.left, _NAME, bold=True, keep_end=True)
    parts.append(tag("text", said(name), class_="szal-name", x=box.left, y=stack + 20.5))
    for row, each in enumerate(box.lines):
        text = cut(each.text, wide - box.left - _PAD, _SMALL)
        parts.append(tag("text", said(text), class_=each.kind, x=box.left, y=stack + 36 + row * _ROW))
    state = "" if box.word is None else f" szal-{box.word}"
    return tag("g", *parts, class_=f"szal-node{state}", transform=f"translate({x:g} {y:g})")


def _outline(box: Box, x: float, y: float, wide: float, high: float) -> str:
    return tag("rect", class_="szal-box", x=x, y=y, width=wide, height=high, rx=15 if box.waits else 6)
