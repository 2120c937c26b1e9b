"""The threads that attempts run on, and the workers of a run, which take attempts from a queue.

A worker is a loop on one of these threads; a run submits as many as it needs. A step so costs two queue operations
and no Future. There are two kinds of threads: pooled ones, which the interpreter waits for at exit, and daemon
threads, for attempts that may have to be left behind.

Nothing here has a lock, so nothing can hang in one: after a fork, in a destructor, in a signal handler. What two
threads may want at once is taken from a list by one atomic operation. Threads that nobody refers to any more end when
they have done what they were given.
"""

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import attrs

from szal.clock import monotonic
from szal.scheduler.attempt import Attempt
from szal.waiters import Mailbox, get_within, waitable

__all__ = ["Threads", "WorkerPool"]

_FIRST_SIZE = 16
"""How many threads the first executor has at most: each run has a limit of its own."""


class Submit(Protocol):
    """How a pool gets a thread for a worker.

    Raises RuntimeError where there is none to be had; the function may be called later all the same.
    """

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any: ...


class Threads:
    """An engine's threads, shared by its runs and made at first use, in the process that uses them.

    Those that had nothing to do for *idle_timeout* seconds end, and the next use makes others.
    """

    def __init__(self, idle_timeout: float = 10.0) -> None:
        self._idle_timeout = waitable(idle_timeout)
        self._kinds: _Kinds | None = None

    def pooled(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Call ``function(*args)`` on a pool thread, which the interpreter waits for at exit."""
        self._here().pooled.submit(function, *args)

    def daemon(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Call ``function(*args)``, which must not raise, on a daemon thread."""
        self._here().daemon.submit(function, *args)

    def close(self) -> None:
        """Let the threads end as they become idle. Waits for none, so a handler that hangs cannot hang this."""
        self._kinds = None

    def _here(self) -> "_Kinds":
        """Return the threads of this process: none come along through a fork."""
        kinds = self._kinds
        if kinds is None or kinds.pid != os.getpid():
            kinds = self._kinds = _Kinds(
                os.getpid(),
                PoolThreads("szal-worker", self._idle_timeout),
                DaemonThreads("szal-limited", self._idle_timeout),
            )
        return kinds


class PoolThreads:
    """A ThreadPoolExecutor that is let go of once it was idle for a while; the next use makes another.

    An executor that nobody refers to ends its threads when they have done what is queued. One whose threads are all at
    work makes place for one of twice the size. It is given no larger size than that, as some versions (3.12.1) lose
    count of their idle threads, and start new ones up to their limit.
    """

    def __init__(self, name: str, idle_timeout: float) -> None:
        self._name = name
        self._idle_timeout = idle_timeout
        self._executor: tuple[ThreadPoolExecutor, _Use] | None = None

    def submit(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Call ``function(*args)`` on an idle thread or a new one; RuntimeError where there is none."""
        kept = self._executor
        if kept is None:
            kept = self._new(_FIRST_SIZE)
        elif not kept[1].begin():
            kept = self._new(2 * kept[1].size)
        executor, use = kept
        try:
            executor.submit(_call, use, function, args)
        except BaseException:  # it may count an idle thread too many now, and then no longer starts enough
            self.forget(executor)
            raise
        if kept is not self._executor:
            with suppress(RuntimeError):  # where nobody would end it later, it is not kept
                self._watch(executor, use)
                self._executor = kept

    def forget(self, executor: ThreadPoolExecutor | None) -> None:
        """Submit nothing more to *executor*."""
        kept = self._executor
        if kept is not None and kept[0] is executor:
            self._executor = None

    def _new(self, size: int) -> "tuple[ThreadPoolExecutor, _Use]":
        use = _Use(size)
        use.begin()
        return ThreadPoolExecutor(size, self._name), use

    def _watch(self, executor: ThreadPoolExecutor, use: "_Use") -> None:
        """Start the thread that sees to it that *executor* is forgotten when it was idle for long enough."""
        gone = threading.Lock()
        gone.acquire()
        watched = weakref.ref(executor, lambda _: gone.release())
        args = (weakref.ref(self), watched, use, self._idle_timeout, gone)
        threading.Thread(target=_forget_when_idle, args=args, name="szal-idle", daemon=True).start()


class DaemonThreads:
    """Daemon threads that are used again, the one that became idle last first, and end after a while without work.

    An idle thread waits at a queue of its own, which is in `idle`. Whoever takes it out decides what the thread
    does next: `submit` gives it work, the thread itself ends when its time is up.
    """

    def __init__(self, name: str, idle_timeout: float) -> None:
        self.idle: list[SimpleQueue[_Task | None]] = []
        self._name = name
        self._idle_timeout = idle_timeout
        self._numbers = count()

    def submit(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Call ``function(*args)`` on an idle thread or a new one; RuntimeError where there is none."""
        try:
            tasks = self.idle.pop()
        except IndexError:
            self._start((function, args))
        else:
            tasks.put((function, args))

    def _start(self, task: "_Task") -> None:
        tasks: SimpleQueue[_Task | None] = SimpleQueue()
        tasks.put(task)
        owner = weakref.ref(self, lambda _: tasks.put(None))
        name = f"{self._name}-{next(self._numbers)}"
        threading.Thread(target=_serve, args=(owner, tasks, self._idle_timeout), name=name, daemon=True).start()


_Task = tuple[Callable[..., Any], tuple[Any, ...]]


@attrs.frozen
class _Kinds:
    """The threads of one process."""

    pid: int
    pooled: PoolThreads
    daemon: DaemonThreads


class _Use:
    """How many functions an executor is at work on, of how many that it can be, and when it was used last."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._under_way: list[None] = []  # its length counts: unlike a number, a list is changed in one step
        self._last = monotonic()

    def begin(self) -> bool:
        """Count one more; False, and it is not counted, where every thread is at work."""
        self._under_way.append(None)
        if len(self._under_way) > self.size:  # asked after it was counted, so that of two threads one sees it
            self._under_way.pop()
            return False
        return True

    def end(self) -> None:
        self._last = monotonic()
        self._under_way.pop()

    def idle_for(self) -> float:
        """Return for how many seconds it has done nothing."""
        return 0.0 if self._under_way else monotonic() - self._last


def _call(use: _Use, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        function(*args)
    finally:
        use.end()


def _forget_when_idle(
    owner: "weakref.ref[PoolThreads]",
    watched: "weakref.ref[ThreadPoolExecutor]",
    use: _Use,
    idle_timeout: float,
    gone: threading.Lock,
) -> None:
    """Wait until an executor was idle for long enough, or is gone: then the lock is let go of."""
    left = idle_timeout
    while left > 0:
        if gone.acquire(timeout=left):
            return
        left = idle_timeout - use.idle_for()
    threads = owner()
    if threads is not None:
        threads.forget(watched())


def _serve(owner: "weakref.ref[DaemonThreads]", tasks: "SimpleQueue[_Task | None]", idle_timeout: float) -> None:
    """Do what is put on *tasks*, until there is nothing for too long, or nobody who could put anything there."""
    while (task := _next_task(owner, tasks, idle_timeout)) is not None:
        function, args = task
        function(*args)
        del task, function, args  # an idle thread keeps nothing of a finished run alive
        threads = owner()
        if threads is None:
            return
        threads.idle.append(tasks)
        del threads


def _next_task(
    owner: "weakref.ref[DaemonThreads]", tasks: "SimpleQueue[_Task | None]", idle_timeout: float
) -> _Task | None:
    with suppress(Empty):
        return get_within(tasks, idle_timeout)
    threads = owner()
    if threads is not None:
        with suppress(ValueError):  # somebody has just taken it out, to give this thread work
            threads.idle.remove(tasks)
            return None
        del threads
    return tasks.get()  # that work, or word that the owner is gone


class WorkerPool:
    """The workers of one kind for one coordinating thread, which alone calls its methods.

    `load` counts the attempts that are queued or running; who takes note of the end of one lowers it. `workers` counts
    the workers that are at work or idle, of which there are never more than *limit*. A worker is started on the first
    of *submits* that has a thread for it.
    """

    def __init__(self, submits: tuple[Submit, ...], limit: int, finished: Mailbox[Any]) -> None:
        self._submits = submits
        self._limit = limit
        self._finished = finished
        self._queue: SimpleQueue[Attempt | None] = SimpleQueue()
        self.load = 0
        self.workers = 0

    def put(self, attempt: Attempt) -> None:
        """Queue *attempt*; start another worker for it where fewer than the limit are there."""
        attempt.pool = self
        self.load += 1
        self._queue.put(attempt)
        if self.workers < self._limit:
            self._staff()

    def lose_worker(self) -> None:
        """Take note that an abandoned attempt keeps its worker, which is then no longer counted."""
        self.workers -= 1
        self._staff()

    def close(self) -> None:
        """Send the workers home, if there are any; one that still runs an abandoned attempt goes when it ends."""
        if self.workers:
            self._queue.put(None)

    __del__ = close  # whoever dropped it was interrupted

    def _staff(self) -> None:
        """Start the workers that are missing; where there are none at all, do their work here."""
        while self.workers < self._limit and self.workers < self.load:
            for submit in self._submits:
                if self._start_worker(submit):
                    break
            else:
                if not self.workers:
                    self._work_here()
                return

    def _start_worker(self, submit: Submit) -> bool:
        """Start one worker more; return whether there is one.

        A pool queues what it is given, then raises if it has no thread for it: what it gets to later is not wanted.
        """
        place: list[_Place] = [(self._queue, self._finished)]
        self.workers += 1
        try:
            submit(_work, place)
        except BaseException as error:
            has_begun = _take(place) is None  # before it could be called off
            self.workers -= not has_begun
            if not isinstance(error, RuntimeError):
                raise
            return has_begun  # out of threads, or the interpreter is exiting
        return True

    def _work_here(self) -> None:
        with suppress(Empty):
            while (attempt := self._queue.get_nowait()) is not None:
                attempt.execute(self._finished)


_Place = tuple["SimpleQueue[Attempt | None]", Mailbox[Any]]
"""Where a worker gets attempts from, and where it puts those that have ended."""


def _work(place: list[_Place]) -> None:
    """Do the work of one worker, unless its place has been taken back.

    It takes attempts until it is told to stop, or until one was abandoned: then another has its place.
    """
    taken = _take(place)
    if taken is None:
        return
    queue, finished = taken
    while (attempt := queue.get()) is not None:
        if not attempt.execute(finished):
            return
        del attempt
    queue.put(None)  # for the next one


def _take(place: list[_Place]) -> _Place | None:
    """Take what only one of two threads may have: the worker that begins, or the coordinator that calls it off."""
    try:
        return place.pop()
    except IndexError:
        return None
