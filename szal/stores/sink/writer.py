"""The thread behind a sink: one ordered stream of writes, committed in groups, that no fault stops."""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from queue import Queue
from typing import TypeAlias

import attrs
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_exponential,
    wait_random,
)

from szal import process_hooks
from szal.errors import (
    FlushTimeout,
    SinkFull,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreUnavailable,
    describe,
)
from szal.stores import retrying
from szal.stores.base import Backend
from szal.stores.operation import Operation
from szal.stores.sink.losses import Losses, without_frames

__all__ = ["SinkStats", "Writer"]

logger = logging.getLogger(__name__)

MAX_BATCH = 1000

Batch: TypeAlias = list[Operation]


@attrs.frozen
class SinkStats:
    """What a sink has done so far, in this process: counts of operations (saves and removals), and of commits."""

    pending: int
    """Submitted, and neither committed nor given up yet."""
    written: int
    failed: int
    batches: int
    last_error: Exception | None
    """The last error the database gave, also one that a retry has cured; None if there was none."""


@attrs.define
class _Tally:
    written: int = 0
    failed: int = 0
    batches: int = 0
    last_error: Exception | None = None


def _reentrant_queue() -> "Queue[Batch | None]":
    """Return a queue whose `put` may come in the middle of another one on the same thread.

    The garbage collector may finalize a dropped sink at any moment, also while this thread is in a `put`.
    """
    queue: Queue[Batch | None] = Queue()
    queue.mutex = threading.RLock()  # type: ignore[assignment]
    queue.not_empty = threading.Condition(queue.mutex)
    queue.not_full = threading.Condition(queue.mutex)
    queue.all_tasks_done = threading.Condition(queue.mutex)
    return queue


