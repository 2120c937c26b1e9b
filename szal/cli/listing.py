"""Which executions there are, as a table."""

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Final, Literal

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from szal.cli.rows import DIM, took, width_of
from szal.cli.style import look_of
from szal.cli.text import elapsed, moment, one_line
from szal.engine.which import shown_state
from szal.stores import ExecutionSummary

__all__ = ["executions"]


def executions(
    console: Console, found: Sequence[ExecutionSummary], *, interrupted: Collection[str] = ()
) -> RenderableType:
    """Return a table of *found*. Ids are cut to what tells them apart where a terminal is too narrow for them;
    one that is narrower still has no times of start and no errors, and cuts the names of flows.

    One that counts as running, but is among *interrupted*, is shown as such: nobody runs it.
    """
    ids = [item.execution_id for item in found]
    is_narrow = console.file.isatty() and width_of(list(map(one_line, ids))) > console.width // 3
    length = _distinct(ids) if is_narrow else None
    ids = [one_line(each[:length]) for each in ids]
    flows = [one_line(item.flow_name) for item in found]
    widths = {"execution": width_of(ids), "flow": min(width_of(flows), console.width // 4), "state": 14, "started": 16}
    widths = {name: max(width, len(name)) for name, width in widths.items()}
    widths["time"] = _TIME
    has_room = _fit(console, sum(widths.values()) + len(widths) + _LEAST)
    if not has_room:
        del widths["started"]
        missing = sum(widths.values()) + len(widths) - console.width
        widths["flow"] = max(1, widths["flow"] - max(0, missing))
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, expand=True)
    for name, width in widths.items():
        side: Literal["left", "right"] = "right" if name == "time" else "left"
        table.add_column(name, width=width, justify=side, no_wrap=True, overflow="ellipsis", header_style=DIM)
    if has_room:
        table.add_column("error", ratio=1, no_wrap=True, overflow="ellipsis", header_style=DIM)
    for item, shown, flow in zip(found, ids, flows, strict=True):
        state = shown_state(item.state, is_interrupted=item.execution_id in interrupted)
        sign, colour = look_of(console, state)
        seconds = took(item.started_at, item.finished_at)
        cells = {
            "execution": Text(shown),
            "flow": Text(flow),
            "state": Text(f"{sign} {state}", style=colour),
            "started": Text("" if item.started_at is None else moment(item.started_at, "minutes"), style=DIM),
            "time": Text("" if seconds is None else elapsed(seconds)),
            "error": Text(one_line(item.error or ""), style=DIM),
        }
        table.add_row(*(cells[str(column.header)] for column in table.columns))
    return table


_TIME: Final = 6
_LEAST: Final = 6
"""So much is left for the error, at least."""


def _fit(console: Console, width: int) -> bool:
    """Whether a table of that width fits. In a file or a pipe it does: lines are as long as it takes."""
    if not console.file.isatty():
        console.width = max(console.width, width)
    return width <= console.width


def _distinct(ids: Sequence[str]) -> int:
    """Return how many characters (at least eight) tell these ids apart."""
    ordered = sorted(ids)
    longest = 0
    for one, other in pairwise(ordered):
        common = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        longest = max(longest, common)
    return max(8, longest + 1)
