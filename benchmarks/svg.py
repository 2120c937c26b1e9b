"""Plots as plain SVG: lines on log-log axes, bars on a log axis, and makespans from nought."""

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape

__all__ = ["bars", "groups", "lines", "makespans"]

WIDTH = 720
LEFT, RIGHT, TOP, BOTTOM = 70, 220, 34, 50
COLOURS = (
    *("#c0392b", "#2c7fb8", "#31a354", "#756bb1", "#e6842a", "#636363", "#17a2a2"),
    *("#d6539f", "#8c6d31", "#1f3b73", "#6b8e00", "#7a0177", "#111111", "#00684a"),
)
OURS, PLAIN, FLOOR = COLOURS[0], COLOURS[1], "#8a8f98"

Points = Sequence[tuple[float, float]]


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the exponents of the powers of ten around *values*."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _power(exponent: int) -> str:
    return f"{10**exponent:,}" if exponent >= 0 else f"{10.0**exponent:g}"


def _short(exponent: int) -> str:
    return f"{_power(exponent % 3)}{'kMG'[exponent // 3 - 1]}" if 3 <= exponent < 12 else _power(exponent)


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _shown(value: float) -> str:
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _picture(height: float, title: str, parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="12">'
    paper = '<rect width="100%" height="100%" fill="#fff"/>'  # or a dark page would hide the text
    return "\n".join([head, f"<title>{escape(title)}</title>", paper, *parts, "</svg>"])


def lines(title: str, series: Mapping[str, Points], x_title: str, y_title: str) -> str:
    """Return a line for each of *series* (positive numbers), both axes logarithmic."""
    x_low, x_high = _decades([x for points in series.values() for x, _ in points])
    y_low, y_high = _decades([y for points in series.values() for _, y in points])
    height = 400
    wide, high = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM

    def across(x: float) -> float:
        return LEFT + (math.log10(x) - x_low) / (x_high - x_low) * wide

    def down(y: float) -> float:
        return TOP + (y_high - math.log10(y)) / (y_high - y_low) * high

    parts = []
    for exponent in range(x_low, x_high + 1):
        x = across(10.0**exponent)
        parts += [_rule(x, TOP, x, TOP + high), _text(x, TOP + high + 16, _power(exponent), anchor="middle")]
    for exponent in range(y_low, y_high + 1):
        y = down(10.0**exponent)
        parts += [_rule(LEFT, y, LEFT + wide, y), _text(LEFT - 6, y + 4, _power(exponent), anchor="end")]
    parts.append(_text(LEFT + wide / 2, height - 12, x_title, anchor="middle"))
    parts.append(_text(LEFT - 60, TOP - 18, y_title))
    for place, (label, points) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        thick = 3 if place == 0 else 1.5
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{thick}"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(_text(LEFT + wide + 12, TOP + 14 + 18 * place, label, colour=colour))
    return _picture(height, title, parts)


def _colour(place: int, label: str, floors: Collection[str]) -> str:
    if label in floors:
        return FLOOR
    return OURS if place == 0 or label.startswith("szal") else PLAIN


def bars(title: str, values: Mapping[str, float], unit: str, floors: Collection[str] = ()) -> str:
    """Return a bar for each of *values* (positive), on a logarithmic axis; szal and the *floors* stand out."""
    low, high = _decades(list(values.values()))
    low -= 1 if min(values.values()) == 10.0**low else 0  # the least needs a length too
    left, row = 230, 24
    wide = WIDTH - left - 80
    bottom = TOP + row * len(values)
    parts = []
    for exponent in range(low, high + 1):
        x = left + (exponent - low) / (high - low) * wide
        parts += [_rule(x, TOP, x, bottom), _text(x, bottom + 16, _power(exponent), anchor="middle")]
    for place, (label, value) in enumerate(values.items()):
        y = TOP + row * place
        length = (math.log10(value) - low) / (high - low) * wide
        colour = _colour(place, label, floors)
        parts.append(_text(left - 8, y + 15, label, anchor="end"))
        parts.append(f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{row - 8}" fill="{colour}"/>')
        parts.append(_text(left + length + 6, y + 15, _shown(value)))
    parts.append(_text(left + wide / 2, bottom + 36, f"{unit} (logarithmic)", anchor="middle"))
    return _picture(bottom + 46, title, parts)


def groups(title: str, values: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Return bars in groups, on a logarithmic axis; "szal" and "the floor" stand out, the others say who they are."""
    every = [value for group in values.values() for value in group.values()]
    low, high = _decades(every)
    left, row, gap = 320, 15, 12
    wide = WIDTH - left - 150
    bottom = TOP + sum(row * len(group) + gap for group in values.values())
    parts = []
    for exponent in range(low, high + 1):
        x = left + (exponent - low) / (high - low) * wide
        parts += [_rule(x, TOP, x, bottom), _text(x, bottom + 16, _short(exponent), anchor="middle")]
    y = float(TOP)
    for name, group in values.items():
        parts.append(_text(left - 8, y + row * len(group) / 2 + 5, name, anchor="end"))
        for label, value in group.items():
            length = max(1.0, (math.log10(value) - low) / (high - low) * wide)
            colour = FLOOR if label == "the floor" else _colour(1, label, ())
            parts.append(f'<rect x="{left}" y="{y + 1}" width="{length:.1f}" height="{row - 2}" fill="{colour}"/>')
            parts.append(_text(left + length + 6, y + row - 3, f"{label}: {_shown(value)}"))
            y += row
        y += gap
    parts.append(_text(left + wide / 2, bottom + 36, f"{unit} (logarithmic)", anchor="middle"))
    return _picture(bottom + 46, title, parts)


def makespans(title: str, values: Mapping[str, float], marks: Mapping[str, float], floors: Collection[str] = ()) -> str:
    """Return a bar for each of *values* (milliseconds), and an upright line for each of *marks*: what none can beat.

    A bar that would dwarf the others is cut. szal and the *floors* stand out.
    """
    left, row = 230, 24
    wide = WIDTH - left - 80
    most = min(max(*values.values(), *marks.values()), 3 * max(marks.values()))
    top = TOP + 16 * len(marks)
    bottom = top + row * len(values)
    parts = []
    for place, (label, value) in enumerate(values.items()):
        y = top + row * place
        length = min(value / most, 1.0) * wide
        parts.append(_text(left - 8, y + 15, label, anchor="end"))
        colour = _colour(place, label, floors)
        parts.append(f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{row - 8}" fill="{colour}"/>')
        parts.append(_text(left + length + 6, y + 15, f"{'→ ' if value > most else ''}{value:,.0f}"))
    for place, (label, value) in enumerate(marks.items()):
        x, y = left + value / most * wide, TOP + 16 * place
        parts.append(f'<line x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{bottom}" stroke="#222" stroke-dasharray="4 3"/>')
        anchor, beside = ("end", -5) if x > WIDTH / 2 else ("start", 5)
        parts.append(_text(x + beside, y + 8, f"{label}: {value:,.4g}", anchor=anchor))
    parts.append(_text(left + wide / 2, bottom + 20, "milliseconds", anchor="middle"))
    return _picture(bottom + 30, title, parts)
