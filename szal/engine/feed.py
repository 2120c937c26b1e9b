"""One execution that is watched: it is looked at once for all who watch it."""

import threading
from collections.abc import Callable
from typing import Final

from szal.clock import monotonic
from szal.engine.status import ExecutionStatus
from szal.process_events import enroll_lock
from szal.waiters import Waiters, wait_unless, wake_all

__all__ = ["Feed", "outline_of"]

_SHARE: Final = 0.1
"""Of the time, at most, is spent on looking at one execution, however often it changes."""

_LONGEST: Final = 1.0
"""Seconds between two looks at what has changed, however long one takes."""


class Feed:
    """One execution that is watched, by however many: how it stood last, and whether something has come since."""

    def __init__(self, look: Callable[[], ExecutionStatus | None]) -> None:
        self.count = 0
        """How many watch it; guarded by the lock of the watchers."""
        self._look = look
        self._waiters: Waiters = set()
        self._news: object = None  # another object whenever something has come
        self._seen: object = object()
        self._status: ExecutionStatus | None = None
        self._outline: object = None
        self._next = 0.0
        self._given: ExecutionStatus | None = None
        enroll_lock(self, Feed._make_lock)

    def _make_lock(self) -> threading.RLock:
        self._lock = threading.RLock()  # guards the last four, and lets one look at a time
        return self._lock

    def changed(self) -> None:
        """Have all who watch look. From any thread, and at any moment."""
        self._news = object()
        if self._waiters:
            wake_all(self._waiters)

    def begin(self) -> None:
        """Take note that its run begins here."""
        self._given = None

    def end(self, status: ExecutionStatus | None) -> None:
        """Take note of how its run has ended here."""
        self._given = status
        self.changed()

    def wait(self, is_over: Callable[[], bool], timeout: float) -> None:
        """Wait until something has come that nobody has looked at, or *is_over*, so many seconds at most."""
        wait_unless(self._waiters, lambda: self._news is not self._seen or is_over(), timeout)

    def rest(self, is_over: Callable[[], bool], least: float = 0.0) -> None:
        """Wait until it may be looked at again, so many seconds at least, unless *is_over*."""
        until = max(self._next, monotonic() + least)
        while not is_over() and (left := until - monotonic()) > 0:
            wait_unless(self._waiters, is_over, left)

    def status(self, *, again: bool) -> ExecutionStatus | None:
        """Return how it stands: another object than before where something has changed; None: it is being begun.

        It is looked at if something has come, or *again*. Raises what looking does.
        """
        with self._lock:
            news, began = self._news, monotonic()
            if news is self._seen and not again:  # somebody else has looked
                return self._status
            self._seen = news
            found = self._given or self._look() or self._status
            took = monotonic() - began
            self._next = monotonic() + min(took * (1 / _SHARE - 1), _LONGEST)
            if found is not self._status:
                outline = None if found is None else outline_of(found)
                if not _is_same(outline, self._outline):
                    self._status, self._outline = found, outline
            return self._status


def _is_same(outline: object, other: object) -> bool:
    """Whether two outlines are equal, as far as what is in them can be compared."""
    try:
        return outline is not None and bool(outline == other)
    except Exception:  # noqa: BLE001 (without a store, an output may be anything)
        return False


def outline_of(status: ExecutionStatus) -> object:
    """Return what differs between two statuses that say different things."""
    steps = [
        (
            step.status,
            step.attempts,
            step.error,
            step.report,
            None if step.status.has_ended else step.output,
            None if step.items is None else [(item.status, item.attempts) for item in step.items],
        )
        for step in status.results
    ]
    flags = status.is_running, status.is_interrupted, status.is_cancelling
    waits = [*status.waits], [*status.queued], status.queued_behind
    return status.state, status.error, flags, status.record.finished_at, waits, steps
