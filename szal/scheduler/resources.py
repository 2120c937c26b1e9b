"""What handlers share, and there is only so much of: who has it, and who waits for it.

A claim is for all that a step needs, at once, so no two wait for one another. Claims on one resource are granted in
their order: the higher priority first, then who asked first. One that needs much is not overtaken by those that need
less.

All runs of an engine ask here, each on its coordinating thread, and none waits in here: who has to wait is told later.
"""

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Final

import attrs

from szal.errors import ResourceHeld
from szal.process_events import enroll_lock

__all__ = ["Claim", "Resources"]

_WAITING: Final = "waiting"
_HELD: Final = "held"
_OVER: Final = "over"


class Claim:
    """A claim of one attempt on what it *needs*: so much of each, by name.

    It is waiting, or held, then over. `Resources` alone changes that, under its lock.
    """

    __slots__ = ("granted", "needs", "order", "owner", "state", "thread")

    def __init__(
        self, owner: "Resources", needs: Mapping[str, int], order: tuple[int, int], granted: "Callable[[Claim], object]"
    ) -> None:
        self.owner = owner
        self.needs = needs
        self.order = order
        self.granted = granted
        self.state = _WAITING
        self.thread: int | None = None
        """Of the handler that has it, once that has begun."""

    @property
    def is_held(self) -> bool:
        """Whether it has been granted, and not been given back."""
        return self.state is _HELD

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
    _queues: dict[str, list[tuple[tuple[int, int], Claim]]] = attrs.field(init=False)
    _held: set[Claim] = attrs.field(init=False)

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

    def ask(self, step: str, needs: Mapping[str, int], priority: int, granted: Callable[[Claim], object]) -> Claim:
        """Return the claim of *step*: it is held, or *granted* is called with it when it is, on any thread.

        Raises `ResourceHeld` where this very thread is in a handler that holds what would have to be given back first.
        """
        with self._lock:
            claim = Claim(self, needs, (-priority, next(self._numbers)), granted)
            for name in needs:
                heapq.heappush(self._queues.setdefault(name, []), (claim.order, claim))
            others = [each for each in self._grant(needs) if each is not claim]
            missing = None if claim.is_held else self._held_by_this_thread(claim)
        _tell(others)
        if missing is not None:
            claim.release()
            raise ResourceHeld(step, missing, needs[missing])
        return claim

    def release(self, claim: Claim) -> None:
        """Give back what *claim* holds, or withdraw it, and tell those that have their turn now."""
        with self._lock:
            if claim in self._held:
                self._held.discard(claim)
                self._used.subtract(claim.needs)
            elif claim.state is not _WAITING:
                return
            claim.state = _OVER
            granted = self._grant(claim.needs)
        _tell(granted)

    def _grant(self, names: Iterable[str]) -> list[Claim]:
        """Grant what can be, as something has changed for resources of those *names*."""
        granted, pending = [], [*names]
        while pending:
            claim = self._first(pending.pop())
            if claim is None or not all(self._is_next(claim, name) for name in claim.needs):
                continue
            for name in claim.needs:
                heapq.heappop(self._queues[name])
            self._used.update(claim.needs)
            self._held.add(claim)
            claim.state = _HELD
            granted.append(claim)
            pending += claim.needs
        return granted

    def _is_next(self, claim: Claim, name: str) -> bool:
        """Whether *claim* is the first for that resource, and there is enough of it."""
        return self._first(name) is claim and self._used[name] + claim.needs[name] <= self.capacity(name)

    def _first(self, name: str) -> Claim | None:
        """Return who is to have that resource next; those that wait no more are dropped on the way."""
        queue = self._queues.get(name, [])
        while queue and queue[0][1].state is not _WAITING:
            heapq.heappop(queue)
        if not queue:
            self._queues.pop(name, None)
            return None
        return queue[0][1]

    def _held_by_this_thread(self, claim: Claim) -> str | None:
        """Return of which resource the handler that this thread is in holds too much for *claim* ever to be granted."""
        own: Counter[str] = Counter()
        for held in self._held:
            if held.thread == threading.get_ident():
                own.update(held.needs)
        return next((name for name, need in claim.needs.items() if own[name] + need > self.capacity(name)), None)


def _tell(granted: Iterable[Claim]) -> None:
    for claim in granted:
        claim.granted(claim)
