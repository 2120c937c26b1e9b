"""What a memory store keeps of executions under way: the ledger that `SqlLedger` describes, on plain data."""

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias
from weakref import WeakValueDictionary

import attrs

from szal import clock
from szal.clock import monotonic
from szal.errors import ExecutionNotFound, ExecutionOwned, LeaseLost
from szal.model.json.text import loads
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.base import read_record
from szal.stores.ledger import Lease, Signal, Snapshot, StepRows
from szal.stores.operation import Operation, Release, Remove, Save, SaveStep
from szal.stores.query import HEAD, ExecutionSummary, Position, position_key, summary_of

__all__ = ["Entry", "MemoryLedger", "Row"]

_UNDER_WAY = (WorkflowState.RUNNING, WorkflowState.ROLLING_BACK)

_Step: TypeAlias = tuple[str, int, str, str | None]
"""Name, seq, JSON, and the signal that was delivered with it."""


# Rows, leases, steps and signals are replaced and never changed: who has read one under the lock may keep it.


@attrs.define
class Row:
    """A record as it was saved, and its summary."""

    flow_name: str
    data: str
    summary: ExecutionSummary

    @classmethod
    def of(cls, save: Save) -> "Row":
        fields = loads(save.data)
        head = [fields.get(key) for key in HEAD]
        summary = summary_of(save.execution_id, save.flow_name, position_key(str(fields["started_at"])), head)
        assert summary is not None, "szal's own records can be summarised"
        return cls(save.flow_name, save.data, summary)

    @property
    def position(self) -> Position:
        return self.summary.position, self.summary.execution_id


@attrs.frozen
class _Definition:
    content_id: str
    flow: str


@attrs.frozen(kw_only=True)
class _Lease:
    owner: str | None
    epoch: int
    expires: float  # of the monotonic clock: to set the other one takes no lease from who holds it
    definition: _Definition
    recoveries: int = 0
    cancelled: bool = False
    wake: float | None = None
    awaits: frozenset[str] | None = None

    def holder(self) -> str | None:
        """Return the owner, if there is one and its time is not over."""
        return self.owner if self.expires > monotonic() else None


@attrs.frozen
class _Found:
    """An execution as it was when the lock was held."""

    row: Row
    lease: _Lease | None
    steps: Sequence[_Step]

    def snapshot(self, *, reopened: bool = False) -> Snapshot:
        """Return it as its owner gets to see it; decodes the record."""
        lease = self.lease
        record = read_record(self.row.summary.execution_id, self.row.data)
        steps = [step[:3] for step in sorted(self.steps, key=lambda step: step[1])]
        if lease is None:
            return Snapshot(record=record, epoch=None, steps=steps)
        return Snapshot(
            record=record,
            epoch=lease.epoch if record.state.is_live or reopened else None,
            flow=lease.definition.flow,
            content_id=lease.definition.content_id,
            steps=steps,
            recoveries=lease.recoveries,
            cancelled=lease.cancelled,
        )


@attrs.define
class Entry:
    """All that there is of one execution: whoever drops it has forgotten everything. Guarded by the store's lock."""

    row: Row
    lease: _Lease | None = None
    steps: dict[str, _Step] = attrs.field(factory=dict)
    signals: dict[str, Signal] = attrs.field(factory=dict)  # by id, in the order in which they came

    @property
    def state(self) -> WorkflowState:
        return self.row.summary.state

    def found(self) -> _Found:
        return _Found(self.row, self.lease, [*self.steps.values()])

    def undelivered(self) -> Iterable[Signal]:
        """Return the signals that no step has taken, the oldest first."""
        if not self.signals:
            return ()
        taken = {signal_id for *_, signal_id in self.steps.values()}
        return (signal for signal in self.signals.values() if signal.signal_id not in taken)

    def can_go_on(self, lease: _Lease, now: float) -> bool:
        """Whether there is something to do: it was interrupted, or what it waits for has come."""
        if self.state is not WorkflowState.PAUSED:
            return self.state in _UNDER_WAY
        if lease.owner is not None:  # who died before it said what it waits for
            return True
        if lease.cancelled or (lease.wake is not None and lease.wake <= now):
            return True
        return any(lease.awaits is None or signal.name in lease.awaits for signal in self.undelivered())


