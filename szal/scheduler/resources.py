"""What handlers share, and there is only so much of: who has it, and who waits for it.

A share is of all that a step needs, at once, so no two wait for one another. Those of one resource are granted in
their order: the higher priority first, then who asked first. One that needs much is not overtaken by those that need
less.

All runs of an engine ask here, each on its coordinating thread, and none waits in here: who has to wait is told later.
What there is in all engines of a store together is asked of that (`Beyond`) once this engine has enough of it.
"""

import heapq
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from itertools import count
from typing import Protocol, TypeAlias

import attrs

from szal.errors import ResourceHeld
from szal.process_events import enroll_lock

__all__ = ["Beyond", "Holder", "Resources", "Share"]

Holder: TypeAlias = tuple[str, int]
"""The execution that asks, and the epoch of its lease."""


class _State(Enum):
    """What becomes of a share. `Resources` alone changes it, under its lock.

    WAITING -> HELD, when it is granted -> OVER, when it is given back
    WAITING -> ASKED, when this engine has enough of it, and others may not -> HELD
    WAITING, ASKED -> OVER, when it is not wanted any more
    """

    WAITING = "waiting"
    ASKED = "asked"
    HELD = "held"
    OVER = "over"


class Beyond(Protocol):
    """What all engines of a store have only so much of together. From any thread; only `look` may take its time."""

    def look(self) -> None:
        """See what there is, unless that was done a moment ago."""

    def capacity(self, name: str) -> int | None:
        """Return how much there was of a resource at the last look; None: nobody has said so."""

    def ask(self, share: "Share", told: Callable[[bool], object]) -> None:
        """Have *told* called, on a thread of its own: True, once there is enough of what *share* needs.

        False before that, once, where it has to wait for others. Raises RuntimeError where no thread can be had.
        """

    def release(self, share: "Share") -> None:
        """Give that back, or ask for it no more. Raises nothing."""

    def take_turns(self, intervals: Mapping[str, float], taken: Callable[[float], object]) -> None:
        """Have *taken* called, as *told* is, with the seconds until the next free points of all these have come."""


class Share:
    """What one attempt asks for before it begins: so much of each that it *needs*, by name."""

    __slots__ = ("holder", "is_asked", "is_left", "needs", "order", "owner", "state", "step", "thread", "told", "waits")

    def __init__(
        self,
        owner: "Resources",
        step: str,
        needs: Mapping[str, int],
        order: tuple[int, int],
        told: "Callable[[Share], object]",
        *,
        holder: Holder | None,
    ) -> None:
        self.owner = owner
        self.step = step
        self.needs = needs
        self.order = order
        self.told = told
        self.holder = holder
        self.state = _State.WAITING
        self.is_asked = False
        """Whether it was asked for beyond this engine."""
        self.is_left = False
        """Whether who made room for it could not ask there, for want of a thread: `press` does."""
        self.waits = False
        """Whether it is known that it has to wait there."""
        self.thread: int | None = None
        """Of the handler that has it, once that has begun."""

    @property
    def is_held(self) -> bool:
        """Whether it has been granted, and not been given back."""
        return self.state is _State.HELD

    @property
    def is_being_asked(self) -> bool:
        """Whether an answer is to come by itself: it is being asked for beyond this engine."""
        return self.state is _State.ASKED and not self.waits

    def release(self) -> None:
        """Give back what is held, or wait no more; nothing, where that was done before. From any thread."""
        self.owner.release(self)

    def press(self) -> None:
        """Ask for it beyond this engine, where that was left. Raises RuntimeError for want of a thread."""
        self.owner.press(self)


