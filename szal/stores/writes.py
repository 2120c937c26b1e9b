"""A write, as a value: what a sink queues and a store applies.

A new kind of write is a class here and a statement of each database; the queue, the batches and the retries
know nothing but the protocol.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, NamedTuple, Protocol, TypeAlias

import attrs

from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.model.json import encode_record
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.heads import UNKNOWN, Columns, columns_of

__all__ = [
    "Done",
    "Lease",
    "NewExecution",
    "Release",
    "Remove",
    "Save",
    "SaveStep",
    "StepRow",
    "StepRows",
    "Write",
    "apply_one",
    "saved_by",
    "tell_all",
]

logger = SafeLogger(logging.getLogger(__name__))

Done: TypeAlias = Callable[[Exception | None], object]
"""Called once a write is committed (None) or lost (why): by a sink on its thread, by a store on the caller's.

Where it returns True, the loss is dealt with: whoever wrote, or flushes, is told of it no more.
"""


class Lease(NamedTuple):
    """Who holds it is the one that may write to the execution. Each owner's has another epoch, the last the highest."""

    execution_id: str
    epoch: int


class StepRow(NamedTuple):
    """What is known of a step, as JSON; *seq* orders the steps by when they settled."""

    step_name: str
    seq: int
    data: str


StepRows: TypeAlias = Sequence[StepRow]


class Write(Protocol):
    """One write. `row` holds the parameters of its statement, `key` says what it writes to."""

    replaceable: ClassVar[bool]
    """Whether a later write with the same key makes this one needless."""
    mirrored: ClassVar[bool]
    """Whether who reads through a sink must see it before it is committed."""
    begins: ClassVar[bool]
    """Whether there is no such execution before: what concerns it, and is not queued, has to wait for this."""

    @property
    def execution_id(self) -> str: ...

    @property
    def epoch(self) -> int | None:
        """The lease under which it is written: refused where somebody else has taken over. None: not checked."""
        ...

    @property
    def done(self) -> Done | None: ...

    @property
    def key(self) -> Hashable: ...

    def row(self) -> tuple[object, ...]: ...


# Made for every save, and never changed: not frozen, which would triple their cost.
@attrs.define
class Save:
    """Insert or update one execution; *data* is the whole record as JSON.

    >>> Save.of(ExecutionRecord("e1", "ci")).row()[:2]
    ('e1', 'ci')
    """

    replaceable: ClassVar[bool] = True
    mirrored: ClassVar[bool] = True
    begins: ClassVar[bool] = False

    execution_id: str
    flow_name: str
    state: WorkflowState
    data: str = attrs.field(repr=False)
    epoch: int | None = None
    done: Done | None = attrs.field(default=None, repr=False, eq=False)
    columns: Columns = attrs.field(default=UNKNOWN, repr=False, eq=False)

    @classmethod
    def of(cls, record: ExecutionRecord, epoch: int | None = None) -> "Save":
        """Encode *record*; raises `EncodeError` naming what JSON cannot hold."""
        data = encode_record(record)
        return cls(record.execution_id, record.flow_name, record.state, data, epoch=epoch, columns=columns_of(record))

    @property
    def key(self) -> Hashable:
        return self.execution_id

    def row(self) -> tuple[object, ...]:
        return self.execution_id, self.flow_name, self.data, *self.columns


@attrs.define
class Remove:
    """Delete one execution, if it is there."""

    replaceable: ClassVar[bool] = False
    mirrored: ClassVar[bool] = True
    begins: ClassVar[bool] = False

    execution_id: str
    epoch: int | None = None
    done: Done | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def key(self) -> Hashable:
        return self.execution_id

    def row(self) -> tuple[object, ...]:
        return (self.execution_id,)


@attrs.define
class SaveStep:
    """Insert or update what is known of one step of one execution; *seq* orders the steps by when they settled.

    *signal_id* is the signal that was delivered with it: both happen, or neither. So it is with *progress_of*: the
    execution whose recoveries are counted anew, since a step of it, or of a sub-flow of it, has settled.
    """

    replaceable: ClassVar[bool] = True
    mirrored: ClassVar[bool] = False
    begins: ClassVar[bool] = False

    execution_id: str
    step_name: str
    seq: int
    data: str = attrs.field(repr=False)
    signal_id: str | None = None
    epoch: int | None = None
    done: Done | None = attrs.field(default=None, repr=False, eq=False)
    progress_of: str | None = None

    @property
    def key(self) -> Hashable:
        return self.execution_id, self.step_name

    def row(self) -> tuple[object, ...]:
        return self.execution_id, self.step_name, self.seq, self.data, self.signal_id


