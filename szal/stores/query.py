"""What can be asked of a store besides one record: which executions, in which order, and what may be pruned."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, TypedDict, Unpack

import attrs

from szal import clock
from szal.expressions.path import Json
from szal.model.state import WorkflowState

__all__ = [
    "HEAD",
    "LIVE",
    "ExecutionSummary",
    "Filters",
    "Ids",
    "Page",
    "Position",
    "Query",
    "Retention",
    "position_key",
    "summary_of",
]

Position: TypeAlias = tuple[str, str]
"""Where an execution stands in the order of `find`: the key of its start, then its id."""

LIVE = tuple(state for state in WorkflowState if state.is_live)
"""The states of executions that have not ended."""
_DECIDED = (WorkflowState.COMPLETED, WorkflowState.FAILED, WorkflowState.ROLLED_BACK, WorkflowState.CANCELLED)


@attrs.frozen(kw_only=True)
class ExecutionSummary:
    """What `find` returns for each execution: everything but its inputs and its result.

    >>> moment = datetime(2026, 6, 10, tzinfo=UTC)
    >>> summary = ExecutionSummary(execution_id="e1", flow_name="ci", state=WorkflowState.RUNNING, started_at=moment)
    >>> summary.labels, summary.error
    ({}, None)
    """

    execution_id: str
    flow_name: str
    state: WorkflowState
    started_at: datetime
    finished_at: datetime | None = None
    parent_execution_id: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    error: str | None = None
    position: str = attrs.field(eq=False, repr=False)
    """The key of `started_at` exactly as the database sorts it; a datetime would lose Rust's nanoseconds."""

    @position.default
    def _position(self) -> str:
        return moment_key(self.started_at)


# A class with a method called list cannot say list[...].
Page: TypeAlias = list[ExecutionSummary]
Ids: TypeAlias = list[str]


class Filters(TypedDict, total=False):
    """Which executions; all that are given must hold. `since` and `until` are aware: since <= start < until."""

    flow_name: str | None
    states: WorkflowState | Iterable[WorkflowState] | None
    labels: Mapping[str, str] | None
    since: datetime | None
    until: datetime | None


# -- timestamps ---------------------------------------------------------------------------------------


def position_key(text: str) -> str:
    """Return the sort key of a UTC timestamp in any of its spellings: 19 characters, "0", six digits.

    The databases compute the very same in SQL (an index can hold no Python).

    >>> [position_key("2026-06-10T07:41:22" + end) for end in ("Z", ".5+00:00", ".019384756Z")]
    ['2026-06-10T07:41:220000000', '2026-06-10T07:41:220500000', '2026-06-10T07:41:220019384']
    """
    return (text.replace("+00:00", "Z").rstrip("Z") + ".000000")[:26].replace(".", "0")


def moment_key(moment: datetime) -> str:
    """Return the sort key of an aware datetime."""
    return position_key(moment.astimezone(UTC).isoformat())


def _bound(moment: datetime | None, name: str) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{name} has no time zone: use datetime.now(timezone.utc) or .astimezone()")
    return moment_key(moment)


def _moment(value: Json) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return None if moment.tzinfo is None else moment.astimezone(UTC)


# -- summaries ----------------------------------------------------------------------------------------

HEAD = ("state", "started_at", "finished_at", "parent_execution_id", "labels", "error")
"""The keys of a record's JSON that a summary is made of, in the order that `summary_of` takes their values."""


def summary_of(execution_id: str, flow_name: str, position: str, head: list[Json]) -> ExecutionSummary | None:
    """Return the summary of one row, or None where its data says neither state nor start: szal cannot read it."""
    state, started, finished, parent, labels, error = head
    started_at = _moment(started)
    try:
        known = WorkflowState(state)
    except ValueError:
        return None
    if started_at is None:
        return None
    return ExecutionSummary(
        execution_id=execution_id,
        flow_name=flow_name,
        state=known,
        started_at=started_at,
        finished_at=_moment(finished),
        parent_execution_id=parent if isinstance(parent, str) else None,
        labels=_labels(labels),
        error=error if isinstance(error, str) else None,
        position=position,
    )


