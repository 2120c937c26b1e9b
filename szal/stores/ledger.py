"""What a store keeps of executions that are under way: who runs them, what has happened, what they wait for.

One table each, beside szal-rs's own: definitions, leases, steps, signals. All times are the database's.
"""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import attrs

from szal.errors import ExecutionNotFound, ExecutionOwned, LeaseLost
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.base import read_record
from szal.stores.dialect import Dialect
from szal.stores.operation import Operation, Release, Remove, Save, SaveStep
from szal.stores.query import LIVE

__all__ = [
    "ADD_AWAITS",
    "TABLES",
    "WRITES",
    "Lease",
    "Signal",
    "Snapshot",
    "SqlLedger",
    "StepRows",
    "Transaction",
    "spelled_out",
]

Row: TypeAlias = tuple[Any, ...]
Lease: TypeAlias = tuple[str, int]
"""A lease: the execution's id, and the epoch."""
StepRows: TypeAlias = Sequence[tuple[str, int, str]]
"""What is known of steps: name, seq, JSON; in the order of seq."""
Given = TypeVar("Given")
Made = TypeVar("Made")

TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS {flows} (content_id TEXT PRIMARY KEY, data TEXT NOT NULL)",
    (
        "CREATE TABLE IF NOT EXISTS {leases} (execution_id TEXT PRIMARY KEY, owner TEXT, epoch BIGINT NOT NULL,"
        " expires DOUBLE PRECISION NOT NULL, content_id TEXT NOT NULL, recoveries BIGINT NOT NULL,"
        " cancelled BIGINT NOT NULL, wake DOUBLE PRECISION)"
    ),
    (
        "CREATE TABLE IF NOT EXISTS {steps} (execution_id TEXT NOT NULL, step_name TEXT NOT NULL,"
        " seq BIGINT NOT NULL, result TEXT NOT NULL, signal_id TEXT, PRIMARY KEY (execution_id, step_name))"
    ),
    (
        "CREATE TABLE IF NOT EXISTS {signals} (execution_id TEXT NOT NULL, signal_id TEXT NOT NULL,"
        " name TEXT NOT NULL, value TEXT NOT NULL, sent DOUBLE PRECISION NOT NULL,"
        " PRIMARY KEY (execution_id, signal_id))"
    ),
)

# The signals that a paused execution waits for, each between line ends; NULL: it may be any.
ADD_AWAITS: Final = "ALTER TABLE {leases} ADD COLUMN awaits TEXT"

# In these a parameter is `?`, the database's clock {now}, and the tables have their names in braces: `spelled_out` says
# it in the dialect's words. A batch of writes may need other statements: they are the dialect's own.
WRITES: Final[Mapping[type[Any], str]] = {
    SaveStep: "INSERT INTO {steps} (execution_id, step_name, seq, result, signal_id) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (execution_id, step_name) DO UPDATE SET seq = excluded.seq, result = excluded.result,"
    " signal_id = excluded.signal_id",
    Release: "UPDATE {leases} SET owner = NULL, expires = 0, wake = ?, awaits = ? WHERE execution_id = ?",
}

