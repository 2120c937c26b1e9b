"""A store seen through one background writer: `save` returns at once, and nothing is lost."""

import os
import sys
from collections.abc import Iterable
from datetime import timedelta
from types import TracebackType
from typing import Self, Unpack

from szal.errors import WriteFailed
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.number import check, check_wait
from szal.raised import raise_beside
from szal.stores.base import Backend, read_record, refuse_to_copy
from szal.stores.filters import ExecutionSummary, Filters, Ids, Page
from szal.stores.ledger import Ledger
from szal.stores.sink.committer import Committer
from szal.stores.sink.ledger import SinkLedger
from szal.stores.sink.lost_writes import LostWrites, OnError
from szal.stores.sink.stats import SinkStats
from szal.stores.sink.writer import Writer
from szal.stores.writes import Remove, Save, saved_by

__all__ = ["Sink"]


class Sink:
    """What an engine writes to: a store whose `save` only encodes the record and queues it.

    One daemon thread, started at the first save, writes what is queued in the order of submission, as many as
    there are (up to 1000) in one transaction; of several saves of one execution in a batch the last is written.
    A sink may be used by any number of threads. Make it with ``store.engine_sink(...)``.

    *Reading.* What was saved through a sink is visible through it at once: `get` and `list` know what is pending.
    Nothing that is committed is held in memory.

    *Trouble.* While the database is locked, full, read-only or away, the thread tries again, with growing waits
    of up to 2 s, in order, for as long as it takes, or for *give_up_after* seconds, after which the batch is lost.
    Where the database refuses a batch for good, its writes are tried one by one, and what is still
    refused is lost. What is lost is logged with its execution id, counted, handed to
    ``on_error(write, exception)`` in the writer's thread (where it must not wait for the sink), and reported
    by `flush`.

    *Limits.* At most *max_pending* writes wait. Then `save` and `remove` wait, up to *block_timeout* seconds,
    and raise `SinkFull`.

    *What can be lost.* kill -9, `os._exit` and a crash of the interpreter lose what is pending: what was submitted
    since the last completed `flush`, at most. What is in the database is a prefix of what was submitted. A normal
    exit, also by an exception, ``sys.exit`` or in another thread, first waits up to *exit_timeout* seconds for
    what is pending, and names on stderr and in the log what it has to leave. A sink that is
    dropped without `close` still writes all. Processes of `multiprocessing` end by ``os._exit``: flush there.

    *Interruptions.* What a signal handler raises (Ctrl-C) in the middle of a method leaves the sink as it should be,
    for every thread: a `save` has queued its record, or it has not; a `flush` that was interrupted has told no loss.

    *Forks.* Before a fork the thread finishes its transaction; if another process holds the database locked, that
    takes up to the store's busy timeout. The parent goes on as if nothing had happened. The child's sink starts
    empty, and writes nothing of the parent's.

    >>> from szal.stores import open_store
    >>> with open_store("sqlite:///:memory:") as store, store.engine_sink() as sink:
    ...     sink.save(ExecutionRecord("e1", "ci"))
    ...     sink.flush()
    ...     store.list(), sink.stats().written
    (['e1'], 1)
    """

    __reduce_ex__ = refuse_to_copy

    def __init__(
        self,
        backend: Backend,
        *,
        max_pending: int = 10_000,
        block_timeout: float = 30.0,
        give_up_after: float | None = None,
        exit_timeout: float = 10.0,
        on_error: OnError | None = None,
    ) -> None:
        check("max_pending", max_pending, whole=True)
        check_wait("block_timeout", block_timeout)
        check_wait("exit_timeout", exit_timeout)
        if give_up_after is not None:
            check_wait("give_up_after", give_up_after)
        self._backend = backend
        committer = Committer(backend.ledger, give_up_after)
        lost_writes = LostWrites(backend.name, on_error)
        self._writer = Writer(backend.name, max_pending, block_timeout, exit_timeout, committer, lost_writes)
        self._ledger = SinkLedger(backend.ledger, self._writer)
        self._removals: dict[tuple[int, str], object] = {}
        self._writer.serve(self)  # which holds it weakly: a sink can be dropped

    # -- one record -----------------------------------------------------------------------------------

    def save(self, record: ExecutionRecord) -> None:
        """Queue *record* as it is now; it is visible through the sink at once, and committed by the next `flush`.

        Blocks only while *max_pending* writes wait. Raises `EncodeError`, `SinkFull`, `StoreClosed`.
        """
        self._writer.write(Save.of(record))

    def get(self, execution_id: str) -> ExecutionRecord | None:
        """Return the record as it was saved last, or None; asks the database where nothing is pending."""
        pending = self._writer.latest(execution_id)
        if pending is None:
            return self._backend.get(execution_id)
        saved = saved_by(pending)
        return None if saved is None else read_record(execution_id, saved.data)

    def remove(self, execution_id: str) -> ExecutionRecord | None:
        """Queue the removal of the record, and return it, or None where there is none (then nothing is queued).

        Of several that remove one record at a time, one is given it.

        Blocks and raises as `get` and `save` do.
        """
        claim = object()
        key = os.getpid(), execution_id  # of a removal that the parent of a fork was at, its child knows nothing
        if self._removals.setdefault(key, claim) is not claim:
            return None  # somebody else is about to have it
        try:
            record = self.get(execution_id)
            if record is not None:
                self._writer.write(Remove(execution_id))
            return record
        finally:
            del self._removals[key]

    @property
    def name(self) -> str:
        """What messages call the store behind this sink."""
        return self._backend.name

    @property
    def ledger(self) -> Ledger:
        """What engines need beside records: their writes are queued, too."""
        return self._ledger

    # -- many -----------------------------------------------------------------------------------------

    def list(self, flow_name: str | None = None) -> Ids:
        """Return the ids of all executions, or of those of one flow: as the store does, then what is pending."""
        pending = {write.execution_id: write for write in self._writer.all_latest()}
        saved = {
            execution_id: None
            for execution_id, write in pending.items()
            if (save := saved_by(write)) is not None and flow_name in (None, save.flow_name)
        }
        stored = self._backend.list(flow_name)  # after pending: what was committed in between is in both
        ids = [execution_id for execution_id in stored if execution_id not in pending or execution_id in saved]
        return [*dict.fromkeys([*ids, *saved])]

    def find(
        self, *, limit: int | None = 100, after: ExecutionSummary | str | None = None, **filters: Unpack[Filters]
    ) -> Page:
        """Wait until what is pending is written, then return the store's `find`.

        Raises `FlushTimeout` if that takes longer than *block_timeout*.
        """
        self.drain(self._writer.block_timeout)
        return self._backend.find(limit=limit, after=after, **filters)

    def count(self, **filters: Unpack[Filters]) -> int:
        """Wait as `find` does, then return the store's `count`."""
        self.drain(self._writer.block_timeout)
        return self._backend.count(**filters)

    def prune(
        self,
        *,
        older_than: float | timedelta | None = None,
        states: WorkflowState | Iterable[WorkflowState] | None = None,
        keep: int | None = None,
        batch: int = 1000,
    ) -> int:
        """Wait as `find` does, then `prune` the store, in the calling thread."""
        self.drain(self._writer.block_timeout)
        return self._backend.prune(older_than=older_than, states=states, keep=keep, batch=batch)

    # -- its life -------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None, *, execution_id: str | None = None) -> None:
        """Return once all that was submitted before this call, by any thread, is committed.

        Raises `FlushTimeout` after *timeout* seconds (None: no limit), naming what is still pending: it stays
        queued. Raises `WriteFailed` if some of it is lost, naming that. Each loss is reported once, by the first
        flush (or `close`) that covers it; with *execution_id*, only that execution's are, and the others are left
        for another flush. LostWrites that no flush asks about are remembered too: the last 10 000.
        """
        self._ledger.flush(timeout, execution_ids=None if execution_id is None else [execution_id])

    def drain(self, timeout: float | None = None) -> None:
        """Return once all that was submitted before this call is committed or lost, without saying which.

        Raises `FlushTimeout` after *timeout* seconds (None: no limit).
        """
        self._ledger.drain(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Accept nothing more, and wait until what is pending is written; the store stays open. Again: does nothing.

        Raises `FlushTimeout` after *timeout* seconds (the thread goes on writing), and `WriteFailed` as `flush` does.
        From here on `save` and `remove` raise `StoreClosed`; reading goes on.
        """
        self._writer.close(timeout)
        self._writer.report(sys.maxsize, None)

    def stats(self) -> SinkStats:
        """Return the counts so far."""
        return self._writer.stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except WriteFailed as lost:
            raise_beside(error, lost)

    def __repr__(self) -> str:
        return f"<Sink of {self._backend.name}, {self.stats().pending} pending>"
