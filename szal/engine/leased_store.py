"""What runs ask of a store that keeps a ledger. Whatever it raises but szal's own errors, it has failed by that."""

import logging
import os
import weakref
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from szal.engine.config import EngineConfig
from szal.errors import FlushTimeout, LeaseLost, StoreError, StoreFailed, SzalError, WriteFailed, describe
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.results import ExecutionRecord
from szal.raised import is_a

if TYPE_CHECKING:
    from szal.engine.leases import Heartbeat
    from szal.model.definition import Definition
    from szal.stores.ledger import Ledger, Signal, Snapshot
    from szal.stores.queue import Submission
    from szal.stores.transactions import JoinedTransaction, OpenTransaction
    from szal.stores.writes import Lease, NewExecution, StepRows, Write

__all__ = ["Beginning", "LeasedStore", "failure"]

logger = SafeLogger(logging.getLogger(__name__))

_TOLD_AFTER: Final = 5.0
"""Seconds after which a wait for commits is logged."""


def failure(store: str, error: Exception) -> Exception:
    """Return what a run is to raise for what its store raised: that, or a `StoreFailed` that tells of it.

    So nobody takes it for a step's failure, or for something that a run could be ended in order after: a write is lost.
    """
    if is_a(error, SzalError) or is_interruption(error):
        return error
    failed = StoreFailed(store, describe(error))
    failed.__cause__ = error
    return failed


def _random_bits(count: int) -> int:
    """Return a number of up to 64 random bits, as the module secrets does, which takes long to import."""
    return int.from_bytes(os.urandom(8), "big") >> (64 - count)


class Asking:
    """A block that asks a store, called *store*: what comes out of it is what a run is to raise (`failure`)."""

    def __init__(self, store: str) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and issubclass(kind, Exception):
            told = failure(self._store, cast(Exception, error))
            if told is not error:
                raise told


class Beginning:
    """What becomes of an execution that is queued before there is a run to be told of it; it may be told twice."""

    def __init__(self) -> None:
        self._known: list[Exception | None] = []
        self._listener: Callable[[Exception | None], object] | None = None

    def __call__(self, error: Exception | None) -> None:
        """Take note that it is committed, or lost. From the thread that writes."""
        self._known.append(error)
        if self._listener is not None:
            self._listener(error)

    def tell(self, listener: Callable[[Exception | None], object]) -> None:
        """Have *listener* told, at once if it is known."""
        self._listener = listener
        for error in self._known:
            listener(error)


_HERE: "Final[weakref.WeakValueDictionary[str, LeasedStore]]" = weakref.WeakValueDictionary()
"""Those of this process, by the owner that each is."""


