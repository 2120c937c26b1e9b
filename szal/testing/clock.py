"""A clock that stands still until it is moved: so hours pass at once, and what comes due does so in order.

It counts what is at work. As long as a handler is, no time passes; once all runs are at rest, each of them waiting for
something to come due or to come from outside, the clock may go on to what is due next. A handler that works for more
than a second of real time is not waited for without end: then time passes as it does outside.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Final, Protocol

from szal import clock
from szal.number import check
from szal.scheduler.clock import Clock, Driven
from szal.testing.run_clock import NAP, Due, RunClock, patience_for

__all__ = ["ROUNDING", "Agenda", "FakeClock"]

_MOST: Final = 60.0
"""Real seconds after which what still runs is told of, where nothing is due that would end it."""
ROUNDING: Final = 1e-6
"""Seconds by which two times may differ that are meant to be one: what is due was worked out as Unix time."""
_START: Final = 1.0
"""Of the monotonic clock, which has no other meaning."""


class Agenda(Protocol):
    """What is to be done at some time, and is no run's: executions that are paused meanwhile."""

    def next_due(self) -> float | None:
        """Return when there is something to do (Unix time), if ever."""

    def fire(self) -> None:
        """Begin what is due."""


class FakeClock(Clock):
    """The clock of engines in a test (``EngineConfig(clock=FakeClock())``): it moves only where it is moved.

    *start* is an aware datetime; without one it begins with the second that it is made in. Runs that a thread waits for
    (`Engine.run`, `Engine.resume`) move it themselves, as nobody else would: what they wait for comes at once. Of those
    that are `start`ed, it is moved by `advance`.

    >>> from datetime import UTC, datetime
    >>> from szal import Engine, EngineConfig, FlowDef, StepDef
    >>> night = FlowDef("night", steps=[StepDef("sleep", step_type="sleep", config={"seconds": 8 * 3600})])
    >>> clock = FakeClock(datetime(2026, 11, 26, 22, tzinfo=UTC))
    >>> with Engine(print, EngineConfig(clock=clock)) as engine:
    ...     engine.run(night).total_duration
    28800.0
    >>> clock.utc_now().hour
    6
    """

    stands_still = True

    def __init__(self, start: datetime | None = None) -> None:
        if start is not None and start.tzinfo is None:
            raise ValueError(f"start has no time zone: {start!r}")
        began = clock.wall() if start is None else start.timestamp()
        self._ahead = (began if start is not None else float(int(began))) - _START
        self._now = _START
        self._changed = threading.Condition(threading.RLock())
        self.lock: AbstractContextManager[object] = self._changed
        """Guards all of it, what runs have of it included."""
        self._runs: list[RunClock] = []
        self._agendas: list[Agenda] = []
        self._movers = 0
        self.monotonic = self._read
        self.wall = self._read_wall

    def _read(self) -> float:
        return self._now

    def _read_wall(self) -> float:
        return self._ahead + self._now

    def __repr__(self) -> str:
        return f"<FakeClock {self.utc_now().isoformat()}>"

    # -- for whoever tests ----------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let so many *seconds* pass. What is due meanwhile happens, each at its own time, one after the other.

        Blocks until all that runs waits again, for something later, or for something from outside; with 0 it does no
        more than that. Raises RuntimeError in a handler, which would wait for itself, and TimeoutError where a handler
        is still at work after a minute.
        """
        check("seconds", seconds)
        if seconds < 0:
            raise ValueError(f"time goes on, not back: advance({seconds})")
        if any(run.is_around_this_thread() for run in [*self._runs]):
            raise RuntimeError("a handler cannot move the clock that its own run goes by: it would wait for itself")
        target = self._now + seconds
        while True:
            with self._changed:
                self._await_rest(target)
                act = self._next(target)
            if act is None:
                break
            act()
        with self._changed:
            self._now = max(self._now, target)

    def skip_to(self, moment: float) -> None:
        """Have it be *moment* (Unix time), if that is later than now. Nothing may run."""
        with self._changed:
            self._now = max(self._now, moment - self._ahead)

    @contextmanager
    def moving_itself(self) -> Iterator[None]:
        """Return a context manager: within it the clock goes on to what is due by itself, whoever waits for that."""
        with self._changed:
            self._movers += 1
            self.look()
        try:
            yield
        finally:
            with self._changed:
                self._movers -= 1

    # -- for engines ----------------------------------------------------------------------------------

    def add_agenda(self, agenda: Agenda) -> None:
        """Have `advance` look after what *agenda* has to do, too."""
        self._agendas.append(agenda)

    def remove_agenda(self, agenda: Agenda) -> None:
        """Look after it no more."""
        with suppress(ValueError):
            self._agendas.remove(agenda)

    def of_store(self, ask: Callable[[], float]) -> float:  # noqa: ARG002
        """Return this clock's own time: that of a database would go on by itself."""
        return self.wall()

    def of_run(self, run: Driven, host: Clock | None) -> Clock:
        """Return what a run has of this clock."""
        return RunClock(self, run, host if isinstance(host, RunClock) else None)

    # -- with the lock held ---------------------------------------------------------------------------

    def is_at_rest(self) -> bool:
        """Whether nothing happens until the time goes on, or something comes from outside."""
        return all(run.is_at_rest() for run in self._runs)

    def look(self) -> None:
        """Go on, if that is to happen by itself: what was at work has come to rest."""
        if self.is_at_rest():
            self._changed.notify_all()
            if self.moves_itself:
                self.go_on()

    @property
    def moves_itself(self) -> bool:
        """Whether some thread waits for a run, and so would never move it."""
        return self._movers > 0 or any(run.is_waited_for for run in self._runs)

    def go_on(self) -> None:
        """Go on to what is due next in any run, if anything is."""
        entries = sorted(self._due_in_runs(), key=lambda entry: entry.due)  # of those that are due at once, the first
        if entries:
            self._wake(entries[0])

    def begin(self, run: RunClock) -> None:
        """Take note of a run."""
        self._runs.append(run)

    def end(self, run: RunClock) -> None:
        """Take note that it is over."""
        if run in self._runs:
            self._runs.remove(run)
            self.look()

    def guests_of(self, host: RunClock) -> list[RunClock]:
        """Return the runs that handlers of *host* wait for."""
        return [run for run in self._runs if run.host is host]

    def _due_in_runs(self) -> Iterator[Due]:
        for run in self._runs:
            yield from run.due()

    def _wake(self, entry: Due) -> None:
        self._now = max(self._now, entry.due)
        entry.wake()

    def _next(self, target: float) -> Callable[[], object] | None:
        """Return what is to be done next, at its time, if that is not after *target*; the time is that then."""
        dues: list[tuple[float, Callable[[], object]]] = []
        dues += [(entry.due, partial(self._wake_held, entry)) for entry in self._due_in_runs()]
        for agenda in self._agendas:
            due = agenda.next_due()
            if due is not None:
                dues.append((max(self._now, due - self._ahead), agenda.fire))
        if not dues:
            return None
        due, act = min(dues, key=lambda each: each[0])
        if due > target + ROUNDING:
            return None
        self._now = max(self._now, due)
        return act

    def _wake_held(self, entry: Due) -> None:
        with self._changed:
            entry.wake()

    def _await_rest(self, target: float) -> None:
        """Wait until all is at rest, or until what is at work has held up for long enough what is due."""
        began = clock.monotonic()
        while not self.is_at_rest():
            due = min((entry.due for entry in self._due_in_runs() if entry.due <= target), default=None)
            patience = _MOST if due is None else patience_for(due - self._now)
            left = began + patience - clock.monotonic()
            if left <= 0:
                if due is None:
                    raise TimeoutError(f"handlers are still at work after {_MOST:g} s, and nothing ends them")
                return
            self._changed.wait(min(left, NAP))
