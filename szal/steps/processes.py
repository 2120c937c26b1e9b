"""An engine's child processes: started as they are needed, used again, and ended when they are idle, or with it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from szal import process_events
from szal.clock import monotonic
from szal.errors import Cancelled
from szal.scheduler.context import StepContext
from szal.steps.child_process import ChildProcess
from szal.steps.start import Start
from szal.waiters import Waiters, waitable, wake_all

__all__ = ["Processes"]

_MOST_TO_END: Final = 2.0
"""Seconds for an idle process to end by itself."""


class Processes:
    """Up to *limit* child processes. From any thread; the lock is held for a few lines only.

    *grace* is what an attempt has from SIGTERM to SIGKILL. One that was idle for *idle_timeout* seconds is ended, by a
    thread that is there as long as any is idle.
    """

    def __init__(self, limit: int, grace: float, idle_timeout: float, start: Start) -> None:
        self._limit = limit
        self._start = start
        self._grace = grace
        self._idle_timeout = waitable(idle_timeout)
        self._waiters: Waiters = set()
        self._renew()
        process_events.enroll(self)

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._idle: list[ChildProcess] = []  # the one that became idle last comes last
        self._all: set[ChildProcess] = set()
        self._starting = 0
        self._is_in_use = False  # since the last of them was started, they were not idle for long, nor closed
        self._watcher: threading.Lock | None = None  # of the thread that ends the idle ones: released to wake it

    @contextmanager
    def lent(self, ctx: StepContext) -> Iterator[ChildProcess]:
        """Enter with a process that nobody else uses; on leaving, it is given back, or ended where it is no good.

        Blocks until there is one. Raises as `ctx.check` does where the attempt is to end before that, and OSError where
        none can be started.
        """
        child = self._take(ctx)
        try:
            yield child
        except BaseException:
            self.end(child)
            raise
        self._give_back(child)

    def end(self, child: ChildProcess, until: float = 0.0) -> None:
        """End *child*; it has until then to do so by itself."""
        child.end(until)
        with self._lock:
            self._all.discard(child)
        wake_all(self._waiters)
        self._end_start()

    def _end_start(self) -> None:
        """End what processes are started with, once it is not needed and none is left."""
        with self._lock:
            if self._is_in_use or self._all or self._starting:
                return
            end = self._start.let_go()
        end()

    def close(self) -> None:
        """End those that are idle; others end as what they do ends. The next attempt has others started."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._is_in_use = False
            if self._watcher is not None and self._watcher.locked():
                self._watcher.release()
        self._end_all(idle)
        self._end_start()

    def _take(self, ctx: StepContext) -> ChildProcess:
        with ctx.woken() as waiter:
            self._waiters.add(waiter)
            try:
                while True:
                    ctx.check()
                    if ctx.cancelled:
                        raise Cancelled("cancelled")
                    if (child := self._idle_one()) is not None:
                        return child
                    if self._has_room():
                        return self._started(ctx)
                    waiter.acquire()
                    self._waiters.add(waiter)
            finally:
                self._waiters.discard(waiter)

    def _idle_one(self) -> ChildProcess | None:
        """Return one that is idle, if there is any."""
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None or child.is_there():
                return child
            self.end(child)  # somebody has killed it

    def _has_room(self) -> bool:
        """Whether another one may be started, which is counted then."""
        with self._lock:
            has_room = len(self._all) + self._starting < self._limit
            self._starting += has_room
            self._is_in_use = True
        return has_room

    def _started(self, ctx: StepContext) -> ChildProcess:
        lock = self._lock  # a fork makes another
        child = None
        try:
            child = ChildProcess(self._start, ctx, self._grace)
        finally:
            with lock:
                self._starting -= 1
                if child is not None:
                    self._all.add(child)
            if child is None:
                wake_all(self._waiters)  # there is room for another one
        return child

    def _give_back(self, child: ChildProcess) -> None:
        child.was_used, child.idle_since = True, monotonic()
        with self._lock:
            if child not in self._all:
                return  # it has been ended
            self._idle.append(child)
            if self._watcher is None:
                self._watch()
        wake_all(self._waiters)

    # -- idle ones -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        waiter = threading.Lock()
        waiter.acquire()
        with suppress(RuntimeError):  # where the system has no thread for it, they end with the engine
            threading.Thread(target=self._end_idle, args=(waiter,), name="szal-idle-processes", daemon=True).start()
            self._watcher = waiter

    def _end_idle(self, waiter: threading.Lock) -> None:
        while True:
            with self._lock:
                due = [child for child in self._idle if child.idle_since + self._idle_timeout <= monotonic()]
                self._idle = [child for child in self._idle if child not in due]
                if not self._idle and not due:
                    self._watcher, self._is_in_use = None, False
                    break
                left = min((child.idle_since for child in self._idle), default=0.0) + self._idle_timeout - monotonic()
            self._end_all(due)
            waiter.acquire(timeout=waitable(left))
        self._end_start()

    def _end_all(self, children: list[ChildProcess]) -> None:
        for child in children:
            child.let_go()  # all at once, then one after another
        until = monotonic() + _MOST_TO_END
        for child in children:
            self.end(child, until)

    # -- forks and the end: see `process_events` ---------------------------------------------------------

    def before_fork(self) -> None:
        """Take the lock."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Give it back."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Leave the processes to the parent: they end with it alone."""
        for child in self._all:
            child.forget()
        self._start.forget()
        self._waiters = set()
        self._renew()

    def begin_exit(self) -> None:
        """Have all of them end."""
        for child in self._all.copy():
            child.let_go()

    def finish_exit(self, began: float) -> None:
        """See to it that they have."""
        for child in self._all.copy():
            self.end(child, began + self._grace)
        self._start.let_go()()
