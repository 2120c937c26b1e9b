"""Executions that are watched: what has changed is heard of, and looked at once for all who watch one.

Whoever watches waits on its own thread. It is woken by the run, where that is in this engine, and by one thread that
listens to the store for all of them, where that tells of changes. It also looks by itself now and then.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from szal.clock import monotonic
from szal.engine.active import ActiveRuns
from szal.engine.feed import Feed
from szal.engine.status import ExecutionStatus
from szal.engine.view import View
from szal.errors import ExecutionNotFound, StoreError
from szal.logs import SafeLogger
from szal.process_events import enroll_lock
from szal.stores.base import ExecutionStore
from szal.stores.ledger import ledger_of
from szal.stores.listening import ChangeListener

__all__ = ["Watch", "Watchers"]

logger = SafeLogger(logging.getLogger(__name__))

_NOTICE: Final = 0.5
"""Seconds after which the thread that listens sees whether anybody still watches."""

_SETTLING: Final = 0.002
"""Seconds between being told and looking: much that changes at once is seen at once."""

_BEGINNING: Final = 0.02
"""Seconds between two looks at an execution that is just being begun."""


class Watch(Iterator[ExecutionStatus]):
    """What `Engine.watch` returns: iterating blocks until something has changed.

    One thread iterates; `close` may be called from any, and ends it.
    """

    def __init__(self, watchers: "Watchers", execution_id: str, timeout: float | None, interval: float) -> None:
        self._feed: Feed | None = None  # __del__ needs it
        self._until = None if timeout is None else monotonic() + timeout
        self._interval = interval
        self._watchers = watchers
        self._execution_id = execution_id
        self._last: ExecutionStatus | None = None
        self._is_over = False
        self._feed = watchers.join(execution_id)
        try:
            self._first: ExecutionStatus | None = self._begun(self._feed)
        except BaseException:
            self.close()
            raise

    def _begun(self, feed: Feed) -> ExecutionStatus | None:
        """Return how it stands, as soon as that can be told."""
        while (status := feed.status(again=True)) is None and not self._is_late():
            feed.wait(self._is_late, _BEGINNING)
        return status

    def _is_late(self) -> bool:
        return self._is_over or self._watchers.is_closed or (self._until is not None and monotonic() >= self._until)

    def __next__(self) -> ExecutionStatus:
        status = self.get()
        if status is None:
            raise StopIteration
        return status

    def get(self, timeout: float | None = None) -> ExecutionStatus | None:
        """Return the next status, waiting up to *timeout* seconds; None if that time is up, or nothing will come.

        `closed` tells the two apart: as `Subscription.get` does.
        """
        feed, status, self._first = self._feed, self._first, None
        if feed is None:
            return None
        try:
            status = status or self._changed(feed, None if timeout is None else monotonic() + timeout)
        except BaseException:
            self.close()
            raise
        if (status is None and self._is_late()) or (status is not None and not status.state.is_live):
            self.close()
        self._last = status or self._last
        return status

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._feed is None

    def _changed(self, feed: Feed, until: float | None) -> ExecutionStatus | None:
        """Return how it stands once that is another way; None: it is over, or the time is."""
        again = False
        while True:
            is_late = self._is_late()
            try:
                status = feed.status(again=again or is_late)
            except ExecutionNotFound:
                if self._watchers.records:
                    raise  # it was removed
                self._is_over = True  # it has ended, and nothing is left of it
                return None
            except StoreError as error:
                if is_late:
                    raise
                logger.info("cannot look at execution %s; trying again: %s", self._execution_id, error)
                status = self._last
            if status is not None and status is not self._last:
                return status
            looked = monotonic()
            if is_late or (until is not None and looked >= until):
                return None
            ends = [end for end in (self._until, until, looked + self._interval) if end is not None]
            left = max(0.0, min(ends) - looked)
            feed.wait(self._is_late, left)
            again = monotonic() - looked >= left  # nothing was told, which may be wrong
            feed.rest(self._is_late, 0.0 if again else _SETTLING)

    def close(self) -> None:
        """End it: who iterates gets no more. From any thread; again does nothing."""
        self._is_over = True
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.changed()
            self._watchers.leave(self._execution_id, feed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Watchers:
    """All who watch executions of one engine, in one process. From any thread.

    *find* returns how an execution stands that runs here, and None for any other, or where the store knows more.
    """

    def __init__(
        self, store: ExecutionStore | None, active: ActiveRuns, find: Callable[[str], ExecutionStatus | None]
    ) -> None:
        self._store = store
        self._active = active
        self._find = find
        self._feeds: dict[str, Feed] = {}
        self._changes: ChangeListener | None = None
        self.is_closed = False
        enroll_lock(self, Watchers._make_lock)

    def _make_lock(self) -> threading.RLock:
        self._lock = threading.RLock()  # guards feeds, their counts, and who listens
        return self._lock

    @property
    def records(self) -> bool:
        """Whether something is left of executions that have ended."""
        return self._store is not None

    def watch(self, execution_id: str, timeout: float | None, interval: float) -> Watch:
        """Return an iterator over how an execution stands. Raises `ExecutionNotFound`, and what the store raises."""
        return Watch(self, execution_id, timeout, interval)

    def hook(self, execution_id: str) -> Callable[[], None] | None:
        """Return what the run of an execution calls whenever something has changed; None: nobody watches it."""
        feed = self._feeds.get(execution_id)
        if feed is None:
            return None
        feed.begin()
        return feed.changed

    def has_ended(self, execution_id: str, look: Callable[[], ExecutionStatus | None]) -> None:
        """Take note of how an execution has ended here, as *look* tells: nobody may know that later."""
        feed = self._feeds.get(execution_id)
        if feed is not None:
            feed.end(look())

    def changed(self, execution_id: str) -> None:
        """Have those look who watch that execution."""
        feed = self._feeds.get(execution_id)
        if feed is not None:
            feed.changed()

    def close(self) -> None:
        """End it for all who watch, once they have seen what there is."""
        self.is_closed = True
        for feed in [*self._feeds.copy().values()]:
            feed.changed()
        self._stop_listening()

    def join(self, execution_id: str) -> Feed:
        """Return the feed of an execution, with one more who watches it."""
        with self._lock:
            feed = self._feeds.get(execution_id)
            if feed is None:
                feed = self._feeds[execution_id] = Feed(self._looking(execution_id))
            feed.count += 1
        for driver in self._active.having(execution_id):
            driver.be_watched()
        return feed

    def leave(self, execution_id: str, feed: Feed) -> None:
        """Take note that one watches it no more."""
        with self._lock:
            feed.count -= 1
            if feed.count == 0 and self._feeds.get(execution_id) is feed:
                del self._feeds[execution_id]
        if not self._feeds:
            self._stop_listening()

    def _looking(self, execution_id: str) -> Callable[[], ExecutionStatus | None]:
        """Return what looks at an execution: as it runs here, else as the store has it."""
        view: list[View] = []

        def look() -> ExecutionStatus | None:
            found = self._find(execution_id)
            if found is not None:  # how it ends is told once that is recorded: by `has_ended`
                return found if found.state.is_live else None
            try:
                return self._look_at_store(execution_id, view)
            except ExecutionNotFound:
                if self._active.having(execution_id):
                    return None  # it is just being begun
                raise

        return look

    def _look_at_store(self, execution_id: str, view: list[View]) -> ExecutionStatus:
        if self._store is None:
            raise ExecutionNotFound(execution_id)
        if (changes := self._changes or self._listen()) is not None:
            changes.attend(execution_id)  # before it is looked at
        if not view:
            view.append(View(self._store, execution_id))
        return view[0].look()

    # -- the thread that listens --------------------------------------------------------------------------

    def _listen(self) -> ChangeListener | None:
        """Begin to listen, if the store tells of changes, and nobody does; return what does."""
        with self._lock:
            ledger = ledger_of(self._store)
            if ledger is None or self._changes is not None or self.is_closed:
                return self._changes
            changes = ledger.changes()
            if changes is None:
                return None
            thread = threading.Thread(target=self._hear, args=(changes,), name="szal-watch", daemon=True)
            self._changes = changes
            try:
                thread.start()
            except RuntimeError:  # there is none to be had: they look by themselves
                self._changes = None
            return self._changes

    def _stop_listening(self) -> None:
        with self._lock:
            changes, self._changes = self._changes, None
        if changes is not None:
            changes.close()

    def _hear(self, changes: ChangeListener) -> None:
        try:
            while self._changes is changes:
                heard = changes.wait(_NOTICE)
                if not self._feeds:
                    self._stop_listening()
                for execution_id, feed in self._feeds.copy().items():
                    if (heard is None or execution_id in heard) and execution_id not in self._active:
                        feed.changed()
        except BaseException:
            logger.exception("nobody listens to the store any more: changes are looked for")
        finally:
            changes.close()
            with suppress(Exception):
                changes.wait(0.0)  # it lets go of its connection there
