"""An execution that has failed, and runs again under its own id: what completed in it is kept."""

import attrs

from szal.engine.config import EngineConfig
from szal.engine.directory import check_directory, moved
from szal.engine.kept_rows import kept_rows, memos_of_failed
from szal.engine.leased_store import LeasedStore
from szal.engine.lineage import is_child_id
from szal.engine.spec import ExecutionSpec
from szal.errors import CannotRetry
from szal.model.definition import Definition
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.ledger import Snapshot
from szal.stores.writes import Lease, Release

__all__ = ["check_failed", "reopened"]


def reopened(leased: LeasedStore, config: EngineConfig, spec: ExecutionSpec, definition: Definition) -> ExecutionSpec:
    """Return *spec* as it begins again under its own id, with what completed before.

    Raises `CannotRetry` where it has not failed by now, and `ExecutionOwned`.
    """
    execution_id = spec.record.execution_id
    known = leased.take_over(execution_id, reopen=True)
    assert known.epoch is not None
    lease = Lease(execution_id, known.epoch)
    try:
        check_failed(known.record)  # somebody else may have had it run again meanwhile
        check_directory(known.record, spec.plan, config)
        steps = kept_rows(leased.ledger, known, spec.plan, (), in_place=True)
        record = attrs.evolve(
            moved(known.record, config.cwd),
            state=WorkflowState.RUNNING,
            result=None,
            finished_at=None,
            error=None,
            stop=None,
            flow_version=spec.flow.version,
            reopened=known.record.reopened + 1,
        )
        memos = memos_of_failed(known)
        new = leased.new(record, definition, steps=[*steps, *memos], under=lease, replace=True)
        leased.claim(new)
    except BaseException:
        leased.write(Release(execution_id, known.epoch))
        raise
    return attrs.evolve(
        spec,
        record=record,
        epoch=new.epoch,
        snapshot=Snapshot(record=record, epoch=new.epoch, steps=steps, memos=memos),
    )


def check_failed(record: ExecutionRecord) -> None:
    """Raise `CannotRetry` unless an execution has failed and can begin again by itself."""
    if record.state is not WorkflowState.FAILED:
        raise CannotRetry(record.execution_id, f"is {record.state}, and not failed")
    if is_child_id(record.execution_id):
        raise CannotRetry(record.execution_id, "is a sub-flow: run what it belongs to again")
