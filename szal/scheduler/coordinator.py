"""What one coordinating thread owns: its runs, what is ready in them, its workers, timers and inbox.

Nothing here is locked. Other threads reach the coordinator only through its `Inbox`. What is done to it is in the
modules below this one: `settling`, `starting`, `stopping`; `loop` goes round.
"""

import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias

import attrs

from szal.model.state import Stop
from szal.scheduler.attempt import Attempt
from szal.scheduler.backlog import Backlog
from szal.scheduler.clock import Clock
from szal.scheduler.context import StepContext
from szal.scheduler.permits import Permits
from szal.scheduler.run import Ready, Run
from szal.scheduler.stage import Tally
from szal.scheduler.timers import Timers
from szal.scheduler.workers import WorkerPool
from szal.waiters import Mailbox, waitable

__all__ = ["MOST_IN_A_HURRY", "Baton", "Coordinator", "InTurn", "Inbox", "Relief"]

MOST_IN_A_HURRY: Final = 10.0
"""Seconds that an attempt which has promised to end is waited for once there is no grace: the system may be slow."""

_NEXT: Final = 0.01  # seconds for a thread to come to its next line


class Inbox:
    """What other threads have for the coordinating thread: attempts that ended, and functions to be called by it."""

    def __init__(self) -> None:
        self.finished: Mailbox[Any] = Mailbox()
        """Attempts that ended; a function that announces one; None, to wake the thread for `calls`."""
        self.calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.has_calls = False
        self._is_closed = False
        self.takes_ends = True
        """Whether what runs may be ended; only finally steps may not."""
        self._closing = threading.RLock()  # so that who is told that a call is heard is told the truth

    def offer(self, function: Callable[[], None], *, is_end: bool = False) -> bool:
        """As `call`; False, and it is not called, where the last run has come to its end.

        *is_end*: what would end, or pause, what runs. Once nothing runs but finally steps, it is too late for that.
        """
        with self._closing:
            is_taken = not self._is_closed and (self.takes_ends or not is_end)
            if is_taken:
                self.call(function)
            return is_taken

    def close(self) -> bool:
        """Take no more offers, unless calls are to be made first; return whether it is closed. Coordinator only."""
        with self._closing:
            self._is_closed = not self.has_calls
            return self._is_closed

    def reopen(self, *, takes_ends: bool) -> None:
        """Take offers again: another run has begun, which may be ended or not. Coordinator only."""
        self.takes_ends = takes_ends
        self._is_closed = False

    def call(self, function: Callable[[], None]) -> None:
        """Have *function* called by the coordinating thread. From any thread, and from a signal handler."""
        self.calls.put(function)
        self.has_calls = True  # in this order: a flag without an item costs a look, an item without one would wait
        self.finished.put(None)

    def make_calls(self) -> None:
        """Call what is to be called; what one raises keeps the others from nothing but this time. Coordinator only."""
        self.has_calls = False
        try:
            while not self.calls.empty():
                self.calls.get()()
        except BaseException:
            self.has_calls = True
            raise

    def wait(self, timeout: float) -> Any:
        """Wait, so many seconds at most, for something to end; None where only calls came, or nothing."""
        if not self.finished.empty():
            return self.finished.get()
        if self.has_calls:
            return None
        try:
            return self.finished.get_within(timeout)
        except Empty:
            return None


class InTurn:
    """Calls one after the other what would call one inside the other: sub-flows are nested deeper than calls may be.

    What is passed to `call` by what this calls follows when that has returned. What one raises ends it for the others.

    >>> turns = InTurn()
    >>> turns.call(lambda: (turns.call(lambda: print("second")), print("first")))
    first
    second
    """

    def __init__(self) -> None:
        self._due: deque[Callable[[], object]] = deque()

    def call(self, function: Callable[[], object]) -> None:
        """Call *function* now, or where this is calling another, after that."""
        is_first = not self._due
        try:
            self._due.append(function)
            while is_first and self._due:
                self._due[0]()
                self._due.popleft()
        finally:
            if is_first:
                self._due.clear()


Baton: TypeAlias = list[tuple[StepContext, float]]
"""The right to coordinate, where the coordinating thread lays it down: the call that it is in, and since when."""


@attrs.define(eq=False)
class Relief:
    """A thread that stands by while the coordinating one is in a handler that was told to end.

    The coordinating thread has laid down `baton` for as long as it is in the handler; whoever takes it coordinates.
    """

    baton: Baton
    has_ended: bool = False
    """Whether the handler has come back: nobody has to stand by any more."""
    is_hurried: bool = False
    given_up: tuple[StepContext, float] | None = None
    """The call that the handler's thread is held up in: it has begun to take over."""
    _woken: threading.Event = attrs.field(factory=threading.Event)

    def end(self) -> None:
        """Take note that the handler has come back. The coordinating thread only."""
        self.has_ended = True
        self._woken.set()

    def hurry(self) -> None:
        """End the grace of the handler: it is given up on at once, unless it has promised to end. From any thread."""
        self.is_hurried = True
        with contextlib.suppress(IndexError):  # it has ended
            if self.baton[0][0].tell_to_end(hurry=True) is None:
                self.given_up = self.baton.pop()
        self._woken.set()

    def outwait(self, grace: float) -> bool:
        """Wait for the handler to end, so many seconds and as long as it has promised beyond; False if it has not.

        Then it is given up on. The thread that stands by only.
        """
        self._woken.wait(waitable(grace))
        while not (self.has_ended or self.given_up is not None):
            self._woken.clear()
            hurry = self.is_hurried
            try:
                seconds = self.baton[0][0].tell_to_end(hurry=hurry)
                if seconds is not None:
                    self._woken.wait(waitable(min(seconds, MOST_IN_A_HURRY) if hurry else seconds))
                if seconds is None or hurry == self.is_hurried:
                    self.given_up = self.baton.pop()
            except IndexError:  # it has ended, or was given up on: whoever took it says so next
                self._woken.wait(_NEXT)
        return self.given_up is None


