"""What every SQL database has in common: the methods of a store, over its `Database`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.base import no_such_page, read_record, refuse_to_copy
from szal.stores.database import Database, Rows, Transaction
from szal.stores.filters import (
    ExecutionSummary,
    Filters,
    Ids,
    Page,
    Position,
    Retention,
    Selection,
    read_head,
    summary_of,
)
from szal.stores.kin import Needed
from szal.stores.ledger import Ledger
from szal.stores.sql_executions import forget
from szal.stores.sql_ledger import SqlLedger
from szal.stores.statements import Statements
from szal.stores.writes import Save

if TYPE_CHECKING:
    from szal.stores.sink.sink import Sink

__all__ = ["SqlExecutionStore"]


class SqlExecutionStore(ABC):
    """The methods that szal's SQL stores share. Every method is one transaction, unless it says otherwise.

    All are safe to call from several threads at once, and block while the database works. They raise
    `StoreUnavailable` for trouble that may pass, `NotMigrated` before the first `migrate`, `StoreClosed` after
    `close`, and `StoreFailed` for the rest.
    """

    __reduce_ex__ = refuse_to_copy

    def __init__(self, database: Database, ledger: SqlLedger) -> None:
        self._database = database
        self._ledger = ledger

    @property
    def _said(self) -> Statements:
        return self._database.statements

    @property
    def name(self) -> str:
        """What messages call this store: never a user or a password."""
        return self._database.name

    @property
    def ledger(self) -> Ledger:
        """What engines need of this store beside its records: leases, steps, signals."""
        return self._ledger

    @abstractmethod
    def migrate(self) -> None:
        """Create the schema, or bring it up to date."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open; using the store afterwards raises `StoreClosed`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"

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
        self._ledger.apply([Save.of(record)])

    def get(self, execution_id: str) -> ExecutionRecord | None:
        """Return the record, or None where there is none; raises `DecodeError` for a row that szal cannot read."""
        rows = self._database.read(self._said.get, (execution_id,))
        return read_record(execution_id, rows[0][0]) if rows else None

    def remove(self, execution_id: str) -> ExecutionRecord | None:
        """Delete the record and return it; None where there was none.

        A row that szal cannot read is deleted as well, and then raises `DecodeError`.
        """
        rows = self._database.transact(lambda transaction: self._take(transaction, execution_id))
        return read_record(execution_id, rows[0][0]) if rows else None

    def _take(self, transaction: Transaction, execution_id: str) -> Rows:
        if self._said.leases.lock is not None:
            transaction.rows(self._said.leases.lock, (execution_id,))
        rows = transaction.rows(self._said.take, (execution_id,))
        self._delete(transaction, [(execution_id,)])
        return rows

    def _delete(self, transaction: Transaction, rows: Rows) -> None:
        transaction.many(self._said.remove, rows)
        forget(transaction, self._said, rows)

    # -- many -----------------------------------------------------------------------------------------

    def list(self, flow_name: str | None = None) -> Ids:
        """Return the ids of all executions, or of those of one flow, the oldest first (ties: by id).

        A row without a start that can be judged comes before all others.
        """
        return [row[0] for row in self._database.read(*self._said.ids(flow_name))]

    def find(
        self, *, limit: int | None = 100, after: ExecutionSummary | str | None = None, **filters: Unpack[Filters]
    ) -> Page:
        """Return the summaries of the executions that pass all filters, the newest first (ties: the greatest id first).

        Filters: `flow_name`; `states`, one or several; `labels` that an execution must have (others may be
        there); `since` and `until`, aware datetimes with since <= start < until; `parent`, the execution that they are
        reruns or sub-flows of. At most *limit* are returned,
        None means all. The next page comes *after* the last summary of this one, or after the execution with
        that id, which must exist (ValueError). What is saved or removed between two pages moves nothing: no
        page repeats or misses an execution, and one that began later is on no later page.

        Results are not decoded. A row that is no record (szal and szal-rs write none) is listed with what could be
        read of it, and left out where a filter cannot judge it; without a start it comes behind all others.

        >>> from szal.stores import open_store
        >>> with open_store("sqlite:///:memory:") as store:
        ...     for number in range(5):
        ...         store.save(ExecutionRecord(f"e{number}", "ci", WorkflowState.RUNNING))
        ...     page = store.find(flow_name="ci", states=WorkflowState.RUNNING, limit=3)
        ...     [summary.execution_id for summary in page + store.find(after=page[-1])]
        ['e4', 'e3', 'e2', 'e1', 'e0']
        """
        selection = Selection.of(limit=limit, after=self._position(after), **filters)
        if selection.states == ():
            return []
        rows = self._database.read(*self._said.page(selection))
        return [summary_of(execution_id, flow, key, read_head(head)) for execution_id, flow, key, head in rows]

    def count(self, **filters: Unpack[Filters]) -> int:
        """Return how many executions pass the filters of `find`; without any, how many there are.

        >>> from szal.stores import open_store
        >>> open_store("sqlite:///:memory:").count(states=[WorkflowState.FAILED])
        0
        """
        return int(self._database.read(*self._said.number(Selection.of(**filters)))[0][0])

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
        A row whose start (for *keep*) or end (for *older_than*) cannot be judged stays.
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
        live = [row[0] for row in self._database.read(self._said.live)]
        needed = Needed(live, partial(self._parents_of, self._database.read_of))
        kept = self._oldest_kept(retention)
        deleted = sum(self._prune_state(state, retention, kept, needed) for state in retention.states)
        self._database.tidy()
        return deleted

    def _oldest_kept(self, retention: Retention) -> dict[str, Position] | None:
        """Return, of each flow with as many executions as are kept, the last of these; None: nothing is kept."""
        if not retention.keep:
            return None
        return {row[0]: (row[1], row[2]) for row in self._database.read(self._said.oldest_kept, (retention.keep,))}

    def _parents_of(
        self, read_of: Callable[[str, Sequence[str]], Rows], execution_ids: Collection[str]
    ) -> dict[str, str]:
        return dict(read_of(self._said.parents, [*execution_ids]))

    def _prune_state(
        self, state: WorkflowState, retention: Retention, kept: dict[str, Position] | None, needed: Needed
    ) -> int:
        """Delete what is in *state* and may go, in batches; those of all flows together."""
        deleted = 0
        done: Position | None = ("", "")
        # What is newer than the newest of these stays, whatever flow it is of.
        end = None if kept is None else max(kept.values(), default=("", ""))
        while done is not None and (end is None or done < end):
            found = self._database.read(*self._said.prunable(state, retention, done))
            gone = [
                execution_id
                for started, execution_id, flow_name in found
                if kept is None or (started and (started, execution_id) < kept.get(flow_name, ("", "")))
            ]
            if gone:
                deleted += self._database.transact(partial(self._take_all, gone, state, retention, needed))
            done = (found[-1][0], found[-1][1]) if len(found) == retention.batch else None
        return deleted

    def _take_all(
        self, execution_ids: Ids, state: WorkflowState, retention: Retention, needed: Needed, transaction: Transaction
    ) -> int:
        """Delete those of *execution_ids* that may still go, and that nobody needs or runs; return how many went."""
        free = self._free_of_leases(transaction, execution_ids)
        found = [
            execution_id
            for execution_id, now_in, finished in transaction.rows_of(self._said.ended, sorted(free))
            if now_in == state.value and retention.is_past(finished)
        ]
        kept = needed.among(found, partial(self._parents_of, transaction.rows_of))
        gone = [(execution_id,) for execution_id in found if execution_id not in kept]
        self._delete(transaction, gone)
        return len(gone)

    def _free_of_leases(self, transaction: Transaction, execution_ids: Sequence[str]) -> set[str]:
        """Return those of the executions that nobody holds; their leases stay as they are. Waits for nobody."""
        leased = {row[0] for row in transaction.rows_of(self._said.leases.leased, execution_ids)}
        idle = {row[0] for row in transaction.rows_of(self._said.leases.idle, sorted(leased))}
        return {each for each in execution_ids if each not in leased or each in idle}

    def _position(self, after: ExecutionSummary | str | None) -> Position | None:
        if after is None or isinstance(after, ExecutionSummary):
            return None if after is None else (after.position, after.execution_id)
        rows = self._database.read(self._said.position, (after,))
        if not rows or rows[0][0] is None:
            raise no_such_page(after)
        return rows[0][0], after

    # -- what steps share ------------------------------------------------------------------------------

    def set_capacity(self, name: str, capacity: int | None) -> None:
        """Have so much of a resource (`StepDef.resources`) in all engines of this database; None: no such limit.

        Where an engine says how much it has (`EngineConfig.capacities`), the smaller number holds. Committed on return;
        an engine that has just looked takes up to five seconds to see what has changed. What is in use stays so.

        >>> from szal import open_store
        >>> with open_store("memory:") as store:
        ...     store.set_capacity("api", 5)
        ...     store.capacities()
        {'api': 5}
        """
        self._ledger.limits.set_capacity(name, capacity)

    def capacities(self) -> dict[str, int]:
        """Return how much there is of each resource that `set_capacity` has set."""
        return self._ledger.limits.capacities()

    # -- with -----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
