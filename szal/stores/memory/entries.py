"""What a memory store holds: plain data, one entry for each execution, under one lock."""

import math
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TypeAlias
from weakref import WeakSet, WeakValueDictionary

import attrs

from szal import process_events
from szal.clock import monotonic
from szal.errors import ExecutionNotFound
from szal.model.json.text import loads
from szal.model.state import WorkflowState
from szal.stores.base import read_record
from szal.stores.filters import HEAD, ExecutionSummary, Position, key_of, summary_of
from szal.stores.ledger import Report, Signal, Snapshot, StepRow, Version, parted
from szal.stores.memory.listener import MemoryChanges
from szal.stores.writes import Save

__all__ = ["Definition", "Entries", "Entry", "Found", "HeldLease", "Row"]

_UNDONE = (WorkflowState.ROLLING_BACK,)
_UNDER_WAY = (WorkflowState.RUNNING, WorkflowState.ROLLING_BACK)

Step: TypeAlias = tuple[str, int, str, str | None]
"""Name, seq, JSON, and the signal that was delivered with it."""


# Rows, leases, steps and signals are replaced and never changed: who has read one under the lock may keep it.


@attrs.define
class Row:
    """A record as it was saved, and its summary."""

    flow_name: str
    state: WorkflowState
    data: str
    summary: ExecutionSummary
    key: str | None = None

    @classmethod
    def of(cls, save: Save) -> "Row":
        fields = loads(save.data)
        head = [fields.get(key) for key in HEAD]
        summary = summary_of(save.execution_id, save.flow_name, key_of(fields["started_at"]), head)
        return cls(save.flow_name, save.state, save.data, summary, fields.get("concurrency_key"))

    @property
    def position(self) -> Position:
        return self.summary.position, self.summary.execution_id


@attrs.frozen
class Definition:
    content_id: str
    flow: str


@attrs.frozen(kw_only=True)
class HeldLease:
    owner: str | None
    epoch: int
    expires: float  # of the monotonic clock: to set the other one takes no lease from who holds it
    definition: Definition
    recoveries: int = 0
    cancelled: bool = False
    pausing: bool = False
    wake: float | None = None
    awaits: frozenset[str] | None = None
    under_way: str | None = None

    def holder(self) -> str | None:
        """Return the owner, if there is one and its time is not over."""
        return self.owner if self.expires > monotonic() else None


@attrs.frozen
class Found:
    """An execution as it was when the lock was held."""

    row: Row
    lease: HeldLease | None
    steps: Sequence[Step]

    def snapshot(self, *, reopened: bool = False) -> Snapshot:
        """Return it as its owner gets to see it; decodes the record."""
        lease = self.lease
        record = read_record(self.row.summary.execution_id, self.row.data, to_go_on=True)
        steps, memos = parted([StepRow(*step[:3]) for step in sorted(self.steps, key=lambda step: step[1])])
        if lease is None:
            return Snapshot(record=record, epoch=None, steps=steps, memos=memos)
        return Snapshot(
            record=record,
            epoch=lease.epoch if record.state.is_live or reopened else None,
            flow=lease.definition.flow,
            content_id=lease.definition.content_id,
            steps=steps,
            memos=memos,
            recoveries=lease.recoveries,
            cancelled=lease.cancelled,
            owner=lease.owner,
        )


