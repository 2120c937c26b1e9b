"""What a batch comes to, whose writes are one transaction: the leases it needs, what of it is needless, its order."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Final, cast

from szal.errors import LeaseLost
from szal.stores.writes import Lease, NewExecution, Release, Remove, Save, SaveStep, Write

__all__ = ["IN_ORDER", "begins_late", "in_kinds", "leases_of", "lost_with", "merged"]

# In the order in which each kind's rows are locked, by everybody: by the execution's id, and then the step's name.
IN_ORDER: Final = {Save: itemgetter(0), Remove: itemgetter(0), SaveStep: itemgetter(0, 1), Release: itemgetter(2)}
_KINDS: Final[Sequence[type[Write]]] = (NewExecution, SaveStep, Save, Release, Remove)


def leases_of(writes: Iterable[Write]) -> set[Lease]:
    """Return the leases that have to be held for *writes*. Raises `LeaseLost` for one that they end before.

    >>> sorted(leases_of([Remove("a", 3), Remove("b", 1), Remove("c")]))
    [Lease(execution_id='a', epoch=3), Lease(execution_id='b', epoch=1)]
    """
    leases: set[Lease] = set()
    begun: dict[str, int] = {}
    removed: set[str] = set()
    for write in writes:
        kind, name, lease = type(write), write.execution_id, _lease_of(write)
        if lease is not None and begun.get(lease.execution_id) != lease.epoch:
            if lease.execution_id in begun or lease.execution_id in removed:
                raise LeaseLost(lease.execution_id)
            leases.add(lease)
        if kind is NewExecution:
            begun[name] = cast(int, write.epoch)
            removed.discard(name)
        elif kind is Remove:
            removed.add(name)
            begun.pop(name, None)
    return leases


def _lease_of(write: Write) -> Lease | None:
    """Return the lease that *write* needs; what begins needs that of what it belongs to."""
    if type(write) is NewExecution:
        return write.under
    return None if write.epoch is None else Lease(write.execution_id, write.epoch)


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
    keys = [write.key for write in writes]
    kept = [*writes] if len({*keys}) == len(keys) else _last_of_each(writes, keys)
    return _folded(kept) if NewExecution in set(map(type, kept)) else kept


def _last_of_each(writes: Sequence[Write], keys: Sequence[Hashable]) -> list[Write]:
    kept: list[Write] = []
    written: set[Hashable] = set()
    for write, key in zip(reversed(writes), reversed(keys), strict=True):
        if type(write) is NewExecution:
            written.discard(key)  # what was there before decides whether it is recorded
        elif key not in written:
            written.add(key)
        elif write.replaceable:
            continue
        kept.append(write)
    kept.reverse()
    return kept


def begins_late(writes: Sequence[Write]) -> set[int]:
    """Return the `id` of each that begins an execution of which there are writes before it: their order counts."""
    written: set[str] = set()
    late: set[int] = set()
    if NewExecution not in set(map(type, writes)):
        return late
    for write in writes:
        if type(write) is NewExecution and write.execution_id in written:
            late.add(id(write))
        written.add(write.execution_id)
    return late


def _folded(writes: Sequence[Write]) -> list[Write]:
    """Return *writes* with the record, and the release, of each execution in the place of the one that begins it.

    One that begins late, or is removed as well, stays as it is.
    """
    late = begins_late(writes)
    apart = {write.execution_id for write in writes if type(write) is Remove or id(write) in late}
    begun: dict[str, int] = {}  # where each begins
    ends: dict[str, dict[type[Write], Save | Release]] = {}
    folded: list[Write] = []
    for write in writes:
        kind, name = type(write), write.execution_id
        if name in begun and kind in _ENDS:
            ends.setdefault(name, {})[kind] = write  # type: ignore[assignment]
            continue
        if kind is NewExecution and name not in apart:
            begun[name] = len(folded)
        folded.append(write)
    for name, found in ends.items():
        new: NewExecution = folded[begun[name]]  # type: ignore[assignment]
        folded[begun[name]] = new.ended_by([*found.values()])
    return folded


_ENDS: Final = frozenset({Save, Release})


def in_kinds(writes: Sequence[Write]) -> Iterator[tuple[type[Write], list[Write]]]:
    """Yield *writes* by their kinds, each as often as a removal, or a late beginning, comes in between.

    The end is the same.
    """
    late = begins_late(writes)
    kinds: dict[type[Write], list[Write]] = {}
    for write in writes:
        if kinds and ((type(write) is Remove) is not (Remove in kinds) or id(write) in late):
            yield from sorted(kinds.items(), key=_kind_place)
            kinds = {}
        kinds.setdefault(type(write), []).append(write)
    yield from sorted(kinds.items(), key=_kind_place)


def _kind_place(item: tuple[type[Write], list[Write]]) -> int:
    return _KINDS.index(item[0])
