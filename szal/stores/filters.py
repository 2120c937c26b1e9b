"""What can be asked of a store besides one record: which executions, in which order, and what may be pruned."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import MINYEAR, UTC, datetime, timedelta
from typing import TypeAlias, TypedDict, Unpack

import attrs

from szal import clock
from szal.expressions.path import Json
from szal.model.state import WorkflowState
from szal.number import check, check_wait

__all__ = [
    "HEAD",
    "LIVE",
    "ExecutionSummary",
    "Filters",
    "Ids",
    "Page",
    "Position",
    "Retention",
    "Selection",
    "key_of",
    "moment_key",
    "read_head",
    "stamp",
    "stamp_key",
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

    Of a row that is no record of szal's or szal-rs's it has what could be read.

    >>> moment = datetime(2026, 6, 10, tzinfo=UTC)
    >>> summary = ExecutionSummary(execution_id="e1", flow_name="ci", state=WorkflowState.RUNNING, started_at=moment)
    >>> summary.labels, summary.error
    ({}, None)
    """

    execution_id: str
    flow_name: str
    state: WorkflowState | None
    """None: the row says none that szal knows. Somebody else wrote it, and `get` of it tells what is wrong."""
    started_at: datetime | None
    """None: the row says none that is a time. `find` has it behind all others, and no filter of times finds it."""
    finished_at: datetime | None = None
    parent_execution_id: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    error: str | None = None
    position: str = attrs.field(eq=False, repr=False)
    """The key of `started_at` exactly as the database sorts it, or nothing where there is none."""

    @position.default
    def _position(self) -> str:
        return "" if self.started_at is None else moment_key(self.started_at)


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
    parent: str | None
    """The execution that they are reruns or sub-flows of."""


# -- timestamps ---------------------------------------------------------------------------------------


_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


def key_of(text: Json) -> str:
    """Return the sort key of a time of RFC 3339, as records have them, or nothing for what is none.

    That is a moment of the years 1 to 9999 in UTC: its second, "0", six digits. Nothing sorts before all moments. The
    databases compute the very same in SQL for rows that others write.

    >>> [key_of("2026-06-10T07:41:22" + end) for end in ("Z", ".5+00:00", ".019384756-01:00")]
    ['2026-06-10T07:41:220000000', '2026-06-10T07:41:220500000', '2026-06-10T08:41:220019384']
    >>> [key_of(text) for text in ("0001-01-01T00:00:00+14:00", "2026-02-31T00:00:00Z", "today", None)]
    ['', '', '', '']
    """
    moment = _moment(text)
    return "" if moment is None else moment_key(moment)


def moment_key(moment: datetime) -> str:
    """Return the sort key of an aware datetime."""
    return stamp_key(stamp(moment))


def stamp_key(text: str) -> str:
    """Return the sort key of what `stamp` returns."""
    return f"{text[:19]}0{text[20:26] if text[19] == '.' else '000000'}"


def stamp(moment: datetime) -> str:
    """Return an aware datetime as a record's JSON has it."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat()


_FIRST = "0001-01-01T00:00:000000000"
"""The key of the first moment: what has no time that can be judged is before it."""
_AFTER_ALL = "9999-12-31T24"
"""The key of a moment that is later than all that can be recorded."""


def _bound(moment: datetime | None, name: str) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{name} has no time zone: use datetime.now(timezone.utc) or .astimezone()")
    try:
        return moment_key(moment)
    except OverflowError:  # in UTC it is before or after all that a datetime can say
        return _FIRST if moment.year == MINYEAR else _AFTER_ALL


def _moment(value: Json) -> datetime | None:
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):  # there is no such day, or in UTC no such year
        return None


# -- summaries ----------------------------------------------------------------------------------------

HEAD = ("state", "started_at", "finished_at", "parent_execution_id", "labels", "error")
"""The keys of a record's JSON that a summary is made of, in the order that `summary_of` takes their values."""


