"""What a batch comes to, whose writes are one transaction: the leases that it needs, and what of it is needless."""

from collections.abc import Hashable, Iterable, Sequence

from szal.errors import LeaseLost
from szal.stores.writes import Lease, NewExecution, Release, Remove, Save, Write

__all__ = ["begins_late", "leases_of", "lost_with", "merged"]


def leases_of(writes: Iterable[Write]) -> set[Lease]:
    """Return the leases that have to be held for *writes*. Raises `LeaseLost` for one that they end before.

    >>> sorted(leases_of([Remove("a", 3), Remove("b", 1), Remove("c")]))
    [Lease(execution_id='a', epoch=3), Lease(execution_id='b', epoch=1)]
    """
    leases: set[Lease] = set()
    begun: dict[str, int] = {}
    removed: set[str] = set()

    def need(lease: Lease) -> None:
        if lease.execution_id in removed or begun.get(lease.execution_id, lease.epoch) != lease.epoch:
            raise LeaseLost(lease.execution_id)
        if lease.execution_id not in begun:
            leases.add(lease)

    for write in writes:
        if type(write) is NewExecution:
            if write.under is not None:
                need(write.under)
            begun[write.execution_id] = write.epoch
            removed.discard(write.execution_id)
        elif write.epoch is not None:
            need(Lease(write.execution_id, write.epoch))
        if type(write) is Remove:
            removed.add(write.execution_id)
            begun.pop(write.execution_id, None)
    return leases


def lost_with(leases: Iterable[tuple[str, int]], writes: Iterable[Write]) -> set[tuple[str, int]]:
    """Return *leases*, and those of executions among *writes* that would begin under one of them."""
    lost: set[tuple[str, int]] = {*leases}
    for write in writes:
        if type(write) is NewExecution and write.under in lost:
            lost.add(write.lease)
    return lost


def merged(writes: Sequence[Write]) -> list[Write]:
    """Return *writes* without those that a later one replaces: the same end, if all are one transaction.

    What begins in them begins as it is by their end.

    >>> from szal import WorkflowState
    >>> first, second = Save("a", "ci", WorkflowState.RUNNING, "1"), Save("a", "ci", WorkflowState.COMPLETED, "2")
    >>> merged([first, Remove("b"), second]) == [Remove("b"), second]
    True
    """
    kept = [*writes]
    if len({write.key for write in writes}) < len(writes):
        written: set[Hashable] = set()
        kept = []
        for write in reversed(writes):
            key = write.key
            if key in written and write.replaceable:
                continue
            if type(write) is NewExecution:
                written.discard(key)  # what was there before decides whether it is recorded
            else:
                written.add(key)
            kept.append(write)
        kept.reverse()
    return _folded(kept) if any(type(write) is NewExecution for write in kept) else kept


def begins_late(writes: Iterable[Write]) -> set[int]:
    """Return the `id` of each that begins an execution of which there are writes before it: their order counts."""
    written: set[str] = set()
    late = set()
    for write in writes:
        if type(write) is NewExecution and write.execution_id in written:
            late.add(id(write))
        written.add(write.execution_id)
    return late


def _folded(writes: Sequence[Write]) -> list[Write]:
    """Return *writes* with the record, and the release, of each execution in the place of the one that begins it.

    One that begins late, or is removed as well, stays as it is.
    """
    apart = {write.execution_id for write in writes if type(write) is Remove}
    late = begins_late(writes)
    apart |= {write.execution_id for write in writes if id(write) in late}
    begun = {write.execution_id for write in writes if type(write) is NewExecution} - apart
    ends: dict[tuple[str, type[Write]], Write] = {
        (write.execution_id, type(write)): write
        for write in writes
        if type(write) in (Save, Release) and write.execution_id in begun
    }
    folded: list[Write] = []
    for write in writes:
        name = write.execution_id
        if type(write) is NewExecution and name in begun:
            folded.append(write.ended_by(ends.get((name, Save)), ends.get((name, Release))))  # type: ignore[arg-type]
        elif ends.get((name, type(write))) is not write:
            folded.append(write)
    return folded