@attrs.define
class Entry:
    """All that there is of one execution: whoever drops it has forgotten everything. Guarded by the lock."""

    row: Row
    lease: HeldLease | None = None
    steps: dict[str, Step] = attrs.field(factory=dict)
    signals: dict[str, Signal] = attrs.field(factory=dict)  # by id, in the order in which they came
    reports: dict[str, Report] = attrs.field(factory=dict)  # by step

    @property
    def state(self) -> WorkflowState:
        return self.row.state

    def holds_its_key(self) -> bool:
        """Whether it has not ended, and nobody may have died over it: no other one may have its concurrency key."""
        lease = self.lease
        if self.state is WorkflowState.PAUSED or (lease is not None and lease.holder() is not None):
            return True
        return self.state in _UNDER_WAY and lease is not None and lease.owner is None

    def found(self, *, steps: bool = True) -> Found:
        return Found(self.row, self.lease, [*self.steps.values()] if steps else [])

    def version(self) -> Version:
        """Return what is another one once anything of it has changed."""
        lease = self.lease
        return Version(
            record=self.row,
            epoch=None if lease is None else lease.epoch,
            holder=None if lease is None else lease.holder(),
            under_way=None if lease is None else lease.under_way,
            steps=(len(self.steps), sum(seq for _, seq, _, _ in self.steps.values())),
            reports=[*self.reports.values()],
            more=(
                len(self.signals),
                None if lease is None else (lease.cancelled, lease.pausing, lease.wake),
                sum(len(data) for _, _, data, _ in self.steps.values()) if self.state in _UNDONE else None,
            ),
        )

    def undelivered(self) -> Iterable[Signal]:
        """Return the signals that no step has taken, the oldest first."""
        if not self.signals:
            return ()
        taken = {signal_id for *_, signal_id in self.steps.values()}
        return (signal for signal in self.signals.values() if signal.signal_id not in taken)

    def can_go_on(self, lease: HeldLease, now: float) -> bool:
        """Whether there is something to do: it was interrupted, or what it waits for has come."""
        is_left_alone = lease.pausing and not lease.cancelled and self.state is not WorkflowState.ROLLING_BACK
        if is_left_alone or self.state is not WorkflowState.PAUSED:
            return self.state in _UNDER_WAY and not is_left_alone
        if lease.owner is not None:  # who died before it said what it waits for
            return True
        if lease.cancelled or (lease.wake is not None and lease.wake <= now):
            return True
        return any(lease.awaits is None or signal.name in lease.awaits for signal in self.undelivered())


@attrs.define(eq=False)
class Entries:
    """All that a memory store has, and the lock that guards it: what is done while it is held is seen whole or not.

    Of a definition there is one copy, for as long as there is an execution of it.
    """

    of: dict[str, Entry] = attrs.field(factory=dict, init=False, repr=False)
    """By id."""
    definitions: "WeakValueDictionary[str, Definition]" = attrs.field(
        factory=WeakValueDictionary, init=False, repr=False
    )
    lock: threading.RLock = attrs.field(factory=threading.RLock, init=False, repr=False)
    changes: "WeakSet[MemoryChanges]" = attrs.field(factory=WeakSet, init=False, repr=False)
    """Who is to be told of what changes."""

    def __attrs_post_init__(self) -> None:
        process_events.enroll(self)

    def entry(self, execution_id: str) -> Entry:
        """Return the one of that id, with the lock held; raises `ExecutionNotFound`."""
        entry = self.of.get(execution_id)
        if entry is None:
            raise ExecutionNotFound(execution_id)
        return entry

    def tell(self, execution_ids: Iterable[str]) -> None:
        """Tell whoever watches these executions that they have changed."""
        if self.changes:
            for listener in [*self.changes]:
                for execution_id in execution_ids:
                    listener.hear(execution_id)

    def rows(self, after: Position | None = None) -> Sequence[Row]:
        """Return the rows, the newest first, from the position *after* on."""
        with self.lock:
            rows = [entry.row for entry in self.of.values()]
        chosen = rows if after is None else [row for row in rows if row.position < after]
        return sorted(chosen, key=lambda row: row.position, reverse=True)

    # -- forks and exits ------------------------------------------------------------------------------

    def before_fork(self) -> None:
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        with suppress(RuntimeError):  # it is not held: before_fork was interrupted
            self.lock.release()

    def after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        for entry in self.of.values():
            # What the parent runs is the parent's for as long as that lives; it cannot renew it here.
            if entry.lease is not None and entry.lease.holder() is not None:
                entry.lease = attrs.evolve(entry.lease, expires=math.inf)

    def begin_exit(self) -> None:
        pass

    def finish_exit(self, began: float) -> None:
        pass
