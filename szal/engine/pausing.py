"""Pausing an execution that nobody runs."""

from typing import TYPE_CHECKING

from szal.engine.journal import NOBODY, Journal
from szal.engine.leased_store import LeasedStore
from szal.engine.owners import has_left
from szal.errors import ExecutionOwned
from szal.model.state import Stop, WorkflowState

if TYPE_CHECKING:
    from szal.stores.base import ExecutionStore
    from szal.stores.ledger import Snapshot

__all__ = ["pause_left"]


def pause_left(leased: LeasedStore, store: "ExecutionStore | None", execution_id: str) -> None:
    """Record an execution that nobody runs as paused by a person; leave it to others where it is to end.

    Raises `ExecutionOwned`, and `ExecutionNotFound`.
    """
    holder = leased.ledger.holder(execution_id)
    if holder is not None and not has_left(holder):
        raise ExecutionOwned(execution_id)
    before = None if store is None else store.get(execution_id)
    snapshot = leased.take_over(execution_id)
    if snapshot.epoch is None:  # it has ended meanwhile
        return
    journal = Journal(leased, execution_id, snapshot.epoch, NOBODY)  # what is lost, `flush` raises
    if _is_to_end(snapshot):
        journal.release(wake=0.0)
    else:
        record = snapshot.record
        if before is not None and before.state is WorkflowState.PAUSED:
            record.result = before.result  # what it had come to
        record.state, record.stop, record.error = WorkflowState.PAUSED, Stop.PAUSED, Stop.PAUSED.reason
        journal.save(record)
        journal.release(None, ())
    leased.flush([execution_id])


def _is_to_end(snapshot: "Snapshot") -> bool:
    record = snapshot.record
    is_stopped = snapshot.cancelled or (record.stop is not None and record.stop.ends)
    return is_stopped or record.state not in (WorkflowState.RUNNING, WorkflowState.PAUSED)
