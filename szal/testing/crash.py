"""A crash at a given step: what is recorded until then stays, and the run is gone, as kill -9 would have it.

There is no other process, and nothing is killed: the engine's store takes nothing more of it from then on, and its
leases have run out. So the run ends where it stands, and whoever resumes the execution finds what a crash leaves.
"""

from collections.abc import Sequence
from typing import Any, Final, NoReturn, cast

import attrs

from szal.errors import LeaseLost
from szal.model.flow import FlowDef
from szal.model.json import decode_checkpoint
from szal.model.key import is_memo
from szal.stores.ledger import Lease, Ledger, NewExecution, Renewal, Snapshot, TakeOver, Wish, ledger_of
from szal.stores.transactions import Fate, JoinedTransaction, OpenTransaction
from szal.stores.writes import Release, SaveStep, Write
from szal.testing.names import step_named

__all__ = ["Crash", "Crashed", "Mortal", "crash_after"]

_OVER: Final = -1.0
"""Seconds that a lease is good for which has run out."""


@attrs.define(repr=False, slots=False)
class Crashed(LeaseLost):
    """The run has crashed where the test says. Nothing of it is recorded any more; another engine may resume it."""

    step: str = ""

    def __str__(self) -> str:
        return f"crashed after step {self.step!r}, as the test says: resume({self.execution_id!r}) with another engine"


@attrs.frozen
class Crash:
    """Where a run crashes: see `crash_after`."""

    step: str
    recorded: bool = True


def crash_after(step: str, *, recorded: bool = True) -> Crash:
    """Return a crash for `run_flow` and `engine`, which comes as soon as it is recorded how *step* ended.

    Not *recorded*, it comes just before that: the step was done, and nobody knows. Then it runs again, with the same
    `StepContext.idempotency_key`. A step of a sub-flow is named as a fake is.

    >>> from szal import Flow
    >>> from szal.testing import run_flow
    >>> order, charged = Flow("order"), []
    >>> @order.step
    ... def charge(ctx): charged.append(ctx.idempotency_key)
    >>> @order.step
    ... def ship(charge): return "shipped"
    >>> run_flow(order, crash=crash_after("charge"))["ship"].output, len(charged)
    ('shipped', 1)
    >>> _ = run_flow(order, crash=crash_after("charge", recorded=False))
    >>> len(charged), charged[1] == charged[2]
    (3, True)
    """
    return Crash(step, recorded)