@attrs.define(eq=False)
class MemoryLedger:
    """The ledger's methods, each at once: no other thread sees half of one.

    Of a definition there is one copy, for as long as there is an execution of it.
    """

    _entries: dict[str, Entry] = attrs.field(factory=dict, init=False, repr=False)
    _definitions: "WeakValueDictionary[str, _Definition]" = attrs.field(
        factory=WeakValueDictionary, init=False, repr=False
    )
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False, repr=False)  # guards both

    def clock(self) -> float:
        """Return the time that waits go by, as Unix time."""
        return clock.wall()

    def _entry(self, execution_id: str) -> Entry:
        entry = self._entries.get(execution_id)
        if entry is None:
            raise ExecutionNotFound(execution_id)
        return entry

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
        entry = Entry(Row.of(Save.of(record)), steps={step[0]: (*step, None) for step in steps})
        with self._lock:
            self._check_held(under)
            definition = self._definitions.setdefault(content_id, _Definition(content_id, flow))
            entry.lease = _Lease(owner=owner, epoch=1, expires=monotonic() + ttl, definition=definition)
            if replace:
                self._entries[record.execution_id] = entry
                return 1
            return 1 if self._entries.setdefault(record.execution_id, entry) is entry else None

    def knows(self, execution_id: str) -> bool:
        """Whether there is an execution of that id."""
        with self._lock:
            return execution_id in self._entries

    def holder(self, execution_id: str) -> str | None:
        """Return the owner of an execution whose lease has not run out; None where there is none."""
        with self._lock:
            entry = self._entries.get(execution_id)
            return None if entry is None or entry.lease is None else entry.lease.holder()

    def undone(self, execution_id: str, step_name: str, data: str) -> None:
        """Write that what an execution did in a step has been undone by another one. Nothing, where it was removed."""
        with self._lock:
            entry = self._entries.get(execution_id)
            if entry is not None and step_name in entry.steps:
                name, seq, _, signal_id = entry.steps[step_name]
                entry.steps[step_name] = name, seq, data, signal_id

    def read(self, execution_id: str) -> Snapshot:
        """Return what is known of an execution, without owning it. Raises `ExecutionNotFound`."""
        with self._lock:
            found = self._entry(execution_id).found()
        return found.snapshot()

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
        gone: str | None = None
        while True:
            taken = self._take(execution_id, owner, ttl, gone, under, reopen=reopen)
            if isinstance(taken, _Found):
                return taken.snapshot(reopened=reopen)
            if not is_gone(taken):  # asked without the lock: meanwhile somebody else may come first
                raise ExecutionOwned(execution_id)
            gone = taken

    def _take(
        self, execution_id: str, owner: str, ttl: float, gone: str | None, under: Lease | None, *, reopen: bool
    ) -> _Found | str:
        """Do so if nobody but *gone* has it, and return it; else the owner's name."""
        with self._lock:
            self._check_held(under)
            entry = self._entry(execution_id)
            lease = entry.lease
            if lease is None or not (entry.state.is_live or reopen):
                return entry.found()
            holder = lease.holder()
            if under is None and holder is not None and holder not in (owner, gone):
                return holder
            has_died = under is None and entry.state is not WorkflowState.PAUSED and lease.owner is not None
            entry.lease = attrs.evolve(
                lease,
                owner=owner,
                epoch=lease.epoch + 1,
                expires=monotonic() + ttl,
                recoveries=lease.recoveries + has_died,
            )
            return entry.found()

    def renew(self, owner: str, epochs: Mapping[str, int], ttl: float) -> dict[str, bool]:
        """Extend leases; return those that are still held, each with whether it is to be cancelled."""
        held: dict[str, bool] = {}
        with self._lock:
            expires = monotonic() + ttl
            for execution_id, epoch in epochs.items():
                entry = self._entries.get(execution_id)
                lease = None if entry is None else entry.lease
                if entry is not None and lease is not None and (lease.owner, lease.epoch) == (owner, epoch):
                    entry.lease = attrs.evolve(lease, expires=expires)
                    held[execution_id] = lease.cancelled
        return held

    def interrupted(self, is_gone: Callable[[str], bool]) -> list[str]:
        """Return the executions that nobody runs although they could go on, those that wait no longer last."""
        running: list[tuple[float, str, _Lease]] = []
        awake: list[tuple[float, str, _Lease]] = []
        with self._lock:
            now = self.clock()
            for execution_id, entry in self._entries.items():
                lease = entry.lease
                if lease is None or not entry.can_go_on(lease, now):
                    continue
                if entry.state is WorkflowState.PAUSED:
                    awake.append((math.inf if lease.wake is None else lease.wake, execution_id, lease))
                else:
                    running.append((lease.expires, execution_id, lease))
        found = [*sorted(running, key=lambda each: each[0]), *sorted(awake, key=lambda each: each[0])]
        holders = ((execution_id, lease.holder()) for _, execution_id, lease in found)
        return [execution_id for execution_id, holder in holders if holder is None or is_gone(holder)]

    # -- signals --------------------------------------------------------------------------------------

    def send(self, execution_id: str, name: str, value: str, signal_id: str) -> bool:
        """Keep a signal for an execution; False where it has ended, or one with that id was sent before.

        Raises `ExecutionNotFound`.
        """
        with self._lock:
            entry = self._entry(execution_id)
            if not entry.state.is_live or signal_id in entry.signals:
                return False
            entry.signals[signal_id] = Signal(signal_id, name, value)
        return True

    def signals(self, execution_id: str) -> list[Signal]:
        """Return the signals that were sent and not delivered, the oldest first."""
        with self._lock:
            entry = self._entries.get(execution_id)
            return [] if entry is None else [*entry.undelivered()]

    def request_cancel(self, execution_id: str) -> bool:
        """Have an execution cancelled by whoever runs it, at its next heartbeat; False where it has ended.

        Raises `ExecutionNotFound`.
        """
        with self._lock:
            entry = self._entry(execution_id)
            if entry.lease is None or not entry.state.is_live:
                return False
            entry.lease = attrs.evolve(entry.lease, cancelled=True)
        return True

    # -- for the store, with the lock held ------------------------------------------------------------

    def _check_leases(self, operations: Iterable[Operation]) -> None:
        """Raise `LeaseLost`, naming the first by id, where one of *operations* has a lease that is held no more."""
        removed: set[str] = set()
        lost: set[str] = set()
        for operation in operations:
            execution_id, epoch = operation.execution_id, operation.epoch
            if epoch is not None and (execution_id in removed or self._epoch(execution_id) != epoch):
                lost.add(execution_id)
            if isinstance(operation, Remove):
                removed.add(execution_id)
        if lost:
            raise LeaseLost(min(lost))

    def _check_held(self, lease: Lease | None) -> None:
        if lease is not None and self._epoch(lease[0]) != lease[1]:
            raise LeaseLost(lease[0])

    def _epoch(self, execution_id: str) -> int | None:
        entry = self._entries.get(execution_id)
        return None if entry is None or entry.lease is None else entry.lease.epoch

    def _write_step(self, step: SaveStep) -> None:
        entry = self._entries.get(step.execution_id)
        if entry is not None:
            entry.steps[step.step_name] = (step.step_name, step.seq, step.data, step.signal_id)

    def _note_progress(self, operations: Iterable[Operation]) -> None:
        """Count recoveries anew where a step has settled."""
        for operation in operations:
            progress_of = operation.progress_of if isinstance(operation, SaveStep) else None
            entry = None if progress_of is None else self._entries.get(progress_of)
            if entry is not None and entry.lease is not None:
                entry.lease = attrs.evolve(entry.lease, recoveries=0)

    def _release(self, release: Release) -> None:
        entry = self._entries.get(release.execution_id)
        if entry is not None and entry.lease is not None:
            awaits = None if release.awaits is None else frozenset(release.awaits)
            entry.lease = attrs.evolve(entry.lease, owner=None, expires=-math.inf, wake=release.wake, awaits=awaits)

    def _leave_to_parent(self) -> None:
        """After a fork: what the parent runs is the parent's for as long as that lives; it cannot renew it here."""
        for entry in self._entries.values():
            if entry.lease is not None and entry.lease.holder() is not None:
                entry.lease = attrs.evolve(entry.lease, expires=math.inf)
