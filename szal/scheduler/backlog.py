"""Steps that are ready and for which there was no room: the most urgent first, equals in the order in which they came.

As long as none is more urgent than another this is a plain queue. How urgent the steps of a run are is its `urgency`:
pairs that sort, the most urgent first, by place.
"""

import heapq
from collections import deque
from itertools import count
from typing import Final, TypeAlias

import attrs

from szal.scheduler.plan import Node
from szal.scheduler.run import Ready, Run

__all__ = ["Backlog"]

_USUAL: Final = (0, 0.0)
_QUEUED: Final = -1

Entry: TypeAlias = tuple[tuple[int, float], int, Run, Node]


@attrs.define(eq=False)
class Backlog:
    """Coordinating thread only."""

    _queue: deque[Ready] = attrs.field(factory=deque)
    _heap: list[Entry] = attrs.field(factory=list)
    _numbers: "count[int]" = attrs.field(factory=count)

    def __len__(self) -> int:
        return len(self._queue) + len(self._heap)

    @property
    def is_sorted(self) -> bool:
        """Whether any of them may be more urgent than another."""
        return bool(self._heap)

    def add(self, run: Run, node: Node) -> None:
        """Put a step behind those that are as urgent."""
        if run.urgency is None and not self._heap:
            self._queue.append((run, node))
            return
        if self._queue:  # one that sorts has come
            self._heap = [(_USUAL, next(self._numbers), *ready) for ready in self._queue]
            self._queue.clear()
        urgency = _USUAL if run.urgency is None else run.urgency[node.place]
        heapq.heappush(self._heap, (urgency, next(self._numbers), run, node))

    def pop(self) -> Entry:
        """Take out the most urgent one."""
        if self._queue:
            return _USUAL, _QUEUED, *self._queue.popleft()
        return heapq.heappop(self._heap)

    def put_back(self, entry: Entry) -> None:
        """Put back what was taken out last, as if it had stayed."""
        if entry[1] == _QUEUED:
            self._queue.appendleft(entry[2:])
        else:
            heapq.heappush(self._heap, entry)

    def clear(self) -> None:
        """Take all out."""
        self._queue.clear()
        self._heap.clear()
