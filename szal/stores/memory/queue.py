"""The queue of a memory store: what `SqlQueue` says in SQL, done to plain data."""

from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from szal import clock
from szal.model.state import WorkflowState
from szal.stores.memory.entries import Entries
from szal.stores.memory.listener import Hearers, MemoryListener
from szal.stores.queue import Claim, InQueue, Queue, Submission
from szal.stores.writes import NewExecution

__all__ = ["MemoryQueue", "Places"]


@attrs.define
class _Place:
    """Where one stands. `due` is when it may be taken (Unix time)."""

    queue: str
    priority: int
    due: float
    number: int
    key: str | None
    not_before: float | None
    is_reserved: bool = False


@attrs.define(eq=False)
class Places:
    """What stands in all queues of one store; guarded by the lock of its entries. And who waits for more."""

    of: dict[str, _Place] = attrs.field(factory=dict)  # by execution
    count: int = 0
    hearers: Hearers = attrs.field(factory=Hearers)


class MemoryQueue(Queue):
    """The queue of *places* in *entries*; *record* records a new execution, and says whether it is new."""

    def __init__(
        self,
        entries: Entries,
        places: "Places",
        record: Callable[[NewExecution], bool],
        key_holder: Callable[[str], str | None],
    ) -> None:
        self._entries = entries
        self._record = record
        self._key_holder = key_holder
        self._all = places
        self._places = places.of

    def submit(self, submission: Submission, connection: object = None) -> bool:
        if connection is not None:
            raise TypeError("connection= is for stores in SQLite and PostgreSQL: nothing leads to one in memory")
        with self._entries.lock:
            if not self._record(submission.unowned):
                return False
            self._all.count += 1
            due, key = submission.not_before or 0.0, submission.new.record.concurrency_key
            place = _Place(submission.queue, submission.priority, due, self._all.count, key, submission.not_before)
            self._places[submission.new.execution_id] = place
        self._all.hearers.tell()
        return True

    def listen(self) -> MemoryListener:
        return self._all.hearers.new()

    def claim(self, wanted: Claim, /) -> list[str]:
        now = clock.wall()
        with self._entries.lock:
            for execution_id, place in self._of(wanted.queues):
                if place.due <= now and self._entries.of[execution_id].state is not WorkflowState.CREATED:
                    del self._places[execution_id]
            due = [
                (-place.priority, place.number, execution_id)
                for execution_id, place in self._of(wanted.queues)
                if place.due <= now and execution_id not in wanted.but
            ]
            taken: list[str] = []
            for *_, execution_id in sorted(due):
                place = self._places[execution_id]
                if len(taken) < wanted.most and self._is_free(execution_id, now):
                    taken.append(execution_id)
                    place.due, place.is_reserved = now + wanted.ttl, True
        return taken

    def begun(self, execution_ids: Collection[str]) -> None:
        with self._entries.lock:
            for execution_id in execution_ids:
                self._places.pop(execution_id, None)

    def give_back(self, execution_ids: Collection[str]) -> None:
        with self._entries.lock:
            for execution_id in execution_ids:
                if execution_id in self._places:
                    place = self._places[execution_id]
                    place.due, place.is_reserved = 0.0, False

    def places(self, execution_ids: Collection[str]) -> Mapping[str, InQueue]:
        with self._entries.lock:
            found = {each: self._places[each] for each in execution_ids if each in self._places}
            return {
                each: InQueue(queue=place.queue, priority=place.priority, not_before=place.not_before)
                for each, place in found.items()
            }

    def due_in(self, queues: Sequence[str]) -> float | None:
        with self._entries.lock:
            now = clock.wall()
            due = min((place.due for each, place in self._of(queues) if self._is_free(each, now)), default=None)
        return None if due is None else max(0.0, due - clock.wall())

    def _is_free(self, execution_id: str, now: float) -> bool:
        """Whether no other execution has its concurrency key, or is about to have it; a cancelled one needs none.

        With the lock held.
        """
        place, lease = self._places[execution_id], self._entries.of[execution_id].lease
        if place.key is None or (lease is not None and lease.cancelled):
            return True
        reserved = (each for each in self._places.values() if each.is_reserved and each.due > now and each is not place)
        return self._key_holder(place.key) is None and all(each.key != place.key for each in reserved)

    def tell(self) -> None:
        self._all.hearers.tell()

    def _of(self, queues: Sequence[str]) -> list[tuple[str, _Place]]:
        """Return what stands in *queues*, but for what was removed. With the lock held."""
        of = self._entries.of
        gone = [execution_id for execution_id in self._places if execution_id not in of]
        for execution_id in gone:
            del self._places[execution_id]
        return [(execution_id, place) for execution_id, place in self._places.items() if place.queue in queues]
