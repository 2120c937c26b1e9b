"""What the engine keeps of one call of a handler: when it began and ended, until when it may run, who may speak for it.

A thread cannot be killed, so who may still speak for a call is decided by two claims. The worker takes the first to
begin, the coordinator takes it to withdraw a call that is still queued; the worker takes the second to report, the
coordinator to abandon a call that runs. Taking a claim is one atomic `list.pop`, so exactly one side wins, without a
lock.
"""

from enum import Enum
from typing import Any, Final, NamedTuple

from szal.errors import StepTimeout, partial_output_of
from szal.expressions.path import Json
from szal.model.results import StepResult
from szal.model.state import StepStatus

__all__ = ["UNLIMITED", "Call", "NextPoll", "Where", "take_claim"]

_SAME: Final = 1e-6
"""Seconds that make no difference between two times."""
_DONE: Final = StepStatus.COMPLETED


class Where(Enum):
    """Where a call that has begun is made. Whoever calls the handler changes it.

    HERE -> QUEUED -> ELSEWHERE, or HERE -> ELSEWHERE at once
    """

    HERE = "on a thread of this process"
    QUEUED = "an executor has it, or a child process is to have it, and has not begun"
    """As far as it tells. The step's own limit does not count yet."""
    ELSEWHERE = "on an executor, or in a child process"


