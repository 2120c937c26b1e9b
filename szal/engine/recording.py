"""The three ways in which an execution is recorded: not at all, in a store of four methods, or under a lease."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from szal.engine.config import EngineConfig
from szal.engine.leased_store import LeasedStore
from szal.engine.spec import ExecutionSpec
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.results import ExecutionRecord
from szal.scheduler.attempt import Encode, encode_output

if TYPE_CHECKING:
    from szal.engine.journal import Journal
    from szal.stores.base import ExecutionStore
    from szal.stores.writes import NewExecution

__all__ = ["Recording", "Supervision", "recording_of"]

logger = SafeLogger(logging.getLogger(__name__))


class Supervision(Protocol):
    """Who is told, on other threads, what becomes of a lease and of the writes under it."""

    def lease_lost(self) -> None:
        """Another process runs the execution now."""

    def cancel_asked(self) -> None:
        """Somebody has asked for its cancellation, here or elsewhere."""

    def pause_asked(self) -> None:
        """Somebody elsewhere has asked for a pause."""

    def signals_due(self) -> None:
        """A signal may have come."""

    def tell_under_way(self) -> str | None:
        """Return what others are to be told of its steps that have begun; None: nothing."""

    def write_failed(self, error: Exception) -> None:
        """A write was lost for good."""

    def write_refused(self, step_name: str, error: Exception) -> bool:
        """The store refuses for good what was to be recorded of a step; return whether the run ends for that."""


class Recording(Protocol):
    """How one execution is recorded. Called by its coordinating thread."""

    @property
    def encode(self) -> Encode | None:
        """What makes of outputs what is recorded, where anything is."""

    @property
    def journal(self) -> "Journal | None":
        """What writes each step's outcome, where that is kept."""

    @property
    def error(self) -> Exception | None:
        """What the store raised where the run could go on all the same."""

    @property
    def can_go_on(self) -> bool:
        """Whether somebody else could go on with the execution where it stands."""

    def open(self, record: ExecutionRecord, supervision: Supervision) -> None:
        """Record that the execution runs. Raises what the store raises."""

    def save(self, record: ExecutionRecord) -> None:
        """Write the record as it is now."""

    def fail(self, record: ExecutionRecord) -> None:
        """Write the last record of a run that is broken and nobody can go on with, if that can be."""

    def flush(self) -> None:
        """Wait until all that was written is committed, where the durability asks for it."""

    def release(self, wake: float | None = None, awaits: Sequence[str] | None = None) -> None:
        """Give the execution up: it has ended, or waits until *wake*, or for one of the signals *awaits*."""

    def close(self) -> None:
        """Renew no lease any more: the run is over, one way or the other."""


class NotRecorded:
    """Nothing is written."""

    encode: Encode | None = None
    can_go_on = False
    journal: "Journal | None" = None
    error: Exception | None = None

    def open(self, record: ExecutionRecord, supervision: Supervision) -> None:
        """Nothing to do."""

    def save(self, record: ExecutionRecord) -> None:
        """Nothing to do."""

    def fail(self, record: ExecutionRecord) -> None:
        """Nothing to do."""

    def flush(self) -> None:
        """Nothing to do."""

    def release(self, wake: float | None = None, awaits: Sequence[str] | None = None) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class RecordedInStore:
    """The record alone is written, at each change of state, to anything that has a store's four methods.

    Nobody could go on with it, so a store that fails does not stop the run: its first error is raised in the end.
    """

    can_go_on = False
    journal: "Journal | None" = None
    encode: Encode | None = staticmethod(encode_output)

    def __init__(self, store: "ExecutionStore", execution_id: str, durability: str) -> None:
        self.error: Exception | None = None
        self._store = store
        self._execution_id = execution_id
        self._flush = None if durability == "none" else _flush_of(store)

    def open(self, record: ExecutionRecord, supervision: Supervision) -> None:  # noqa: ARG002
        """Write the first record."""
        self._store.save(record)

    def save(self, record: ExecutionRecord) -> None:
        """Write the record."""
        self._try(lambda: self._store.save(record))

    def fail(self, record: ExecutionRecord) -> None:
        """Write the record; what broke the run may keep it from that."""
        with contextlib.suppress(Exception):
            self._store.save(record)

    def flush(self) -> None:
        """Have the store written to the end, if it writes behind."""
        if self._flush is not None:
            self._try(self._flush)

    def release(self, wake: float | None = None, awaits: Sequence[str] | None = None) -> None:
        """Nothing to do: there is no lease."""

    def close(self) -> None:
        """Nothing to do: there is no lease."""

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:
            logger.exception("the store failed: execution %s", self._execution_id)
            self.error = self.error or error


