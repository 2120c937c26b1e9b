"""A write, as a value: what a sink queues and a store applies.

A new kind of write is a class here and a statement in each dialect; the queue, the batches and the retries
know nothing but the protocol.
"""

from collections.abc import Hashable, Sequence
from typing import ClassVar, Protocol

import attrs

from szal.codec import encode_record
from szal.execution import ExecutionRecord
from szal.state import WorkflowState

__all__ = ["Operation", "Remove", "Save", "merged"]


class Operation(Protocol):
    """One write. `row` holds the parameters of its statement, `key` says what it writes to."""

    replaceable: ClassVar[bool]
    """Whether a later operation with the same key makes this one needless."""

    @property
    def execution_id(self) -> str: ...

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

    execution_id: str
    flow_name: str
    state: WorkflowState
    data: str = attrs.field(repr=False)

    @classmethod
    def of(cls, record: ExecutionRecord) -> "Save":
        """Encode *record*; raises `EncodeError` naming what JSON cannot hold."""
        return cls(record.execution_id, record.flow_name, record.state, encode_record(record))

    @property
    def key(self) -> Hashable:
        return self.execution_id

    def row(self) -> tuple[object, ...]:
        return self.execution_id, self.flow_name, self.data


@attrs.define
class Remove:
    """Delete one execution, if it is there."""

    replaceable: ClassVar[bool] = False

    execution_id: str

    @property
    def key(self) -> Hashable:
        return self.execution_id

    def row(self) -> tuple[object, ...]:
        return (self.execution_id,)


def merged(operations: Sequence[Operation]) -> list[Operation]:
    """Return *operations* without those that a later one replaces: the same end, if all are one transaction.

    >>> first, second = Save("a", "ci", WorkflowState.RUNNING, "1"), Save("a", "ci", WorkflowState.COMPLETED, "2")
    >>> merged([first, Remove("b"), second]) == [Remove("b"), second]
    True
    """
    written: set[Hashable] = set()
    kept: list[Operation] = []
    for operation in reversed(operations):
        key = operation.key
        if key in written and operation.replaceable:
            continue
        written.add(key)
        kept.append(operation)
    kept.reverse()
    return kept
