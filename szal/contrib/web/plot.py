"""Plots as SVG, made on the server: colours are classes of the stylesheet, and every text can be selected."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

from markupsafe import Markup, escape

from szal.contrib.web.statistics import Rates, percentile
from szal.legible import elapsed

__all__ = ["durations_plot", "rates_plot"]

_WIDTH: Final = 520
_HEIGHT: Final = 132
_LEFT: Final = 46
_TOP: Final = 10
_BOTTOM: Final = 22
_NICE: Final = (1.0, 2.0, 5.0, 10.0)
_A_MINUTE: Final = 60
_A_DAY: Final = 86400


def rates_plot(rates: Rates) -> Markup:
    """Return bars: how many began a minute, and how many of these failed."""
    most = _ceiling(max((rates.a_minute(bucket) for bucket in rates.buckets), default=1.0))
    scale = _Scale(rates, most)
    parts = [*scale.frame(lambda value: f"{value:g}")]
    for place, bucket in enumerate(rates.buckets):
        if not bucket.total:
            continue
        began = f"{scale.when(place)}: {rates.a_minute(bucket):g} a minute, {bucket.failed} of {bucket.total} failed"
        parts.append(f"<g><title>{escape(began)}</title>")
        parts.append(scale.bar(place, 0.0, rates.a_minute(bucket), "p-total"))
        if bucket.failed:
            parts.append(scale.bar(place, 0.0, rates.a_minute(bucket, bucket.failed), "p-failed"))
        parts.append("</g>")
    total, failed = sum(each.total for each in rates.buckets), sum(each.failed for each in rates.buckets)
    return _svg(parts, f"Executions a minute over time: {total} in all, {failed} failed")


def durations_plot(rates: Rates) -> Markup:
    """Return lines: how long half of those that ended took at most, and 95 of 100."""
    points = {percent: [percentile(each.seconds, percent) for each in rates.buckets] for percent in (50, 95)}
    known = [value for values in points.values() for value in values if value is not None]
    scale = _Scale(rates, _ceiling(max(known, default=1.0)))
    parts = [*scale.frame(elapsed)]
    for percent, values in points.items():
        parts += scale.line(values, f"p-{percent}")
        for place, value in enumerate(values):
            if value is not None:
                told = f"{scale.when(place)}: {percent} % within {elapsed(value)}"
                parts.append(scale.dot(place, value, f"p-{percent}", told))
    half, most = (percentile([each for bucket in rates.buckets for each in bucket.seconds], at) for at in (50, 95))
    told = "nothing has ended" if half is None or most is None else f"50 % {elapsed(half)}, 95 % {elapsed(most)}"
    return _svg(parts, f"Durations over time: {told}")


def _svg(parts: Sequence[str], label: str) -> Markup:
    shape = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}"'
    return Markup(f'<svg class="plot" {shape}>{"".join(parts)}</svg>')  # noqa: S704 (what came from elsewhere is escaped)


def _ceiling(value: float) -> float:
    """Return the next round number that is no less.

    >>> _ceiling(3.2), _ceiling(0.011), _ceiling(0)
    (5.0, 0.02, 1.0)
    """
    if value <= 0:
        return 1.0
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 < value:
        power *= 10
    return next(round(power * nice, 12) for nice in _NICE if power * nice >= value * 0.999999)


class _Scale:
    """From buckets and values to places in the drawing."""

    def __init__(self, rates: Rates, most: float) -> None:
        self._rates = rates
        self._most = most
        self._step = (_WIDTH - _LEFT - 8) / max(1, len(rates.buckets))

    def x(self, place: float) -> float:
        return round(_LEFT + place * self._step, 1)

    def y(self, value: float) -> float:
        room = _HEIGHT - _TOP - _BOTTOM
        return round(_TOP + room * (1 - min(value / self._most, 1.0)), 1)

    def when(self, place: int) -> str:
        """Return when a bucket begins, as long as it has to be."""
        return self._told(self._rates.moment(place))

    def _told(self, moment: datetime) -> str:
        if self._rates.width >= _A_DAY:
            return f"{moment:%Y-%m-%d}"
        return f"{moment:%b %d, %H:%M} UTC" if self._rates.width >= _A_MINUTE else f"{moment:%b %d, %H:%M:%S} UTC"

    def frame(self, told: Callable[[float], str]) -> Iterator[str]:
        """Yield the lines for values, and what stands at both axes."""
        for share in (0.0, 0.5, 1.0):
            y = self.y(self._most * share)
            yield f'<line class="p-grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y}" y2="{y}"/>'
            yield f'<text class="p-text p-end" x="{_LEFT - 6}" y="{y + 4}">{told(self._most * share)}</text>'
        if self._rates.buckets:
            last = len(self._rates.buckets) - 1
            yield f'<text class="p-text" x="{_LEFT}" y="{_HEIGHT - 5}">{escape(self.when(0))}</text>'
            if last:
                at = f'x="{_WIDTH - 8}" y="{_HEIGHT - 5}"'
                yield f'<text class="p-text p-end" {at}>{escape(self.when(last))}</text>'

    def bar(self, place: int, low: float, high: float, name: str) -> str:
        top = min(self.y(high), self.y(0.0) - 1)
        size = f'width="{max(1.0, self._step * 0.8):.1f}" height="{self.y(low) - top:.1f}"'
        return f'<rect class="{name}" x="{self.x(place + 0.1)}" y="{top}" {size}/>'

    def line(self, values: Sequence[float | None], name: str) -> Iterator[str]:
        """Yield lines between neighbours, over what is not known."""
        known = [(self.x(place + 0.5), self.y(value)) for place, value in enumerate(values) if value is not None]
        if len(known) > 1:
            yield f'<polyline class="p-line {name}" points="{" ".join(f"{x},{y}" for x, y in known)}"/>'

    def dot(self, place: int, value: float, name: str, told: str) -> str:
        x, y = self.x(place + 0.5), self.y(value)
        title = f"<title>{escape(told)}</title>"
        if name == "p-95":  # told apart without a colour, too
            return f'<rect class="{name}" x="{x - 2.5:.1f}" y="{y - 2.5:.1f}" width="5" height="5">{title}</rect>'
        return f'<circle class="{name}" cx="{x}" cy="{y}" r="2.5">{title}</circle>'