@attrs.define
class Release:
    """Give up the lease of an execution that has ended, or waits: until *wake* (Unix time), or for a signal.

    Of a waiting one, *awaits* names the signals that it can go on with; None: any.
    """

    replaceable: ClassVar[bool] = False
    mirrored: ClassVar[bool] = False
    begins: ClassVar[bool] = False

    execution_id: str
    epoch: int | None = None
    wake: float | None = None
    awaits: Sequence[str] | None = None
    done: Done | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def key(self) -> Hashable:
        return "", "lease", self.execution_id

    def row(self) -> tuple[object, ...]:
        awaits = None if self.awaits is None else "".join(("\n", *(f"{name}\n" for name in self.awaits)))
        return self.wake, awaits, self.execution_id


@attrs.define(kw_only=True)
class NewExecution:
    """Record an execution, with a lease of *ttl* seconds for *owner* from when it is committed.

    As a write it is for an id that nobody else has: where there is an execution of that id it is lost, by `LeaseLost`,
    unless it has the same lease, and so was recorded before.
    """

    replaceable: ClassVar[bool] = False
    mirrored: ClassVar[bool] = True
    begins: ClassVar[bool] = True

    record: ExecutionRecord
    """As it begins; it is not changed any more."""
    content_id: str
    flow: str = attrs.field(repr=False)
    """The definition, as JSON; *content_id* says which."""
    owner: str
    ttl: float
    steps: StepRows = ()
    """Those that have settled before it begins."""
    under: Lease | None = None
    """Of the execution whose sub-flow it is; or of this very one, which begins again."""
    replace: bool = False
    """Whether what there is under that id is left over, and goes; of one that begins again its signals stay."""
    first_epoch: int = 1
    """Of the lease. Who may have had a lease for that id, of an execution that was removed, must not have had this."""
    done: Done | None = attrs.field(default=None, repr=False, eq=False)
    _save: Save | None = attrs.field(default=None, init=False, repr=False, eq=False)
    ends: "Sequence[Save | Release]" = attrs.field(default=(), init=False, repr=False, eq=False)
    """What the batch writes of it after this: needless, but where it was recorded before."""

    @property
    def save(self) -> Save:
        """Its record, as it begins, or as it is by the end of a batch. Encoded when it is first asked for.

        So it is not, where the execution ends in the batch that it begins in.
        """
        if self._save is None:
            self._save = Save.of(self.record)
        return self._save

    @property
    def execution_id(self) -> str:
        return self.record.execution_id

    @property
    def epoch(self) -> int:
        return self.first_epoch

    @property
    def lease(self) -> Lease:
        """The lease that it is to have."""
        return Lease(self.record.execution_id, self.first_epoch)

    @property
    def key(self) -> Hashable:
        return self.record.execution_id

    @property
    def begins_again(self) -> bool:
        """Whether whoever has its lease begins it anew."""
        return self.replace and self.under is not None and self.under.execution_id == self.execution_id

    @property
    def release(self) -> Release | None:
        """What gives its lease up by the end of a batch: nobody ever has it."""
        return next((end for end in self.ends if isinstance(end, Release)), None)

    def row(self) -> tuple[object, ...]:
        return self.save.row()

    def lease_row(self) -> tuple[object, ...]:
        """Return the parameters of the statement that makes its lease."""
        release = self.release
        if release is None:
            return self.execution_id, self.owner, self.first_epoch, self.ttl, self.content_id, None, None
        wake, awaits, _ = release.row()
        return self.execution_id, None, self.first_epoch, None, self.content_id, wake, awaits

    def ended_by(self, ends: "Sequence[Save | Release]") -> "NewExecution":
        """Return one that leaves what these, one of each at most, leave after it."""
        both = NewExecution(
            record=self.record,
            content_id=self.content_id,
            flow=self.flow,
            owner=self.owner,
            ttl=self.ttl,
            steps=self.steps,
            under=self.under,
            replace=self.replace,
            first_epoch=self.first_epoch,
            done=self.done,
        )
        both._save = next((end for end in ends if type(end) is Save), self._save)
        both.ends = ends
        return both


def saved_by(write: Write | None) -> Save | None:
    """Return the record that a mirrored write brings; None where it brings none."""
    if isinstance(write, NewExecution):
        return write.save
    return write if isinstance(write, Save) else None


def apply_one(apply: Callable[[Sequence[Write]], None], write: Write) -> None:
    """Have *apply* carry out one write; its `done` is told, and what went wrong raised, unless that deals with it.

    Where Ctrl-C came in the middle nobody knows whether it is committed: `done` is not called.
    """
    try:
        apply([write])
    except Exception as error:
        if write.done is None or write.done(error) is not True:
            raise
        return
    if write.done is not None:
        write.done(None)


def tell_all(batch: Sequence[Write], error: Exception | None) -> set[int]:
    """Call the `done` of each write of *batch*, whatever one raises; return the `id` of those that are dealt with."""
    interruption: BaseException | None = None
    dealt_with = set()
    for write in batch:
        if write.done is not None:
            try:
                if write.done(error) is True:
                    dealt_with.add(id(write))
            except BaseException as problem:
                if is_interruption(problem):
                    interruption = problem
                else:
                    logger.exception("done failed for execution %s", write.execution_id)
    if interruption is not None:
        raise interruption
    return dealt_with
