"""Which executions nobody runs, and which of them could go on."""

import logging
from collections.abc import Collection, Mapping

import attrs

from szal.engine.lineage import parent_of
from szal.engine.owners import has_left, is_gone
from szal.errors import ExecutionOwned
from szal.logs import SafeLogger
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.stores.base import read_record
from szal.stores.ledger import Ledger

__all__ = ["check_not_run", "interrupted"]

logger = SafeLogger(logging.getLogger(__name__))


def interrupted(ledger: Ledger, flow_name: str | None) -> list[str]:
    """Return the executions that can go on, of one flow or of all; a sub-flow stands for its parent."""
    candidates = ledger.interrupted(is_gone)
    known = _with_parents(ledger, candidates)
    found: dict[str, None] = {}
    for execution_id in candidates:
        root = _root(known, execution_id)
        if root is not None and flow_name in (None, root.record.flow_name) and root.may_go_on:
            found[root.record.execution_id] = None
    return list(found)


def check_not_run(ledger: Ledger, *records: ExecutionRecord) -> None:
    """Raise `ExecutionOwned` for the first of these executions that has a live owner."""
    for record in records:
        holder = ledger.holder(record.execution_id) if record.state.is_live else None
        if holder is not None and not has_left(holder):
            raise ExecutionOwned(record.execution_id)


@attrs.frozen
class _Known:
    """An execution that nobody runs, as it is stored."""

    record: ExecutionRecord
    cancelled: bool

    @property
    def may_go_on(self) -> bool:
        """Whether others than a person may go on with it: what a person interrupted or paused waits for a person."""
        stop = self.record.stop
        if stop is not None and stop.is_of_a_person and self.record.state is WorkflowState.PAUSED:
            return self.cancelled
        return self.record.state.is_live


def _with_parents(ledger: Ledger, execution_ids: Collection[str]) -> dict[str, _Known]:
    """Return these executions and what they are sub-flows of, but such as were removed or cannot be read."""
    known: dict[str, _Known] = {}
    seen: set[str] = set()
    pending = set(execution_ids)
    while pending:  # once for each level of sub-flows
        seen |= pending
        parents = set()
        for row in ledger.records(sorted(pending)):
            try:
                record = read_record(row.execution_id, row.data, to_go_on=True)
            except Exception:  # it keeps no other from going on
                logger.exception("cannot read execution %s", row.execution_id)
                continue
            known[row.execution_id] = _Known(record, row.cancelled)
            parent = parent_of(record)
            if parent is not None:
                parents.add(parent)
        pending = parents - seen
    return known


def _root(known: Mapping[str, _Known], execution_id: str) -> _Known | None:
    """Return the execution that goes on where this one does; None if one that it belongs to is not known.

    Nor is there one where rows that somebody else wrote belong to each other in a circle.
    """
    seen = {execution_id}
    found = known.get(execution_id)
    while found is not None and (parent := parent_of(found.record)) is not None:
        found = None if parent in seen else known.get(parent)
        seen.add(parent)
    return found