class LeasedStore:
    """A store that keeps a ledger, and the leases in it, with their renewal."""

    def __init__(self, config: EngineConfig, ledger: "Ledger", heartbeat: "Heartbeat") -> None:
        self.ledger = ledger
        self.owner = heartbeat.owner
        self.ttl = heartbeat.ttl
        self.heartbeat = heartbeat
        self.kind = type(config.execution_store).__name__
        self.commit_timeout = config.commit_timeout
        self.clock = config.clock
        self._asking = Asking(self.kind)
        _HERE[self.owner] = self

    def drain(self, execution_id: str | None = None, *, of_others: bool = True) -> None:
        """Wait for what this engine has still to write: with the durability "none" no run does before it returns.

        Also for another engine of this process, where that has had the lease of *execution_id* and runs it no more.
        Without *of_others* only for what is written of that execution, and of its sub-flows, which have ended before.
        """
        self._wait(self.ledger.drain if of_others else partial(self.ledger.drain, of=execution_id))
        if execution_id is None or len(_HERE) == 1:
            return
        with self._asking:
            owner = self.ledger.holder(execution_id)
        other = None if owner is None else _HERE.get(owner)
        if other is not None and not other.heartbeat.holds(execution_id):
            other.drain()

    def await_begin(self, execution_id: str) -> None:
        """Wait until that execution is recorded, or lost, where its beginning is queued."""
        self._wait(partial(self.ledger.drain, begin_of=execution_id))

    def flush(self, execution_ids: Collection[str], limit: float | None = None) -> None:
        """Wait until all is committed of these executions, where the store writes behind; raise what was lost.

        Where the lease was lost first, that is `LeaseLost`. *limit*: in place of `commit_timeout`, if it is less.
        """
        try:
            self._wait(partial(self.ledger.flush, execution_ids=execution_ids), limit)
        except WriteFailed as error:
            first = error.errors[0]
            raise first if isinstance(first, LeaseLost) else error from None

    def _wait(self, wait: Callable[[float], None], limit: float | None = None) -> None:
        """Call *wait* with so many seconds; raises `FlushTimeout` where `commit_timeout` is not enough, or *limit*."""
        limit = self.commit_timeout if limit is None else min(limit, self.commit_timeout)
        soon = min(limit, _TOLD_AFTER)
        try:
            with self._asking:
                return wait(soon)
        except FlushTimeout as error:
            late = error
        if soon < limit:
            logger.warning("%s; waiting up to %g s in all (commit_timeout)", late, limit)
            try:
                with self._asking:
                    return wait(limit - soon)
            except FlushTimeout as error:
                late = error
        raise FlushTimeout(late.store, late.execution_ids, limit, late.problem)

    def ahead(self) -> float:
        """Return by how much the clock that waits go by, the database's, is ahead of the monotonic one here."""
        with self._asking:
            return self.clock.of_store(self.ledger.clock) - self.clock.monotonic()

    def signals(self, execution_id: str) -> "list[Signal]":
        """Return the signals that were sent and not delivered."""
        with self._asking:
            return self.ledger.signals(execution_id)

    def read(self, execution_id: str) -> "Snapshot":
        """Return what is known of an execution. Raises `ExecutionNotFound`."""
        with self._asking:
            return self.ledger.read(execution_id)

    def undone(self, execution_id: str, step_name: str, data: str) -> None:
        """Write into an execution that has ended that a rerun of it has undone that step."""
        with self._asking:
            self.ledger.undone(execution_id, step_name, data)

    def new(
        self,
        record: ExecutionRecord,
        definition: "Definition",
        *,
        steps: "StepRows" = (),
        under: "Lease | None" = None,
        replace: bool = False,
    ) -> "NewExecution":
        """Return what records a new execution, once it is written. What is named, is as `NewExecution` says."""
        from szal.stores.writes import NewExecution

        self.heartbeat.start()
        return NewExecution(
            record=record,
            content_id=definition.content_id,
            flow=definition.text,
            owner=self.owner,
            ttl=self.ttl,
            steps=steps,
            under=under,
            replace=replace,
            first_epoch=_random_bits(52),
        )

    def claim(self, new: "NewExecution") -> bool:
        """Record a new execution at once; False where there is one under its id."""
        self.await_begin(new.execution_id if new.under is None else new.under.execution_id)
        try:
            with self._asking:
                return self.ledger.create(new) is not None
        except LeaseLost:
            if new.under is not None:
                self.flush([new.under.execution_id])  # where that was never recorded, there is another reason
            raise

    def submit(self, submission: "Submission", connection: object) -> bool:
        """Record a new execution for somebody else to begin; False where there is one under its id.

        With *connection*, in the transaction there: what its driver raises is raised as it is.
        """
        self.await_begin(submission.new.execution_id)
        if connection is not None:
            return self.ledger.queue.submit(submission, connection)
        with self._asking:
            return self.ledger.queue.submit(submission)

    def key_is_free(self) -> None:
        """Have those that work look for what has waited for a concurrency key. Raises nothing: they look anyhow."""
        try:
            self.ledger.queue.tell()
        except StoreError as error:
            logger.debug("nobody is told that a concurrency key is free: %s", error)

    def queue(self, new: "NewExecution") -> None:
        """Queue a new execution, before anything can be asked of it."""
        new.done = Beginning()
        self.write(new)

    def write(self, write: "Write") -> None:
        """Carry out one write, or queue it, where the store writes behind."""
        with self._asking:
            self.ledger.write(write)

    def transaction(self, execution_id: str, epoch: int) -> "OpenTransaction":
        """Return a transaction for a handler of that execution, not yet open. Raises `NotSupportedHere`."""
        from szal.stores.writes import Lease

        return self.ledger.transaction(Lease(execution_id, epoch), self.ttl / 2)

    def join(self, execution_id: str, epoch: int, connection: object) -> "JoinedTransaction":
        """Return the application's transaction on *connection*. Raises as `Ledger.join` does."""
        from szal.stores.writes import Lease

        return self.ledger.join(Lease(execution_id, epoch), connection)

    def check_memo_key(self, name: str) -> None:
        """Raise ValueError for the key of a memo that the store cannot hold."""
        if (problem := self.ledger.bounds.problem_of_key(name)) is not None:
            raise ValueError(f"the key of ctx.once {problem}")

    def take_over(
        self,
        execution_id: str,
        *,
        under: "Lease | None" = None,
        reopen: bool = False,
        known: "Snapshot | None" = None,
    ) -> "Snapshot":
        """Return the execution, now this process's; *under*, *reopen* and *known* are as `TakeOver` says.

        Raises `ExecutionOwned` where somebody runs it, and `ExecutionNotFound`.
        """
        from szal.engine.owners import has_left
        from szal.stores.ledger import TakeOver

        self.heartbeat.start()
        wanted = TakeOver(
            execution_id=execution_id,
            owner=self.owner,
            ttl=self.ttl,
            is_gone=has_left,
            under=under,
            reopen=reopen,
            rise=1 + _random_bits(20),
            known=known,
        )
        with self._asking:
            return self.ledger.take_over(wanted)
