"""What a store keeps of executions under way, beside their records: who runs them, what has happened, what they await.

The protocol that each store's ledger has, and a sink's; what it is asked, and what it answers. All that an engine needs
beyond the four methods of `ExecutionStore` goes through it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from typing import Final, Protocol, cast

import attrs

from szal.errors import NotSupportedHere
from szal.model.bounds import ANYTHING, Bounds
from szal.model.key import is_memo
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.limits import Limits
from szal.stores.listening import ChangeListener
from szal.stores.queue import Queue
from szal.stores.schedules import Schedules
from szal.stores.transactions import JoinedTransaction, OpenTransaction
from szal.stores.writes import Lease, NewExecution, StepRow, StepRows, Write

__all__ = [
    "Holding",
    "Lease",
    "Ledger",
    "NewExecution",
    "RecordRow",
    "Renewal",
    "Report",
    "Signal",
    "Snapshot",
    "StepRow",
    "StepRows",
    "TakeOver",
    "Version",
    "Wish",
    "bounds_of",
    "ledger_of",
    "parted",
]


@attrs.frozen
class Signal:
    """A value that was sent to an execution; *value* is JSON text."""

    signal_id: str
    name: str
    value: str


# -- what a ledger is asked ---------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class TakeOver:
    """An execution to be gone on with by *owner*, under a lease of *ttl* seconds."""

    execution_id: str
    owner: str
    ttl: float
    is_gone: Callable[[str], bool]
    """Whether the process of an owner is known to have ended."""
    under: Lease | None = None
    """Of the execution whose sub-flow it is: that is its parent's owner's, whoever had it."""
    reopen: bool = False
    """Whether it is taken over although it has ended: to be undone."""
    rise: int = 1
    """By how much the epoch rises. A server that was failed over to may not know the last owner, whose epoch must not
    be had by the next one."""
    known: "Snapshot | None" = None
    """How it was found a moment ago. Where it had not begun, a ledger need not look again: if nobody has had its lease
    since, it is as it was."""


@attrs.frozen(kw_only=True)
class Renewal:
    """Leases of *owner*, by execution, to be held for *ttl* seconds more."""

    owner: str
    epochs: Mapping[str, int]
    ttl: float
    under_way: Mapping[str, str] = attrs.field(factory=dict)
    """Of some of these executions: which steps have begun, as whoever looks is told it; of others that stays."""


class Wish(IntEnum):
    """What whoever runs an execution is to do with it, as somebody asks."""

    NOTHING = 0
    CANCEL = 1
    PAUSE = 2


# -- what it answers ----------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Snapshot:
    """An execution as its new owner finds it. `epoch` is None where it has ended: there is nothing to own.

    The record of one that has not ended has no result: what it had come to when it paused counts no more.
    """

    record: ExecutionRecord
    epoch: int | None
    flow: str | None = None
    """The definition, as JSON."""
    content_id: str | None = None
    steps: StepRows = ()
    memos: StepRows = ()
    """What handlers have found out (`ctx.once`): each under its `memo_key`, as JSON."""
    recoveries: int = 0
    """How often it was taken over because its owner died, since it began or a step of it last settled."""
    cancelled: bool = False
    owner: str | None = None
    """Who has its lease, as it is looked at, and has not given that back: it may have run out."""

    @property
    def is_new(self) -> bool:
        """Whether it has not begun, and nobody has it: so there are no steps of it."""
        return self.record.state is WorkflowState.CREATED and self.epoch is not None and self.owner is None


@attrs.frozen
class RecordRow:
    """A record as it is stored, and whether the execution is to be cancelled."""

    execution_id: str
    data: str
    cancelled: bool


@attrs.frozen(kw_only=True)
class Holding:
    """The lease of an execution as it stands. Times are Unix time, by the database's clock."""

    execution_id: str
    owner: str | None
    """Who had it last; None where it was given back."""
    expires: float
    recoveries: int
    """As in a `Snapshot`."""
    wake: float | None
    """When an execution that is PAUSED is due."""
    cancelled: bool
    content_id: str
    """Of its definition."""


@attrs.frozen(kw_only=True)
class Version:
    """What is another one once anything has changed that whoever looks at an execution is told."""

    record: object
    epoch: int | None
    holder: str | None
    """Its owner, if its lease has not run out."""
    steps: tuple[int, int]
    """How many rows there are of steps, memos included, and the sum of their places."""
    reports: object = None
    """What is another value once a step has reported something."""
    under_way: str | None = None
    """Which steps have begun, as an owner has told it last; None: none has told anything."""
    more: tuple[object, ...] = ()