_BEGIN = (
    "INSERT INTO {executions} (execution_id, flow_name, data) VALUES (?, ?, ?)"
    " ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id"
)
_ADD_FLOW = (
    "INSERT INTO {flows} (content_id, data) VALUES (?, ?) ON CONFLICT (content_id) DO NOTHING RETURNING content_id"
)
_ADD_LEASE = (
    "INSERT INTO {leases} AS l (execution_id, owner, epoch, expires, content_id, recoveries, cancelled)"
    " VALUES (?, ?, 1, {now} + ?, ?, 0, 0) ON CONFLICT (execution_id) DO UPDATE SET owner = excluded.owner,"
    " epoch = l.epoch + 1, expires = excluded.expires, content_id = excluded.content_id,"
    " recoveries = 0, cancelled = 0, wake = NULL RETURNING epoch"
)
_LOCK = "SELECT e.execution_id FROM {executions} AS e WHERE e.execution_id = ?"
_LOOK = (
    "SELECT e.data, l.owner, l.epoch, l.expires > {now}, l.content_id, l.recoveries, l.cancelled"
    " FROM {executions} AS e LEFT JOIN {leases} AS l ON l.execution_id = e.execution_id WHERE e.execution_id = ?"
)
_TAKE_OVER = (
    "UPDATE {leases} SET owner = ?, epoch = epoch + 1, expires = {now} + ?, recoveries = recoveries + ?"
    " WHERE execution_id = ? RETURNING epoch"
)
_UNDONE = "UPDATE {steps} SET result = ? WHERE execution_id = ? AND step_name = ? RETURNING execution_id"
_PROGRESS = "UPDATE {leases} SET recoveries = 0 WHERE execution_id = ? RETURNING execution_id"
_RENEW = (
    "UPDATE {leases} SET expires = {now} + ? WHERE execution_id = ? AND owner = ? AND epoch = ? RETURNING cancelled"
)
_EPOCHS = "SELECT execution_id, epoch FROM {leases} WHERE execution_id IN (?)"
_STEPS = "SELECT step_name, seq, result FROM {steps} WHERE execution_id = ? ORDER BY seq"
_FLOW = "SELECT data FROM {flows} WHERE content_id = ?"
_CANDIDATES = (
    "SELECT l.execution_id, l.owner, l.expires > {now} FROM {leases} AS l"
    " JOIN {executions} AS e ON e.execution_id = l.execution_id WHERE {state} IN ('Running', 'RollingBack')"
    " ORDER BY l.expires"
)
_UNDELIVERED = (
    "NOT EXISTS (SELECT 1 FROM {steps} AS t WHERE t.execution_id = s.execution_id AND t.signal_id = s.signal_id)"
)
_AWAKE = (
    "SELECT l.execution_id, l.owner, l.expires > {now} FROM {leases} AS l"
    " JOIN {executions} AS e ON e.execution_id = l.execution_id"
    " WHERE {state} = 'Paused' AND (l.owner IS NOT NULL"  # who died before it said what it waits for
    " OR l.wake <= {now} OR l.cancelled = 1 OR EXISTS (SELECT 1 FROM {signals} AS s"
    " WHERE s.execution_id = l.execution_id AND " + _UNDELIVERED + " AND (l.awaits IS NULL"
    " OR replace(l.awaits, '\n' || s.name || '\n', '') <> l.awaits))) ORDER BY l.wake"
)
_SEND = (
    "INSERT INTO {signals} (execution_id, signal_id, name, value, sent)"
    " SELECT execution_id, ?, ?, ?, {now} FROM {executions} WHERE execution_id = ? AND {live}"
    " ON CONFLICT (execution_id, signal_id) DO NOTHING RETURNING signal_id"
)
_SIGNALS = (
    "SELECT signal_id, name, value FROM {signals} AS s WHERE execution_id = ? AND "
    + _UNDELIVERED
    + " ORDER BY sent, signal_id"
)
_CANCEL = (
    "UPDATE {leases} SET cancelled = 1 WHERE execution_id IN"
    " (SELECT execution_id FROM {executions} WHERE execution_id = ? AND {live}) RETURNING execution_id"
)
_HOLDER = "SELECT owner FROM {leases} WHERE execution_id = ? AND expires > {now}"
_EXISTS = "SELECT 1 FROM {executions} WHERE execution_id = ?"
_NOW = "SELECT {now}"
_ALL_TABLES = ("{steps}", "{signals}", "{leases}")  # that have rows of an execution, beside the record
_LIVE = ", ".join(f"'{state.value}'" for state in LIVE)