@attrs.define(eq=False, repr=False)
class Coordinator:
    """The state of one coordinating thread; see the module."""

    pooled: WorkerPool
    """Workers on threads that the interpreter waits for at exit."""
    limited: WorkerPool
    """Workers on daemon threads, for attempts that may have to be left behind."""
    limit: int
    """How many handlers are at work at one time."""
    grace: float
    on_abandoned: Callable[[Attempt], None]
    inbox: Inbox
    stop_for: Callable[[BaseException], Stop]
    """Which stop an interruption is."""
    clock: Clock
    permits: Permits
    """What steps of all runs of the engine share."""
    timers: Timers = attrs.field(factory=Timers)
    tally: Tally = attrs.field(factory=Tally)
    runs: dict[Run, None] = attrs.field(factory=dict)
    """Those that are driven, in the order in which they began; a dict, as any one of many may be the next to end."""
    ready: deque[Ready] = attrs.field(factory=deque)
    """What may start and has not been looked at yet."""
    backlog: Backlog = attrs.field(factory=Backlog)
    """What may start, needs a worker, and found none free."""
    granted: deque[Ready] = attrs.field(factory=deque)
    """What may start and has what it shares with others, and found no worker free: it is next to get one."""
    pinned: Backlog = attrs.field(factory=Backlog)
    """What may start, and is done on this thread only."""
    shares: bool = False
    """Whether some run has steps that share something: then nothing is queued ahead of them."""
    pins: bool = False
    """Whether some run has steps that are: then this thread is in no handler from which another could take over."""
    is_pinned: bool = False
    """Whether it is in the handler of such a step: nobody stands by for it."""
    ending: InTurn = attrs.field(factory=InTurn)
    """Ends runs."""
    taking_up: InTurn = attrs.field(factory=InTurn)
    """Takes up sub-flows that were under way in another process."""
    leaving: Stop | None = None
    """Why all of it is left to whoever goes on with it: nothing starts any more."""
    told_at: float = 0.0
    """When handlers were told to end."""
    is_cancelled: bool = False
    """Whether somebody has asked for the end of all of it."""
    error: BaseException | None = None
    """What `Scheduler.drive` raises at its end."""
    in_handler: object | None = None
    """In whose handler this thread itself is: its baton, or its run where it has none. Read by any thread."""
    is_relieved: bool = False
    """Whether the first thread is held up in a handler, and another coordinates."""
    inline_run: Run | None = None
    """The run of the last handler that it was in; read by any thread."""
    baton: Baton | None = None
    """Where the right to coordinate lies while this thread is in a handler that may be given up on.

    Each call, or chain of calls, has a list of its own: who stands by for one never takes the baton of another."""
    relief: Relief | None = None
    """Who stands by to take this thread's place, if the handler does not end (`relief`)."""
    take_up: "Callable[[Coordinator, Run], None]" = lambda _, __: None
    """Begins the items of steps that had begun theirs (`fan_out`), before the rest of a run is skipped."""
    afterwards: list[Callable[[], None]] = attrs.field(factory=list)
    """What is to be called once what is ready has been started."""
    interruption: BaseException | None = None
    """The first one, which is raised in the end."""
    variables: contextvars.Context = attrs.field(factory=contextvars.copy_context)
    ahead: float = attrs.field(init=False)
    """By how much Unix time is ahead of the monotonic clock: taken once, so that no clock that is set since dates a
    step of a run."""

    def __attrs_post_init__(self) -> None:
        self.ahead = self.clock.wall() - self.clock.monotonic()

    def is_idle(self) -> bool:
        """Whether nothing is under way: what is left waits for something from outside."""
        if self.tally.work or not self.runs or self.leaving is not None or self.inbox.has_calls:
            return False
        return not (self.ready or self.backlog or self.granted or self.pinned)

    @property
    def is_breaking_off(self) -> bool:
        """Whether runs are being left, and what still runs was told to end: a stop that is patient tells nobody."""
        return self.leaving is not None and not self.leaving.is_patient

    def may_call_inline(self, run: Run) -> bool:
        """Whether a handler may hold up this thread: nothing is under way, and nothing can come due or be stopped."""
        tally = self.tally
        if self.pins and (self.pinned or run.relievable):
            return False
        return run.calls_inline and not (tally.work or tally.waits or self.ready or self.backlog or self.timers.pending)
