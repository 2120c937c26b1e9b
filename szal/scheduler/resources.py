"""What handlers share, and there is only so much of: who has it, and who waits for it.

A permit is for all that a step needs, at once, so no two wait for one another. Permits on one resource are granted in
their order: the higher priority first, then who asked first. One that needs much is not overtaken by those that need
less.

All runs of an engine ask here, each on its coordinating thread, and none waits in here: who has to wait is told later.
"""

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from itertools import count

import attrs

from szal.errors import ResourceHeld
from szal.process_events import enroll_lock

__all__ = ["Permit", "Resources"]


class _State(Enum):
    """What becomes of a permit. `Resources` alone changes it, under its lock.

    WAITING -> HELD, when it is granted -> OVER, when it is given back
    WAITING -> OVER, when it is not wanted any more
    """

    WAITING = "waiting"
    HELD = "held"
    OVER = "over"


class Permit:
    """What one attempt asks for before it begins: so much of each that it *needs*, by name."""

    __slots__ = ("granted", "needs", "order", "owner", "state", "thread")

    def __init__(
        self,
        owner: "Resources",
        needs: Mapping[str, int],
        order: tuple[int, int],
        granted: "Callable[[Permit], object]",
    ) -> None:
        self.owner = owner
        self.needs = needs
        self.order = order
        self.granted = granted
        self.state = _State.WAITING
        self.thread: int | None = None
        """Of the handler that has it, once that has begun."""

    @property
    def is_held(self) -> bool:
        """Whether it has been granted, and not been given back."""
        return self.state is _State.HELD

    def release(self) -> None:
        """Give back what is held, or wait no more; nothing, where that was done before. From any thread."""
        self.owner.release(self)


@attrs.define(eq=False, repr=False)
class Resources:
    """So much of each as *capacities* say, and one of each that they do not name. From any thread."""

    capacities: Mapping[str, int]
    _numbers: "count[int]" = attrs.field(factory=count, init=False)
    _lock: threading.RLock = attrs.field(init=False)
    _used: Counter[str] = attrs.field(init=False)
    _queues: dict[str, list[tuple[tuple[int, int], Permit]]] = attrs.field(init=False)
    _held: set[Permit] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        enroll_lock(self, Resources._begin_anew)

    def _begin_anew(self) -> threading.RLock:
        """Have nothing held; in the child of a fork whoever held it, or waited, is gone."""
        self._lock = threading.RLock()
        self._used, self._queues, self._held = Counter(), {}, set()
        return self._lock

    def capacity(self, name: str) -> int:
        """Return how much there is of a resource."""
        return self.capacities.get(name, 1)

    def ask(self, step: str, needs: Mapping[str, int], priority: int, granted: Callable[[Permit], object]) -> Permit:
        """Return the permit of *step*: it is held, or *granted* is called with it when it is, on any thread.

        Raises `ResourceHeld` where this very thread is in a handler that holds what would have to be given back first.
        """
        with self._lock:
            permit = Permit(self, needs, (-priority, next(self._numbers)), granted)
            for name in needs:
                heapq.heappush(self._queues.setdefault(name, []), (permit.order, permit))
            others = [each for each in self._grant(needs) if each is not permit]
            missing = None if permit.is_held else self._held_by_this_thread(permit)
        _tell(others)
        if missing is not None:
            permit.release()
            raise ResourceHeld(step, missing, needs[missing])
        return permit

    def release(self, permit: Permit) -> None:
        """Give back what *permit* holds, or withdraw it, and tell those that have their turn now."""
        with self._lock:
            if permit in self._held:
                self._held.discard(permit)
                self._used.subtract(permit.needs)
            elif permit.state is not _State.WAITING:
                return
            permit.state = _State.OVER
            granted = self._grant(permit.needs)
        _tell(granted)

    def _grant(self, names: Iterable[str]) -> list[Permit]:
        """Grant what can be, as something has changed for resources of those *names*."""
        granted, pending = [], [*names]
        while pending:
            permit = self._first(pending.pop())
            if permit is None or not all(self._is_next(permit, name) for name in permit.needs):
                continue
            for name in permit.needs:
                heapq.heappop(self._queues[name])
            self._used.update(permit.needs)
            self._held.add(permit)
            permit.state = _State.HELD
            granted.append(permit)
            pending += permit.needs
        return granted

    def _is_next(self, permit: Permit, name: str) -> bool:
        """Whether *permit* is the first for that resource, and there is enough of it."""
        return self._first(name) is permit and self._used[name] + permit.needs[name] <= self.capacity(name)

    def _first(self, name: str) -> Permit | None:
        """Return who is to have that resource next; those that wait no more are dropped on the way."""
        queue = self._queues.get(name, [])
        while queue and queue[0][1].state is not _State.WAITING:
            heapq.heappop(queue)
        if not queue:
            self._queues.pop(name, None)
            return None
        return queue[0][1]

    def _held_by_this_thread(self, permit: Permit) -> str | None:
        """Return of what the handler that this thread is in holds too much for *permit* ever to be granted."""
        own: Counter[str] = Counter()
        for held in self._held:
            if held.thread == threading.get_ident():
                own.update(held.needs)
        return next((name for name, need in permit.needs.items() if own[name] + need > self.capacity(name)), None)


def _tell(granted: Iterable[Permit]) -> None:
    for permit in granted:
        permit.granted(permit)
