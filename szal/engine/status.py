"""How far an execution has come, as its store knows it, whichever process runs it: its steps, what it waits for."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs

from szal.engine.inspection import nobody_runs
from szal.engine.lineage import family_key, sub_flows_of
from szal.engine.recorded_flows import recorded_flow
from szal.engine.rows_of_items import items_in_rows, next_polls
from szal.errors import DecodeError
from szal.expressions.path import Json
from szal.model.flow import FlowDef
from szal.model.json import Checkpoint, decode_checkpoint
from szal.model.key import item_key
from szal.model.results import ExecutionRecord, StepResult
from szal.model.state import StepStatus, Stop, WorkflowState
from szal.model.table import as_html, as_text, head_of
from szal.scheduler.context import StepContext
from szal.scheduler.plan import Node, Outcome, Plan
from szal.scheduler.run import Run
from szal.scheduler.run_info import RunInfo
from szal.stores.base import ExecutionStore
from szal.stores.filters import ExecutionSummary
from szal.stores.ledger import Ledger, Snapshot
from szal.stores.limits import WaitingStep
from szal.stores.queue import InQueue

__all__ = [
    "ExecutionStatus",
    "Wait",
    "idle_run",
    "interrupted_among",
    "is_left_by_a_person",
    "put_back",
    "waits_of",
    "with_queued",
]


_OF_A_PERSON: Final = frozenset(stop.reason for stop in Stop if stop.is_of_a_person)


@attrs.frozen
class Wait:
    """What a step of a paused execution waits for: a signal, a time or both; or, with neither, a decision."""

    execution_id: str
    step: str
    signal: str | None = None
    until: datetime | None = None


@attrs.frozen(kw_only=True)
class ExecutionStatus:
    """How far an execution has come, as `Engine.look` found it. What is told of the record is read from it.

    >>> from szal import Engine, EngineConfig, StepDef, open_store
    >>> flow = FlowDef("shop", steps=[StepDef("order"), StepDef("ask", step_type="wait", config={"signal": "paid"})])
    >>> with Engine(lambda ctx: 42, EngineConfig(execution_store=open_store("memory:"))) as engine:
    ...     _ = engine.run(flow, execution_id="order-42")
    ...     status = engine.look("order-42")
    >>> str(status.state), {name: str(step.status) for name, step in status.steps.items()}
    ('paused', {'order': 'completed', 'ask': 'pending'})
    >>> [(wait.step, wait.signal) for wait in status.waits], status.is_running
    ([('ask', 'paid')], False)
    """

    record: ExecutionRecord
    """As it is stored; its result is there once the execution has ended."""
    results: Sequence[StepResult] = ()
    """How each step stands, in the flow's order; those that have not begun, or of which that is not known, are PENDING.

    That a step has begun is known at once where it runs. Elsewhere that is told of what has run for a while: with the
    next renewal of the lease (every third of `EngineConfig.lease_ttl`), or where progress is shared within two seconds;
    and at once of what must not run twice. One that runs says at which attempt, and since when.
    """
    waits: Sequence[Wait] = ()
    """What its steps wait for, where it is PAUSED."""
    queued: Sequence[WaitingStep] = ()
    """What its steps wait for before they begin: capacities of all engines of the store, or of its engine, and rates.

    What its engine alone knows is told elsewhere as that steps run is: up to a third of `lease_ttl` later. Of one that
    nobody runs it is what keeps any engine from it: more than all engines of the store have together.
    """
    queued_behind: str | None = None
    """The execution that has its `concurrency_key`, where it is CREATED, or was interrupted, and waits for that."""
    in_queue: InQueue | None = None
    """Where it was submitted to, as long as nobody has begun it."""
    is_running: bool = False
    """Whether somebody runs it: a process that is there, as far as anybody knows, holds its lease."""
    is_interrupted: bool = False
    """Whether nobody runs it, although it could go on: by itself, or where a person interrupted it, when told to."""
    is_cancelling: bool = False
    """Whether it was asked to cancel, and has not ended yet."""
    flow: FlowDef | None = None
    """Its definition. None where szal's engine did not run it, or its store keeps none."""

    def __str__(self) -> str:
        """Return a line for the execution, and one for each step."""
        return as_text(self._head, self.results)

    def _repr_html_(self) -> str:
        """Return a table of the steps: what a notebook shows."""
        return as_html(self._head, self.results)

    @property
    def _head(self) -> str:
        return head_of(self.flow_name, self.state, self.execution_id, self.error)

    @property
    def execution_id(self) -> str:
        """The execution's id."""
        return self.record.execution_id

    @property
    def flow_name(self) -> str:
        """Which flow it is an execution of."""
        return self.record.flow_name

    @property
    def state(self) -> WorkflowState:
        """Its state; RUNNING also where nobody runs it any more: see `is_interrupted`."""
        return self.record.state

    @property
    def started_at(self) -> datetime:
        """When it began."""
        return self.record.started_at

    @property
    def finished_at(self) -> datetime | None:
        """When it ended; None: it has not."""
        return self.record.finished_at

    @property
    def inputs(self) -> Mapping[str, Json]:
        """What it was given."""
        return self.record.inputs

    @property
    def labels(self) -> Mapping[str, str]:
        """What it can be found by."""
        return self.record.labels

    @property
    def error(self) -> str | None:
        """Why it ended as it did, or stopped where it stands."""
        return self.record.error

    @property
    def steps(self) -> dict[str, StepResult]:
        """How each step stands, by name, in the flow's order."""
        return {result.step_name: result for result in self.results}


