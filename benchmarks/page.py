"""The results as one HTML page that needs nothing else."""

from html import escape

from benchmarks.measure import Found
from benchmarks.plots import plot
from benchmarks.report import Report
from benchmarks.table import figure, middle, verdict_word

__all__ = ["of"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { padding: .15rem .7rem; border-bottom: 1px solid #ddd; text-align: left }
.figure { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.range { white-space: nowrap }
.met { color: #1a7f37 } .missed { color: #b3261e; font-weight: 600 } .told { color: #777 }
svg { width: 100%; max-width: 45rem; font-family: inherit }
"""


def of(summary: Report) -> str:
    """Return the page of all that *summary* holds."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>szal: benchmarks</title>",
        f"<style>{STYLE}</style><h1>szal: benchmarks</h1>",
        f"<p><code>{escape(summary.command)}</code></p>",
        _pairs("Machine", summary.machine),
        _pairs("Versions", summary.versions()),
        _pairs("Not installed", summary.missing) if summary.missing else "",
        "<h2>Ratios</h2>",
        _ratios(summary),
        *(_section(found) for found in summary.cases),
    ]
    return "\n".join(parts)


def _pairs(title: str, pairs: dict[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(key)}<td>{escape(value)}" for key, value in pairs.items())
    return f"<details open><summary>{title}</summary><table>{rows}</table></details>"


def _ratios(summary: Report) -> str:
    rows = [
        (
            "<tr><th>case<th class=figure>size<th>subject<th>against<th class=figure>ratio<th>half of the rounds"
            "<th class=figure>at most<th>"
        )
    ]
    for verdict in summary.verdicts:
        at_most = "" if verdict.at_most is None else f"{verdict.at_most:g}"
        kind = {True: "met", False: "missed", None: "told"}[verdict.met]
        rows.append(
            f"<tr class={kind}><td>{verdict.case}<td class=figure>{verdict.size:,}<td>{escape(verdict.subject)}"
            f"<td>{escape(verdict.against)}<td class=figure>{verdict.ratio:.3g}<td class=range>{middle(verdict)}"
            f"<td class=figure>{at_most}"
            f"<td class=range>{verdict_word(verdict)}"
        )
    return f"<table>{''.join(rows)}</table>"


def _section(found: Found) -> str:
    case = found.case
    sizes = sorted({size for _, size in found.measures})
    rows = ["<tr><th>" + "".join(f"<th class=figure>{size:,}" for size in sizes)]
    for label in found.roles:
        cells = []
        for size in sizes:
            series = found.measures.get((label, size))
            if series is None or series.error is None:
                cells.append(f"<td class=figure>{'too many' if series is None else figure(case, series, size)}")
            else:
                cells.append(f"<td class=missed>{escape(series.error)}")
        rows.append(f"<tr><th>{escape(label)}{''.join(cells)}")
    head = f"<h2>{case.name}</h2><p>{escape(case.title)} ({case.scale})</p>"
    return f"{head}<table>{''.join(rows)}</table>{plot(found) or ''}"