def spelled_out(statement: str, mark: str, prefix: str, **words: str) -> str:
    """Return *statement* with parameters as *mark*, and the tables' names after *prefix*."""
    tables = {name: f"{prefix}szal_{name}" for name in ("executions", "flows", "leases", "steps", "signals")}
    return statement.replace("?", mark).format(**tables, **words)


@lru_cache(maxsize=512)  # putting one together costs as much as a row
def _spelled_out(dialect: Dialect, statement: str) -> str:
    live = f"{dialect.state} IN ({_LIVE})"
    return spelled_out(statement, dialect.mark, dialect.prefix, now=dialect.now, state=dialect.state, live=live)


class Transaction(Protocol):
    """What can be done between BEGIN and COMMIT."""

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        ...

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        """Run one of `Dialect.writes` for each of *rows*, in order."""
        ...


@attrs.frozen
class Signal:
    """A value that was sent to an execution and has not been delivered; *value* is JSON text."""

    signal_id: str
    name: str
    value: str


@attrs.frozen(kw_only=True)
class Snapshot:
    """An execution as its new owner finds it. `epoch` is None where it has ended: there is nothing to own."""

    record: ExecutionRecord
    epoch: int | None
    flow: str | None = None  # the definition, as JSON
    content_id: str | None = None
    steps: StepRows = ()
    recoveries: int = 0
    cancelled: bool = False


