"""The limits of a memory store: what `SqlLimits` says in SQL, done to plain data."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs

from szal import clock
from szal.errors import ConcurrencyKeyTaken
from szal.stores.limits import Limits, Request, ResourceUse, WaitingStep, check_capacity, names_of
from szal.stores.listening import Listener
from szal.stores.memory.entries import Entries
from szal.stores.memory.listener import Hearers

__all__ = ["MemoryLimits", "Shared"]


@attrs.define(eq=False)
class Shared:
    """What there is of what is shared, and who has it or wants it; guarded by the lock of the store's entries."""

    capacities: dict[str, int] = attrs.field(factory=dict)
    requests: dict[str, Request] = attrs.field(factory=dict)  # by permit
    held: set[str] = attrs.field(factory=set)  # the permits of those that are granted
    due: dict[str, float] = attrs.field(factory=dict)  # by name: the next free point in time (Unix time)
    keys: dict[str, str] = attrs.field(factory=dict)  # the executions that have concurrency keys, or had them last
    hearers: Hearers = attrs.field(factory=Hearers)


class MemoryLimits(Limits):
    """The limits *shared* by the executions in *entries*."""

    def __init__(self, entries: Entries, shared: Shared) -> None:
        self._entries = entries
        self._shared = shared

    def set_capacity(self, name: str, capacity: int | None) -> None:
        check_capacity(name, capacity)
        with self._entries.lock:
            if capacity is None:
                self._shared.capacities.pop(name, None)
            else:
                self._shared.capacities[name] = capacity
        self._shared.hearers.tell()

    def capacities(self) -> dict[str, int]:
        with self._entries.lock:
            return dict(sorted(self._shared.capacities.items()))

    def uses(self) -> list[ResourceUse]:
        with self._entries.lock:
            live = [*self._live()]
            waiting = Counter(name for each in live if not self._is_held(each) for name in each.needs)
            used = self._used(live)
            return [
                ResourceUse(name, capacity, used[name], waiting[name]) for name, capacity in self.capacities().items()
            ]

    def claim(self, requests: Sequence[Request], over: Collection[str] = ()) -> set[str]:
        shared = self._shared
        with self._entries.lock:
            for permit_id in over:
                self._forget(permit_id)
            for request in requests:
                shared.requests.setdefault(request.permit_id, request)
            live = {each.permit_id for each in self._live()}
            for permit_id in shared.requests.keys() - live:
                self._forget(permit_id)
            shared.held.update(self._turns(requests))
            granted = {each.permit_id for each in requests if each.permit_id in shared.held}
        if over:
            shared.hearers.tell()
        return granted

    def has_turn(self, requests: Sequence[Request]) -> bool:
        with self._entries.lock:
            return bool(self._turns(requests))

    def waiting(self, execution_id: str) -> list[WaitingStep]:
        capacities = self._shared.capacities
        with self._entries.lock:
            used = self._used(self._live())
            found = [each for each in self._live() if each.lease.execution_id == execution_id]
            found = sorted((each for each in found if not self._is_held(each)), key=lambda each: each.asked)
            return [
                WaitingStep(each.step_name, name, units, capacities.get(name), used[name], each.asked)
                for each in found
                for name, units in sorted(each.needs.items())
            ]

    def take_turns(self, intervals: Mapping[str, float]) -> float:
        due = self._shared.due
        with self._entries.lock:
            now = clock.wall()
            points = {name: max(due.get(name, 0.0), now) for name in intervals}
            due.update({name: points[name] + every for name, every in intervals.items()})
        return max(0.0, *(point - now for point in points.values()))

    def key_holder(self, key: str) -> str | None:
        with self._entries.lock:
            holder = self._shared.keys.get(key)
            entry = None if holder is None else self._entries.of.get(holder)
            return holder if entry is not None and entry.holds_its_key() else None

    def check_key(self, key: str | None, execution_id: str) -> None:
        """Raise `ConcurrencyKeyTaken` where another execution has that key. With the lock held."""
        holder = None if key is None else self.key_holder(key)
        if key is not None and holder is not None and holder != execution_id:
            raise ConcurrencyKeyTaken(execution_id, key, holder)

    def take_key(self, key: str | None, execution_id: str) -> None:
        """Have an execution have that key. With the lock held."""
        if key is not None:
            self._shared.keys[key] = execution_id

    def listen(self) -> Listener:
        return self._shared.hearers.new()

    # -- with the lock held ---------------------------------------------------------------------------

    def _is_held(self, request: Request) -> bool:
        return request.permit_id in self._shared.held

    def _forget(self, permit_id: str) -> None:
        self._shared.requests.pop(permit_id, None)
        self._shared.held.discard(permit_id)

    def _live(self) -> Iterator[Request]:
        """Yield what was asked for under leases that somebody holds."""
        for request in self._shared.requests.values():
            entry = self._entries.of.get(request.lease.execution_id)
            lease = None if entry is None else entry.lease
            if lease is not None and lease.epoch == request.lease.epoch and lease.holder() is not None:
                yield request

    def _used(self, live: Collection[Request] | Iterator[Request]) -> Counter[str]:
        used: Counter[str] = Counter()
        for request in live:
            if self._is_held(request):
                used.update(request.needs)
        return used

    def _turns(self, requests: Sequence[Request]) -> list[str]:
        """Return which of *requests* are granted, or may be."""
        capacities, names = self._shared.capacities, {*names_of(requests)}
        wanted = {each.permit_id for each in requests}

        def fits(needs: Mapping[str, int]) -> bool:
            return all(units <= capacities.get(name, units) for name, units in needs.items())

        line = [
            each for each in self._live() if names & each.needs.keys() and (self._is_held(each) or fits(each.needs))
        ]
        line.sort(key=lambda each: (not self._is_held(each), -each.priority, each.asked, each.permit_id))
        used: Counter[str] = Counter()
        found = []
        for each in line:
            used.update(each.needs)
            if each.permit_id in wanted and fits({name: used[name] for name in each.needs}):
                found.append(each.permit_id)
        return found
