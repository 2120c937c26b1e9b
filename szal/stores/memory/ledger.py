"""The ledger of a memory store: what `SqlLedger` says in SQL, done to plain data."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import attrs

from szal import clock
from szal.clock import monotonic
from szal.errors import ExecutionOwned, LeaseLost, StoreFailed
from szal.model.state import WorkflowState
from szal.stores.batch import leases_of, merged
from szal.stores.ledger import Holding, Ledger, RecordRow, Renewal, Report, Signal, Snapshot, TakeOver, Version, Wish
from szal.stores.memory.entries import Definition, Entries, Entry, Found, HeldLease, Row
from szal.stores.memory.limits import MemoryLimits, Shared
from szal.stores.memory.listener import MemoryChanges
from szal.stores.memory.queue import MemoryQueue, Places
from szal.stores.memory.schedules import MemorySchedules
from szal.stores.schedules import ScheduleRow
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
    saved_by,
)

__all__ = ["MemoryLedger"]


class MemoryLedger(Ledger):
    """The ledger in *entries*. Each method happens at once: no other thread sees half of one."""

    name = "memory:"

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._places = Places()
        self._schedules: dict[str, ScheduleRow] = {}
        self._shared = Shared()

    @property
    def queue(self) -> MemoryQueue:
        holder = self.limits.key_holder
        return MemoryQueue(self._entries, self._places, lambda new: self._record(new, Row.of(new.save)), holder)

    @property
    def schedules(self) -> MemorySchedules:
        return MemorySchedules(self._entries, self._schedules, self.queue.submit)

    @property
    def limits(self) -> MemoryLimits:
        return MemoryLimits(self._entries, self._shared)

    def wakes_in(self) -> float | None:
        with self._entries.lock:
            leases = [entry.lease for entry in self._entries.of.values() if entry.state is WorkflowState.PAUSED]
        may = (lease for lease in leases if lease is not None and (lease.cancelled or not lease.pausing))
        first = min((lease.wake for lease in may if lease.wake is not None), default=None)
        return None if first is None else max(0.0, first - self.clock())

    # -- writing --------------------------------------------------------------------------------------

    def write(self, write: Write, /) -> None:
        apply_one(self.apply, write)

    def apply(self, writes: Sequence[Write], *, once: bool = False) -> None:  # noqa: ARG002 - nothing passes here
        # What a signal handler raises in the middle leaves the first ones done.
        needed = merged(writes)
        rows = [_row(write, self.name) for write in needed]
        leases = leases_of(writes)
        with self._entries.lock:
            self._check_leases(leases)
            self._check_free(needed)
            for write, row in zip(needed, rows, strict=True):
                self._carry_out(write, row)
            self._note_progress(writes)
        if self._entries.changes:
            self._entries.tell({write.execution_id for write in needed})

    def _carry_out(self, write: Write, row: Row | None) -> None:
        if isinstance(write, NewExecution):
            if not self._is_recorded(write):
                self._record(write, row)
                return
            for end in write.ends:
                self._carry_out(end, row if isinstance(end, Save) else None)
        elif row is not None:
            entry = self._entries.of.setdefault(write.execution_id, Entry(row))
            entry.row = row
        elif isinstance(write, SaveStep):
            self._write_step(write)
        elif isinstance(write, Release):
            self._release(write)
        else:
            self._entries.of.pop(write.execution_id, None)

    def _write_step(self, step: SaveStep) -> None:
        entry = self._entries.of.get(step.execution_id)
        if entry is not None:
            entry.steps[step.step_name] = (step.step_name, step.seq, step.data, step.signal_id)

    def _release(self, release: Release) -> None:
        entry = self._entries.of.get(release.execution_id)
        if entry is not None and entry.lease is not None:
            entry.lease = _released(entry.lease, release)

    def _note_progress(self, writes: Iterable[Write]) -> None:
        """Count recoveries anew where a step has settled."""
        for write in writes:
            progress_of = write.progress_of if isinstance(write, SaveStep) else None
            entry = None if progress_of is None else self._entries.of.get(progress_of)
            if entry is not None and entry.lease is not None:
                entry.lease = attrs.evolve(entry.lease, recoveries=0)

    def drain(self, timeout: float | None = None, *, begin_of: str | None = None, of: str | None = None) -> None:
        """Do nothing: nothing is queued."""

    def flush(self, timeout: float | None = None, *, execution_ids: Collection[str] | None = None) -> None:
        """Do nothing: nothing is queued."""

    # -- leases ---------------------------------------------------------------------------------------

    def create(self, new: NewExecution, /) -> int | None:
        row = Row.of(new.save)
        with self._entries.lock:
            self._check_held(new.under)
            key = new.record.concurrency_key
            if new.replace or new.execution_id not in self._entries.of:
                self.limits.check_key(key, new.execution_id)
            if not self._record(new, row):
                return None
            self.limits.take_key(key, new.execution_id)
            return new.first_epoch

    def _record(self, new: NewExecution, row: Row | None) -> bool:
        """Record an execution with its lease; False where there is one that it does not replace."""
        assert row is not None
        of, definitions = self._entries.of, self._entries.definitions
        definition = definitions.setdefault(new.content_id, Definition(new.content_id, new.flow))
        expires = monotonic() + new.ttl
        lease = HeldLease(owner=new.owner, epoch=new.first_epoch, expires=expires, definition=definition)
        entry = Entry(row, lease, {step[0]: (*step, None) for step in new.steps})
        if new.release is not None:
            entry.lease = _released(lease, new.release)
        if new.replace:
            before = of.get(new.execution_id)
            if new.begins_again and before is not None:
                entry.signals = {signal.signal_id: signal for signal in before.undelivered()}
            of[new.execution_id] = entry
            return True
        return of.setdefault(new.execution_id, entry) is entry

    def _is_recorded(self, new: NewExecution) -> bool:
        """Whether that very write was carried out before."""
        return self._epoch(new.execution_id) == new.first_epoch

    def _check_free(self, writes: Iterable[Write]) -> None:
        """Raise `LeaseLost` where somebody else has the id of a new execution, or will by then."""
        there: dict[str, int | None] = {}  # by id: the epoch of its lease
        removed: set[str] = set()
        for write in writes:
            name = write.execution_id
            if name not in there and name not in removed and name in self._entries.of:
                there[name] = self._epoch(name)
            if isinstance(write, Remove):
                there.pop(name, None)
                removed.add(name)
            elif isinstance(write, NewExecution):
                if not write.replace and there.get(name, write.first_epoch) != write.first_epoch:
                    raise LeaseLost(name, frozenset({write.lease}))
                there[name] = write.first_epoch
            elif isinstance(write, Save):
                there.setdefault(name, None)

    def knows(self, execution_id: str) -> bool:
        with self._entries.lock:
            return execution_id in self._entries.of

    def holder(self, execution_id: str) -> str | None:
        with self._entries.lock:
            entry = self._entries.of.get(execution_id)
            return None if entry is None or entry.lease is None else entry.lease.holder()

    def holdings(self, execution_ids: Collection[str]) -> list[Holding]:
        with self._entries.lock:
            leases = {each: self._entries.of[each].lease for each in execution_ids if each in self._entries.of}
        ahead = clock.wall() - monotonic()
        return [
            Holding(
                execution_id=execution_id,
                owner=lease.owner,
                expires=max(0.0, lease.expires + ahead),
                recoveries=lease.recoveries,
                wake=lease.wake,
                cancelled=lease.cancelled,
                content_id=lease.definition.content_id,
            )
            for execution_id, lease in leases.items()
            if lease is not None
        ]

    def check_writable(self) -> None:
        """Do nothing: it always can."""

    def undone(self, execution_id: str, step_name: str, data: str) -> None:
        with self._entries.lock:
            entry = self._entries.of.get(execution_id)
            if entry is not None and step_name in entry.steps:
                name, seq, _, signal_id = entry.steps[step_name]
                entry.steps[step_name] = name, seq, data, signal_id

    def read(self, execution_id: str, *, steps: bool = True) -> Snapshot:
        with self._entries.lock:
            found = self._entries.entry(execution_id).found(steps=steps)
        return found.snapshot()

    def version(self, execution_id: str) -> Version:
        with self._entries.lock:
            return self._entries.entry(execution_id).version()

    def steps_since(self, execution_id: str, seq: int) -> StepRows:
        with self._entries.lock:
            steps = [*self._entries.entry(execution_id).steps.values()]
        return [StepRow(*step[:3]) for step in sorted(steps, key=lambda step: step[1]) if step[1] > seq]

    def report(self, reports: Sequence[Report], ended: Collection[tuple[str, str]] = ()) -> None:
        with self._entries.lock:
            for report in reports:
                entry = self._entries.of.get(report.execution_id)
                before = None if entry is None else entry.reports.get(report.step_name)
                if entry is not None and (before is None or before.epoch <= report.epoch):
                    entry.reports[report.step_name] = report
            for execution_id, step_name in ended:
                entry = self._entries.of.get(execution_id)
                if entry is not None:
                    entry.reports.pop(step_name, None)
        self._entries.tell({report.execution_id for report in reports})

    def tell_under_way(self, told: Mapping[Lease, str]) -> None:
        with self._entries.lock:
            for (execution_id, epoch), text in told.items():
                entry = self._entries.of.get(execution_id)
                if entry is not None and entry.lease is not None and entry.lease.epoch == epoch:
                    entry.lease = attrs.evolve(entry.lease, under_way=text)
        self._entries.tell({lease.execution_id for lease in told})

    def reports(self, execution_id: str) -> list[Report]:
        with self._entries.lock:
            entry = self._entries.of.get(execution_id)
            return [] if entry is None else [*entry.reports.values()]

    def changes(self) -> MemoryChanges:
        listener = MemoryChanges()
        self._entries.changes.add(listener)
        return listener

    def records(self, execution_ids: Collection[str]) -> list[RecordRow]:
        with self._entries.lock:
            found = [(each, self._entries.of[each]) for each in execution_ids if each in self._entries.of]
            return [
                RecordRow(each, entry.row.data, bool(entry.lease and entry.lease.cancelled)) for each, entry in found
            ]

    def take_over(self, wanted: TakeOver, /) -> Snapshot:
        gone: str | None = None
        while True:
            taken = self._take(wanted, gone)
            if isinstance(taken, Found):
                self._entries.tell([wanted.execution_id])
                return taken.snapshot(reopened=wanted.reopen)
            if not wanted.is_gone(taken):  # asked without the lock: meanwhile somebody else may come first
                raise ExecutionOwned(wanted.execution_id)
            gone = taken

    def _take(self, wanted: TakeOver, gone: str | None) -> Found | str:
        """Do so if nobody but *gone* has it, and return it; else the owner's name."""
        with self._entries.lock:
            self._check_held(wanted.under)
            entry = self._entries.entry(wanted.execution_id)
            lease = entry.lease
            if lease is None or not (entry.state.is_live or wanted.reopen):
                return entry.found()
            holder = lease.holder()
            if wanted.under is None and holder is not None and holder not in (wanted.owner, gone):
                return holder
            if not lease.cancelled:
                self.limits.check_key(entry.row.key, wanted.execution_id)
                self.limits.take_key(entry.row.key, wanted.execution_id)
            has_died = wanted.under is None and entry.state is not WorkflowState.PAUSED and lease.owner is not None
            entry.lease = attrs.evolve(
                lease,
                owner=wanted.owner,
                epoch=lease.epoch + wanted.rise,
                expires=monotonic() + wanted.ttl,
                recoveries=lease.recoveries + has_died,
                pausing=False,
            )
            return entry.found()

    def renew(self, renewal: Renewal, /) -> dict[str, Wish]:
        held: dict[str, Wish] = {}
        with self._entries.lock:
            expires = monotonic() + renewal.ttl
            for execution_id, epoch in renewal.epochs.items():
                entry = self._entries.of.get(execution_id)
                lease = None if entry is None else entry.lease
                if entry is not None and lease is not None and (lease.owner, lease.epoch) == (renewal.owner, epoch):
                    told = renewal.under_way.get(execution_id, lease.under_way)
                    entry.lease = attrs.evolve(lease, expires=expires, under_way=told)
                    wished = Wish.PAUSE if lease.pausing else Wish.NOTHING
                    held[execution_id] = Wish.CANCEL if lease.cancelled else wished
        return held

    def interrupted(self, is_gone: Callable[[str], bool]) -> list[str]:
        running: list[tuple[float, str, HeldLease]] = []
        awake: list[tuple[float, str, HeldLease]] = []
        with self._entries.lock:
            now = self.clock()
            for execution_id, entry in self._entries.of.items():
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

    def send(self, execution_id: str, signal: Signal) -> bool:
        with self._entries.lock:
            entry = self._entries.entry(execution_id)
            if not entry.state.is_live or signal.signal_id in entry.signals:
                return False
            entry.signals[signal.signal_id] = signal
        self._entries.tell([execution_id])
        return True

    def signals(self, execution_id: str) -> list[Signal]:
        with self._entries.lock:
            entry = self._entries.of.get(execution_id)
            return [] if entry is None else [*entry.undelivered()]

    def request_cancel(self, execution_id: str) -> bool:
        with self._entries.lock:
            entry = self._entries.entry(execution_id)
            if entry.lease is None or not entry.state.is_live:
                return False
            entry.lease = attrs.evolve(entry.lease, cancelled=True)
        self._entries.tell([execution_id])
        return True

    def request_pause(self, execution_id: str) -> bool:
        with self._entries.lock:
            entry = self._entries.entry(execution_id)
            if entry.lease is None or entry.state not in (WorkflowState.RUNNING, WorkflowState.PAUSED):
                return False
            entry.lease = attrs.evolve(entry.lease, pausing=True)
        self._entries.tell([execution_id])
        return True

    def clock(self) -> float:
        return clock.wall()

    # -- with the lock held ---------------------------------------------------------------------------

    def _check_leases(self, leases: Iterable[Lease]) -> None:
        """Raise `LeaseLost`, naming the first by id, where one of *leases* is held no more."""
        for lease in sorted(leases):
            self._check_held(lease)

    def _check_held(self, lease: Lease | None) -> None:
        if lease is not None and self._epoch(lease[0]) != lease[1]:
            raise LeaseLost(lease[0])

    def _epoch(self, execution_id: str) -> int | None:
        entry = self._entries.of.get(execution_id)
        return None if entry is None or entry.lease is None else entry.lease.epoch


def _released(lease: HeldLease, release: Release) -> HeldLease:
    awaits = None if release.awaits is None else frozenset(release.awaits)
    return attrs.evolve(lease, owner=None, expires=-math.inf, wake=release.wake, awaits=awaits)


def _row(write: Write, store: str) -> Row | None:
    """Return the row that a save makes; raise `StoreFailed` for what is no write of szal's."""
    if (save := saved_by(write)) is not None:
        return Row.of(save)
    if not isinstance(write, Remove | SaveStep | Release):
        raise StoreFailed(store, f"cannot carry out {write!r}")
    return None
