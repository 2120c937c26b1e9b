"""What the engine keeps of one call of a handler: when it began and ended, until when it may run, who may speak for it.

A thread cannot be killed, so who may still speak for a call is decided by two claims. The worker takes the first to
begin, the coordinator takes it to withdraw a call that is still queued; the worker takes the second to report, the
coordinator to abandon a call that runs. Taking a claim is one atomic `list.pop`, so exactly one side wins, without a
lock.
"""

from typing import Any, Final

from szal.errors import StepTimeout, partial_output_of

__all__ = ["UNLIMITED", "Call", "take_claim"]


class Call:
    """One call of the handler of *node*, a step of *run*: attempt number *number*. Times are of the monotonic clock.

    Whoever calls the handler writes `started`, `deadline` and `ended`; the coordinator reads them once `begun` is set.
    """

    __slots__ = (
        "_begin",
        "_report",
        "abandoned",
        "begun",
        "deadline",
        "ended",
        "first",
        "node",
        "number",
        "run",
        "settled_before",
        "started",
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
        self.settled_before = settled_before
        """How many steps had settled when the first attempt of this one was made."""
        self._begin: list[None] = [None]
        self._report: list[None] = [None]

    def begin(self) -> bool:
        """Begin it, with the step's limit from now on; False where it was withdrawn. By whoever calls the handler."""
        self.started = self.run.info.clock.monotonic()  # first: who abandons it next needs to know
        try:
            self._begin.pop()  # `take_claim`, written out: each attempt comes by here and at `report`
        except IndexError:
            return False
        limit = self.node.limit
        if limit is not None:
            own = self.started + limit
            self.deadline = own if self.deadline is None else min(own, self.deadline)
        self.begun = True
        return True

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

    @property
    def is_late(self) -> bool:
        """Whether it ended past its deadline: a handler may have held the interpreter lock."""
        return self.deadline is not None and self.ended >= self.deadline

    def timed_out(self, error: BaseException | None = None) -> StepTimeout:
        """Return the error for having passed the deadline: the step's own limit, or what its flow left it.

        *error* is what the handler raised then, if it has: what that tells of the step's output is kept.
        """
        seconds = 0.0 if self.deadline is None else max(0.0, self.deadline - self.started)
        limit, total = self.node.step.timeout, self.node.step.total_timeout
        own = limit is not None and abs(seconds - limit) < 1e-6
        since = 0.0 if self.deadline is None else self.deadline - (self.started if self.first is None else self.first)
        in_all = total is not None and abs(since - total) < 1e-6
        late = StepTimeout(self.node.step.name, total if in_all else limit if own else seconds, in_all)
        if error is not None:
            late.partial_output = partial_output_of(error)
        return late


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
