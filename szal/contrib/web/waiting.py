"""The page *Waiting*: what waits for a signal or a decision, the oldest first."""

from collections.abc import Sequence
from typing import Final

import attrs

from szal.contrib.web.asked import cursor_of
from szal.engine.lineage import is_child_id
from szal.engine.recorded_flows import recorded_flow
from szal.engine.status import Wait, waits_of
from szal.errors import DecodeError, ExecutionNotFound
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.filters import ExecutionSummary
from szal.stores.limits import ResourceUse
from szal.stores.store import Store

__all__ = ["Waiting", "WaitingLine"]

_PAUSED: Final = 10_000
"""So many that are paused are looked through: the newest."""
_PAGE: Final = 25
_LOOKS: Final = 50
"""So many are looked at for one page."""


@attrs.frozen
class WaitingLine:
    """An execution, and what it waits for that somebody has to say."""

    summary: ExecutionSummary
    record: ExecutionRecord
    waits: Sequence[Wait]


@attrs.frozen(kw_only=True)
class Waiting:
    """What the page shows. `paused`: how many are, whatever they wait for."""

    lines: Sequence[WaitingLine]
    paused: int
    uses: Sequence[ResourceUse]
    """How much of each capacity of the store is in use, and how many steps wait for it."""
    later: str | None
    """The cursor of the next page."""

    @classmethod
    def of(cls, store: Store, after: ExecutionSummary | None) -> "Waiting":
        """Look for what waits, from *after* on."""
        found = store.find(states=WorkflowState.PAUSED, limit=_PAUSED)
        done = ("", "") if after is None else (after.position, after.execution_id)
        left = [each for each in reversed(found) if (each.position, each.execution_id) > done]
        lines: list[WaitingLine] = []
        looked = 0
        for summary in left:
            if len(lines) == _PAGE or looked == _LOOKS:
                break
            looked += 1
            if is_child_id(summary.execution_id) and summary.parent_execution_id is not None:
                continue  # it is told of what it belongs to
            line = _line_of(store, summary)
            if line is not None:
                lines.append(line)
        later = cursor_of(left[looked - 1]) if looked < len(left) else None
        return cls(
            lines=lines,
            paused=store.count(states=WorkflowState.PAUSED),
            uses=store.ledger.limits.uses(),
            later=later,
        )


def _line_of(store: Store, summary: ExecutionSummary) -> WaitingLine | None:
    """Return what an execution waits for; None: nothing that somebody has to say, or not any more."""
    ledger = store.ledger
    try:
        known = ledger.read(summary.execution_id)
    except (ExecutionNotFound, DecodeError):
        return None
    if known.flow is None or known.record.state is not WorkflowState.PAUSED:
        return None
    found = waits_of(ledger, known.record, recorded_flow(known.flow), known)
    waits = [wait for wait in found if _is_of_people(wait)]
    return WaitingLine(summary, known.record, waits) if waits else None


def _is_of_people(wait: Wait) -> bool:
    """Whether somebody has to say something: a signal, or what became of a step."""
    return wait.signal is not None or wait.until is None
