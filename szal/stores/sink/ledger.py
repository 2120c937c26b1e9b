"""The ledger of a store seen through a sink: what an execution writes as it goes is queued, and the rest goes past."""

from collections.abc import Callable, Collection, Mapping, Sequence

from szal.model.bounds import Bounds
from szal.stores.ledger import (
    Holding,
    Ledger,
    NewExecution,
    RecordRow,
    Renewal,
    Report,
    Signal,
    Snapshot,
    TakeOver,
    Version,
    Wish,
)
from szal.stores.limits import Limits
from szal.stores.listening import ChangeListener
from szal.stores.queue import Queue
from szal.stores.schedules import Schedules
from szal.stores.sink.writer import Writer
from szal.stores.transactions import JoinedTransaction, OpenTransaction
from szal.stores.writes import Lease, StepRows, Write

__all__ = ["SinkLedger"]


class SinkLedger(Ledger):
    """The ledger *behind* the sink, to which *writer* writes."""

    def __init__(self, behind: Ledger, writer: Writer) -> None:
        self._behind = behind
        self._writer = writer

    @property
    def name(self) -> str:
        return self._behind.name

    @property
    def bounds(self) -> Bounds:
        return self._behind.bounds

    @property
    def queue(self) -> Queue:
        return self._behind.queue

    @property
    def schedules(self) -> Schedules:
        return self._behind.schedules

    @property
    def limits(self) -> Limits:
        return self._behind.limits

    def wakes_in(self) -> float | None:
        return self._behind.wakes_in()

    # -- through the queue ----------------------------------------------------------------------------

    def write(self, write: Write, /) -> None:
        self._writer.write(write)

    def apply(self, writes: Sequence[Write], *, once: bool = False) -> None:
        self.drain()  # what was queued before comes before
        self._behind.apply(writes, once=once)

    def drain(self, timeout: float | None = None, *, begin_of: str | None = None, of: str | None = None) -> None:
        if begin_of is not None:
            self._writer.wait_for_begin(begin_of, timeout)
        elif of is not None:
            self._writer.wait_for_last(of, timeout)
        else:
            self._writer.wait(timeout)

    def flush(self, timeout: float | None = None, *, execution_ids: Collection[str] | None = None) -> None:
        self._writer.report(self._writer.wait(timeout), execution_ids)

    # -- past it, but behind the beginning of the execution that it is about ---------------------------

    def _past(self, execution_id: str) -> Ledger:
        """Return the ledger behind, once that has the execution, where it is queued that it begins."""
        self._writer.wait_for_begin(execution_id, self._writer.block_timeout)
        return self._behind

    def create(self, new: NewExecution, /) -> int | None:
        if new.under is not None:
            self._past(new.under.execution_id)
        return self._past(new.execution_id).create(new)

    def knows(self, execution_id: str) -> bool:
        return self._past(execution_id).knows(execution_id)

    def holder(self, execution_id: str) -> str | None:
        return self._past(execution_id).holder(execution_id)

    def undone(self, execution_id: str, step_name: str, data: str) -> None:
        self._past(execution_id).undone(execution_id, step_name, data)

    def read(self, execution_id: str, *, steps: bool = True) -> Snapshot:
        return self._past(execution_id).read(execution_id, steps=steps)

    def version(self, execution_id: str) -> Version:
        return self._past(execution_id).version(execution_id)

    def take_over(self, wanted: TakeOver, /) -> Snapshot:
        return self._past(wanted.execution_id).take_over(wanted)

    def send(self, execution_id: str, signal: Signal) -> bool:
        return self._past(execution_id).send(execution_id, signal)

    def request_cancel(self, execution_id: str) -> bool:
        return self._past(execution_id).request_cancel(execution_id)

    def request_pause(self, execution_id: str) -> bool:
        return self._past(execution_id).request_pause(execution_id)

    # -- past it ---------------------------------------------------------------------------------------

    def transaction(self, lease: Lease, limit: float) -> OpenTransaction:
        return self._behind.transaction(lease, limit)

    def join(self, lease: Lease, connection: object) -> JoinedTransaction:
        return self._behind.join(lease, connection)

    def steps_since(self, execution_id: str, seq: int) -> StepRows:
        return self._behind.steps_since(execution_id, seq)

    def report(self, reports: Sequence[Report], ended: Collection[tuple[str, str]] = ()) -> None:
        self._behind.report(reports, ended)  # who reports waits for nothing, and nothing waits for that

    def tell_under_way(self, told: Mapping[Lease, str]) -> None:
        self._behind.tell_under_way(told)

    def reports(self, execution_id: str) -> list[Report]:
        return self._behind.reports(execution_id)

    def changes(self) -> ChangeListener | None:
        return self._behind.changes()

    def signals(self, execution_id: str) -> list[Signal]:
        return self._behind.signals(execution_id)  # to one that is not recorded, none was sent

    def holdings(self, execution_ids: Collection[str]) -> list[Holding]:
        return self._behind.holdings(execution_ids)

    def check_writable(self) -> None:
        self._behind.check_writable()

    def records(self, execution_ids: Collection[str]) -> list[RecordRow]:
        return self._behind.records(execution_ids)

    def renew(self, renewal: Renewal, /) -> dict[str, Wish]:
        return self._behind.renew(renewal)

    def interrupted(self, is_gone: Callable[[str], bool]) -> list[str]:
        return self._behind.interrupted(is_gone)

    def clock(self) -> float:
        return self._behind.clock()