@attrs.frozen
class Report:
    """What a step under way reported last, as JSON; *reported* is when (Unix time)."""

    execution_id: str
    step_name: str
    epoch: int
    """Of the lease under which it ran: what an earlier owner's step said counts no more."""
    reported: float
    data: str
    index: int | None = None
    """Of the item, where the step runs over a list."""

    def row(self) -> tuple[object, ...]:
        """Return the parameters of the statement that keeps it."""
        return self.execution_id, self.step_name, self.epoch, self.reported, self.data, self.index


_NEEDED: Final = "it needs a store in an SQLite file or in PostgreSQL"


def parted(rows: StepRows) -> tuple[StepRows, StepRows]:
    """Return the rows of steps, and those of memos, as a `Snapshot` has them; both are rows of one table."""
    memos = [row for row in rows if is_memo(row.step_name)]
    return ([row for row in rows if not is_memo(row.step_name)] if memos else rows), memos


class Ledger(Protocol):
    """A store's ledger. All methods may be called from any thread, and block while the store works.

    They raise what the store's own methods do: `StoreUnavailable` for trouble that may pass, `StoreFailed` for the
    rest. A sink's writes are queued; its other methods do not wait for what is pending: who must see it calls `drain`.
    """

    @property
    def queue(self) -> Queue:
        """What is submitted and has not begun."""

    @property
    def schedules(self) -> Schedules:
        """What is begun again and again, at its times."""

    @property
    def limits(self) -> Limits:
        """How much there is of what steps share in all engines."""

    @property
    def name(self) -> str:
        """What messages call the store; never holds a password."""

    @property
    def bounds(self) -> Bounds:
        """What the store cannot hold."""
        return ANYTHING

    # -- writing --------------------------------------------------------------------------------------

    def write(self, write: Write, /) -> None:
        """Carry out one write, or queue it, where the store writes behind; its `done` is told what becomes of it.

        Where it is carried out at once, what went wrong is raised as well.
        """

    def apply(self, writes: Sequence[Write], *, once: bool = False) -> None:
        """Carry out *writes*, in order, in one transaction: committed on return, after an exception none has happened.

        Raises `LeaseLost`, naming an execution, if one of them was written under a lease that is held no more.
        *once*: what may pass is raised at the first failure, for a caller that tries again. With the same list of
        writes that is told where they are committed, though the answer was lost.
        """

    def drain(self, timeout: float | None = None, *, begin_of: str | None = None, of: str | None = None) -> None:
        """Return once all that was queued before this call is committed or lost, without saying which.

        With *begin_of*, once that execution is recorded or lost, where it is queued that it begins; with *of*, once all
        of that execution is, whatever is queued of others.
        Raises `FlushTimeout` after *timeout* seconds (None: no limit).
        """

    def flush(self, timeout: float | None = None, *, execution_ids: Collection[str] | None = None) -> None:
        """The same, but raise `WriteFailed` if some of it is lost; with *execution_ids*, of these executions'."""

    def check_writable(self) -> None:
        """Write something, and take it back; raise what keeps it from being written, at the first failure.

        What is queued is not waited for.
        """

    # -- leases ---------------------------------------------------------------------------------------

    def create(self, new: NewExecution, /) -> int | None:
        """Record a new execution and return the epoch of its lease; None where there is one under that id.

        So its id may be somebody else's; one that cannot be is a write as others are. Raises `LeaseLost` where the
        lease that it is under is held no more.
        """

    def knows(self, execution_id: str) -> bool:
        """Whether there is an execution of that id. Waits for no writer."""

    def holder(self, execution_id: str) -> str | None:
        """Return the owner of an execution whose lease has not run out; None where there is none."""

    def holdings(self, execution_ids: Collection[str]) -> list[Holding]:
        """Return the leases of these executions, of those that have one, held or not, in any order."""

    def undone(self, execution_id: str, step_name: str, data: str) -> None:
        """Write that what an execution did in a step has been undone by another one. Nothing, where it was removed."""

    def read(self, execution_id: str, *, steps: bool = True) -> Snapshot:
        """Return what is known of an execution, without owning it; or all but its *steps*. Raises `ExecutionNotFound`.

        Whoever is going to take it over gets its steps with that: until then they are what somebody else may add to.
        """

    def version(self, execution_id: str) -> Version:
        """Return what tells whether an execution has changed. Cheap. Raises `ExecutionNotFound`."""

    def steps_since(self, execution_id: str, seq: int) -> StepRows:
        """Return the rows of steps, and memos, that were written after that place, in the order of their places.

        What is undone keeps its place.
        """

    def report(self, reports: Sequence[Report], ended: Collection[tuple[str, str]] = ()) -> None:
        """Keep *reports*, each in the place of the last of its step; forget those of steps that have *ended*.

        A step is named by its execution and its name. At the first failure it is raised, and nothing has happened.
        """

    def tell_under_way(self, told: Mapping[Lease, str]) -> None:
        """Keep with these leases which steps have begun, as a `Renewal` does; with none that is held no more.

        What fails is raised at the first failure.
        """

    def reports(self, execution_id: str) -> list[Report]:
        """Return what is kept, of the steps of one execution."""

    def changes(self) -> ChangeListener | None:
        """Return what hears of changes from now on; None: they have to be looked for."""

    def records(self, execution_ids: Collection[str]) -> list[RecordRow]:
        """Return the records of these executions, of those that are there, in any order; not decoded."""

    def take_over(self, wanted: TakeOver, /) -> Snapshot:
        """Make somebody the owner of an execution that nobody runs, and return it; one that has ended as it is.

        Raises `ExecutionOwned` where its owner is alive, as far as the lease and `is_gone` tell, `LeaseLost` where the
        lease that it is under is held no more, and `ExecutionNotFound`.
        """

    def renew(self, renewal: Renewal, /) -> dict[str, Wish]:
        """Extend leases; return those that are still held, each with what is wished of its execution."""

    def interrupted(self, is_gone: Callable[[str], bool]) -> list[str]:
        """Return the executions that nobody runs although they could go on, those that wait no longer last."""

    # -- transactions of handlers ---------------------------------------------------------------------

    def transaction(self, lease: Lease, limit: float) -> OpenTransaction:  # noqa: ARG002
        """Return a transaction, not yet open, for a handler of the execution that this lease is of.

        Where nobody else could write meanwhile, it lasts so many seconds at most. What is queued is not waited for.
        Raises `NotSupportedHere` where there is no database to have one in.
        """
        raise NotSupportedHere("ctx.transaction()", f"{self.name} is no database: {_NEEDED}")

    def join(self, lease: Lease, connection: object) -> JoinedTransaction:  # noqa: ARG002
        """Return the application's transaction on *connection*, for an outcome to be recorded in it under that lease.

        Raises `LeaseLost`, TypeError and ValueError where it is no connection to this database, or in no transaction,
        and `NotSupportedHere`.
        """
        raise NotSupportedHere("ctx.transaction()", f"{self.name} is no database: {_NEEDED}")

    def wakes_in(self) -> float | None:
        """Return in how many seconds a paused execution goes on by itself, 0.0: now; None: none does."""

    # -- signals --------------------------------------------------------------------------------------

    def send(self, execution_id: str, signal: Signal) -> bool:
        """Keep a signal for an execution; False where it has ended, or one with that id was sent before.

        Raises `ExecutionNotFound`.
        """

    def signals(self, execution_id: str) -> list[Signal]:
        """Return the signals that were sent and not delivered, the oldest first."""

    def request_cancel(self, execution_id: str) -> bool:
        """Have an execution cancelled by whoever runs it, at its next heartbeat; False where it has ended.

        Raises `ExecutionNotFound`.
        """

    def request_pause(self, execution_id: str) -> bool:
        """Have an execution paused by whoever runs it, at its next heartbeat, and left alone by who recovers.

        Until it is taken over. False where it has ended, or is undone. Raises `ExecutionNotFound`.
        """

    def clock(self) -> float:
        """Return the time that leases and waits go by, as Unix time: the database's."""


def ledger_of(store: object) -> Ledger | None:
    """Return the ledger of *store*; None where it has no more than the four methods of an `ExecutionStore`.

    This is the one place that decides which of the two a store is: szal's own, sinks, and what stands in front of one
    have an attribute of that name.
    """
    return cast("Ledger | None", getattr(store, "ledger", None))


def bounds_of(store: object) -> Bounds:
    """Return what *store* cannot hold; of one without a ledger nothing is known."""
    ledger = ledger_of(store)
    return ANYTHING if ledger is None else ledger.bounds