def _labels(value: Json) -> dict[str, str]:
    return {key: text for key, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else {}


# -- questions ----------------------------------------------------------------------------------------


def _states(states: WorkflowState | Iterable[WorkflowState] | None) -> tuple[WorkflowState, ...] | None:
    if states is None:
        return None
    chosen = (states,) if isinstance(states, WorkflowState) else tuple(dict.fromkeys(states))
    for state in chosen:
        if not isinstance(state, WorkflowState):
            raise TypeError(f"states takes WorkflowState members, not {state!r}")
    return chosen


def _text_map(labels: Mapping[str, str] | None) -> dict[str, str]:
    return dict(labels or {})


@attrs.frozen(kw_only=True)
class Query:
    """Checked arguments of `find` and `count`."""

    flow_name: str | None = None
    states: tuple[WorkflowState, ...] | None = attrs.field(default=None, converter=_states)
    labels: Mapping[str, str] = attrs.field(default=None, converter=_text_map)
    since: str | None = None
    until: str | None = None
    limit: int | None = None
    after: Position | None = None

    @classmethod
    def of(cls, *, limit: int | None = None, after: Position | None = None, **filters: Unpack[Filters]) -> "Query":
        """Check what the caller of `find` gave; raises TypeError and ValueError."""
        if limit is not None and limit < 0:
            raise ValueError(f"limit is negative ({limit})")
        bounds = {name: _bound(filters.pop(name, None), name) for name in ("since", "until")}  # type: ignore[misc]
        return cls(limit=limit, after=after, **bounds, **filters)  # type: ignore[arg-type]

    def admits(self, summary: ExecutionSummary) -> bool:
        """Whether *summary* passes the filters (limit and after aside); what the databases say in SQL."""
        return (
            (self.flow_name is None or summary.flow_name == self.flow_name)
            and (self.states is None or summary.state in self.states)
            and (self.since is None or summary.position >= self.since)
            and (self.until is None or summary.position < self.until)
            and all(summary.labels.get(key) == value for key, value in self.labels.items())
        )


@attrs.frozen(kw_only=True)
class Retention:
    """Checked arguments of `prune`: delete what is in `states` and finished before `cutoff`, but `keep` per flow."""

    states: tuple[WorkflowState, ...]
    cutoff: str | None
    keep: int
    batch: int

    @classmethod
    def of(
        cls,
        older_than: float | timedelta | None,
        states: WorkflowState | Iterable[WorkflowState] | None,
        keep: int | None,
        batch: int,
    ) -> "Retention":
        """Check what the caller of `prune` gave; raises TypeError and ValueError."""
        if older_than is None and keep is None:
            raise ValueError("prune needs older_than, keep or both: it does not delete everything by default")
        chosen = _states(states)
        if live := [state.name for state in chosen or () if state.is_live]:
            raise ValueError(f"cannot prune live executions ({', '.join(live)})")
        if (keep is not None and keep < 0) or batch < 1:
            raise ValueError(f"keep must not be negative, batch must be positive ({keep=}, {batch=})")
        return cls(
            states=_DECIDED if chosen is None else chosen,
            cutoff=None if older_than is None else _cutoff(older_than),
            keep=keep or 0,
            batch=batch,
        )

    def admits(self, summary: ExecutionSummary) -> bool:
        """Whether *summary* may go (if enough newer ones of its flow stay); what the databases say in SQL."""
        finished = summary.position if summary.finished_at is None else moment_key(summary.finished_at)
        return summary.state in self.states and (self.cutoff is None or finished < self.cutoff)


def _cutoff(older_than: float | timedelta) -> str:
    age = older_than if isinstance(older_than, timedelta) else timedelta(seconds=older_than)
    if age < timedelta():
        raise ValueError(f"older_than is negative ({older_than})")
    try:
        return moment_key(clock.utc_now() - age)
    except OverflowError:  # older than time itself: nothing is
        return ""