class SqlLedger:
    """The ledger's methods, each one transaction. They block while the database works, on any thread."""

    dialect: Dialect

    @abstractmethod
    def _read(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]: ...

    @abstractmethod
    def _transact(self, work: "Callable[[Transaction, Given], Made]", given: Given) -> Made: ...

    def _sql(self, statement: str) -> str:
        return _spelled_out(self.dialect, statement)

    def _check_leases(self, transaction: Transaction, operations: Sequence[Operation]) -> None:
        """Raise `LeaseLost` if any of *operations* was written under a lease that is no longer held."""
        leases = {(each.execution_id, each.epoch) for each in operations if each.epoch is not None}
        if leases:
            self._check_held(transaction, leases)

    def _check_held(self, transaction: Transaction, leases: Collection[Lease]) -> None:
        ids = sorted({execution_id for execution_id, _ in leases})
        marks = ", ".join("?" * len(ids))
        statement = self._sql(_EPOCHS.replace("(?)", f"({marks})")) + self.dialect.share
        held: dict[str, int] = dict(transaction.rows(statement, ids))
        for execution_id, epoch in sorted(leases):
            if held.get(execution_id) != epoch:
                raise LeaseLost(execution_id)

    def _note_progress(self, transaction: Transaction, operations: Sequence[Operation]) -> None:
        """Count recoveries anew where a step has settled."""
        found = {each.progress_of for each in operations if isinstance(each, SaveStep) and each.progress_of is not None}
        for execution_id in sorted(found):
            transaction.rows(self._sql(_PROGRESS), (execution_id,))

    def _forget(
        self, transaction: Transaction, execution_ids: Sequence[str], tables: Sequence[str] = _ALL_TABLES
    ) -> None:
        """Delete what there is of executions that are deleted."""
        if not execution_ids:
            return
        marks = ", ".join("?" * len(execution_ids))
        for table in tables:
            statement = f"DELETE FROM {table} WHERE execution_id IN ({marks}) RETURNING execution_id"
            transaction.rows(self._sql(statement), execution_ids)

    # -- leases ---------------------------------------------------------------------------------------

    def create(
        self,
        record: ExecutionRecord,
        content_id: str,
        flow: str,
        owner: str,
        ttl: float,
        *,
        steps: StepRows = (),
        under: Lease | None = None,
        replace: bool = False,
    ) -> int | None:
        """Record a new execution and return the epoch of its lease; None where there is one under that id.

        *steps* have settled before it begins. *under* is the lease of the execution whose sub-flow it is: raises
        `LeaseLost` where that is held no more. *replace*: what there is under that id is left over, and goes.
        """
        lease = (record.execution_id, owner, ttl, content_id)
        return self._transact(self._create, (Save.of(record).row(), (content_id, flow), lease, steps, under, replace))

    def _create(
        self, transaction: Transaction, given: tuple[Row, Row, Row, StepRows, Lease | None, bool]
    ) -> int | None:
        record, flow, lease, steps, under, replace = given
        execution_id = lease[0]
        if under is not None:
            self._check_held(transaction, [under])
        if not transaction.rows(self._sql(_BEGIN), record):
            if not replace:
                return None
            transaction.many(self.dialect.writes[Remove], [(execution_id,)])
            self._forget(transaction, [execution_id])
            transaction.rows(self._sql(_BEGIN), record)
        transaction.rows(self._sql(_ADD_FLOW), flow)
        epoch = int(transaction.rows(self._sql(_ADD_LEASE), lease)[0][0])
        if epoch > 1:  # there was one of that id, and who removed it knows nothing of these tables, as szal-rs
            self._forget(transaction, [execution_id], ("{steps}", "{signals}"))
        if steps:
            transaction.many(self.dialect.writes[SaveStep], [(execution_id, *step, None) for step in steps])
        return epoch

    def knows(self, execution_id: str) -> bool:
        """Whether there is an execution of that id."""
        return bool(self._read(self._sql(_EXISTS), (execution_id,)))

    def holder(self, execution_id: str) -> str | None:
        """Return the owner of an execution whose lease has not run out; None where there is none."""
        rows = self._read(self._sql(_HOLDER), (execution_id,))
        return rows[0][0] if rows else None

    def undone(self, execution_id: str, step_name: str, data: str) -> None:
        """Write that what an execution did in a step has been undone by another one. Nothing, where it was removed."""
        self._transact(self._undone, (data, execution_id, step_name))

    def _undone(self, transaction: Transaction, given: Row) -> None:
        transaction.rows(self._sql(_UNDONE), given)

    def read(self, execution_id: str) -> Snapshot:
        """Return what is known of an execution, without owning it. Raises `ExecutionNotFound`."""
        rows = self._read(self._sql(_LOOK), (execution_id,))
        return self._snapshot(execution_id, rows, self._read)

    def take_over(
        self,
        execution_id: str,
        owner: str,
        ttl: float,
        is_gone: Callable[[str], bool],
        *,
        under: Lease | None = None,
        reopen: bool = False,
    ) -> Snapshot:
        """Make *owner* the owner of an execution that nobody runs, and return it; one that has ended as it is.

        Raises `ExecutionOwned` where its owner is alive, as far as the lease and *is_gone* tell, and
        `ExecutionNotFound`. A sub-flow is its parent's owner's, whoever had it: *under* is the parent's lease. Raises
        `LeaseLost` where that is held no more. `Snapshot.recoveries` counts how often that was because the owner died,
        since the execution began or a step of it last settled. *reopen*: one that has ended is taken over, too: to be
        undone.
        """
        return self._transact(self._take_over, (execution_id, owner, ttl, is_gone, under, reopen))

    def _take_over(
        self, transaction: Transaction, given: tuple[str, str, float, Callable[[str], bool], Lease | None, bool]
    ) -> Snapshot:
        execution_id, owner, ttl, is_gone, under, reopen = given
        if under is not None:
            self._check_held(transaction, [under])
        if self.dialect.lock:  # first, and alone: what is joined to a row that had to be waited for may be out of date
            transaction.rows(self._sql(_LOCK) + self.dialect.lock, (execution_id,))
        rows = transaction.rows(self._sql(_LOOK), (execution_id,))
        snapshot = self._snapshot(execution_id, rows, transaction.rows)
        if snapshot.epoch is None and not (reopen and rows[0][2] is not None):
            return snapshot
        holder, valid = rows[0][1], rows[0][3]
        is_free = under is not None or holder in (None, owner) or not valid or is_gone(holder)
        if not is_free:
            raise ExecutionOwned(execution_id)
        # It died: one that paused, or gave its lease back, has said so. A sub-flow dies with what it belongs to.
        interrupted = snapshot.record.state is not WorkflowState.PAUSED and holder is not None and under is None
        taken = transaction.rows(self._sql(_TAKE_OVER), (owner, ttl, int(interrupted), execution_id))
        return attrs.evolve(snapshot, epoch=int(taken[0][0]), recoveries=snapshot.recoveries + interrupted)

    def _snapshot(self, execution_id: str, rows: Sequence[Row], read: Callable[..., list[Row]]) -> Snapshot:
        if not rows:
            raise ExecutionNotFound(execution_id)
        data, _, epoch, _, content_id, recoveries, cancelled = rows[0]
        record = read_record(execution_id, data)
        flow = read(self._sql(_FLOW), (content_id,)) if content_id is not None else []
        live = epoch is not None and record.state.is_live
        return Snapshot(
            record=record,
            epoch=int(epoch) if live else None,
            flow=flow[0][0] if flow else None,
            content_id=content_id,
            steps=[(row[0], row[1], row[2]) for row in read(self._sql(_STEPS), (execution_id,))],
            recoveries=recoveries or 0,
            cancelled=bool(cancelled),
        )

    def renew(self, owner: str, epochs: Mapping[str, int], ttl: float) -> dict[str, bool]:
        """Extend leases; return those that are still held, each with whether it is to be cancelled."""
        return self._transact(self._renew, (owner, dict(epochs), ttl))

    def _renew(self, transaction: Transaction, given: tuple[str, dict[str, int], float]) -> dict[str, bool]:
        owner, epochs, ttl = given
        held: dict[str, bool] = {}
        for execution_id, epoch in sorted(epochs.items()):  # in one order, so that two never wait for each other
            rows = transaction.rows(self._sql(_RENEW), (ttl, execution_id, owner, epoch))
            if rows:
                held[execution_id] = bool(rows[0][0])
        return held

    def interrupted(self, is_gone: Callable[[str], bool]) -> list[str]:
        """Return the executions that nobody runs although they could go on, those that wait no longer last."""
        rows = self._read(self._sql(_CANDIDATES)) + self._read(self._sql(_AWAKE))
        return [row[0] for row in rows if row[1] is None or not row[2] or is_gone(row[1])]

    # -- signals --------------------------------------------------------------------------------------

    def send(self, execution_id: str, name: str, value: str, signal_id: str) -> bool:
        """Keep a signal for an execution; False where it has ended, or one with that id was sent before.

        Raises `ExecutionNotFound`.
        """
        return self._transact(self._send, (signal_id, name, value, execution_id))

    def _send(self, transaction: Transaction, given: tuple[str, str, str, str]) -> bool:
        if transaction.rows(self._sql(_SEND), given):
            return True
        self._check_exists(transaction, given[3])
        return False

    def _check_exists(self, transaction: Transaction, execution_id: str) -> None:
        if not transaction.rows(self._sql(_EXISTS), (execution_id,)):
            raise ExecutionNotFound(execution_id)

    def signals(self, execution_id: str) -> list[Signal]:
        """Return the signals that were sent and not delivered, the oldest first."""
        return [Signal(*row) for row in self._read(self._sql(_SIGNALS), (execution_id,))]

    def request_cancel(self, execution_id: str) -> bool:
        """Have an execution cancelled by whoever runs it, at its next heartbeat; False where it has ended.

        Raises `ExecutionNotFound`.
        """
        return self._transact(self._request_cancel, execution_id)

    def _request_cancel(self, transaction: Transaction, execution_id: str) -> bool:
        if transaction.rows(self._sql(_CANCEL), (execution_id,)):
            return True
        self._check_exists(transaction, execution_id)
        return False

    def clock(self) -> float:
        """Return the database's time, as Unix time."""
        return float(self._read(self._sql(_NOW))[0][0])