class Call:
    """One call of the handler of *node*, a step of *run*: attempt number *number*. Times are of the monotonic clock.

    Whoever calls the handler writes `started`, `deadline` and `ended`; the coordinator reads them once `begun` is set.
    """

    __slots__ = (
        "_begin",
        "_inherited",
        "_report",
        "abandoned",
        "begun",
        "deadline",
        "ended",
        "first",
        "node",
        "number",
        "poll",
        "run",
        "settled_before",
        "started",
        "until_by",
        "where",
    )

    def __init__(
        self, run: Any, node: Any, number: int, deadline: float | None = None, settled_before: int = 0
    ) -> None:
        self.run = run
        self.node = node
        self.number = number
        self.started = 0.0
        self.ended = 0.0
        self.deadline = deadline
        self.begun = False
        self.abandoned = False
        self.first: float | None = None
        """When the first attempt began, where that counts and this is another one."""
        self.poll = 1
        """Which call it is of a step that polls; those that failed, and were made again, are not counted."""
        self.until_by: float | None = None
        """When the time for all of these is over."""
        self.settled_before = settled_before
        """How many steps had settled when the first attempt of this one was made."""
        self.where = Where.HERE
        self._inherited: float | None = None
        self._begin: list[None] = [None]
        self._report: list[None] = [None]

    def begin(self) -> bool:
        """Begin it, with the step's limit from now on; False where it was withdrawn. By whoever calls the handler."""
        self.started = self.run.info.clock.monotonic()  # first: who abandons it next needs to know
        try:
            self._begin.pop()  # `take_claim`, written out: each attempt comes by here and at `report`
        except IndexError:
            return False
        if self.node.limit is not None:
            self._inherited = self.deadline
            self._count_limit()
        self.begun = True
        return True

    def _count_limit(self) -> None:
        """Have the step's own limit count from its start, beside what deadline it has inherited."""
        own = self.started + self.node.limit
        if self.until_by is None and self.node.until is not None and self.node.step.until_timeout is not None:
            self.until_by = self.started + self.node.step.until_timeout
        self.deadline = own if self._inherited is None else min(own, self._inherited)

    def queue(self) -> None:
        """Take note that an executor has it and has not begun. By whoever has begun it."""
        if self.node.limit is not None:
            self.where = Where.QUEUED  # first: its limit is looked after
            self.deadline = self._inherited
            if self.is_first:
                self.until_by = None  # which counted from its start, too

    def leave(self) -> None:
        """Take note that an executor makes it: the step's own limit counts from now on, where it did not yet."""
        if self.where is Where.QUEUED:
            self.started = self.run.info.clock.monotonic()
            self._count_limit()
        self.where = Where.ELSEWHERE

    def report(self) -> bool:
        """Whether its outcome counts: nobody has given up on it. By whoever called the handler, once."""
        try:
            self._report.pop()
        except IndexError:
            return False
        return True

    def withdraw(self) -> bool:
        """Take it back if it has not begun; return whether that is so. Coordinator only."""
        return take_claim(self._begin)

    def abandon(self) -> bool:
        """Give up on it: what it still does is discarded. False where it has ended. Coordinator only."""
        if not take_claim(self._report):
            return False
        self.abandoned = True
        return True

    def completed(self, output: Json, encoded: str | None, ahead: float) -> StepResult:
        """Return the result of its step, which completes with it; *ahead* makes Unix time of its times."""
        step, history = self.node.step, self.run.history.get(self.node.place)
        began = self.started if history is None else history.started
        return StepResult(  # positional: a tenth of the cost of a step
            step.id, step.name, _DONE, output, self.ended - began, self.number, None, None, ahead + began, None, encoded
        )

    def so_far(self, output: Json, encoded: str | None, ahead: float) -> StepResult:
        """Return what its step has come to, which is called again: it polls."""
        step, history = self.node.step, self.run.history.get(self.node.place)
        began = self.started if history is None else history.started
        pending, moment = StepStatus.PENDING, ahead + began
        result = StepResult(step.id, step.name, pending, output, attempts=self.number, started_at=moment)
        result.encoded_output = encoded
        return result

    def next_poll(self) -> "NextPoll":
        """Return when it is called again."""
        left = None if self.until_by is None else self.until_by - self.run.info.clock.monotonic()
        return NextPoll(self.poll, self.node.step.delay, left)

    @property
    def is_first(self) -> bool:
        """Whether none of this step came before it."""
        return self.number == 1 and self.poll == 1

    @property
    def has_ended(self) -> bool:
        """Whether somebody has spoken for it: it has reported, or was given up on."""
        return not self._report

    @property
    def is_too_late(self) -> bool:
        """Whether it began when the time of all calls of its step was over: then the handler is not called."""
        total, until_by = self.node.step.total_timeout, self.until_by
        in_all = total is not None and self.first is not None and self.started > self.first + total
        return in_all or (until_by is not None and self.started > until_by)

    @property
    def is_late(self) -> bool:
        """Whether it ended past its deadline: a handler may have held the interpreter lock."""
        return self.deadline is not None and self.ended >= self.deadline

    def timed_out(self, error: BaseException | None = None) -> StepTimeout:
        """Return the error for having passed the deadline: the step's own limit, or what its flow left it.

        *error* is what the handler raised then, if it has: what that tells of the step's output is kept.
        """
        step = self.node.step
        late = StepTimeout(step.name, *self._limit_passed())
        if error is not None:
            late.partial_output = partial_output_of(error)
        return late

    def _limit_passed(self) -> tuple[float, bool, str | None, int | None]:
        """Return which limit the deadline is, as `StepTimeout` has it."""
        step, deadline = self.node.step, self.deadline
        if deadline is None:
            return 0.0, False, None, None
        if deadline == self.until_by:
            return step.until_timeout, False, None, self.poll
        since = deadline - (self.started if self.first is None else self.first)
        if step.total_timeout is not None and abs(since - step.total_timeout) < _SAME:
            return step.total_timeout, True, None, None
        seconds = max(0.0, deadline - self.started)
        is_own = step.timeout is not None and abs(seconds - step.timeout) < _SAME
        return step.timeout if is_own else seconds, False, None, None


class NextPoll(NamedTuple):
    """When a step that polls is called again."""

    polls: int
    """How often it was called."""
    delay: float
    left: float | None
    """How many seconds are left for all polls."""


def take_claim(claim: list[None]) -> bool:
    """Return whether *claim* was still there to be had. Of several threads one gets it."""
    try:
        claim.pop()
    except IndexError:
        return False
    return True


UNLIMITED: Final = Call(None, None, 1)
"""What the contexts of the coordinating thread's own calls have in place of a call: no limit, and never abandoned.

Where such a call is given up on all the same, `StepContext.give_up` puts another in its place.
"""
