"""The executions that one engine runs now, by id: each is run once at a time."""

import os
import threading

from szal.engine.driver import Driver
from szal.errors import SzalError

__all__ = ["ActiveRuns"]


class ActiveRuns:
    """Who runs which execution, in this process. From any thread, and from signal handlers."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt a thread that holds it
        self._runs: dict[str, Driver | None] = {}
        self._pid = os.getpid()
        self.is_closed = False

    def check_open(self) -> None:
        """Raise `SzalError` once the engine is closed."""
        if self.is_closed:
            raise SzalError("this engine is closed")

    def close(self) -> bool:
        """Take no further run; return whether none is left."""
        with self._lock:
            self.is_closed = True
            return not self._runs

    def take(self, execution_id: str, driver: Driver | None) -> bool:
        """Take an id for *driver*, or for other work on that execution; False where it is taken."""
        with self._lock:
            self.check_open()
            if self._pid != os.getpid():  # what the parent of a fork runs does not run here
                self._pid, self._runs = os.getpid(), {}
            if execution_id in self._runs:
                return False
            self._runs[execution_id] = driver
        return True

    def give_back(self, execution_id: str, driver: Driver | None) -> bool:
        """Free an id, if it is still *driver*'s; return whether the engine is closed and that was the last."""
        with self._lock:
            if execution_id in self._runs and self._runs[execution_id] is driver:
                del self._runs[execution_id]
            return self.is_closed and not self._runs

    def __contains__(self, execution_id: str) -> bool:
        return execution_id in self._runs

    def all(self) -> list[Driver]:
        """Return all runs."""
        with self._lock:
            return [driver for driver in self._runs.values() if driver is not None]

    def having(self, execution_id: str) -> list[Driver]:
        """Return the run of an execution, or the one that it is a sub-flow of: one at most."""
        return [driver for driver in self.all() if driver.has(execution_id)]

    def before_fork(self) -> None:
        """Hold the lock, so that a child does not find it held by a thread that it does not have."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start with a lock of one's own."""
        self._lock = threading.RLock()

    def begin_exit(self) -> None:
        """Nothing to do."""

    def finish_exit(self, began: float) -> None:
        """Nothing to do."""
