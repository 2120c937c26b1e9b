"""The threads that attempts run on. Nothing above this module starts one, but for `Engine.start`.

A run's attempts go through *lanes*: a queue, and worker loops that take from it, submitted to an executor as
needed. A step so costs two queue operations and no Future. There are two kinds: pooled threads, which the
interpreter waits for at exit, and daemon threads, for attempts that may have to be left behind.
"""

import itertools
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Protocol

from szal.scheduler.attempt import Attempt

__all__ = ["Threads", "WorkerPool"]

_MANY = 1 << 20  # the pool sets no limit of its own: each run has its own limit


class Submit(Protocol):
    """How a pool gets a thread for a worker loop; raises RuntimeError where there is none to be had."""

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any: ...


class DaemonThreads:
    """Daemon threads that are reused. Like a ThreadPoolExecutor whose threads never keep the interpreter alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._numbers = itertools.count()

    def submit(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Call ``function(*args)``, which must not raise, on an idle thread or a new one."""
        if not self._idle.acquire(blocking=False):
            name = f"{self._name}-{next(self._numbers)}"
            threading.Thread(target=_serve, args=(self._tasks, self._idle), name=name, daemon=True).start()
        self._tasks.put((function, args))

    def shutdown(self) -> None:
        """Let every thread end once it is idle. Waits for none."""
        self._tasks.put(None)


def _serve(tasks: "SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None]", idle: threading.Semaphore) -> None:
    while (task := tasks.get()) is not None:
        function, args = task
        function(*args)
        del task, function, args  # an idle thread keeps nothing of a finished run alive
        idle.release()
    tasks.put(None)  # for the next one


class Threads:
    """An engine's threads, shared by its runs and made at first use, in the process that uses them."""

    def __init__(self, *, idle_timeout: float = 10.0) -> None:
        self._idle_timeout = idle_timeout
        self._lock = threading.Lock()
        self._pid = 0
        self._made: list[ThreadPoolExecutor | DaemonThreads] = []
        self._finalizer: weakref.finalize[..., Threads] | None = None

    def _get(self, index: int) -> Any:
        with self._lock:
            if self._pid != os.getpid():  # first use here: threads do not come along through a fork
                self._pid = os.getpid()
                self._made = [ThreadPoolExecutor(_MANY, "szal-worker"), DaemonThreads("szal-limited")]
                self._finalizer = weakref.finalize(self, _shut_down, self._made)
                self._finalizer.atexit = False
            return self._made[index]

    def pooled(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Call ``function(*args)`` on a pool thread, which the interpreter waits for at exit."""
        self._get(0).submit(function, *args)

    def daemon(self, function: Callable[..., Any], /, *args: Any) -> None:
        """Call ``function(*args)`` on a daemon thread."""
        self._get(1).submit(function, *args)

    def close(self) -> None:
        """Let the threads end as they become idle. Waits for none, so a handler that hangs cannot hang this."""
        with self._lock:
            if self._finalizer is not None and self._pid == os.getpid():
                self._finalizer()
            self._pid = 0


def _shut_down(made: list[ThreadPoolExecutor | DaemonThreads]) -> None:
    for threads in made:
        if isinstance(threads, ThreadPoolExecutor):
            threads.shutdown(wait=False)
        else:
            threads.shutdown()


class WorkerPool:
    """One kind of worker for one coordinating thread, which alone calls its methods.

    `load` counts the attempts that are queued or running; `workers` the loops that are at work or idle.
    """

    def __init__(self, submits: tuple[Submit, ...], limit: int, finished: "SimpleQueue[Any]") -> None:
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
        self._staff()

    def _staff(self) -> None:
        while self.workers < min(self.load, self._limit):
            if not self._hire():
                if not self.workers:
                    self._do_it_here()
                return
            self.workers += 1

    def _do_it_here(self) -> None:
        """Run what is queued on the coordinating thread: no other can be had."""
        while not self._queue.empty():
            attempt = self._queue.get()
            if attempt is not None:
                attempt.execute(self._finished)

    def _hire(self) -> bool:
        for submit in self._submits:
            try:
                submit(_work, self._queue, self._finished)
            except RuntimeError:  # out of threads, or the pool is shut because the interpreter is exiting
                continue
            return True
        return False

    def leave(self, *, abandoned: bool = False) -> None:
        """Take note that an attempt is over. An abandoned one keeps its worker, which is then no longer counted."""
        self.load -= 1
        if abandoned:
            self.workers -= 1
            self._staff()

    def close(self) -> None:
        """Send the workers home; one that still runs an abandoned attempt goes when it ends."""
        self._queue.put(None)


def _work(queue: "SimpleQueue[Attempt | None]", finished: "SimpleQueue[Any]") -> None:
    """Take attempts until told to stop, or until one was abandoned: its place has been given away."""
    while (attempt := queue.get()) is not None:
        if not attempt.execute(finished):
            return
        del attempt
    queue.put(None)  # for the next one
