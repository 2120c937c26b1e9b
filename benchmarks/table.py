"""The results as text."""

from collections.abc import Iterable, Sequence

from benchmarks.case import Case, Series, Verdict
from benchmarks.measure import Found

__all__ = ["case_table", "figure", "middle", "ratio_table", "verdict_word"]


def number(value: float) -> str:
    """Return *value* with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def verdict_word(verdict: Verdict) -> str:
    """Say whether a target is met."""
    return {None: "", True: "met", False: "NOT MET"}[verdict.met]


def case_table(found: Found) -> str:
    """Return the figures of one case: subjects down, sizes across."""
    sizes = sorted({size for _, size in found.measures})
    labels = list(found.roles)
    head = ["", *(f"{size:,}" for size in sizes)]
    rows = [[label, *(_cell(found, label, size) for size in sizes)] for label in labels]
    lines = [f"{found.case.name}: {found.case.title}", f"  {found.case.scale}, median ± spread", *_grid([head, *rows])]
    if any((label, size) not in found.measures for label in labels for size in sizes):
        lines.append("  -: not asked for as many, which would take minutes")
    for (label, size), series in found.measures.items():
        if series.error is not None:
            lines.append(f"  {label} at {size}: {series.error}")
    return "\n".join(lines)


def _cell(found: Found, label: str, size: int) -> str:
    series = found.measures.get((label, size))
    if series is None:
        return "-"
    return figure(found.case, series, size) if series.values else "failed"


def figure(case: Case, series: Series, size: int) -> str:
    """Return median and spread."""
    return f"{number(case.per_unit(series.median, size))} ±{series.spread:.0%}"


def middle(verdict: Verdict) -> str:
    """Return between what the middle half of the rounds lies; nothing for a single figure."""
    low, high = verdict.quartiles
    return f"{low:.3g} to {high:.3g}" if len(verdict.rounds) > 1 else ""


def ratio_table(verdicts: Iterable[Verdict]) -> str:
    """Return the ratios, and what the targets say to them."""
    rows = [["case", "size", "subject", "against", "ratio", "half of the rounds", "at most", ""]]
    for verdict in verdicts:
        at_most = "" if verdict.at_most is None else f"{verdict.at_most:g}"
        what = [verdict.case, f"{verdict.size:,}", verdict.subject, verdict.against]
        rows.append([*what, f"{verdict.ratio:.3g}", middle(verdict), at_most, verdict_word(verdict)])
    return "\n".join(_grid(rows))


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines: the first column to the left, the others as their content asks."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if _is_figure(cell) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _is_figure(cell: str) -> bool:
    return cell[:1].isdigit() or cell == "-"
