"""The executions that one engine runs now, by id: each is run once at a time."""

import math
from functools import partial

from szal.clock import monotonic
from szal.engine.driver import Driver
from szal.errors import ConcurrencyKeyTaken, EngineClosed
from szal.process_events import enroll_renewal
from szal.waiters import Waiters, wait_unless, wake_all

__all__ = ["ActiveRuns"]


class ActiveRuns:
    """Who runs which execution, in this process. From any thread, and from signal handlers.

    There is no lock: each change is one atomic operation on a dict, so no fork and no signal comes in between.
    """

    def __init__(self) -> None:
        self._is_closed = False
        self._waiters: Waiters = set()
        self._renew()
        enroll_renewal(self, ActiveRuns._renew)

    def _renew(self) -> None:
        """Forget all: what the parent of a fork runs does not run here."""
        self._runs: dict[str, Driver | object] = {}  # an object: other work on that execution
        self._keys: dict[str, str] = {}  # which execution has a concurrency key, where no store says so

    def check_open(self) -> None:
        """Raise `EngineClosed` once the engine is closed."""
        if self._is_closed:
            raise EngineClosed

    @property
    def is_closed(self) -> bool:
        """Whether no further run is taken."""
        return self._is_closed

    def close(self) -> bool:
        """Take no further run; return whether none is left."""
        self._is_closed = True
        return not self._runs

    def take(self, execution_id: str, holder: Driver | object) -> bool:
        """Take an id for a run, or for other work on that execution; False where it is taken."""
        self.check_open()
        taken = self._runs.setdefault(execution_id, holder) is holder
        if taken and self._is_closed:  # closed meanwhile: either this is seen there, or that here
            self.give_back(execution_id, holder)
            self.check_open()
        return taken

    def give_back(self, execution_id: str, holder: Driver | object) -> bool:
        """Free an id, if it is still *holder*'s; return whether the engine is closed and that was the last."""
        if self._runs.get(execution_id) is holder:
            for key in [key for key, name in self._keys.copy().items() if name == execution_id] if self._keys else ():
                self._keys.pop(key, None)
            del self._runs[execution_id]
        wake_all(self._waiters)
        return self._is_closed and not self._runs

    def take_key(self, key: str, execution_id: str) -> None:
        """Have an execution that runs have a concurrency key until its id is given back.

        Raises `ConcurrencyKeyTaken` where another one of this engine has it.
        """
        holder = self._keys.setdefault(key, execution_id)
        if holder != execution_id:
            raise ConcurrencyKeyTaken(execution_id, key, holder)

    def key_holder(self, key: str) -> str | None:
        """Return which execution has that key."""
        return self._keys.get(key)

    def wait_for_others(self, timeout: float = math.inf) -> bool:
        """Wait, so many seconds at most, until nothing is left but what the caller is in itself; return whether so."""
        until = monotonic() + timeout
        while others := self._others():
            left = until - monotonic()
            if left <= 0:
                return False
            wait_unless(self._waiters, partial(self._has_changed, others), left)
        return True

    def wait_for_change(self, execution_id: str, timeout: float) -> None:
        """Wait until a run has been given back or somebody calls `wake`, so many seconds at most."""
        before = execution_id in self
        wait_unless(self._waiters, lambda: (execution_id in self) != before, timeout)

    def wake(self) -> None:
        """Have all that wait look again."""
        wake_all(self._waiters)

    def _has_changed(self, others: list[str]) -> bool:
        return self._others() != others

    def _others(self) -> list[str]:
        """Return what is left that the caller is not in: a handler, or a signal handler in the midst of a run."""
        runs = self._runs.copy().items()
        return [name for name, holder in runs if not (isinstance(holder, Driver) and holder.is_around())]

    def __contains__(self, execution_id: str) -> bool:
        return execution_id in self._runs

    def all(self) -> list[Driver]:
        """Return all runs."""
        return [holder for holder in self._runs.copy().values() if isinstance(holder, Driver)]

    def drain(self) -> None:
        """Have nothing new started in any of them."""
        for driver in self.all():
            driver.drain()

    def ids(self) -> list[str]:
        """Return the ids of all."""
        return [*self._runs]

    def having(self, execution_id: str) -> list[Driver]:
        """Return the run of an execution, or the one that it is a sub-flow of: one at most."""
        return [driver for driver in self.all() if driver.has(execution_id)]
