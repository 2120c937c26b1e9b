"""The schedules of a memory store."""

from collections.abc import Callable, Sequence
from operator import attrgetter

import attrs

from szal.stores.memory.entries import Entries
from szal.stores.queue import Submission
from szal.stores.schedules import ScheduleRow, Schedules

__all__ = ["MemorySchedules"]


class MemorySchedules(Schedules):
    """The schedules *of* a store, guarded by the lock of *entries*; *submit* queues an execution."""

    def __init__(self, entries: Entries, of: dict[str, ScheduleRow], submit: Callable[[Submission], object]) -> None:
        self._entries = entries
        self._of = of
        self._submit = submit

    def put(self, row: ScheduleRow, /) -> None:
        with self._entries.lock:
            before = self._of.get(row.name)
            if before is None or before.data != row.data:
                self._of[row.name] = row

    def remove(self, name: str) -> bool:
        with self._entries.lock:
            return self._of.pop(name, None) is not None

    def all(self) -> list[ScheduleRow]:
        with self._entries.lock:
            return sorted(self._of.values(), key=attrgetter("next_at", "name"))

    def advance(self, row: ScheduleRow, next_at: float, submissions: Sequence[Submission]) -> bool:
        last = submissions[-1].new.execution_id if submissions else row.last_id
        with self._entries.lock:
            if self._of.get(row.name) != row:
                return False
            self._of[row.name] = attrs.evolve(row, next_at=next_at, last_id=last)
            for submission in submissions:
                self._submit(submission)
        return True
