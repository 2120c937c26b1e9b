"""An execution as its store has it: looked at once, or again and again, when only what has changed is read."""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from szal.engine.inspection import nobody_runs
from szal.engine.owners import is_gone
from szal.engine.recorded_flows import recorded_flow
from szal.engine.rows_of_items import items_in_rows, with_items
from szal.engine.sharing import report_of
from szal.engine.status import ExecutionStatus, is_left_by_a_person, waits_of, with_queued
from szal.engine.under_way import StepUnderWay, as_running, read_under_way, read_waiting
from szal.errors import ExecutionNotFound
from szal.model.flow import FlowDef
from szal.model.json import Checkpoint, decode_checkpoint
from szal.model.key import is_memo, item_in
from szal.model.results import ExecutionRecord, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.scheduler.plan import Node, Plan
from szal.stores.base import ExecutionStore, read_record
from szal.stores.ledger import Ledger, Report, Snapshot, Version, ledger_of
from szal.stores.limits import WaitingStep
from szal.stores.writes import StepRow

__all__ = ["View", "status_of"]


def status_of(store: ExecutionStore, record: ExecutionRecord) -> ExecutionStatus:
    """Return how far *record*'s execution has come. *store* may be any; only szal's own know more than the record."""
    ledger = ledger_of(store)
    try:
        known = None if ledger is None else ledger.read(record.execution_id)
        version = None if ledger is None or not record.state.is_live else ledger.version(record.execution_id)
    except ExecutionNotFound:
        known = version = None
    found = _Known(store, record, known).status(version)
    return found if ledger is None else with_queued(ledger, found)


class View:
    """One execution in *store*, for one thread at a time. What it tells it was when `look` was called."""

    def __init__(self, store: ExecutionStore, execution_id: str) -> None:
        self._store = store
        self._ledger = ledger_of(store)
        self._execution_id = execution_id
        self._version: Version | None = None
        self._known: _Known | None = None
        self._status: ExecutionStatus | None = None
        self._told: Sequence[WaitingStep] = ()  # what its engine has told of what its steps wait for

    def look(self) -> ExecutionStatus:
        """Return how far it has come; the same object as before where nothing has changed.

        Raises `ExecutionNotFound`, and what the store raises.
        """
        if self._ledger is None:
            return self._as_recorded()
        version = self._ledger.version(self._execution_id)
        status, known = self._status, self._known
        is_running = version.holder is not None and not is_gone(version.holder)
        if version == self._version and known is not None and status is not None and is_running == status.is_running:
            self._status = self._with_queued(status)  # what others have of that is no change of its own
            return self._status
        if known is None or self._version is None or not known.take(self._ledger, self._version, version):
            found = self._ledger.read(self._execution_id)
            known = _Known(self._store, _record(self._ledger, self._execution_id), found)
        status = known.status(version)
        self._told = status.queued
        status = self._with_queued(status)
        self._known, self._status, self._version = known, status, version
        return status

    def _with_queued(self, status: ExecutionStatus) -> ExecutionStatus:
        """Return *status* with what it waits for; itself, where it has that."""
        assert self._ledger is not None
        found = with_queued(self._ledger, attrs.evolve(status, queued=self._told, queued_behind=None))
        waits, before = ([[*each.queued], each.queued_behind, each.in_queue] for each in (found, status))
        return status if waits == before else found

    def _as_recorded(self) -> ExecutionStatus:
        record = self._store.get(self._execution_id)
        if record is None:
            raise ExecutionNotFound(self._execution_id)
        if self._status is None or self._status.record != record:
            self._status = status_of(self._store, record)
        return self._status


def _record(ledger: Ledger, execution_id: str) -> ExecutionRecord:
    rows = ledger.records([execution_id])
    if not rows:
        raise ExecutionNotFound(execution_id)
    return read_record(execution_id, rows[0].data)


class _Known:
    """What has been read of an execution; None as *known*: nothing but its record."""

    def __init__(self, store: ExecutionStore, record: ExecutionRecord, known: Snapshot | None) -> None:
        self._store = store
        self.record = record
        self._known = known
        self._steps: _Steps | None = None

    def take(self, ledger: Ledger, before: Version, now: Version) -> bool:
        """Read what has changed; False where all is to be read: its rows may have changed in their places."""
        if self._steps is None or before.epoch != now.epoch or before.more != now.more:
            return False
        if now.steps != before.steps:
            self._steps.take(ledger.steps_since(self.record.execution_id, self._steps.last))
        if now.record != before.record:
            self.record = _record(ledger, self.record.execution_id)
        return self._steps.totals() == now.steps

    def status(self, version: Version | None) -> ExecutionStatus:
        """Return what that comes to; *version* says who has its lease, and what is told of its steps meanwhile."""
        record, known = self.record, self._known
        ended = () if record.result is None else record.result.steps
        if known is None or known.flow is None:
            return ExecutionStatus(record=record, results=ended)
        if not record.state.is_live and ended:
            flow = recorded_flow(known.flow) if self._steps is None else self._steps.flow
            return ExecutionStatus(record=record, flow=flow, results=ended)
        if self._steps is None:
            self._steps = _Steps(recorded_flow(known.flow))
            self._steps.take((*known.steps, *known.memos))
        return self._under_way(self._steps, known, version)

    def _under_way(self, steps: "_Steps", known: Snapshot, version: Version | None) -> ExecutionStatus:
        record, store, ledger = self.record, self._store, ledger_of(self._store)
        assert ledger is not None
        is_live = record.state.is_live
        paused = record.state is WorkflowState.PAUSED
        holder = None if version is None else version.holder
        is_running = is_live and holder is not None and not is_gone(holder)
        told = None if version is None or not is_running else version.under_way
        epoch = None if version is None else version.epoch
        begun = read_under_way(told, epoch)
        reports = ledger.reports(record.execution_id) if version is not None and version.reports else ()
        waits = waits_of(ledger, record, steps.flow, steps.into(known)) if paused else ()
        is_left = is_live and is_left_by_a_person(record)
        results = steps.with_reports(steps.with_begun(begun), reports, known.epoch, is_running)
        ended = {result.step_name for result in results if result.status.has_ended}
        return ExecutionStatus(
            record=record,
            flow=steps.flow,
            results=results,
            waits=waits,
            queued=[each for each in read_waiting(told, epoch) if each.step_name not in ended],
            is_running=is_running,
            is_interrupted=is_left or (is_live and not is_running and record.execution_id in nobody_runs(store)),
            is_cancelling=is_live and known.cancelled,
        )


