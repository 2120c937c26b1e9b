"""What a step of a run is doing: one value, which the coordinating thread alone changes, in `Run.enter`.

    PENDING ---> READY -----> Attempt ------> SETTLED
                  |  |          |  ^  |            ^
                  |  |          v  |  +-> COMMITTING
                  |  |     BackingOff           ^
                  |  +--> STARTING -> STARTED   |
                  +-----> Waiting, SUB_FLOW ----+
    UNDECIDED, from the start of a run that goes on ----> SETTLED

`Attempt` -> BackingOff -> READY is a retry, and so is Waiting or SUB_FLOW -> BackingOff -> READY. A handler that the
coordinating thread calls itself takes its step from READY to what follows an attempt: nobody can look meanwhile. A stop
that ends the run takes every step from PENDING, READY, STARTED, BackingOff, Waiting and UNDECIDED to SETTLED; one that
leaves the run takes none there, and BackingOff and Waiting back to READY.
"""

from collections.abc import Callable
from typing import ClassVar, Protocol

import attrs

from szal.scheduler.timers import Timer

__all__ = [
    "COMMITTING",
    "PENDING",
    "READY",
    "SETTLED",
    "STARTED",
    "STARTING",
    "SUB_FLOW",
    "UNDECIDED",
    "BackingOff",
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
READY = Plain("ready")
"""It is in the ready queue, or what it is to follow has been decided."""
STARTING = Plain("starting", work=1)
"""It must not run twice, and its start is being committed."""
STARTED = Plain("started")
"""That is committed: it is ready, and is called as soon as there is room."""
SUB_FLOW = Plain("sub-flow")
"""It is a run of its own, whose steps have stages of theirs."""
COMMITTING = Plain("committing", work=1)
"""It has its result, which is being committed."""
UNDECIDED = Plain("undecided")
"""It must not run twice, and may have been done before a crash: somebody has to decide on it."""
SETTLED = Plain("settled")
"""It has its result."""


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
    """How many steps have work under way, and how many wait: the sums over their stages, kept by `Run.enter` alone."""

    work: int = 0
    waits: int = 0
