"""Which executions are meant, and how they are shown: what filters say, "interrupted" among the states."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, TypeAlias

import attrs

from szal.engine.status import interrupted_among
from szal.model.state import WorkflowState
from szal.stores.filters import LIVE, ExecutionSummary, Filters
from szal.stores.store import Store

__all__ = ["INTERRUPTED", "UNFINISHED", "Found", "Which", "shown_state"]

INTERRUPTED: Final = "interrupted"
"""The word for what counts as running, but nobody runs."""

Found: TypeAlias = tuple[list[ExecutionSummary], frozenset[str]]
"""Executions, and which of them nobody runs although they could go on."""

_PAGE: Final = 1000
_FEWEST: Final = 200  # where they are looked through
_MAY_BE_INTERRUPTED: Final = tuple(str(state) for state in LIVE if state is not WorkflowState.PAUSED)


def shown_state(state: WorkflowState | None, *, is_interrupted: bool) -> str:
    """Return the word for a state, as it is printed, and as ``--state`` takes it. None: nobody can tell.

    What counts as running, but nobody runs, is "interrupted"; what is paused is told to be just that.
    """
    if is_interrupted and state is not WorkflowState.PAUSED:
        return INTERRUPTED
    return "unknown" if state is None else str(state)


@attrs.frozen(kw_only=True)
class Which:
    """What the filters say; all that are given must hold. States are as they are shown, "interrupted" among them."""

    flow: str | None = None
    states: tuple[str, ...] = ()
    labels: Mapping[str, str] = attrs.field(factory=dict)
    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        """Whether any filter is given."""
        return self != Which()

    def pages(self, store: Store, size: int = _PAGE, after: ExecutionSummary | None = None) -> Iterator[Found]:
        """Yield what passes them, the newest first, so many at a time that it is no matter how many there are.

        With *after*, what comes after that.

        "interrupted" is none that stores know: what counts as running is looked through for it.
        """
        looks_through = 0 < len({INTERRUPTED, *_MAY_BE_INTERRUPTED} & {*self.states}) <= len(_MAY_BE_INTERRUPTED)
        size, filters = max(size, _FEWEST if looks_through else 1), self.filters()
        page = store.find(limit=size, after=after, **filters)
        while page:
            left = interrupted_among(store, page)
            shown = (shown_state(each.state, is_interrupted=each.execution_id in left) for each in page)
            passes = [not looks_through or state in self.states for state in shown]
            yield [each for each, does in zip(page, passes, strict=True) if does], left
            page = store.find(limit=size, after=page[-1], **filters)

    def newest(self, store: Store, limit: int, after: ExecutionSummary | None = None) -> Found:
        """Return the newest that pass them, at most *limit*; with *after*, of those that come after it."""
        chosen: list[ExecutionSummary] = []
        left: frozenset[str] = frozenset()
        for found, interrupted in self.pages(store, min(limit, _PAGE), after):
            chosen += found
            left |= interrupted
            if len(chosen) >= limit:
                break
        return chosen[:limit], left

    def filters(self) -> Filters:
        """Return them as stores take them: what is interrupted counts as running there."""
        asked = {*self.states, *(_MAY_BE_INTERRUPTED if INTERRUPTED in self.states else ())}
        return Filters(
            flow_name=self.flow,
            states=[state for state in WorkflowState if str(state) in asked] or None,
            labels=self.labels,
            since=self.since,
            until=self.until,
        )


UNFINISHED: Final = Which(states=(INTERRUPTED, *map(str, LIVE)))
"""All that have not ended."""