@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class Writer:
    """A queue of batches and the daemon thread that applies them. It outlives its sink until all is written.

    The last batch on the queue grows until the thread takes it, so that not every operation has to wake it.

    Every field below the lock is guarded by it; it is held for a few lines at a time, and never while the
    database or foreign code runs. Reentrant, as the queue is: the garbage collector and signal handlers may
    come by at any moment.
    """

    backend: Backend
    max_pending: int = attrs.field(validator=attrs.validators.ge(1))
    block_timeout: float
    give_up_after: float | None
    exit_timeout: float
    _losses: Losses

    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _changed: threading.Condition = attrs.field(init=False)  # of the same lock
    _queue: "Queue[Batch | None]" = attrs.field(init=False)
    _growing: Batch | None = attrs.field(default=None, init=False)  # on the queue, and not taken yet
    _thread: threading.Thread | None = attrs.field(default=None, init=False)
    _batches: deque[Batch] = attrs.field(factory=deque, init=False)  # those on the queue, and the one in work
    _mirror: dict[Hashable, Operation] = attrs.field(factory=dict, init=False)  # the latest of each key, if mirrored
    # Operations are numbered from 1 in the order of submission, which is that of the queue.
    _submitted: int = attrs.field(default=0, init=False)
    _done: int = attrs.field(default=0, init=False)  # all up to this number are committed, or have failed
    _tally: _Tally = attrs.field(factory=_Tally, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _busy: bool = attrs.field(default=False, init=False)  # the database is at work
    _resting: bool = attrs.field(default=False, init=False)  # and must not be: there is going to be a fork
    _retry_now: threading.Event = attrs.field(
        factory=threading.Event, init=False
    )  # set: do not wait for the next retry

    @_changed.default
    def _condition(self) -> threading.Condition:
        return threading.Condition(self._lock)

    @_queue.default
    def _new_queue(self) -> "Queue[Batch | None]":
        return _reentrant_queue()

    def __attrs_post_init__(self) -> None:
        process_hooks.enroll(self)

    # -- for the sink, any thread ---------------------------------------------------------------------

    def submit(self, operation: Operation) -> None:
        """Queue *operation*; waits while `max_pending` are pending, and raises `SinkFull`, `StoreClosed`."""
        with self._lock:
            if self._closed or self._submitted - self._done >= self.max_pending:
                self._await_room()
            if operation.mirrored:
                self._mirror[operation.key] = operation
            self._submitted += 1
            if self._growing is not None:
                self._growing.append(operation)
                if len(self._growing) == MAX_BATCH:
                    self._growing = None
                return
            self._growing = [operation]
            self._batches.append(self._growing)
            self._queue.put(self._growing)
            if self._thread is None:
                self._start()

    def pending(self, key: Hashable) -> Operation | None:
        """Return the latest mirrored operation with that key that is not settled."""
        return self._mirror.get(key)

    def all_pending(self) -> list[Operation]:
        """Return the latest mirrored operation of each key that is not settled, in the order in which the keys came."""
        with self._lock:
            return list(self._mirror.values())

    def wait(self, timeout: float | None) -> int:
        """Wait until all that is submitted by now is settled, and return the number of the last; or `FlushTimeout`."""
        if threading.current_thread() is self._thread:
            raise StoreError("on_error must not flush or query its own sink: it would wait for itself")
        with self._lock:
            last = self._submitted
            if self._done >= last:
                return last
            self._retry_now.set()
            if not self._changed.wait_for(lambda: self._done >= last, timeout):
                raise FlushTimeout(self.backend.name, self._ids(), timeout or 0.0)
        return last

    def report(self, last: int, execution_id: str | None) -> None:
        """Raise `WriteFailed` for the failures up to number *last* (of one execution), and forget them."""
        with self._lock:
            failed = self._losses.take(last, execution_id)
        if failed is not None:
            raise failed

    def stats(self) -> SinkStats:
        with self._lock:
            return SinkStats(self._submitted - self._done, *attrs.astuple(self._tally, recurse=False))

    def close(self, timeout: float | None) -> None:
        """Accept nothing more, wait until the thread has written what there is; or `FlushTimeout`, and it goes on."""
        self.begin_exit()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(timeout)
        if thread.is_alive():
            with self._lock:
                raise FlushTimeout(self.backend.name, self._ids(), timeout or 0.0)

    def abandon(self) -> None:
        """Let the thread end once it has written all. The garbage collector calls this: it takes no lock."""
        self._queue.put(None)

    def _await_room(self) -> None:
        """Wait, with the lock held, until there is room."""
        if threading.current_thread() is not self._thread:  # which would wait for itself, in on_error
            self._changed.wait_for(
                lambda: self._closed or self._submitted - self._done < self.max_pending, self.block_timeout
            )
        if self._closed:
            raise StoreClosed(f"the sink of {self.backend.name}")
        if (pending := self._submitted - self._done) >= self.max_pending:
            raise SinkFull(self.backend.name, pending, self.block_timeout)

    def _ids(self) -> tuple[str, ...]:
        """Return the ids of what is pending, which is settled in order; with the lock held."""
        operations = [operation for batch in self._batches for operation in batch]
        left = operations[len(operations) - (self._submitted - self._done) :]
        return tuple(dict.fromkeys(operation.execution_id for operation in left))

    def _start(self) -> None:
        """Start the thread, with the lock held. In the last moments of the interpreter there are no new ones."""
        name = f"szal-writer-{self.backend.name}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._queue.put(None)
            self._run()
        else:
            self._thread = thread

    # -- the thread -----------------------------------------------------------------------------------

    def _retrying(self, spent: float) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential(multiplier=0.02, max=2.0) + wait_random(0, 0.02),
            stop=stop_never if self.give_up_after is None else stop_after_delay(max(0.0, self.give_up_after - spent)),
            sleep=self._sleep,
            before_sleep=self._log_retry,
            reraise=True,
        )

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            last = self._done + len(batch)
            try:
                self._write(batch)
            except BaseException as error:  # a bug of szal's: whatever it is, what comes after must be written
                logger.exception("the writer of %s failed", self.backend.name)
                self._finish(batch[len(batch) - (last - self._done) :], StoreFailed(self.backend.name, describe(error)))
            with self._lock:
                self._batches.popleft()

    def _next_batch(self) -> Batch | None:
        """Wait for a batch and return it, now that it grows no more; None where no other will come."""
        batch = self._queue.get()
        with self._lock:
            if batch is self._growing:
                self._growing = None
        return batch

    def _write(self, batch: Sequence[Operation]) -> None:
        """Write *batch*, or what of it can be written, and settle it."""
        try:
            retrying.call(self._retrying, self._apply, batch)
        except StoreUnavailable as error:  # given up
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - whatever the database objects to
            if len(batch) == 1:
                self._fail(batch, error)
            else:
                for operation in batch:
                    self._write([operation])
        else:
            self._finish(batch)

    def _apply(self, operations: Sequence[Operation]) -> None:
        with self._lock:
            self._changed.wait_for(lambda: not self._resting)
            self._busy = True
        try:
            self.backend.apply(operations)
        finally:
            with self._lock:
                self._busy = False
                if self._resting:
                    self._changed.notify_all()

    def _finish(self, batch: Sequence[Operation], error: Exception | None = None) -> None:
        """Count *batch* as done, take it out of the mirror, and wake who waits for that."""
        mirrored = [operation for operation in batch if operation.mirrored]
        with self._lock:
            for operation in mirrored:
                if self._mirror.get(operation.key) is operation:
                    del self._mirror[operation.key]
            if error is not None:
                for number, operation in enumerate(batch, self._done + 1):
                    self._losses.remember(number, operation, error)
            self._done += len(batch)
            if error is None:
                self._tally.written += len(batch)
                self._tally.batches += 1
            else:
                self._tally.failed += len(batch)
                self._tally.last_error = error
            self._changed.notify_all()
        for operation in batch:
            if operation.done is not None:
                operation.done(error)

    def _fail(self, batch: Sequence[Operation], error: Exception) -> None:
        """Report each operation of *batch* as lost, and only then settle it: flush comes back to a finished report."""
        for operation in batch:
            self._losses.announce(operation, error)
        self._finish(batch, without_frames(error))

    def _sleep(self, seconds: float) -> None:
        self._retry_now.wait(seconds)
        self._retry_now.clear()

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        with self._lock:
            if isinstance(error, Exception):
                self._tally.last_error = without_frames(error)
            pending = self._submitted - self._done
        level = logging.WARNING if state.attempt_number in (1, 10) or state.attempt_number % 100 == 0 else logging.DEBUG
        logger.log(level, "%s; %d writes are pending, trying again in %.2g s", error, pending, state.upcoming_sleep)

    # -- forks and exits ------------------------------------------------------------------------------

    def before_fork(self) -> None:
        self._lock.acquire()  # until after the fork: nobody is in the middle of a submit
        self._resting = True
        if threading.current_thread() is not self._thread:
            self._changed.wait_for(lambda: not self._busy)

    def after_fork_in_parent(self) -> None:
        self._resting = False
        self._changed.notify_all()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._queue = _reentrant_queue()
        self._growing = None
        self._retry_now = threading.Event()
        self._thread = None
        self._batches = deque()
        self._mirror = {}
        self._losses.forget()
        self._submitted = self._done = 0
        self._tally = _Tally()
        self._busy = self._resting = False

    def begin_exit(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._retry_now.set()
            self._queue.put(None)
            self._changed.notify_all()

    def finish_exit(self, began: float) -> None:
        try:
            self.close(max(0.0, began + self.exit_timeout - time.monotonic()))
        except FlushTimeout as timeout:
            _last_words(f"szal: exiting after {self.exit_timeout:g}s", timeout)


def _last_words(why: str, lost: FlushTimeout) -> None:
    """Say which executions are not written: where logging leads, or on stderr where the user would see nothing."""
    ids = ", ".join(lost.execution_ids)
    logger.error("%s: not written to %s: %s", why, lost.store, ids)
    if logger.hasHandlers() and sys.stderr is not None:
        sys.stderr.write(f"{why}: not written to {lost.store}: {ids}\n")
