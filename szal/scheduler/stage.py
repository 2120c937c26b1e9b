"""What a step of a run is doing: one value, which the coordinating thread alone changes (see `Run`).

    from                           to                   by
    PENDING                        READY                Run.settle, Run.start: it waits for no other step any more
    READY                          Queued               starting: it waits for what its handler shares with others
    Queued                         READY                starting: it has that
    READY                          STARTING             starting: it must not run twice
    STARTING                       STARTED              starting: that it begins is committed
    READY, STARTED                 Attempt              starting: a worker has it; pinned: this thread makes it
    READY, STARTED, PENDING        CALLED               starting: the coordinating thread itself calls the handler
    CALLED                         (as READY)           starting, settling: when that has ended
    READY                          Waiting, SUB_FLOW    engine.waiting, engine.launching: the engine does it
    Attempt, Waiting, SUB_FLOW     READY                settling: until what follows is decided, at once
    READY                          FAN_OUT              fan_out: its items have begun
    FAN_OUT                        READY                fan_out: all of them have ended
    READY                          SETTLED              Run.settle: it has its result
    READY                          COMMITTING           ending: its result is being committed
    COMMITTING                     READY, then SETTLED  ending: it is committed
    READY                          BackingOff           again: another attempt follows, or another poll
    BackingOff                     READY                again: its time has come
    PENDING                        UNDECIDED            engine.restoring, of a run that goes on
    READY, CALLED                  UNDECIDED            settling: its handler does not know whether it was done
    PENDING                        KEPT                 Run.put_back: it has an outcome from before
    KEPT                           SETTLED, READY       Run.take_back: its gate has opened
    Waiting, BackingOff            SETTLED              stopping.end_waits, of waits: the run is to be undone
    all but the next four          SETTLED              stopping.wind_up: a stop that ends the run
    Attempt, CALLED, SUB_FLOW, FAN_OUT, COMMITTING  (as above)  settling: such a stop lets them come to their end
    all but SETTLED, COMMITTING    READY, then SETTLED  racing: another step has won; what runs is told, and overruled
    BackingOff, Waiting, Queued    READY                stopping.leave: a stop that leaves the run
    STARTING, STARTED              READY                stopping.leave
    Attempt, COMMITTING            READY                stopping.end_grace, of a run that is being left

A step goes from PENDING to CALLED where it is further on in a chain, all of which is called in one go.
"""

from collections.abc import Callable
from typing import ClassVar, Protocol

import attrs

from szal.scheduler.permits import Permit
from szal.scheduler.timers import Timer

__all__ = [
    "CALLED",
    "COMMITTING",
    "FAN_OUT",
    "KEPT",
    "PENDING",
    "READY",
    "SETTLED",
    "STARTED",
    "STARTING",
    "SUB_FLOW",
    "UNDECIDED",
    "BackingOff",
    "Queued",
    "Stage",
    "Tally",
    "Waiting",
]


class Stage(Protocol):
    """One of the stages above.

    `work` is 1 where this process has something under way for the step that ends by itself, `waits` where it waits for
    something from outside, which may come at any time; else 0.
    """

    @property
    def work(self) -> int: ...
    @property
    def waits(self) -> int: ...


@attrs.frozen(eq=False)
class Plain:
    """A stage of which there is nothing to say but its name."""

    name: str
    work: int = 0
    waits: int = 0


PENDING = Plain("pending")
"""It waits for other steps."""
KEPT = Plain("kept")
"""It waits for other steps, and has an outcome from before: that counts once these have settled, if it still can."""
READY = Plain("ready")
"""It is in the ready queue, or what it is to follow has been decided."""
CALLED = Plain("called")
"""The coordinating thread itself is in its handler, or has just come back."""
STARTING = Plain("starting", work=1)
"""It must not run twice, and its start is being committed."""
STARTED = Plain("started")
"""That is committed: it is ready, and is called as soon as there is room."""
SUB_FLOW = Plain("sub-flow")
"""It is a run of its own, whose steps have stages of theirs."""
FAN_OUT = Plain("fan-out")
"""It runs once for each element of a list: that is a run of its own, whose steps are these items."""
COMMITTING = Plain("committing", work=1)
"""It has its result, which is being committed."""
UNDECIDED = Plain("undecided")
"""It may have been done, before a crash or as far as its handler knows: somebody has to decide on it."""
SETTLED = Plain("settled")
"""It has its result. Or it belongs to the other run of its plan: a finally step, or what comes before all of these."""


@attrs.frozen(eq=False, repr=False)
class Queued:
    """It waits for what its handler shares with others, or its time. What has that gives it back by itself."""

    work: ClassVar[int] = 1
    waits: ClassVar[int] = 0
    permit: Permit
    since: float
    """By the run's clock, as Unix time."""


@attrs.frozen(eq=False, repr=False)
class BackingOff:
    """An attempt failed, and another one follows when the timer fires."""

    work: ClassVar[int] = 1
    waits: ClassVar[int] = 0
    timer: Timer


@attrs.frozen(eq=False, repr=False)
class Waiting:
    """It waits for a signal, or for a time. `work`: it waits for a time that this process waits for, too.

    `withdraw` has it wait no more, as if it had not begun; `time_out` fails it, as its flow's time is over.
    """

    work: int
    waits: int
    withdraw: Callable[[], object]
    time_out: Callable[[], object]


@attrs.define(eq=False)
class Tally:
    """How many steps have work under way, and how many wait: the sums over their stages, kept by `Run`."""

    work: int = 0
    waits: int = 0
