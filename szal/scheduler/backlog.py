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
_FIRST_COME: Final = -1

Entry: TypeAlias = tuple[tuple[int, float], int, Run, Node]


@attrs.define(eq=False)
class Backlog:
    """Coordinating thread only. Its fields are never replaced."""

    first_come: deque[Ready] = attrs.field(factory=deque)
    """Those that wait, in the order in which they came, as long as none is more urgent than another."""
    by_urgency: list[Entry] = attrs.field(factory=list)
    """Those that wait from then on: a heap."""
    _numbers: "count[int]" = attrs.field(factory=count)

    def __len__(self) -> int:
        return len(self.first_come) + len(self.by_urgency)

    def add(self, run: Run, node: Node) -> None:
        """Put a step behind those that are as urgent."""
        if run.urgency is None and not self.by_urgency:
            self.first_come.append((run, node))
            return
        if self.first_come:  # one that sorts has come
            self.by_urgency += [(_USUAL, next(self._numbers), *ready) for ready in self.first_come]
            self.first_come.clear()
        urgency = _USUAL if run.urgency is None else run.urgency[node.place]
        heapq.heappush(self.by_urgency, (urgency, next(self._numbers), run, node))

    def pop(self) -> Entry:
        """Take out the most urgent one."""
        if self.first_come:
            return _USUAL, _FIRST_COME, *self.first_come.popleft()
        return heapq.heappop(self.by_urgency)

    def put_back(self, entry: Entry) -> None:
        """Put back what was taken out last, as if it had stayed."""
        if entry[1] == _FIRST_COME:
            self.first_come.appendleft(entry[2:])
        else:
            heapq.heappush(self.by_urgency, entry)

    def clear(self) -> None:
        """Take all out."""
        self.first_come.clear()
        self.by_urgency.clear()
