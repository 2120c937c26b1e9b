"""A store that lives in the process: for tests, and for flows whose records nobody needs afterwards."""

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import attrs

from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.base import no_such_page, read_record, refuse_to_copy
from szal.stores.filters import ExecutionSummary, Filters, Ids, Page, Position, Retention, Selection
from szal.stores.kin import Needed
from szal.stores.ledger import Ledger
from szal.stores.memory.entries import Entries
from szal.stores.memory.ledger import MemoryLedger
from szal.stores.writes import Save

if TYPE_CHECKING:
    from szal.stores.sink.sink import Sink

__all__ = ["InMemoryExecutionStore"]


class InMemoryExecutionStore:
    """The contract of szal's stores (`SqliteExecutionStore` says what each method promises), in a dict.

    It holds records as JSON text: what a caller does to an object after saving it, or after getting it, stays his
    own. Safe to share between threads. Everything is lost when the process ends, and nothing before.

    It also keeps what databases keep of executions under way, so all that an engine can do with one works here, for
    the engines of this process: waiting, signals, resuming, running again. They must share the store.

    After a fork each process has its own copy. What an engine of the parent was running then is the parent's, for as
    long as that lives: it cannot be resumed from the child's copy.

    >>> store = InMemoryExecutionStore()
    >>> store.save(ExecutionRecord("e1", "ci"))
    >>> store.get("e1").flow_name, store.list(), store.remove("e1").execution_id, store.get("e1")
    ('ci', ['e1'], 'e1', None)
    """

    __reduce_ex__ = refuse_to_copy

    def __init__(self) -> None:
        self._entries = Entries()
        self._ledger = MemoryLedger(self._entries)

    @property
    def name(self) -> str:
        """What messages call this store."""
        return self._ledger.name

    @property
    def ledger(self) -> Ledger:
        """What engines need of this store beside its records: leases, steps, signals."""
        return self._ledger

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

    @classmethod
    def connect(cls, url: str = "memory:") -> "InMemoryExecutionStore":
        """Return a new, empty store; *url* says nothing more."""
        if url not in ("memory:", "memory://"):
            raise ValueError("a memory store has no name or place: use 'memory:'")
        return cls()

    def migrate(self) -> None:
        """Do nothing: there is no schema."""

    def engine_sink(self, **options: Any) -> "Sink":
        """Return a `Sink` that writes to this store in the background; it takes that class's options."""
        from szal.stores.sink.sink import Sink

        return Sink(self, **options)

    # -- one record -----------------------------------------------------------------------------------

    def save(self, record: ExecutionRecord) -> None:
        """Insert *record*, or put it in the place of the one with its id."""
        self._ledger.apply([Save.of(record)])

    def get(self, execution_id: str) -> ExecutionRecord | None:
        """Return the record, or None where there is none."""
        with self._entries.lock:
            entry = self._entries.of.get(execution_id)
            data = None if entry is None else entry.row.data
        return None if data is None else read_record(execution_id, data)

    def remove(self, execution_id: str) -> ExecutionRecord | None:
        """Delete the record and return it; None where there was none."""
        with self._entries.lock:
            entry = self._entries.of.pop(execution_id, None)
        self._entries.tell([execution_id])
        return None if entry is None else read_record(execution_id, entry.row.data)

    # -- many -----------------------------------------------------------------------------------------

    def list(self, flow_name: str | None = None) -> Ids:
        """Return the ids of all executions, or of those of one flow, the oldest first."""
        rows = [row for row in self._entries.rows() if flow_name is None or row.flow_name == flow_name]
        return [row.summary.execution_id for row in reversed(rows)]

    def find(
        self, *, limit: int | None = 100, after: ExecutionSummary | str | None = None, **filters: Unpack[Filters]
    ) -> Page:
        """Return the summaries of what passes the filters, the newest first, at most *limit*, from *after* on."""
        selection = Selection.of(limit=limit, after=self._position(after), **filters)
        found = [row.summary for row in self._entries.rows(selection.after) if selection.admits(row.summary)]
        return [attrs.evolve(summary, labels=dict(summary.labels)) for summary in found[: selection.limit]]

    def count(self, **filters: Unpack[Filters]) -> int:
        """Return how many executions pass the filters of `find`."""
        selection = Selection.of(**filters)
        return sum(selection.admits(row.summary) for row in self._entries.rows())

    def prune(
        self,
        *,
        older_than: float | timedelta | None = None,
        states: WorkflowState | Iterable[WorkflowState] | None = None,
        keep: int | None = None,
        batch: int = 1000,
    ) -> int:
        """Delete old executions and return how many; *batch* has no meaning here."""
        retention = Retention.of(older_than, states, keep, batch)
        seen: Counter[str] = Counter()
        gone: Ids = []
        with self._entries.lock:
            rows = self._entries.rows()
            for row in rows:
                seen[row.flow_name] += 1
                is_old = seen[row.flow_name] > retention.keep and retention.admits(row.summary)
                if is_old and self._is_idle(row.summary.execution_id):
                    gone.append(row.summary.execution_id)
            live = [row.summary.execution_id for row in rows if row.state.is_live]
            needed = Needed(live, self._parents_of).among(gone, self._parents_of)
            gone = [execution_id for execution_id in gone if execution_id not in needed]
            for execution_id in gone:
                del self._entries.of[execution_id]
        return len(gone)

    def _is_idle(self, execution_id: str) -> bool:
        lease = self._entries.of[execution_id].lease
        return lease is None or lease.holder() is None

    def _parents_of(self, execution_ids: Collection[str]) -> dict[str, str]:
        entries = self._entries.of
        known = {each: entries[each].row.summary for each in execution_ids if each in entries}
        return {each: parent for each, summary in known.items() if (parent := summary.parent_execution_id)}

    def _position(self, after: ExecutionSummary | str | None) -> Position | None:
        if after is None or isinstance(after, ExecutionSummary):
            return None if after is None else (after.position, after.execution_id)
        with self._entries.lock:
            entry = self._entries.of.get(after)
            if entry is None:
                raise no_such_page(after)
            return entry.row.position

    # -- what steps share ------------------------------------------------------------------------------

    def set_capacity(self, name: str, capacity: int | None) -> None:
        """Have so much of a resource (`StepDef.resources`) in all engines of this store; None: no such limit.

        Where an engine says how much it has (`EngineConfig.capacities`), the smaller number holds.

        >>> store = InMemoryExecutionStore()
        >>> store.set_capacity("api", 5)
        >>> store.capacities()
        {'api': 5}
        """
        self._ledger.limits.set_capacity(name, capacity)

    def capacities(self) -> dict[str, int]:
        """Return how much there is of each resource that `set_capacity` has set."""
        return self._ledger.limits.capacities()

    # -- its life -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Do nothing: the records stay as long as the store."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
