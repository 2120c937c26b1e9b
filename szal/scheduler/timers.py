"""Due times, kept by the one thread that waits for them."""

import heapq
import itertools
from collections.abc import Callable

__all__ = ["Timer", "Timers"]


class Timer:
    """Something to do at `due` (of the monotonic clock), unless it is cancelled before."""

    __slots__ = ("action", "due")

    def __init__(self, due: float, action: Callable[[], None]) -> None:
        self.due = due
        self.action: Callable[[], None] | None = action


class Timers:
    """A heap of timers. Cancelling is O(1): cancelled ones are dropped when they surface, or are the majority.

    >>> timers, done = Timers(), []
    >>> late, early = timers.add(2.0, lambda: done.append("late")), timers.add(1.0, lambda: done.append("early"))
    >>> timers.cancel(early)
    >>> timers.next_due(), timers.pending
    (2.0, 1)
    >>> timers.fire(now=3.0); done
    ['late']
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()  # so that equal due times never compare timers
        self._cancelled = 0  # of those in the heap
        self.pending = 0
        """How many timers have neither fired nor been cancelled."""

    def add(self, due: float, action: Callable[[], None]) -> Timer:
        """Have *action* called by `fire` once *due* has come."""
        timer = Timer(due, action)
        heapq.heappush(self._heap, (due, next(self._numbers), timer))
        self.pending += 1
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget *timer*; harmless where it has fired or been cancelled."""
        if timer.action is None:
            return
        timer.action = None
        self.pending -= 1
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def clear(self) -> None:
        """Forget all of them: what they would call may lead back to whoever keeps them."""
        for _, _, timer in self._heap:
            timer.action = None
        self._heap.clear()
        self.pending = self._cancelled = 0

    def next_due(self) -> float | None:
        """Return when the next timer is due, or None."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def is_due(self, now: float) -> bool:
        """Whether `fire` would call anything now."""
        due = self.next_due()
        return due is not None and due <= now

    def fire(self, now: float) -> None:
        """Call the action of every timer that is due, earliest first."""
        while (due := self.next_due()) is not None and due <= now:
            timer = heapq.heappop(self._heap)[2]
            action, timer.action = timer.action, None
            self.pending -= 1
            if action is not None:
                action()
