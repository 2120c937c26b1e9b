"""A store that lives in the process: for tests, and for flows whose records nobody needs afterwards."""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import attrs

from szal.errors import StoreFailed
from szal.execution import ExecutionRecord
from szal.jsontext import loads
from szal.state import WorkflowState
from szal.stores import hooks
from szal.stores.base import no_such_page, read_record
from szal.stores.operation import Operation, Remove, Save
from szal.stores.query import (
    HEAD,
    ExecutionSummary,
    Filters,
    Ids,
    Page,
    Position,
    Query,
    Retention,
    position_key,
    summary_of,
)

if TYPE_CHECKING:
    from szal.stores.sink import Sink

__all__ = ["InMemoryExecutionStore"]


@attrs.define
class _Row:
    flow_name: str
    data: str
    summary: ExecutionSummary

    @classmethod
    def of(cls, save: Save) -> "_Row":
        fields = loads(save.data)
        head = [fields.get(key) for key in HEAD]
        summary = summary_of(save.execution_id, save.flow_name, position_key(str(fields["started_at"])), head)
        assert summary is not None, "szal's own records can be summarised"
        return cls(save.flow_name, save.data, summary)

    @property
    def position(self) -> Position:
        return self.summary.position, self.summary.execution_id


@attrs.define(eq=False)
class InMemoryExecutionStore:
    """The contract of szal's stores (`SqliteExecutionStore` says what each method promises), in a dict.

    It holds records as JSON text: what a caller does to an object after saving it, or after getting it, stays his
    own. Safe to share between threads; after a fork each process has its own copy. Everything is lost when the
    process ends, and nothing before.

    >>> store = InMemoryExecutionStore()
    >>> store.save(ExecutionRecord("e1", "ci"))
    >>> store.get("e1").flow_name, store.list(), store.remove("e1").execution_id, store.get("e1")
    ('ci', ['e1'], 'e1', None)
    """

    name: str = attrs.field(default="memory:", init=False)
    _rows: dict[str, _Row] = attrs.field(factory=dict, init=False, repr=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False, repr=False)  # guards _rows

    def __attrs_post_init__(self) -> None:
        hooks.enroll(self)

    @classmethod
    def connect(cls, url: str = "memory:") -> "InMemoryExecutionStore":
        """Return a new, empty store; *url* says nothing more."""
        if url not in ("memory:", "memory://"):
            raise ValueError(f"{url!r}: a memory store has no name or place: use 'memory:'")
        return cls()

    def migrate(self) -> None:
        """Do nothing: there is no schema."""

    def engine_sink(self, **options: Any) -> "Sink":
        """Return a `Sink` that writes to this store in the background; it takes that class's options."""
        from szal.stores.sink import Sink

        return Sink(self, **options)

    # -- one record -----------------------------------------------------------------------------------

    def save(self, record: ExecutionRecord) -> None:
        """Insert *record*, or put it in the place of the one with its id."""
        self.apply([Save.of(record)])

    def get(self, execution_id: str) -> ExecutionRecord | None:
        """Return the record, or None where there is none."""
        with self._lock:
            row = self._rows.get(execution_id)
        return None if row is None else read_record(execution_id, row.data)

    def remove(self, execution_id: str) -> ExecutionRecord | None:
        """Delete the record and return it; None where there was none."""
        with self._lock:
            row = self._rows.pop(execution_id, None)
        return None if row is None else read_record(execution_id, row.data)

    def apply(self, operations: Sequence[Operation]) -> None:
        """Carry out *operations*, in order and all at once: no reader sees some of them."""
        rows = [_Row.of(operation) if isinstance(operation, Save) else None for operation in operations]
        with self._lock:
            for operation, row in zip(operations, rows, strict=True):
                if row is not None:
                    self._rows[operation.execution_id] = row
                elif isinstance(operation, Remove):
                    self._rows.pop(operation.execution_id, None)
                else:
                    raise StoreFailed(self.name, f"cannot carry out {operation!r}")

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
        return found[: query.limit]

    def count(self, **filters: Unpack[Filters]) -> int:
        """Return how many executions pass the filters of `find`."""
        return len(self.find(limit=None, **filters))

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
            for row in self._snapshot():
                seen[row.flow_name] += 1
                if seen[row.flow_name] > retention.keep and retention.admits(row.summary):
                    gone.append(row.summary.execution_id)
            for execution_id in gone:
                del self._rows[execution_id]
        return len(gone)

    def _position(self, after: ExecutionSummary | str | None) -> Position | None:
        if after is None or isinstance(after, ExecutionSummary):
            return None if after is None else (after.position, after.execution_id)
        with self._lock:
            row = self._rows.get(after)
        if row is None:
            raise no_such_page(after)
        return row.position

    def _snapshot(self, after: Position | None = None) -> Sequence[_Row]:
        """Return the rows, the newest first, from the position *after* on."""
        with self._lock:
            rows = [*self._rows.values()]
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
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()

    def begin_exit(self) -> None:
        pass

    def finish_exit(self, began: float) -> None:
        pass