def with_queued(ledger: Ledger, found: ExecutionStatus) -> ExecutionStatus:
    """Return how far an execution has come, with what it waits for of what all engines of its store share."""
    if found.state is WorkflowState.CREATED and found.in_queue is None:  # where it stands stays the same
        place = ledger.queue.places([found.execution_id]).get(found.execution_id)
        found = found if place is None else attrs.evolve(found, in_queue=place)
    if (key := found.record.concurrency_key) is not None and found.state.is_live and not found.is_running:
        holder = ledger.limits.key_holder(key)
        if holder is not None and holder != found.execution_id:
            return attrs.evolve(found, queued_behind=holder)
    if found.flow is None or not found.state.is_live or not (plan := Plan.of(found.flow)).sharers:
        return found
    if found.state is WorkflowState.CREATED or found.is_interrupted:
        queued = [*_never_enough(ledger, found, plan)]
    else:
        queued = [*_queued(ledger, found)] if found.state is not WorkflowState.PAUSED else []
    return attrs.evolve(found, queued=queued) if queued else found


def _never_enough(ledger: Ledger, found: ExecutionStatus, plan: Plan) -> Iterator[WaitingStep]:
    """Yield what steps need more of than all engines together have: no engine takes such an execution up.

    Of what the store says nothing of an engine has one, unless its own configuration has more.
    """
    needs = [(step, name, units) for step in plan.sharers for name, units in step.resources.items() if units > 1]
    ended = {step.step_name for step in found.results if step.status.has_ended}
    capacities = ledger.limits.capacities() if needs else {}
    for step, name, units in needs:
        there_is = capacities.get(name)
        if step.name not in ended and (there_is is None or units > there_is):
            yield WaitingStep(step.name, name, units, there_is, 0, in_engine=there_is is None)


def _queued(ledger: Ledger, found: ExecutionStatus) -> Iterator[WaitingStep]:
    """Yield what its engine knows of, and what the store does; an engine asks there for few of many at a time."""
    asked = ledger.limits.waiting(found.execution_id)
    known = {(each.step_name, each.name) for each in asked}
    others = [each for each in found.queued if (each.step_name, each.name) not in known]
    is_shared = any(not (each.in_engine or each.rate) for each in others)
    used = {use.name: use.used for use in ledger.limits.uses()} if is_shared else {}
    for each in others:
        yield each if each.in_engine or each.rate else attrs.evolve(each, used=used.get(each.name, 0))
    yield from asked


def interrupted_among(store: ExecutionStore, found: Sequence[ExecutionSummary]) -> frozenset[str]:
    """Return those that nobody runs, although they could go on, as far as *store* knows."""
    live = {summary.execution_id: summary for summary in found if summary.state and summary.state.is_live}
    if not live:
        return frozenset()
    marked = (name for name, summary in live.items() if summary.error in _OF_A_PERSON)
    by_people = {name for name in marked if _is_left_by_a_person(store, name)}
    return frozenset(by_people | (nobody_runs(store) & live.keys()))


def _is_left_by_a_person(store: ExecutionStore, execution_id: str) -> bool:
    try:
        record = store.get(execution_id)
    except DecodeError:  # nobody can go on with it
        return False
    return record is not None and is_left_by_a_person(record)


def is_left_by_a_person(record: ExecutionRecord) -> bool:
    """Whether a person interrupted or paused it, and has to go on with it."""
    return record.state is WorkflowState.PAUSED and record.stop is not None and record.stop.is_of_a_person


def waits_of(ledger: Ledger, record: ExecutionRecord, flow: FlowDef, known: Snapshot) -> list[Wait]:
    """Return what the steps of an execution that is PAUSED wait for, but for what has been sent already."""
    return [*_unanswered(ledger, _waits(ledger, record, flow, known))]


def _checkpoints(known: Snapshot, plan: Plan) -> dict[str, Checkpoint]:
    """Return what is known of the steps of *plan*, by name."""
    ids = {node.step.name: node.step.id for node in plan.nodes}
    return {name: decode_checkpoint(data, name, ids[name]) for name, _, data in known.steps if name in ids}


