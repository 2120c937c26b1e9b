"""What is begun again and again, at its times: the protocol of each store's schedules."""

from collections.abc import Sequence
from typing import Protocol

import attrs

from szal.stores.queue import Submission

__all__ = ["ScheduleRow", "Schedules"]


@attrs.frozen
class ScheduleRow:
    """One schedule as it is stored: `data` and its definition, `flow`, are JSON; it is due at `next_at` (Unix time)."""

    name: str
    data: str = attrs.field(repr=False)
    """All that it says, but the ids in its definition: who says the same flow again has other ones."""
    flow: str = attrs.field(repr=False)
    next_at: float
    last_id: str | None = None
    """The execution that was begun by it last."""


class Schedules(Protocol):
    """A store's schedules. All methods may be called from any thread; they block while the store works."""

    def put(self, row: ScheduleRow, /) -> None:
        """Keep it, in the place of the one of that name; one that says the same stays as it is, with its next time."""

    def remove(self, name: str) -> bool:
        """Delete it; False where there is none."""

    def all(self) -> list[ScheduleRow]:
        """Return all, the one that is due next first."""

    def advance(self, row: ScheduleRow, next_at: float, submissions: Sequence[Submission]) -> bool:
        """Have it due at *next_at* next, and submit these, in one transaction.

        False, and nothing is done, where *row* is not what there is any more: somebody else was faster.
        """
