"""The page *Executions*: which there are, how many in each state, and how they went over time."""

from collections.abc import Sequence
from typing import Final

import attrs

from szal.contrib.web.asked import Asked, cursor_of
from szal.contrib.web.statistics import Rates, seconds_of
from szal.engine.which import INTERRUPTED, shown_state
from szal.model.state import WorkflowState
from szal.stores.filters import ExecutionSummary
from szal.stores.store import Store

__all__ = ["LATEST", "Line", "Listing", "lines_of"]

LATEST: Final = 1000
"""So many of what passes the filters are looked through for a text, and drawn."""
_PAGE: Final = 50


@attrs.frozen
class Line:
    """One execution in a list."""

    summary: ExecutionSummary
    state: str
    """As it is shown: "interrupted", too."""

    @property
    def seconds(self) -> float | None:
        """How long it took, if it has ended."""
        return seconds_of(self.summary)


def lines_of(found: Sequence[ExecutionSummary], interrupted: frozenset[str]) -> list[Line]:
    """Return a line for each of *found*."""
    return [Line(each, shown_state(each.state, is_interrupted=each.execution_id in interrupted)) for each in found]


@attrs.frozen(kw_only=True)
class Listing:
    """What one page of the list shows."""

    asked: Asked
    lines: Sequence[Line]
    older: str | None
    """The cursor of the next page; None: this is the last one."""
    counts: Sequence[tuple[str, int | None]]
    """How many pass the other filters, in each state; None: nobody has counted."""
    rates: Rates | None
    """Of the newest; on the first page."""
    looked_through: int | None
    """How many the text of an error was looked for in."""
    flows: Sequence[str]
    """Names of flows among these."""

    @classmethod
    def of(cls, store: Store, asked: Asked) -> "Listing":
        """Look for what is asked for."""
        is_first = asked.after is None
        size = LATEST if is_first or asked.error else _PAGE + 1
        found, interrupted = asked.which.newest(store, size, None if asked.error else asked.after)
        latest, through = found, None
        if asked.error:
            through = len(found)
            latest = [each for each in found if asked.admits_error(each)]
            found = latest if asked.after is None else [each for each in latest if _is_after(each, asked.after)]
        page = found[:_PAGE]
        return cls(
            asked=asked,
            lines=lines_of(page, interrupted),
            older=cursor_of(page[-1]) if len(found) > _PAGE else None,
            counts=_counts(store, asked),
            rates=Rates.of(latest) if is_first and latest else None,
            looked_through=through,
            flows=sorted({each.flow_name for each in latest}),
        )


def _is_after(summary: ExecutionSummary, other: ExecutionSummary) -> bool:
    return (summary.position, summary.execution_id) < (other.position, other.execution_id)


def _counts(store: Store, asked: Asked) -> list[tuple[str, int | None]]:
    """Return how many are in each state, whatever states are asked for."""
    filters = attrs.evolve(asked.which, states=()).filters()
    counts: list[tuple[str, int | None]] = []
    for state in WorkflowState:
        filters["states"] = state
        counts.append((str(state), store.count(**filters)))
    if dict(counts)[str(WorkflowState.RUNNING)]:
        counts.append((INTERRUPTED, None))  # each is looked at for that
    return [(state, count) for state, count in counts if count != 0 or state in asked.which.states]