def _waits(ledger: Ledger, record: ExecutionRecord, flow: FlowDef, known: Snapshot) -> Iterator[Wait]:
    """Yield what each step waits for that could go on otherwise: an undecided one comes before all others."""
    plan = Plan.of(flow)
    checkpoints, items = _checkpoints(known, plan), items_in_rows(known.steps, plan)
    run = _restored(record, plan, checkpoints)
    open_nodes = [node for node in run.plan.nodes if run.results[node.place] is None]
    undecided = [node.step.name for node in open_nodes if _is_undecided(node, checkpoints.get(node.step.name))]
    for node in open_nodes:
        of_node = items.get(node.step.name, {}).items()
        undecided += [item_key(node.step.name, index) for index, item in of_node if item.status is StepStatus.RUNNING]
    if undecided:
        yield from (Wait(record.execution_id, name) for name in undecided)
        return
    of_items = next_polls(known.steps, plan)
    for node in open_nodes:
        if run.waiting[node.gate] > 0 or node.place in run.plan.finals:
            continue
        name = node.step.name
        if node.step.step_type == "sub_flow":
            yield from _waits_below(ledger, record, node)
            continue
        due = checkpoints[name].due if name in checkpoints and name not in of_items else of_items.get(name)
        until = None if due is None else datetime.fromtimestamp(due, UTC)
        if node.until is not None and until is not None:
            yield Wait(record.execution_id, name, until=until)
        elif node.step.step_type in ("wait", "sleep"):
            config = StepContext(run.info, node, 1).config
            signal = config.get("signal") if isinstance(config, Mapping) else None
            if signal is not None or until is not None:  # else a sleep that has not begun, as it was paused before
                yield Wait(record.execution_id, name, signal, until)


def _unanswered(ledger: Ledger, waits: Iterator[Wait]) -> Iterator[Wait]:
    """Leave out what has been sent already: it is delivered when the execution goes on."""
    sent: dict[str, Counter[str]] = {}  # by execution: how many signals of a name are still to be delivered
    for wait in waits:
        if wait.execution_id not in sent:
            sent[wait.execution_id] = Counter(signal.name for signal in ledger.signals(wait.execution_id))
        if wait.signal is not None and sent[wait.execution_id][wait.signal] > 0:
            sent[wait.execution_id][wait.signal] -= 1
        else:
            yield wait


def _is_undecided(node: Node, checkpoint: Checkpoint | None) -> bool:
    return (
        checkpoint is not None
        and (checkpoint.is_undecided or not node.step.idempotent)
        and checkpoint.due is None
        and checkpoint.result.status is StepStatus.RUNNING
    )


def _waits_below(ledger: Ledger, record: ExecutionRecord, node: Node) -> Iterator[Wait]:
    """Yield what the sub-flow waits for that the step *node* stands for: signals go to its own execution."""
    for _, known in sub_flows_of(ledger, family_key(record), node.step):
        if known.record.state is WorkflowState.PAUSED and known.flow is not None:
            flow = recorded_flow(known.flow)
            yield from _waits(ledger, known.record, flow, known)


def idle_run(record: ExecutionRecord, plan: Plan, before: Run | None = None) -> Run:
    """Return a run of an execution in which nothing is called: its bookkeeping is the scheduler's own.

    With the run *before* it is that of the finally steps.
    """
    results: list[StepResult | None] = [None] * len(plan.nodes) if before is None else before.results
    settled_as = [0] * len(results) if plan.starts_early else []
    info = RunInfo(
        record.flow_name, record.execution_id, dict(record.inputs), plan, results, settled_as, is_recorded=True
    )
    return Run(
        plan=plan,
        handlers=[None] * len(results),
        results=results,
        info=info,
        new_context=lambda node, attempt, call: StepContext(info, node, attempt, call),
        on_done=lambda _: None,
        is_final=before is not None,
    )


def put_back(run: Run, name: str, checkpoint: Checkpoint) -> None:
    """Have a step settle in *run* as it did before."""
    outcome = None if checkpoint.outcome is None else Outcome(checkpoint.outcome)
    node = run.plan.nodes[run.plan.places[name]]
    if node.place in run.plan.finals:
        run.results[node.place] = checkpoint.result
        return
    run.put_back(node, checkpoint.result, outcome, checkpoint.age, is_lent=checkpoint.is_lent)


def _restored(record: ExecutionRecord, plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> Run:
    """Return the run as it would go on: what has settled, and what that made ready."""
    run = idle_run(record, plan)
    for name, checkpoint in checkpoints.items():
        if checkpoint.outcome is not None:  # no other has settled
            put_back(run, name, checkpoint)
    run.take_back_all()
    return run
