"""What one run has of a clock that a test moves: what it waits for, and whether it is at rest."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, Final, Protocol

import attrs

from szal import clock
from szal.scheduler.clock import Clock, Driven, Inbox, Sleeper

__all__ = ["NAP", "Due", "RunClock", "patience_for"]

_PATIENCE: Final = 1.0
NAP: Final = 0.2
"""The longest wait in one go: signals are looked for in between."""


def patience_for(seconds: float) -> float:
    """Return how many real seconds a handler that is at work may hold up what is due in so many *seconds*.

    So many, as outside; and a second at least, in which no time passes.
    """
    return max(_PATIENCE, seconds)


class Whole(Protocol):
    """The clock itself. All but the times is called with its `lock` held."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]
    lock: AbstractContextManager[object]

    @property
    def moves_itself(self) -> bool: ...
    def begin(self, run: "RunClock") -> None: ...
    def end(self, run: "RunClock") -> None: ...
    def guests_of(self, host: "RunClock") -> "Sequence[RunClock]": ...
    def look(self) -> None: ...
    def go_on(self) -> None: ...


@attrs.define(eq=False)
class Due:
    """Something that waits for a time."""

    due: float
    wake: Callable[[], object]


@attrs.define(eq=False)
class _Wait:
    """A coordinating thread that waits."""

    inbox: Inbox
    due: float | None


@attrs.define(eq=False)
class _Sleep:
    """A handler that sleeps."""

    sleeper: Sleeper
    until: float
    waiter: threading.Lock
    thread: int = attrs.field(factory=threading.get_ident)

    def wake(self) -> None:
        with suppress(RuntimeError):  # somebody else has
            self.waiter.release()


class RunClock(Clock):
    """What one run has of a fake clock: what it waits for is told to that."""

    stands_still = True

    def __init__(self, whole: Whole, run: Driven, host: "RunClock | None") -> None:
        self._whole = whole
        self._run = run
        self.host = host
        """What the run has in whose handler this one is run, where that waits for it."""
        self.is_waited_for = run.is_waited_for
        self._wait: _Wait | None = None
        self._sleeps: list[_Sleep] = []
        self.monotonic = whole.monotonic
        self.wall = whole.wall

    def run_begins(self) -> None:
        """Count it among what is at work."""
        with self._whole.lock:
            self._whole.begin(self)

    def run_ends(self) -> None:
        """Count it no more."""
        with self._whole.lock:
            self._whole.end(self)

    def is_around_this_thread(self) -> bool:
        """Whether a handler or the loop of this run is what asks."""
        return self._run.is_around()

    # -- waiting --------------------------------------------------------------------------------------

    def wait(self, inbox: Inbox, due: float | None, longest: float) -> Any:
        """Wait as `Clock.wait` says; the time is this clock's."""
        began, nap = clock.monotonic(), min(longest, NAP)
        with self._whole.lock:
            self._wait = wait = _Wait(inbox, due)
            self._whole.look()
        try:
            while True:
                item = inbox.wait(nap)
                if item is not None or inbox.has_calls or self._wait is not wait:
                    return item
                if due is not None and self._whole.moves_itself:
                    with self._whole.lock:
                        if clock.monotonic() >= began + patience_for(due - self.monotonic()):
                            self._whole.go_on()
                        else:
                            self._whole.look()
        finally:
            with self._whole.lock:
                self._wait = None

    def sleep(self, sleeper: Sleeper, waiter: threading.Lock, until: float) -> None:
        """Wait as `Clock.sleep` says."""
        sleep = _Sleep(sleeper, until, waiter)
        with self._whole.lock:
            self._sleeps.append(sleep)
            self._whole.look()
        try:
            while not waiter.acquire(timeout=NAP):  # the thread that would hear of other handlers may be this one
                with self._whole.lock:
                    self._whole.look()
        finally:
            with self._whole.lock:
                self._forget(sleep)

    def _forget(self, sleep: _Sleep) -> None:
        if sleep in self._sleeps:
            self._sleeps.remove(sleep)

    # -- with the lock held ---------------------------------------------------------------------------

    def is_at_rest(self) -> bool:
        """Whether nothing happens in this run until the time goes on, or something comes from outside."""
        guests, wait = self._whole.guests_of(self), self._wait
        asleep = [sleep for sleep in self._sleeps if not sleep.sleeper.cancelled]
        if wait is None:
            threads = {sleep.thread for sleep in asleep} | {guest.thread for guest in guests}
            if self.thread not in threads:  # else it is in a handler, and takes note of nothing until that has ended
                return False
        elif wait.inbox.has_calls or not wait.inbox.finished.empty():
            return False
        held = self._run.under_way(listens=wait is not None)
        return len({id(sleep.sleeper) for sleep in asleep}) + len(guests) >= held

    @property
    def thread(self) -> int | None:
        """The thread that coordinates it."""
        return self._run.thread

    def due(self) -> Iterator[Due]:
        """Yield what waits for a time: first handlers, which see by themselves that their time is over."""
        for sleep in self._sleeps:
            yield Due(sleep.until, partial(self._wake_sleeper, sleep))
        if self._wait is not None and self._wait.due is not None:
            yield Due(self._wait.due, self._wake_coordinator)

    def _wake_coordinator(self) -> None:
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.inbox.finished.put(None)

    def _wake_sleeper(self, sleep: _Sleep) -> None:
        self._forget(sleep)
        sleep.wake()