@attrs.define(eq=False, repr=False)
class Resources:
    """So much of each as *capacities* say, and one of each that neither they nor *beyond* name. From any thread."""

    capacities: Mapping[str, int]
    beyond: Beyond | None = None
    _numbers: "count[int]" = attrs.field(factory=count, init=False)
    _lock: threading.RLock = attrs.field(init=False)
    _used: Counter[str] = attrs.field(init=False)
    _queues: dict[str, list[tuple[tuple[int, int], Share]]] = attrs.field(init=False)
    _held: set[Share] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        enroll_lock(self, Resources._begin_anew)

    def _begin_anew(self) -> threading.RLock:
        """Have nothing held; in the child of a fork whoever held it, or waited, is gone."""
        self._lock = threading.RLock()
        self._used, self._queues, self._held = Counter(), {}, set()
        return self._lock

    def capacity(self, name: str) -> float:
        """Return how much there is of a resource: the smaller of what this engine has, and all engines together."""
        beyond = self._beyond(name)
        return self._own(name) if beyond is None else min(self._own(name), beyond)

    def _own(self, name: str) -> float:
        """Return how much there is of it in this engine; nothing limits what is only shared with others."""
        return self.capacities.get(name, 1 if self._beyond(name) is None else math.inf)

    def _beyond(self, name: str) -> int | None:
        return None if self.beyond is None else self.beyond.capacity(name)

    def ask(
        self,
        step: str,
        needs: Mapping[str, int],
        priority: int,
        told: Callable[[Share], object],
        holder: Holder | None = None,
    ) -> Share:
        """Return the share of *step*: it is held, or *told* is called with it when it is, on any thread.

        *holder* is who asks for it beyond this engine; *told* is called as well where it has to wait there. Raises
        `ResourceHeld` where this very thread is in a handler that holds what would have to be given back first.
        """
        if self.beyond is not None and holder is not None:
            self.beyond.look()
        with self._lock:
            share = Share(self, step, needs, (-priority, next(self._numbers)), told, holder=holder)
            for name in needs:
                heapq.heappush(self._queues.setdefault(name, []), (share.order, share))
            others = [each for each in self._grant(needs) if each is not share]
            missing = None if share.is_held else self._held_by_this_thread(share)
        self._tell(others)
        if missing is not None:
            share.release()
            raise ResourceHeld(step, missing, needs[missing])
        if share.is_asked:
            self._ask_beyond(share)
        return share

    def release(self, share: Share) -> None:
        """Give back what *share* holds, or withdraw it, and tell those that have their turn now."""
        with self._lock:
            if share in self._held:
                self._held.discard(share)
                self._used.subtract(share.needs)
            elif share.state is not _State.WAITING:
                return
            share.state = _State.OVER
            granted = self._grant(share.needs)
        if share.is_asked and self.beyond is not None:
            self.beyond.release(share)
        self._tell(granted)

    def missing(self, share: Share) -> list[tuple[str, float, int | None]]:
        """Return which resources *share* waits for, each with how much there is, and how much of that is used.

        None for the latter: it waits for others beyond this engine.
        """
        with self._lock:
            if share.state is _State.ASKED and share.waits:
                return [(name, found, None) for name in share.needs if (found := self._beyond(name)) is not None]
            if share.state is not _State.WAITING:
                return []
            missing = [name for name in share.needs if not self._is_next(share, name)]
            return [(name, self.capacity(name), self._used[name]) for name in missing]

    def _grant(self, names: Iterable[str]) -> list[Share]:
        """Grant what can be, as something has changed for resources of those *names*."""
        granted, pending = [], [*names]
        while pending:
            share = self._first(pending.pop())
            if share is None or not all(self._is_next(share, name) for name in share.needs):
                continue
            for name in share.needs:
                heapq.heappop(self._queues[name])
            self._used.update(share.needs)
            self._held.add(share)
            share.is_asked = share.holder is not None and any(self._beyond(name) is not None for name in share.needs)
            share.state = _State.ASKED if share.is_asked else _State.HELD
            granted.append(share)
            pending += share.needs
        return granted

    def _tell(self, granted: Iterable[Share]) -> None:
        """Tell whoever has what is granted, or ask for that beyond this engine. They belong to any run but this one."""
        for share in granted:
            if share.is_asked and self.beyond is not None:
                try:
                    self.beyond.ask(share, partial(self._hear, share))
                except RuntimeError:  # there is no thread to be had: their run is to learn of that, and not this one
                    share.is_left = True
                    share.told(share)
            else:
                share.told(share)

    def press(self, share: Share) -> None:
        """Ask for *share* beyond this engine, where that was left."""
        is_left, share.is_left = share.is_left, False
        if is_left and share.state is _State.ASKED:
            self._ask_beyond(share)

    def _ask_beyond(self, share: Share) -> None:
        """Ask for *share* beyond this engine, on the thread of its run; where that cannot be, nobody holds it."""
        assert self.beyond is not None
        try:
            self.beyond.ask(share, partial(self._hear, share))
        except BaseException:
            share.release()
            raise

    def _hear(self, share: Share, is_granted: bool) -> None:
        """Take note that a share is granted beyond this engine, too, or has to wait there."""
        with self._lock:
            is_wanted = share.state is _State.ASKED
            if is_wanted and is_granted:
                share.state = _State.HELD
            share.waits = not is_granted
        if is_wanted:
            share.told(share)

    def _is_next(self, share: Share, name: str) -> bool:
        """Whether *share* is the first for that resource, and there is enough of it."""
        return self._first(name) is share and self._used[name] + share.needs[name] <= self._own(name)

    def _first(self, name: str) -> Share | None:
        """Return who is to have that resource next; those that wait no more are dropped on the way."""
        queue = self._queues.get(name, [])
        while queue and queue[0][1].state is not _State.WAITING:
            heapq.heappop(queue)
        if not queue:
            self._queues.pop(name, None)
            return None
        return queue[0][1]

    def _held_by_this_thread(self, share: Share) -> str | None:
        """Return of what the handler that this thread is in holds too much for *share* ever to be granted."""
        own: Counter[str] = Counter()
        for held in self._held:
            if held.thread == threading.get_ident():
                own.update(held.needs)
        kept = ((name, need) for name, need in share.needs.items() if own[name])
        return next((name for name, need in kept if own[name] + need > self.capacity(name)), None)
