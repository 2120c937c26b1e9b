"""Which plot shows a case best."""

from benchmarks import svg
from benchmarks.case import Ideal
from benchmarks.measure import Found

__all__ = ["is_telling", "plot"]


def plot(found: Found) -> str | None:
    """Return makespans beside the ideal where there is one; a line for each subject where there are sizes; else bars.

    None where nothing was measured.
    """
    case = found.case
    points: dict[str, list[tuple[float, float]]] = {}
    for (label, size), series in found.measures.items():
        if series.values and series.median > 0:
            points.setdefault(label, []).append((size, case.per_unit(series.median, size)))
    if not points:
        return None
    sizes = {size for series in points.values() for size, _ in series}
    if len(sizes) > 1:
        return svg.lines(case.title, points, "size" if case.whole else f"{case.unit}s", case.scale)
    floors = {label for label, role in found.roles.items() if role.is_floor}
    ideals = {target.name: target.measure for target in case.targets if isinstance(target, Ideal)}
    if ideals:
        (size,) = sizes
        marks = {name: measure(size) * 1000 for name, measure in ideals.items()}
        medians = {label: found.measures[label, size].median * 1000 for label in points}
        return svg.makespans(case.title, medians, marks, floors)
    return svg.bars(case.title, {label: series[0][1] for label, series in points.items()}, case.scale, floors)


def is_telling(found: Found) -> bool:
    """Whether a plot says more than two numbers do."""
    sizes = {size for _, size in found.measures}
    return len(sizes) > 1 or len(found.roles) > 2 or any(isinstance(target, Ideal) for target in found.case.targets)
