"""Waiting for an execution that another thread runs, or another process: the store is asked again and again."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final, TypeVar

from szal.clock import monotonic
from szal.engine.active import ActiveRuns
from szal.engine.owners import is_gone
from szal.errors import Cancelled, ConcurrencyKeyTaken, ExecutionNotFound, StoreError, SzalError
from szal.model.results import ExecutionRecord, FlowResult
from szal.scheduler.cancel import CancellationToken
from szal.stores.base import ExecutionStore
from szal.stores.ledger import ledger_of

__all__ = ["Endings"]

T = TypeVar("T")

_SHORTEST: Final = 0.01
_LONGEST: Final = 0.5
"""In seconds, between two looks at the store. What this engine runs is heard of at once."""


class Endings:
    """Waits for executions of one store, whoever runs them. From any thread."""

    def __init__(self, store: ExecutionStore | None, active: ActiveRuns) -> None:
        self._store = store
        self._active = active

    def result(self, execution_id: str, timeout: float | None) -> FlowResult:
        """Return the result of an execution once it has ended.

        Raises TimeoutError, RuntimeError where the caller is in that execution itself, `ExecutionNotFound`,
        `StoreError` where it has ended without a result, and `SzalError` where nothing is recorded.
        """
        store = self._store
        if store is None:
            raise SzalError("this engine records nothing (EngineConfig.execution_store): wait with Execution.result")
        self._check_not_within(execution_id)
        record = self._wait(execution_id, partial(self._end_of, store, execution_id), timeout)
        if record is None:
            raise TimeoutError(f"execution {execution_id} has not ended within {timeout:g}s")
        if record.result is None:
            raise StoreError(f"execution {execution_id} has ended ({record.state}), and no result is recorded")
        return record.result

    def until_free(self, execution_id: str, cancel: CancellationToken | None) -> None:
        """Return once an execution has ended, or nobody runs it any more; raise `Cancelled` once *cancel* says so.

        Raises RuntimeError where the caller is in that execution itself.
        """
        self._wait_unless(cancel, execution_id, partial(self._is_free, execution_id, cancel), None)

    def until_key_free(
        self, taken: ConcurrencyKeyTaken, cancel: CancellationToken | None, timeout: float | None
    ) -> None:
        """Return once nobody has that concurrency key; raise `Cancelled` once *cancel* says so, *taken* in the end.

        Raises RuntimeError where the caller is in the execution that has it.
        """
        if self._wait_unless(cancel, taken.holder, partial(self._is_key_free, taken, cancel), timeout) is None:
            raise taken

    def _is_key_free(self, taken: ConcurrencyKeyTaken, cancel: CancellationToken | None) -> bool | None:
        if cancel is not None and cancel.cancelled:
            raise Cancelled(f"cancelled while execution {taken.execution_id} waited for {taken.key!r}")
        ledger = ledger_of(self._store)
        holder = self._active.key_holder(taken.key) if ledger is None else ledger.limits.key_holder(taken.key)
        return True if holder is None else None

    def _wait_unless(
        self, cancel: CancellationToken | None, execution_id: str, find: Callable[[], T | None], timeout: float | None
    ) -> T | None:
        """As `_wait`, and *find* is asked at once when *cancel* is cancelled. Not in a handler of that execution."""
        self._check_not_within(execution_id)
        unsubscribe = None if cancel is None else cancel.subscribe(self._active.wake)
        try:
            return self._wait(execution_id, find, timeout)
        finally:
            if unsubscribe is not None:
                unsubscribe()

    def _wait(self, execution_id: str, find: Callable[[], T | None], timeout: float | None) -> T | None:
        """Return what *find* finds, asked again and again for at most *timeout* seconds, then None."""
        until, nap = monotonic() + (inf if timeout is None else timeout), _SHORTEST
        while (found := find()) is None:
            left = until - monotonic()
            if left <= 0:
                return None
            self._active.wait_for_change(execution_id, min(nap, left))
            nap = min(2 * nap, _LONGEST)
        return found

    def _end_of(self, store: ExecutionStore, execution_id: str) -> ExecutionRecord | None:
        record = store.get(execution_id)
        if record is None and not self._active.having(execution_id):  # else it is just being begun
            record = store.get(execution_id)  # it may have been given back in between
            if record is None:
                raise ExecutionNotFound(execution_id)
        return None if record is None or record.state.is_live else record

    def _is_free(self, execution_id: str, cancel: CancellationToken | None) -> bool | None:
        if cancel is not None and cancel.cancelled:
            raise Cancelled(f"cancelled while another run of execution {execution_id} was waited for")
        if execution_id in self._active:
            return None
        ledger = ledger_of(self._store)
        owner = None if ledger is None else ledger.holder(execution_id)
        return True if owner is None or is_gone(owner) else None

    def _check_not_within(self, execution_id: str) -> None:
        if any(driver.is_around() for driver in self._active.having(execution_id)):
            raise RuntimeError(f"execution {execution_id} cannot be waited for in a step of its own")