class RecordedUnderLease:
    """Everything is written as it happens, to one of szal's own stores. What that raises stops the run."""

    can_go_on = True

    def __init__(self, leased: LeasedStore, journal: "Journal", durability: str, spec: ExecutionSpec) -> None:
        self.error: Exception | None = None
        self.journal: Journal = journal
        self.encode: Encode | None = encode_output
        self._leased = leased
        self._waits = durability != "none"
        self._new: NewExecution | None = spec.new
        self._is_refused = False  # the store has not taken what is new: whoever began it is told, and nobody goes on
        self._family = spec.top.family
        self._family.add(journal.execution_id)

    def open(self, record: ExecutionRecord, supervision: Supervision) -> None:  # noqa: ARG002 (what is new has its own)
        """Have the lease renewed, and queue what is new."""
        self._leased.heartbeat.hold(
            self.journal.execution_id,
            self.journal.epoch,
            supervision.lease_lost,
            supervision.cancel_asked,
            supervision.signals_due,
            on_pause=supervision.pause_asked,
            tell=supervision.tell_under_way,
            is_recorded=self._new is None,
        )
        self._begin()

    def _begin(self) -> None:
        """Queue what is new, if that is still to be done: for the second time where an interruption came after it."""
        if self._new is not None:
            try:
                self.journal.begin(self._new, partial(self._leased.heartbeat.recorded, *self._new.lease))
            except Exception as error:
                self._is_refused = not is_interruption(error)
                raise
            self._new = None

    def save(self, record: ExecutionRecord) -> None:
        """Queue the record."""
        if not self._is_refused:
            self._begin()
            self.journal.save(record)

    def fail(self, record: ExecutionRecord) -> None:
        """Nothing to do: somebody goes on with it."""

    def flush(self) -> None:
        """Wait for the commit, also of its sub-flows; where it is lost, raise that the lease was, if so."""
        if self._waits:
            self._leased.flush(self._family)

    def release(self, wake: float | None = None, awaits: Sequence[str] | None = None) -> None:
        """Queue that the lease is given up."""
        self._drop()
        if not self._is_refused:
            self._begin()
            self.journal.release(wake, awaits)

    def close(self) -> None:
        """Have the lease renewed no more, and tell nobody of writes that are lost."""
        self._drop()
        self.journal.close()

    def _drop(self) -> None:
        self._leased.heartbeat.drop(self.journal.execution_id, self.journal.epoch)


def _flush_of(store: "ExecutionStore") -> Callable[[], object] | None:
    """Return what waits for a store that writes behind; beyond the four methods it may have that one too."""
    from szal.stores.base import flush_of

    return flush_of(store)


def recording_of(
    spec: ExecutionSpec, config: EngineConfig, leased: LeasedStore | None, supervision: Supervision
) -> Recording:
    """Return how the execution *spec* is recorded."""
    execution_id, store = spec.record.execution_id, config.execution_store
    if leased is not None and spec.epoch is not None:
        from szal.engine.journal import Journal  # only runs that are recorded need it

        journal = Journal(leased, execution_id, spec.epoch, supervision, spec.recovered, redaction=spec.redaction)
        return RecordedUnderLease(leased, journal, config.durability, spec)
    if store is None:
        return NotRecorded()
    return RecordedInStore(store, execution_id, config.durability)
