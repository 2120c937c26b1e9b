"""What the steps of one run share, and their handlers may ask for."""

import math
from collections.abc import Callable
from typing import Any

import attrs

from szal.events.progress import StepProgress
from szal.expressions.path import Json
from szal.model.redaction import Redaction
from szal.model.results import FlowEnd, StepResult
from szal.model.state import Stop
from szal.scheduler.call import Call
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.clock import REAL, Clock
from szal.scheduler.memos import Memos
from szal.scheduler.observers import StepLog
from szal.scheduler.plan import Plan
from szal.scheduler.resources import Holder
from szal.scheduler.seen import Seen
from szal.waiters import Wakes

__all__ = ["RunInfo"]


@attrs.define(eq=False, repr=False)
class RunInfo:
    """What all the steps of one run share, and their handlers may ask for.

    Written by the coordinating thread alone, but for `stop`, which may be set by whoever asks for a stop, and
    `sleepers`, which handlers add themselves to: the call, and a lock that is released to wake it.
    """

    flow_name: str
    execution_id: str
    inputs: dict[str, Json]
    plan: Plan
    results: list[StepResult | None]
    settled_as: list[int]  # by place: how many steps had settled before it; kept for loose plans only
    cwd: str | None = None
    token: CancellationToken | None = None
    progress: Callable[[StepProgress], object] | None = None
    stop: Stop | None = None
    end: FlowEnd | None = None  # what it has come to: for finally steps
    settled: int = 0
    orphan_grace: float = math.inf
    """How many seconds what handlers have started may live on if this process dies: until somebody else may go on."""
    sleepers: set[tuple[Call, Wakes]] = attrs.field(factory=set)
    lease: Holder | None = None
    """Under which it is recorded in a store that other engines may have too."""
    redaction: Redaction = attrs.field(factory=Redaction)
    """What must not be seen of what its steps come to."""
    is_recorded: bool = False  # its inputs and outputs are JSON
    seen: Seen = attrs.field(init=False)
    memos: Memos = attrs.field(factory=Memos)
    log: StepLog | None = None  # of its steps; an undoing has another
    clock: Clock = REAL
    kept: dict[str, Any] = attrs.field(factory=dict)
    """What szal's own handlers keep from one step for the next: under a name of theirs."""

    def __attrs_post_init__(self) -> None:
        self.seen = Seen(self.inputs, is_recorded=self.is_recorded, execution_id=self.execution_id)

    def wake(self, call: Call) -> None:
        """Have who sleeps for *call*, and who waits for a memo, see whether that is over. From any thread."""
        for sleeper in self.sleepers.copy():  # copying is atomic
            if sleeper[0] is call and sleeper[1].locked():
                try:
                    sleeper[1].release()
                except RuntimeError:  # somebody else has woken it
                    continue
        self.memos.look_again()
