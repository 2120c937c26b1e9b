"""What every SQL database has in common: the methods of a store, written once over a dialect's constants.

A database brings its `Dialect`, its connections, and the translation of its driver's errors; everything else is
here.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, Unpack

from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.base import no_such_page, read_record, refuse_to_copy
from szal.stores.dialect import Dialect, Statement
from szal.stores.kin import Needed
from szal.stores.ledger import SqlLedger, Transaction
from szal.stores.operation import Operation, Remove, Save, apply_one, merged
from szal.stores.query import HEAD, LIVE, ExecutionSummary, Filters, Ids, Page, Position, Query, Retention, summary_of

if TYPE_CHECKING:
    from szal.stores.sink.sink import Sink

__all__ = ["SqlExecutionStore", "Transaction"]

Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = list[Row]  # a class with a method called list cannot say list[...]
Given = TypeVar("Given")
Made = TypeVar("Made")


class SqlExecutionStore(SqlLedger, ABC):
    """The methods that szal's SQL stores share. Every method is one transaction, unless it says otherwise.

    All are safe to call from several threads at once, and block while the database works. They raise
    `StoreUnavailable` for trouble that may pass, `NotMigrated` before the first `migrate`, `StoreClosed` after
    `close`, and `StoreFailed` for the rest.
    """

    dialect: Dialect
    name: str

    __reduce_ex__ = refuse_to_copy

    @abstractmethod
    def _read(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        """Run one statement that changes nothing, and return all its rows."""

    @abstractmethod
    def _transact(self, work: Callable[[Transaction, Given], Made], given: Given) -> Made:
        """Return what *work* makes of a write transaction and *given*: committed on return, undone if that raises.

        *work* may be called again, in another transaction, where the first came to nothing.
        """

    @abstractmethod
    def migrate(self) -> None:
        """Create the schema, or bring it up to date."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open; using the store afterwards raises `StoreClosed`."""

    def engine_sink(self, **options: Any) -> "Sink":
        """Return a `Sink` that writes to this store in the background; it takes that class's options.

        Close the sink before the store: closing the store first loses what is still pending.
        """
        from szal.stores.sink.sink import Sink

        return Sink(self, **options)

    # -- one record -----------------------------------------------------------------------------------

    def save(self, record: ExecutionRecord) -> None:
        """Insert *record*, or put it in the place of the one with its id; on return it is committed.

        Raises `EncodeError` for what JSON cannot hold.
        """
        self.apply([Save.of(record)])

    def get(self, execution_id: str) -> ExecutionRecord | None:
        """Return the record, or None where there is none; raises `DecodeError` for a row that szal cannot read."""
        rows = self._read(self.dialect.get, (execution_id,))
        return read_record(execution_id, rows[0][0]) if rows else None

    def remove(self, execution_id: str) -> ExecutionRecord | None:
        """Delete the record and return it; None where there was none.

        A row that szal cannot read is deleted as well, and then raises `DecodeError`.
        """
        rows = self._transact(self._take, execution_id)
        return read_record(execution_id, rows[0][0]) if rows else None

    def _take(self, transaction: Transaction, execution_id: str) -> Rows:
        rows = transaction.rows(self.dialect.take, (execution_id,))
        transaction.many(self.dialect.writes[Remove], [(execution_id,)])
        self._forget(transaction, [execution_id])
        return rows

    def apply(self, operations: Sequence[Operation]) -> None:
        """Carry out *operations*, in order, in one transaction; on return it is committed, after an error undone."""
        self._transact(self._carry_out, operations)

    def _carry_out(self, transaction: Transaction, operations: Sequence[Operation]) -> None:
        self._check_leases(transaction, operations)
        for kind, group in groupby(merged(operations), type):
            writes = list(group)
            transaction.many(self.dialect.writes[kind], [operation.row() for operation in writes])
            if kind is Remove:
                self._forget(transaction, [operation.execution_id for operation in writes])
        self._note_progress(transaction, operations)

    def submit(self, operation: Operation) -> None:
        """Carry out one operation, as `apply` does; its `done` is told, and what went wrong is raised as well."""
        apply_one(self.apply, operation)

    @property
    def ledger(self) -> "SqlLedger":
        """What is known of executions under way: this store itself."""
        return self

    # -- many -----------------------------------------------------------------------------------------

    def list(self, flow_name: str | None = None) -> Ids:
        """Return the ids of all executions, or of those of one flow, the oldest first (ties: by id)."""
        return [row[0] for row in self._read(*self.dialect.ids(flow_name))]

    def find(
        self, *, limit: int | None = 100, after: ExecutionSummary | str | None = None, **filters: Unpack[Filters]
    ) -> Page:
        """Return the summaries of the executions that pass all filters, the newest first (ties: the greatest id first).

        Filters: `flow_name`; `states`, one or several; `labels` that an execution must have (others may be
        there); `since` and `until`, aware datetimes with since <= start < until. At most *limit* are returned,
        None means all. The next page comes *after* the last summary of this one, or after the execution with
        that id, which must exist (ValueError). What is saved or removed between two pages moves nothing: no
        page repeats or misses an execution, and one that began later is on no later page.

        Results are not decoded. Rows whose data is not a record (szal and szal-rs write none) are passed over.

        >>> from szal.stores import open_store
        >>> with open_store("sqlite:///:memory:") as store:
        ...     for number in range(5):
        ...         store.save(ExecutionRecord(f"e{number}", "ci", WorkflowState.RUNNING))
        ...     page = store.find(flow_name="ci", states=WorkflowState.RUNNING, limit=3)
        ...     [summary.execution_id for summary in page + store.find(after=page[-1])]
        ['e4', 'e3', 'e2', 'e1', 'e0']
        """
        query = Query.of(limit=limit, after=self._position(after), **filters)
        if query.states == ():
            return []
        found = [
            summary_of(row[0], row[1], row[2], json.loads(row[3])) for row in self._read(*self.dialect.page(query))
        ]
        return [summary for summary in found if summary is not None]

    def count(self, **filters: Unpack[Filters]) -> int:
        """Return how many executions pass the filters of `find`; without any, how many there are.

        >>> from szal.stores import open_store
        >>> open_store("sqlite:///:memory:").count(states=[WorkflowState.FAILED])
        0
        """
        return int(self._read(*self.dialect.number(Query.of(**filters)))[0][0])

    def prune(
        self,
        *,
        older_than: float | timedelta | None = None,
        states: WorkflowState | Iterable[WorkflowState] | None = None,
        keep: int | None = None,
        batch: int = 1000,
    ) -> int:
        """Delete executions that finished more than *older_than* ago (seconds or a timedelta); return how many.

        *states*: COMPLETED, FAILED, ROLLED_BACK and CANCELLED by default; live states are refused (ValueError).
        *keep*: the newest so many of each flow stay, whatever their age and state. One of the two must be given.
        What an execution that has not ended still needs stays too: its sub-flows, and what it is a rerun of.
        Runs as transactions of at most *batch* rows, so writers never wait long, and each looks at a row's state
        as it deletes it; safe while engines are at work, and safe to interrupt: what is deleted stays deleted.

        >>> from szal.stores import open_store
        >>> with open_store("sqlite:///:memory:") as store:
        ...     for number in range(5):
        ...         store.save(ExecutionRecord(f"e{number}", "ci", WorkflowState.COMPLETED))
        ...     store.prune(keep=2), store.list()
        (3, ['e3', 'e4'])
        """
        retention = Retention.of(older_than, states, keep, batch)
        flows = [row[0] for row in self._read(*self.dialect.flows())]
        needed = Needed(self.find(states=LIVE, limit=None), partial(self._parents_of, self._read))
        return sum(self._prune_flow(flow, retention, needed) for flow in flows)

    def _parents_of(
        self, read: Callable[[str, Sequence[object]], Rows], execution_ids: Collection[str]
    ) -> dict[str, str]:
        ids, found = list(execution_ids), {}
        for start in range(0, len(ids), 500):  # SQLite may have a limit of 999
            for execution_id, head in read(*self.dialect.heads(ids[start : start + 500])):
                parent = json.loads(head)[HEAD.index("parent_execution_id")]
                if isinstance(parent, str):
                    found[execution_id] = parent
        return found

    def _prune_flow(self, flow_name: str, retention: Retention, needed: Needed) -> int:
        oldest_kept: Position | None = None
        if retention.keep:
            kept = self.find(flow_name=flow_name, limit=retention.keep)
            if len(kept) < retention.keep:
                return 0
            oldest_kept = kept[-1].position, kept[-1].execution_id
        deleted = 0
        for state in retention.states:
            done: Position | None = ("", "")
            while done is not None:
                statement = self.dialect.prunable(flow_name, state, retention, done, oldest_kept)
                found, count = self._transact(self._take_all, (statement, needed))
                deleted += count
                done = (found[-1][0], found[-1][1]) if len(found) == retention.batch else None
        return deleted

    def _take_all(self, transaction: Transaction, given: tuple[Statement, Needed]) -> tuple[Rows, int]:
        """Delete what the statement finds and nobody needs; return all that it finds, and how many went."""
        statement, needed = given
        found = list(transaction.rows(*statement))
        kept = needed.among([row[1] for row in found], partial(self._parents_of, transaction.rows))
        gone = [row[1] for row in found if row[1] not in kept]
        transaction.many(self.dialect.writes[Remove], [(execution_id,) for execution_id in gone])
        self._forget(transaction, gone)
        return found, len(gone)

    def _position(self, after: ExecutionSummary | str | None) -> Position | None:
        if after is None or isinstance(after, ExecutionSummary):
            return None if after is None else (after.position, after.execution_id)
        rows = self._read(*self.dialect.position(after))
        if not rows or rows[0][0] is None:
            raise no_such_page(after)
        return rows[0][0], after

    # -- with -----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
