"""The ledger of a store in an SQL database: one table each for definitions, leases, steps and signals."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter, itemgetter
from typing import Final

import attrs

from szal.errors import ExecutionNotFound, ExecutionOwned, LeaseLost, SzalError
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.model.step import new_id
from szal.recent import Recent
from szal.stores.base import read_record
from szal.stores.batch import IN_ORDER, in_kinds, leases_of, merged
from szal.stores.database import Database, Row, Rows, Transaction
from szal.stores.ledger import (
    Holding,
    Ledger,
    RecordRow,
    Renewal,
    Report,
    Signal,
    Snapshot,
    TakeOver,
    Version,
    Wish,
    parted,
)
from szal.stores.listening import ChangeListener
from szal.stores.sql_executions import epochs_of, forget, record
from szal.stores.sql_limits import SqlLimits, take_key
from szal.stores.sql_queue import SqlQueue
from szal.stores.sql_schedules import SqlSchedules
from szal.stores.sql_transactions import KeptTransaction, OthersTransaction
from szal.stores.statements import Statements
from szal.stores.writes import (
    Lease,
    NewExecution,
    Release,
    Remove,
    Save,
    SaveStep,
    StepRow,
    StepRows,
    Write,
    apply_one,
)

__all__ = ["SqlLedger"]

_CHARACTERS: Final = 4_000_000  # of definitions that are kept


class _TakenBack(SzalError):
    """What was written is rolled back, as it was to be."""


class SqlLedger(Ledger):
    """A ledger in *database*. Each method is one transaction, or one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._definitions = Recent[str](up_to=_CHARACTERS)

    @property
    def _statements(self) -> Statements:
        return self._database.statements

    @property
    def name(self) -> str:
        return self._database.name

    @property
    def queue(self) -> SqlQueue:
        return SqlQueue(self._database)

    @property
    def schedules(self) -> SqlSchedules:
        return SqlSchedules(self._database, self.queue.submit_in)

    @property
    def limits(self) -> SqlLimits:
        return SqlLimits(self._database)

    # -- writing --------------------------------------------------------------------------------------

    def write(self, write: Write, /) -> None:
        apply_one(self.apply, write)

    def apply(self, writes: Sequence[Write], *, once: bool = False) -> None:
        if not self._apply_shortly(writes, once=once):
            try:
                self._database.transact(partial(self._carry_out, writes), writes, once=once)
            except LeaseLost as error:
                self._ended(error.leases)
                raise
            self._ended((each.execution_id, each.epoch or 0) for each in writes if type(each) is Release)

    def _apply_shortly(self, writes: Sequence[Write], *, once: bool) -> bool:  # noqa: ARG002
        """Carry out *writes* in a way of this database's own, and return True; False: there is none, or it failed."""
        return False

    def _fence(self, leases: Collection[Lease], transaction: Transaction) -> None:
        """Keep out what may still be written under *leases* by what `_apply_shortly` has sent."""

    def _ended(self, leases: Iterable[tuple[str, int]]) -> None:
        """Take note that nothing more is written under *leases*."""

    def _carry_out(self, writes: Sequence[Write], transaction: Transaction) -> None:
        leases = leases_of(writes)
        self._fence(leases, transaction)
        watched = self._check_held(transaction, leases)
        for kind, group in in_kinds(merged(writes)):
            if kind is NewExecution:
                self._begin([write for write in group if isinstance(write, NewExecution)], transaction)
                continue
            rows = sorted((write.row() for write in group), key=IN_ORDER[kind])
            transaction.many(self._statements.writes[kind], rows)
            if kind is Remove:
                forget(transaction, self._statements, rows)
        settled = {each.progress_of for each in writes if isinstance(each, SaveStep) and each.progress_of is not None}
        if settled:
            transaction.many(self._statements.leases.progress, [(execution_id,) for execution_id in sorted(settled)])
        if watched:
            self._tell(watched, transaction)

    def _tell(self, execution_ids: Sequence[str], transaction: Transaction) -> None:
        """Tell whoever watches these executions, once it is committed, that they have changed."""
        if self._statements.leases.tell is not None:
            transaction.many(self._statements.leases.tell, [(execution_id,) for execution_id in execution_ids])

    def drain(self, timeout: float | None = None, *, begin_of: str | None = None, of: str | None = None) -> None:
        """Do nothing: nothing is queued."""

    def flush(self, timeout: float | None = None, *, execution_ids: Collection[str] | None = None) -> None:
        """Do nothing: nothing is queued."""

    def check_writable(self) -> None:
        with suppress(_TakenBack):
            self._database.transact(self._rehearse, once=True)

    def _rehearse(self, transaction: Transaction) -> None:
        self._write_something(transaction)
        raise _TakenBack

    def _write_something(self, transaction: Transaction, size: int = 0) -> None:
        """Write a row of about so many characters, under an id that nobody has."""
        record = ExecutionRecord(new_id(), "szal doctor", inputs={"nothing": " " * size})
        transaction.many(self._statements.save, [Save.of(record).row()])
        transaction.rows(self._statements.exists, (record.execution_id,))  # it is answered, and not only sent

    # -- leases ---------------------------------------------------------------------------------------

    def create(self, new: NewExecution, /) -> int | None:
        return self._database.transact(partial(self._create, new), new)

    def _create(self, new: NewExecution, transaction: Transaction) -> int | None:
        if new.under is not None:
            self._check_held(transaction, [new.under])
        if not record(transaction, self._statements, [new], is_claim=True):
            return None
        if (key := new.record.concurrency_key) is not None:
            take_key(transaction, self._statements.limits, key, new.execution_id)
        return new.first_epoch

    def _begin(self, new: Sequence[NewExecution], transaction: Transaction) -> None:
        """Record executions whose ids nobody else has; raises `LeaseLost` where somebody has one all the same."""
        in_order = sorted(new, key=attrgetter("execution_id"))
        begun = record(transaction, self._statements, in_order, is_claim=False)
        lost = [each.lease for each in new if each.execution_id not in begun]
        if lost:
            raise LeaseLost(lost[0].execution_id, frozenset(lost))

    def knows(self, execution_id: str) -> bool:
        return bool(self._database.read(self._statements.exists, (execution_id,)))

    def holder(self, execution_id: str) -> str | None:
        rows = self._database.read(self._statements.leases.holder, (execution_id,))
        return rows[0][0] if rows else None

    def holdings(self, execution_ids: Collection[str]) -> list[Holding]:
        rows = self._database.read_of(self._statements.leases.holdings, [*execution_ids])
        return [
            Holding(
                execution_id=execution_id,
                owner=owner,
                expires=float(expires),
                recoveries=recoveries,
                wake=None if wake is None else float(wake),
                cancelled=bool(cancelled),
                content_id=content_id,
            )
            for execution_id, owner, expires, recoveries, wake, cancelled, content_id in rows
        ]

    def undone(self, execution_id: str, step_name: str, data: str) -> None:
        row = (data, execution_id, step_name)
        self._database.transact(lambda transaction: transaction.rows(self._statements.undone, row))

    def read(self, execution_id: str, *, steps: bool = True) -> Snapshot:
        rows = self._database.read(self._statements.look, (execution_id,))
        return self._snapshot(execution_id, rows, self._database.read, steps=steps)

    def version(self, execution_id: str) -> Version:
        rows = self._database.read(self._statements.version, [execution_id] * 5)
        if not rows:
            raise ExecutionNotFound(execution_id)
        record, epoch, holder, under_way, count, places, reports, *more = rows[0]
        return Version(
            record=record,
            epoch=epoch,
            holder=holder,
            under_way=under_way,
            steps=(count, places),
            reports=reports,
            more=(*more,),
        )

    def steps_since(self, execution_id: str, seq: int) -> StepRows:
        return [*map(StepRow._make, self._database.read(self._statements.steps_since, (execution_id, seq)))]

    def report(self, reports: Sequence[Report], ended: Collection[tuple[str, str]] = ()) -> None:
        self._database.transact(partial(self._report, reports, ended), once=True)

    def _report(self, reports: Sequence[Report], ended: Collection[tuple[str, str]], transaction: Transaction) -> None:
        transaction.many(self._statements.report, sorted((each.row() for each in reports), key=itemgetter(0, 1)))
        transaction.many(self._statements.unreport, sorted(ended))
        self._tell(sorted({each.execution_id for each in reports}), transaction)

    def tell_under_way(self, told: Mapping[Lease, str]) -> None:
        self._database.transact(partial(self._tell_under_way, told), once=True)

    def _tell_under_way(self, told: Mapping[Lease, str], transaction: Transaction) -> None:
        transaction.many(self._statements.leases.under_way, [(text, *lease) for lease, text in sorted(told.items())])
        self._tell(sorted({lease.execution_id for lease in told}), transaction)

    def reports(self, execution_id: str) -> list[Report]:
        return [Report(*row) for row in self._database.read(self._statements.reports, (execution_id,))]

    def changes(self) -> ChangeListener:
        return self._database.changes()

    def records(self, execution_ids: Collection[str]) -> list[RecordRow]:
        rows = self._database.read_of(self._statements.records, [*execution_ids])
        return [RecordRow(execution_id, data, bool(cancelled)) for execution_id, data, cancelled in rows]

    def take_over(self, wanted: TakeOver, /) -> Snapshot:
        taken = None
        while taken is None:
            # Who cannot have it locks nothing: a heartbeat that meets the lock renews the lease the next time only.
            holder = None if wanted.under is not None else self.holder(wanted.execution_id)
            if not (holder in (None, wanted.owner) or wanted.is_gone(holder)):
                found = self.read(wanted.execution_id)
                if found.epoch is not None or wanted.reopen:
                    raise ExecutionOwned(wanted.execution_id)
                return found
            taken = self._database.transact(partial(self._take_over, wanted, holder))
        return taken

    def _take_over(self, wanted: TakeOver, gone: str | None, transaction: Transaction) -> Snapshot | None:
        """Do so; None if another one than *gone* holds it by now."""
        execution_id, said = wanted.execution_id, self._statements
        if wanted.under is not None:
            self._check_held(transaction, [wanted.under])
        if said.leases.lock is not None:
            transaction.rows(said.leases.lock, (execution_id,))
        rows = transaction.rows(said.look, (execution_id,))
        snapshot = self._snapshot(execution_id, rows, transaction.rows)
        if snapshot.epoch is None and not (wanted.reopen and rows[0][2] is not None):
            return snapshot
        holder, valid = rows[0][1], rows[0][3]
        if not (wanted.under is not None or holder in (None, wanted.owner, gone) or not valid):
            return None
        if (key := snapshot.record.concurrency_key) is not None and not snapshot.cancelled:
            take_key(transaction, said.limits, key, execution_id)
        # It died: one that paused, or gave its lease back, has said so. A sub-flow dies with what it belongs to.
        is_paused = snapshot.record.state is WorkflowState.PAUSED
        has_died = not is_paused and holder is not None and wanted.under is None
        row = (wanted.owner, wanted.rise, wanted.ttl, int(has_died), execution_id)
        taken = transaction.rows(said.leases.take_over, row)
        self._tell([execution_id], transaction)
        recoveries = snapshot.recoveries + has_died
        return attrs.evolve(snapshot, epoch=int(taken[0][0]), recoveries=recoveries, owner=wanted.owner)

    def _snapshot(
        self, execution_id: str, rows: Rows, read: Callable[[str, Sequence[object]], Rows], *, steps: bool = True
    ) -> Snapshot:
        if not rows:
            raise ExecutionNotFound(execution_id)
        data, owner, epoch, _, content_id, recoveries, cancelled = rows[0]
        record = read_record(execution_id, data, to_go_on=True)
        live = epoch is not None and record.state.is_live
        rows_of_steps = read(self._statements.steps, (execution_id,)) if steps else []
        own, memos = parted([*map(StepRow._make, rows_of_steps)])
        return Snapshot(
            record=record,
            epoch=int(epoch) if live else None,
            flow=None if content_id is None else self._definition(content_id, read),
            content_id=content_id,
            steps=own,
            memos=memos,
            recoveries=recoveries or 0,
            cancelled=bool(cancelled),
            owner=owner,
        )

    def _definition(self, content_id: str, read: Callable[[str, Sequence[object]], Rows]) -> str | None:
        """Return a definition, which says the same for ever: many executions have few, and are read twice to go on."""
        text = self._definitions.get(content_id)
        if text is None and (rows := read(self._statements.flow, (content_id,))):
            text = str(rows[0][0])
            self._definitions.keep(content_id, text, len(text))
        return text

    def renew(self, renewal: Renewal, /) -> dict[str, Wish]:
        return self._database.transact(partial(self._renew, renewal))

    def _renew(self, renewal: Renewal, transaction: Transaction) -> dict[str, Wish]:
        owner, told = renewal.owner, renewal.under_way
        rows = [(renewal.ttl, told.get(each), each, owner, epoch) for each, epoch in renewal.epochs.items()]
        held = transaction.rows_for(self._statements.leases.renew, rows) if rows else []
        return {execution_id: Wish(wish) for execution_id, wish in held}

    def _check_held(self, transaction: Transaction, leases: Collection[Lease]) -> list[str]:
        """Raise `LeaseLost`, with all of them, if *leases* are held no more; those held stay so until the end.

        Returns the executions that somebody watches, who is to be told.
        """
        if not leases:
            return []
        execution_ids = sorted({lease.execution_id for lease in leases})
        rows = transaction.rows_of(self._statements.leases.held, execution_ids)
        held = epochs_of(rows)
        lost = [lease for lease in leases if held.get(lease.execution_id) != lease.epoch]
        if lost:
            raise LeaseLost(min(lost).execution_id, frozenset(lost))
        return [row[0] for row in rows if row[2]]

    def interrupted(self, is_gone: Callable[[str], bool]) -> list[str]:
        said = self._statements.leases
        rows = self._database.read(said.candidates) + self._database.read(said.awake)
        return [row[0] for row in rows if row[1] is None or not row[2] or is_gone(row[1])]

    def wakes_in(self) -> float | None:
        ((seconds,),) = self._database.read(self._statements.leases.wake)
        return None if seconds is None else max(0.0, float(seconds))

    # -- transactions of handlers ---------------------------------------------------------------------

    def transaction(self, lease: Lease, limit: float) -> KeptTransaction:
        return KeptTransaction(self._database, self._carry_out, partial(self._look_after, lease), limit)

    def join(self, lease: Lease, connection: object) -> OthersTransaction:
        return OthersTransaction(self._database, self._carry_out, lease, self._database.join(connection))

    def _look_after(self, lease: Lease, transaction: Transaction) -> None:
        """Raise `LeaseLost` if a lease is held no more. It may be lost later: whoever takes over waits for nobody."""
        if transaction.rows(self._statements.leases.epoch, (lease.execution_id,)) != [(lease.epoch,)]:
            raise LeaseLost(lease.execution_id)

    # -- signals --------------------------------------------------------------------------------------

    def send(self, execution_id: str, signal: Signal) -> bool:
        row = (signal.signal_id, signal.name, signal.value, execution_id)
        return self._database.transact(lambda transaction: self._act(transaction, self._statements.send, row))

    def signals(self, execution_id: str) -> list[Signal]:
        return [Signal(*row) for row in self._database.read(self._statements.signals, (execution_id,))]

    def request_cancel(self, execution_id: str) -> bool:
        row = (execution_id,)
        return self._database.transact(lambda transaction: self._act(transaction, self._statements.leases.cancel, row))

    def request_pause(self, execution_id: str) -> bool:
        row = (execution_id,)
        return self._database.transact(lambda transaction: self._act(transaction, self._statements.leases.pause, row))

    def _act(self, transaction: Transaction, statement: str, row: Row) -> bool:
        """Return whether *statement* has done anything to the execution that *row* ends with; or ExecutionNotFound."""
        if transaction.rows(statement, row):
            self._tell(row[-1:], transaction)
            return True
        if not transaction.rows(self._statements.exists, row[-1:]):
            raise ExecutionNotFound(row[-1])
        return False

    def clock(self) -> float:
        return float(self._database.read(self._statements.now)[0][0])