class _Steps:
    """What the rows of an execution say of its steps; each is decoded once."""

    def __init__(self, flow: FlowDef) -> None:
        self.flow = flow
        self._plan = Plan.of(flow)
        self._rows: dict[str, StepRow] = {}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._items: dict[str, dict[int, StepResult]] = {}
        self._of = {node.step.name: node for node in self._plan.nodes}
        self.results = [_result(node, None, None) for node in self._plan.nodes]
        """How each step stands, in the flow's order."""
        self.last = -1
        """The last place in the order of settling that a row has."""
        self._total = 0

    def take(self, rows: Iterable[StepRow]) -> None:
        """Take note of rows that are new, or in the place of others."""
        rows = [*rows]
        changed = set[str]()
        for row in rows:
            before = self._rows.get(row.step_name)
            self._total += row.seq - (0 if before is None else before.seq)
            self.last = max(self.last, row.seq)
            self._rows[row.step_name] = row
            node = self._of.get(row.step_name)
            if node is not None:
                self._checkpoints[row.step_name] = decode_checkpoint(row.data, row.step_name, node.step.id)
                changed.add(row.step_name)
        for name, items in items_in_rows(rows, self._plan).items():
            self._items.setdefault(name, {}).update(items)
            changed.add(name)
        for name in changed:
            node = self._of[name]
            self.results[node.place] = _result(node, self._checkpoints.get(name), self._items.get(name))

    def with_begun(self, begun: Mapping[str, StepUnderWay]) -> list[StepResult]:
        """Return how each step stands, those running that have *begun*, as far as no row tells otherwise."""
        results = [*self.results]
        for step in begun.values():
            node = self._of.get(step.key)
            if node is not None and not _is_over(self._checkpoints.get(step.key), step):
                results[node.place] = as_running(results[node.place], step)
        items: dict[str, dict[int, StepUnderWay]] = {}
        for step in begun.values():
            found = None if step.key in self._of else item_in(step.key)
            if found is not None and found[0] in self._of:
                items.setdefault(found[0], {})[found[1]] = step
        for name, running in items.items():
            node, known = self._of[name], self._items.get(name, {})
            if not results[node.place].status.has_ended:
                results[node.place] = _with_running(node, results[node.place], known, running)
        return results

    def with_reports(
        self, results: list[StepResult], reports: Iterable[Report], epoch: int | None, is_running: bool
    ) -> list[StepResult]:
        """Return *results*, with what those have reported that are under way, under the lease of *epoch*."""
        for report in reports:
            node, checkpoint = self._of.get(report.step_name), self._checkpoints.get(report.step_name)
            if node is None or report.epoch != epoch or (checkpoint is not None and checkpoint.outcome is not None):
                continue
            status = StepStatus.RUNNING if is_running else results[node.place].status
            results[node.place] = attrs.evolve(results[node.place], status=status, report=report_of(report))
        return results

    def totals(self) -> tuple[int, int]:
        """Return how many rows there are, and the sum of their places."""
        return len(self._rows), self._total

    def into(self, known: Snapshot) -> Snapshot:
        """Return *known* with the rows of steps as they are now."""
        rows = sorted((row for row in self._rows.values() if not is_memo(row.step_name)), key=lambda row: row.seq)
        return Snapshot(
            record=known.record, epoch=known.epoch, flow=known.flow, content_id=known.content_id, steps=rows
        )


def _is_over(row: Checkpoint | None, step: StepUnderWay) -> bool:
    """Whether that attempt, or that poll, has ended, by the row of its step."""
    if row is None:
        return False
    if row.polls:
        return row.polls >= step.poll
    is_between = row.due is not None and row.result.status is StepStatus.PENDING
    return row.outcome is not None or (is_between and row.result.attempts >= step.attempt)


def _with_running(
    node: Node, whole: StepResult, known: Mapping[int, StepResult], running: Mapping[int, StepUnderWay]
) -> StepResult:
    """Return a step over a list with the items that are *running*, beside those that are *known*."""
    items = {**known}
    for index, step in running.items():
        if index not in known or not known[index].status.has_ended:
            pending = StepResult(node.step.id, node.step.name, StepStatus.PENDING)
            items[index] = as_running(known.get(index, pending), step)
    return with_items(attrs.evolve(whole), items)


def _result(node: Node, checkpoint: Checkpoint | None, items: Mapping[int, StepResult] | None) -> StepResult:
    """Return how a step stands, with its *items* as far as they are known, where it runs over a list."""
    if checkpoint is None or (checkpoint.age and checkpoint.outcome is None):  # it is decided on again
        pending = StepResult(node.step.id, node.step.name, StepStatus.PENDING)
        return pending if items is None else with_items(pending, items)
    if checkpoint.items is None:
        return checkpoint.result
    return with_items(checkpoint.result, items or {}, checkpoint.items)
