"""A store that lives in the process: for tests, and for flows whose records nobody needs afterwards."""

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import attrs

from szal import process_hooks
from szal.errors import StoreFailed
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.base import no_such_page, read_record, refuse_to_copy
from szal.stores.kin import Needed
from szal.stores.memory.ledger import Entry, MemoryLedger, Row
from szal.stores.operation import Operation, Release, Remove, Save, SaveStep, apply_one, merged
from szal.stores.query import ExecutionSummary, Filters, Ids, Page, Position, Query, Retention

if TYPE_CHECKING:
    from szal.stores.sink.sink import Sink

__all__ = ["InMemoryExecutionStore"]


@attrs.define(eq=False)
class InMemoryExecutionStore(MemoryLedger):
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

    name: str = attrs.field(default="memory:", init=False)

    __reduce_ex__ = refuse_to_copy

    def __attrs_post_init__(self) -> None:
        process_hooks.enroll(self)

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
        self.apply([Save.of(record)])

    def get(self, execution_id: str) -> ExecutionRecord | None:
        """Return the record, or None where there is none."""
        with self._lock:
            entry = self._entries.get(execution_id)
            data = None if entry is None else entry.row.data
        return None if data is None else read_record(execution_id, data)

    def remove(self, execution_id: str) -> ExecutionRecord | None:
        """Delete the record and return it; None where there was none."""
        with self._lock:
            entry = self._entries.pop(execution_id, None)
        return None if entry is None else read_record(execution_id, entry.row.data)

    def apply(self, operations: Sequence[Operation]) -> None:
        """Carry out *operations*, in order and all at once: no reader sees some of them, after an error none is done.

        Raises `LeaseLost` if one was written under a lease that is no longer held. What a signal handler raises in
        the middle leaves the first ones done.
        """
        needed = merged(operations)
        rows = [_row(operation, self.name) for operation in needed]
        with self._lock:
            self._check_leases(operations)
            for operation, row in zip(needed, rows, strict=True):
                self._carry_out(operation, row)
            self._note_progress(operations)

    def _carry_out(self, operation: Operation, row: Row | None) -> None:
        if row is not None:
            entry = self._entries.setdefault(operation.execution_id, Entry(row))
            entry.row = row
        elif isinstance(operation, SaveStep):
            self._write_step(operation)
        elif isinstance(operation, Release):
            self._release(operation)
        else:
            self._entries.pop(operation.execution_id, None)

    def submit(self, operation: Operation) -> None:
        """Carry out one operation, as `apply` does; its `done` is told, and what went wrong is raised as well."""
        apply_one(self.apply, operation)

    @property
    def ledger(self) -> MemoryLedger:
        """What is known of executions under way: this store itself."""
        return self

    # -- many -----------------------------------------------------------------------------------------

    def list(self, flow_name: str | None = None) -> Ids:
        """Return the ids of all executions, or of those of one flow, the oldest first."""
        rows = [row for row in self._snapshot() if flow_name is None or row.flow_name == flow_name]
        return [row.summary.execution_id for row in reversed(rows)]

    def find(
        self, *, limit: int | None = 100, after: ExecutionSummary | str | None = None, **filters: Unpack[Filters]
    ) -> Page:
        """Return the summaries of what passes the filters, the newest first, at most *limit*, from *after* on."""
        query = Query.of(limit=limit, after=self._position(after), **filters)
        found = [row.summary for row in self._snapshot(query.after) if query.admits(row.summary)]
        return [attrs.evolve(summary, labels=dict(summary.labels)) for summary in found[: query.limit]]

    def count(self, **filters: Unpack[Filters]) -> int:
        """Return how many executions pass the filters of `find`."""
        query = Query.of(**filters)
        return sum(query.admits(row.summary) for row in self._snapshot())

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
        with self._lock:
            rows = self._snapshot()
            for row in rows:
                seen[row.flow_name] += 1
                if seen[row.flow_name] > retention.keep and retention.admits(row.summary):
                    gone.append(row.summary.execution_id)
            live = [row.summary for row in rows if row.summary.state.is_live]
            needed = Needed(live, self._parents_of).among(gone, self._parents_of)
            gone = [execution_id for execution_id in gone if execution_id not in needed]
            for execution_id in gone:
                del self._entries[execution_id]
        return len(gone)

    def _parents_of(self, execution_ids: Collection[str]) -> dict[str, str]:
        entries = {each: self._entries[each].row.summary for each in execution_ids if each in self._entries}
        return {each: parent for each, summary in entries.items() if (parent := summary.parent_execution_id)}

    def _position(self, after: ExecutionSummary | str | None) -> Position | None:
        if after is None or isinstance(after, ExecutionSummary):
            return None if after is None else (after.position, after.execution_id)
        with self._lock:
            entry = self._entries.get(after)
            if entry is None:
                raise no_such_page(after)
            return entry.row.position

    def _snapshot(self, after: Position | None = None) -> Sequence[Row]:
        """Return the rows, the newest first, from the position *after* on."""
        with self._lock:
            rows = [entry.row for entry in self._entries.values()]
        chosen = rows if after is None else [row for row in rows if row.position < after]
        return sorted(chosen, key=lambda row: row.position, reverse=True)

    # -- its life -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Do nothing: the records stay as long as the store."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        with suppress(RuntimeError):  # it is not held: before_fork was interrupted
            self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._leave_to_parent()

    def begin_exit(self) -> None:
        pass

    def finish_exit(self, began: float) -> None:
        pass


def _row(operation: Operation, store: str) -> Row | None:
    """Return the row that a save makes; raise `StoreFailed` for what is no operation of szal's."""
    if isinstance(operation, Save):
        return Row.of(operation)
    if not isinstance(operation, Remove | SaveStep | Release):
        raise StoreFailed(store, f"cannot carry out {operation!r}")
    return None