class Mortal:
    """A store in front of *store*, for an engine that dies where *crash* says; *flows* are the ones that it runs."""

    def __init__(self, store: Any, crash: Crash, flows: Sequence[FlowDef]) -> None:
        flow, step = step_named(flows, crash.step, "crash_after")
        ledger = ledger_of(store)
        if ledger is None:
            raise ValueError("crash_after needs one of szal's own stores: with no other could anybody go on")
        self._store = store
        self.ledger = MortalLedger(ledger, crash, (flow.name, step.name))

    def bury(self) -> None:
        """Have its leases run out, if it has died and they have not: nothing of it is at work any more."""
        self.ledger.bury()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class MortalLedger:
    """The ledger of such a store. All that is not here is that of the store behind."""

    def __init__(self, behind: Ledger, crash: Crash, place: tuple[str, str]) -> None:
        self._behind = behind
        self._crash = crash
        self._place = place
        self._flow_names: dict[str, str] = {}  # by execution
        self._held: dict[str, int] = {}  # the epochs of the leases, by execution
        self._owner = ""
        self.has_crashed = False
        self._is_buried = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def write(self, write: Write, /) -> None:
        """Carry it out, unless the crash comes first, or has come."""
        self.check_alive(write.execution_id)
        if self.comes_before(write):
            self.die(write)
        self._behind.write(write)
        self._note(write)
        if self.comes_after(write):
            self.die(write)

    def apply(self, writes: Sequence[Write], *, once: bool = False) -> None:
        """Carry them out one by one: the crash may come between two."""
        for write in writes:
            self.check_alive(write.execution_id)
            self._behind.apply([write], once=once)
            self._note(write)

    def create(self, new: NewExecution, /) -> int | None:
        """Record a new execution."""
        self.check_alive(new.execution_id)
        epoch = self._behind.create(new)
        if epoch is not None:
            self._note(new)
        return epoch

    def take_over(self, wanted: TakeOver, /) -> Snapshot:
        """Make the engine the owner of an execution."""
        self.check_alive(wanted.execution_id)
        snapshot = self._behind.take_over(wanted)
        if snapshot.epoch is not None:
            self._hold(wanted.execution_id, snapshot.record.flow_name, wanted.owner, snapshot.epoch)
        return snapshot

    def transaction(self, lease: Lease, limit: float) -> OpenTransaction:
        """Return a transaction for a handler: the crash may come just before its commit, or just after."""
        self.check_alive(lease.execution_id)
        return cast("OpenTransaction", _MortalTransaction(self._behind.transaction(lease, limit), self))

    def join(self, lease: Lease, connection: object) -> JoinedTransaction:
        """Return the application's transaction: the crash may come as the outcome is recorded in it, or once it is."""
        self.check_alive(lease.execution_id)
        return cast("JoinedTransaction", _MortalTransaction(self._behind.join(lease, connection), self))

    def renew(self, renewal: Renewal, /) -> dict[str, Wish]:
        """Extend leases: none, once the engine is dead."""
        return {} if self.has_crashed else self._behind.renew(renewal)

    def _note(self, write: Write) -> None:
        if isinstance(write, NewExecution):
            self._hold(write.execution_id, write.record.flow_name, write.owner, write.first_epoch)
        elif isinstance(write, Release):
            self._held.pop(write.execution_id, None)

    def _hold(self, execution_id: str, flow_name: str, owner: str, epoch: int) -> None:
        self._flow_names[execution_id] = flow_name
        self._held[execution_id] = epoch
        self._owner = owner

    def comes_before(self, write: Write) -> bool:
        """Whether the crash is to come before that is recorded."""
        return not self._crash.recorded and self._tells_of_it(write)

    def comes_after(self, write: Write) -> bool:
        """Whether the crash is to come as soon as that is recorded."""
        return self._crash.recorded and self._tells_of_it(write)

    def _tells_of_it(self, write: Write) -> bool:
        """Whether *write* says how the step has ended."""
        if not isinstance(write, SaveStep) or is_memo(write.step_name):
            return False
        if (self._flow_names.get(write.execution_id), write.step_name) != self._place:
            return False
        return decode_checkpoint(write.data, write.step_name).outcome is not None

    def die(self, write: Write, *, is_locked: bool = False) -> NoReturn:
        """Take nothing more, and raise `Crashed`; the leases run out, later where the database *is_locked*."""
        self.has_crashed = True
        if not is_locked:
            self.bury()
        raise Crashed(write.execution_id, step=self._crash.step)

    def bury(self) -> None:
        """Have the leases run out, if that is to be, and has not been."""
        if self.has_crashed and not self._is_buried:
            self._behind.renew(Renewal(owner=self._owner, epochs=dict(self._held), ttl=_OVER))
            self._is_buried = True

    def check_alive(self, execution_id: str) -> None:
        """Raise `Crashed` if it has."""
        if self.has_crashed:
            raise Crashed(execution_id, step=self._crash.step)


class _MortalTransaction:
    """A transaction that an outcome is recorded in, of the store's or the application's, for an engine that dies."""

    def __init__(self, behind: Any, ledger: MortalLedger) -> None:
        self._behind = behind
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def commit(self, write: SaveStep, timeout: float) -> None:
        """Commit one of the store's own."""
        if self._ledger.comes_before(write):
            self._behind.roll_back()
            self._ledger.die(write)
        self._behind.commit(write, timeout)
        if self._ledger.comes_after(write):
            self._ledger.die(write)

    def record(self, write: SaveStep) -> None:
        """Write the outcome in the application's, which is rolled back for what this raises."""
        if self._ledger.comes_before(write):
            self._ledger.die(write, is_locked=True)
        self._behind.record(write)

    def fate(self, write: SaveStep) -> Fate:
        """Return what has become of the application's."""
        fate: Fate = self._behind.fate(write)
        if fate is Fate.COMMITTED and self._ledger.comes_after(write):
            self._ledger.die(write)
        return fate
