"""The thread behind a sink: one ordered stream of writes, committed in batches, that no fault stops."""

import logging
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

import attrs
from tenacity import RetryCallState

from szal import process_events
from szal.clock import monotonic
from szal.errors import FlushTimeout, SinkFull, StoreClosed, StoreError, StoreFailed, StoreUnavailable, describe
from szal.logs import SafeLogger
from szal.stores.sink.committer import Committer, what_can_be
from szal.stores.sink.lost_writes import LostWrites, last_words, without_frames
from szal.stores.sink.pending import Gates, Pending
from szal.stores.sink.stats import SinkStats, Tally
from szal.stores.writes import Write, tell_all
from szal.waiters import get_within, waitable

__all__ = ["Writer"]

logger = SafeLogger(logging.getLogger(__name__))

MAX_BATCH = 1000


@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class Writer:
    """What is pending, and the daemon thread that writes it. It outlives its sink until all is written.

    Every field below the lock is guarded by it; it is held for a few lines at a time, and never while the
    database or foreign code runs. Reentrant: the garbage collector and signal handlers may come by at any moment.

    *Interruptions.* What a signal handler raises may come up between any two lines of a thread that calls the
    methods for the sink. So each of them changes one thing, last; what it does before that (waking the thread)
    does no harm where nothing follows. Only the lock itself and `SimpleQueue` are used there: both are C.
    """

    name: str
    """Of the store."""
    max_pending: int = attrs.field(validator=attrs.validators.ge(1))
    block_timeout: float
    exit_timeout: float
    _committer: Committer
    _lost_writes: LostWrites

    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _pending: Pending = attrs.field(factory=Pending, init=False)
    _gates: Gates = attrs.field(factory=Gates, init=False)
    _tally: Tally = attrs.field(factory=Tally, init=False)
    _problem: str | None = attrs.field(default=None, init=False)
    """What keeps the first of what is pending from being written, while it is tried again."""
    _closed: bool = attrs.field(default=False, init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)
    """Who writes. A thread that finds that it is another one ends."""
    _started: threading.Thread | None = attrs.field(default=None, init=False)
    """The last that was started for that. Where there can be none, a thread that submits or waits writes meanwhile."""
    _awake: bool = attrs.field(default=False, init=False)
    """It will look at what is pending, with the lock, before it sleeps. Where it is false, it must be woken."""

    # Not guarded:
    _wakes: "SimpleQueue[object]" = attrs.field(factory=SimpleQueue, init=False)
    """What the thread sleeps on, also between two tries. What is in it says no more than: look."""
    _sink: "weakref.ref[object]" = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        process_events.enroll(self)

    # -- for the sink, any thread ---------------------------------------------------------------------

    def write(self, write: Write, /) -> None:
        """Queue *write*; waits while `max_pending` are pending, and raises `SinkFull`, `StoreClosed`."""
        deadline: float | None = None
        while True:
            with self._lock:
                if not self._closed and len(self._pending.writes) < self.max_pending:
                    has_thread = self._awake or self._wake()
                    self._pending.writes.append(write)
                    break
            deadline = self._await_room(deadline)
        if not has_thread:
            self._write_here()

    def latest(self, key: Hashable) -> Write | None:
        """Return the latest mirrored write with that key that is pending."""
        with self._lock:
            return self._pending.latest(key)

    def all_latest(self) -> list[Write]:
        """Return the latest mirrored write of each key that is pending, in the order in which the keys came."""
        with self._lock:
            return self._pending.all_latest()

    def wait(self, timeout: float | None) -> int:
        """Wait until all that is submitted by now is done, and return the number of the last; or `FlushTimeout`."""
        with self._lock:
            last = self._pending.submitted
        self._await_done(last, timeout)
        return last

    def wait_for_begin(self, execution_id: str, timeout: float | None) -> None:
        """Wait until that execution is recorded, or lost, if that is pending; or `FlushTimeout`."""
        with self._lock:
            number = self._pending.begun_by(execution_id)
        if number is not None:
            self._await_done(number, timeout)

    def wait_for_last(self, execution_id: str, timeout: float | None) -> None:
        """Wait until all is done that is submitted by now of that execution; or `FlushTimeout`."""
        with self._lock:
            number = self._pending.last_of(execution_id)
        if number is not None:
            self._await_done(number, timeout)

    def report(self, last: int, execution_ids: Collection[str] | None) -> None:
        """Raise `WriteFailed` for the failures up to number *last* (of these executions), and forget them."""
        with self._lock:
            self._lost_writes.report(last, execution_ids)

    def stats(self) -> SinkStats:
        """Return the counts so far."""
        with self._lock:
            return self._tally.stats(len(self._pending.writes))

    def close(self, timeout: float | None) -> None:
        """Accept nothing more, wait until the thread has written what there is; or `FlushTimeout`, and it goes on."""
        self.begin_exit()
        if self._thread is threading.current_thread():
            return
        if not self._await(lambda: self._thread is None and not self._pending.writes, sys.maxsize, timeout):
            raise self._flush_timeout(timeout)
        if self._started is not None:
            self._started.join()  # it has nothing left to do

    def serve(self, sink: object) -> None:
        """Have the thread end, once it has written all, when *sink* is gone; who drops it runs nothing but C."""
        self._sink = weakref.ref(sink, self._wakes.put)

    def _await_done(self, number: int, timeout: float | None) -> None:
        """Wait until all writes up to that number are written or lost; or `FlushTimeout`."""
        if threading.current_thread() is self._thread:
            raise StoreError("on_error must not flush or query its own sink: it would wait for itself")
        with self._lock:
            if self._pending.done >= number:
                return
            self._wakes.put(None)  # it tries again now
        if not self._await(lambda: self._pending.done >= number, number, timeout):
            raise self._flush_timeout(timeout)

    def _await_room(self, deadline: float | None) -> float:
        """Wait until there is room, and return until when that may go on: *deadline*, if there is one already."""
        now = monotonic()
        deadline = now + self.block_timeout if deadline is None else deadline
        may_wait = threading.current_thread() is not self._thread  # for itself, in on_error
        found = self._await(
            lambda: self._closed or len(self._pending.writes) < self.max_pending,
            0,  # the next that is done may make room
            deadline - now if may_wait else 0.0,
        )
        if self._closed:
            raise StoreClosed(f"the sink of {self.name}")
        if not found:
            raise SinkFull(self.name, len(self._pending.writes), self.block_timeout)
        return deadline

    def _await(self, is_over: Callable[[], bool], number: int, timeout: float | None) -> bool:
        """Wait until *is_over*, asked with the lock whenever write *number* is done, and return whether it is."""
        deadline = None if timeout is None else monotonic() + waitable(timeout)
        while True:
            with self._lock:
                if is_over():
                    return True
                gate = self._gates.shut(number)
                has_thread = self._awake or self._wake()
            if not has_thread:
                self._write_here()
            left = None if deadline is None else max(0.0, deadline - monotonic())
            try:
                gate.next(left)
            except Empty:
                with self._lock:
                    self._gates.forget(gate)
                    return is_over()

    def _flush_timeout(self, timeout: float | None) -> FlushTimeout:
        with self._lock:
            return FlushTimeout(self.name, self._pending.execution_ids(), timeout or 0.0, self._problem)

    # -- the thread -----------------------------------------------------------------------------------

    def _wake(self) -> bool:
        """Have the thread look at what is pending, with the lock held. False: there is none, and can be none."""
        if self._thread is None or self._thread.ident is None:  # whose start was interrupted
            if not self._start():
                return False
        else:
            self._wakes.put(None)
        self._awake = True
        return True

    def _start(self) -> bool:
        """Start the thread, with the lock held; False in the last moments of the interpreter, or where none is left."""
        thread = threading.Thread(target=self._run, name=f"szal-writer-{self.name}", daemon=True)
        self._thread = thread
        before = sys.exception()
        try:
            thread.start()
        except BaseException as error:
            self._thread = None  # if it runs nevertheless, it sees this and ends
            if isinstance(error, RecursionError) or not isinstance(error, RuntimeError):
                raise
            if error.__context__ is None or error.__context__ is before:
                return False
            raise error.__context__ from None  # a signal handler's; threading then found that it had lost its lock
        self._started = thread
        return True

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                before = self._pending.done
                try:
                    self._write(batch)
                except BaseException as error:  # a bug of szal's: what it leaves is lost, and what follows is written
                    logger.exception("the writer of %s failed", self.name)
                    self._count(batch[self._pending.done - before :], StoreFailed(self.name, describe(error)))
                del batch  # an idle thread keeps nothing alive
        finally:
            self._retire()

    def _write_here(self) -> None:
        """Be the thread, until nothing is pending, where there can be no other; somebody else may be it already."""
        try:
            with self._lock:
                if self._thread is None:
                    self._thread, self._awake = threading.current_thread(), True
            while batch := self._next_batch(stays=False):
                self._write(batch)
        finally:
            self._retire()

    def _next_batch(self, *, stays: bool = True) -> list[Write]:
        """Wait for what is pending, and return what came first; nothing where this thread is to end."""
        while True:
            with self._lock:
                if self._thread is not threading.current_thread():
                    return []
                while not self._wakes.empty():
                    self._wakes.get_nowait()  # it looks now
                if batch := self._pending.first(MAX_BATCH):
                    self._tally.began = monotonic()
                    return batch
                self._tally.began = None
                if self._closed or self._sink() is None or not stays:
                    self._retire()
                    return []
                self._awake = False
            self._wakes.get()

    def _retire(self) -> None:
        """Be the thread no longer."""
        with self._lock:
            if self._thread is threading.current_thread():
                self._thread, self._awake = None, False
                self._gates.open_all()

    # -- writing, by the thread -----------------------------------------------------------------------

    def _write(self, batch: Sequence[Write]) -> None:
        """Write *batch*, or what of it can be written, and count it."""
        error = self._committer.commit(batch, self._sleep, self._log_retry)
        if error is None or len(batch) == 1 or isinstance(error, StoreUnavailable):  # which is given up
            self._count(batch, error)
            return
        without_frames(error)  # tenacity's refer to it
        commit = partial(self._committer.commit, sleep=self._sleep, before_sleep=self._log_retry)
        for part, problem in what_can_be(batch, error, commit):
            self._count(part, problem)

    def _sleep(self, seconds: float) -> None:
        with suppress(Empty):
            get_within(self._wakes, seconds)

    def _log_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        with self._lock:
            self._tally.retries += 1
            if isinstance(error, Exception):
                self._tally.last_error = without_frames(error)
                self._problem = getattr(error, "problem", None) or describe(error)
            pending = len(self._pending.writes)
        level = logging.WARNING if state.attempt_number in (1, 10) or state.attempt_number % 100 == 0 else logging.DEBUG
        logger.log(level, "%s; %d writes are pending, trying again in %.2g s", error, pending, state.upcoming_sleep)

    def _count(self, batch: Sequence[Write], error: Exception | None = None) -> None:
        """Count *batch* as written, or as lost by *error*; tell who waits for that."""
        if error is not None:
            for write in batch:  # before it is counted: flush comes back to a finished report
                self._lost_writes.announce(write, error)
            without_frames(error)
            dealt_with = tell_all(batch, error)
        with self._lock:
            self._problem = None
            if error is None:
                self._tally.committed(len(batch))
            else:
                for number, write in enumerate(batch, self._pending.done + 1):
                    if id(write) not in dealt_with:
                        self._lost_writes.remember(number, write, error)
                self._tally.failed += len(batch)
                self._tally.last_error = error
            self._pending.remove(batch)
            self._gates.open(self._pending.done)
        if error is None:
            tell_all(batch, None)

    # -- forks and exits ------------------------------------------------------------------------------

    def before_fork(self) -> None:
        self._committer.at_work.acquire()  # nothing is being written,
        self._lock.acquire()  # and nobody is in the middle of a submit, until after the fork

    def after_fork_in_parent(self) -> None:
        for lock in (self._lock, self._committer.at_work):
            with suppress(RuntimeError):  # it is not held: before_fork was interrupted
                lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._committer.at_work = threading.RLock()
        self._pending = Pending()
        self._gates = Gates()
        self._tally = Tally()
        self._lost_writes.forget()
        self._thread, self._started, self._awake = None, None, False
        self._wakes = SimpleQueue()
        self.serve(self._sink())

    def begin_exit(self) -> None:
        with self._lock:
            self._wakes.put(None)
            self._gates.open_all()
            self._closed = True

    def finish_exit(self, began: float) -> None:
        try:
            self.close(max(0.0, began + self.exit_timeout - monotonic()))
        except FlushTimeout as timeout:
            last_words(f"szal: exiting after {self.exit_timeout:g}s", timeout)