def summary_of(execution_id: str, flow_name: str, position: str, head: Sequence[Json]) -> ExecutionSummary:
    """Return the summary of one row, with what can be read of *head*, the values of the above."""
    state, started, finished, parent, labels, error = head
    return ExecutionSummary(
        execution_id=execution_id,
        flow_name=flow_name,
        state=_state(state),
        started_at=_moment(started),
        finished_at=_moment(finished),
        parent_execution_id=parent if isinstance(parent, str) else None,
        labels=_labels(labels),
        error=error if isinstance(error, str) else None,
        position=position,
    )


def read_head(head: str | None) -> list[Json]:
    """Return the values in a JSON array of them, or as many times None where it is none."""
    nothing: list[Json] = [None] * len(HEAD)
    if head is None:
        return nothing
    try:
        # Bytes that are no text, and halves of surrogate pairs, would fail whatever prints them.
        found = json.loads(head if head.isascii() else head.encode(errors="replace"))
    except (ValueError, RecursionError):  # somebody else wrote it
        return nothing
    return found if isinstance(found, list) and len(found) == len(nothing) else nothing


def _state(value: Json) -> WorkflowState | None:
    try:
        return WorkflowState(value)
    except ValueError:
        return None


def _labels(value: Json) -> dict[str, str]:
    return {key: text for key, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else {}


# -- questions ----------------------------------------------------------------------------------------

_MOST = 2**62
"""More rows than there are, and still a number to both databases."""


def _count(name: str, value: int, least: int) -> int:
    """Return how many rows the caller means with *value*, which is called *name*."""
    check(name, value, whole=True)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, and is {value}")
    return min(value, _MOST)


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
class Selection:
    """Checked arguments of `find` and `count`."""

    flow_name: str | None = None
    states: tuple[WorkflowState, ...] | None = attrs.field(default=None, converter=_states)
    labels: Mapping[str, str] = attrs.field(default=None, converter=_text_map)
    since: str | None = None
    until: str | None = None
    parent: str | None = None
    limit: int | None = None
    after: Position | None = None

    @classmethod
    def of(cls, *, limit: int | None = None, after: Position | None = None, **filters: Unpack[Filters]) -> "Selection":
        """Check what the caller of `find` gave; raises TypeError and ValueError."""
        limit = None if limit is None else _count("limit", limit, 0)
        bounds = {name: _bound(filters.pop(name, None), name) for name in ("since", "until")}  # type: ignore[misc]
        if bounds["until"] is not None and bounds["since"] is None:
            bounds["since"] = _FIRST  # what has no start that can be judged is not before anything
        return cls(limit=limit, after=after, **bounds, **filters)  # type: ignore[arg-type]

    def admits(self, summary: ExecutionSummary) -> bool:
        """Whether *summary* passes the filters (limit and after aside); what the databases say in SQL."""
        return (
            (self.flow_name is None or summary.flow_name == self.flow_name)
            and (self.states is None or summary.state in self.states)
            and (self.since is None or summary.position >= self.since)
            and (self.until is None or summary.position < self.until)
            and (self.parent is None or summary.parent_execution_id == self.parent)
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
        return cls(
            states=_DECIDED if chosen is None else chosen,
            cutoff=None if older_than is None else _cutoff(older_than),
            keep=0 if keep is None else _count("keep", keep, 0),
            batch=_count("batch", batch, 1),
        )

    def admits(self, summary: ExecutionSummary) -> bool:
        """Whether *summary* may go (if enough newer ones of its flow stay); what the databases say in SQL."""
        finished = summary.position if summary.finished_at is None else moment_key(summary.finished_at)
        return summary.state in self.states and self.is_past(finished)

    def is_past(self, finished: str | None) -> bool:
        """Whether an end, given as its key, is old enough: one that cannot be judged is not."""
        return self.cutoff is None or "" < (finished or "") < self.cutoff


def _cutoff(older_than: float | timedelta) -> str:
    if not isinstance(older_than, timedelta):
        check_wait("older_than", older_than)
    elif older_than < timedelta():
        raise ValueError(f"older_than must not be negative, and is {older_than}")
    try:
        age = older_than if isinstance(older_than, timedelta) else timedelta(seconds=older_than)
        return moment_key(clock.utc_now() - age)
    except OverflowError:  # older than time itself: nothing is
        return ""
