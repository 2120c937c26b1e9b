"""What a sink has not written yet, in order; and the gates at which threads wait for it to be written."""

from collections import deque
from collections.abc import Hashable, Sequence
from itertools import islice
from typing import TypeAlias

import attrs

from szal.stores.writes import Write
from szal.waiters import Mailbox

__all__ = ["Gate", "Gates", "Pending"]

Gate: TypeAlias = Mailbox[None]
"""Where one thread waits. Something in it means: look again."""


@attrs.define(eq=False)
class Pending:
    """The writes that are submitted and not done: neither written nor lost. Guarded by the writer's lock.

    An exception of a signal handler may come between any two lines of who submits or reads. So one append to
    `writes` is all that it takes to submit: from then on the write is counted, is visible, and will be
    written, because all of that is read off `writes`.

    Writes are numbered from 1 in the order in which they came.
    """

    writes: deque[Write] = attrs.field(factory=deque, init=False)
    done: int = attrs.field(default=0, init=False)
    """All writes up to this number are written or lost."""
    _mirror: dict[Hashable, Write] = attrs.field(factory=dict, init=False)
    """The latest of each key, of those that readers must see."""
    _begun: dict[str, int] = attrs.field(factory=dict, init=False)
    """The number of the write with which each execution begins, of those that do."""
    _mirrored: int = attrs.field(default=0, init=False)
    """All writes up to this number are in these two, or need not be."""

    @property
    def submitted(self) -> int:
        """The number of the write that came last."""
        return self.done + len(self.writes)

    def first(self, count: int) -> list[Write]:
        """Return the writes that came first, at most *count*."""
        return [*islice(self.writes, count)]

    def latest(self, key: Hashable) -> Write | None:
        """Return the latest mirrored write with that key."""
        self._bring_up_to_date()
        return self._mirror.get(key)

    def all_latest(self) -> list[Write]:
        """Return the latest mirrored write of each key, in the order in which the keys came."""
        self._bring_up_to_date()
        return [*self._mirror.values()]

    def begun_by(self, execution_id: str) -> int | None:
        """Return the number of the write with which that execution begins; None where it is not among these."""
        self._bring_up_to_date()
        number = self._begun.get(execution_id)
        return number if number is not None and number > self.done else None

    def last_of(self, execution_id: str) -> int | None:
        """Return the number of the last write of that execution; None where there is none."""
        last, writes = self.submitted, [*self.writes]
        while last != self.submitted:  # a signal handler has submitted something in between
            last, writes = self.submitted, [*self.writes]
        numbered = zip(range(last, 0, -1), reversed(writes), strict=False)
        return next((number for number, write in numbered if write.execution_id == execution_id), None)

    def execution_ids(self) -> tuple[str, ...]:
        """Return the ids of the executions to which the writes belong."""
        return tuple(dict.fromkeys(write.execution_id for write in self.writes))

    def remove(self, batch: Sequence[Write]) -> None:
        """Count *batch*, which is what came first, as done."""
        before = len(self.writes)
        try:
            for write in batch:
                if self._mirror and write.mirrored and self._mirror.get(write.key) is write:
                    del self._mirror[write.key]
                if self._begun and write.begins:
                    self._begun.pop(write.execution_id, None)
                self.writes.popleft()
        finally:
            self.done += before - len(self.writes)

    def _bring_up_to_date(self) -> None:
        """Mirror what came since somebody looked last. Whoever is interrupted here leaves it to be done again."""
        submitted = self.submitted
        unseen = submitted - max(self._mirrored, self.done)
        if unseen:
            latest = reversed([*islice(reversed(self.writes), unseen)])
            for number, write in enumerate(latest, submitted - unseen + 1):
                if write.mirrored:
                    self._mirror[write.key] = write
                if write.begins:
                    self._begun[write.execution_id] = number
            self._mirrored = submitted


@attrs.define(eq=False)
class Gates:
    """The threads that wait until writes are done. Guarded by the writer's lock, which nobody holds as he waits.

    A gate is a mailbox and not a condition: whoever is interrupted in the middle of `threading.Condition` or
    `threading.Event` may leave its lock locked, or find that it lost the one that it held.
    """

    _shut: dict[Gate, int] = attrs.field(factory=dict, init=False)

    def shut(self, number: int) -> Gate:
        """Return a gate that opens as soon as write *number* is done."""
        gate: Gate = Mailbox()
        self._shut[gate] = number
        return gate

    def open(self, done: int) -> None:
        """Open those of the writes up to number *done*."""
        for gate in [gate for gate, number in self._shut.items() if number <= done]:
            gate.put(None)
            del self._shut[gate]

    def open_all(self) -> None:
        """Have everybody look again."""
        for gate in [*self._shut]:
            gate.put(None)
            del self._shut[gate]

    def forget(self, gate: Gate) -> None:
        """Do without a gate at which nobody waits any more."""
        self._shut.pop(gate, None)
