"""How far an execution has come, as its store knows it: what it waits for, and why steps were skipped."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs

from szal.clock import utc_now
from szal.engine.lineage import sub_flows_of
from szal.engine.owners import is_gone
from szal.engine.restored_items import items_in_rows, with_items
from szal.errors import DecodeError, ExecutionNotFound
from szal.model.flow import FlowDef
from szal.model.json import Checkpoint, decode_checkpoint, decode_flow
from szal.model.key import item_key
from szal.model.results import ExecutionRecord, StepResult
from szal.model.state import StepStatus, Stop, WorkflowState
from szal.scheduler.context import StepContext
from szal.scheduler.plan import Node, Outcome, Plan
from szal.scheduler.run import CONDITION_NOT_MET, Run
from szal.scheduler.run_info import RunInfo
from szal.stores import ExecutionStore, ExecutionSummary
from szal.stores.ledger import Ledger, Snapshot, ledger_of

__all__ = [
    "INTERRUPTED",
    "Standing",
    "Wait",
    "age_of",
    "explained",
    "idle_run",
    "interrupted_among",
    "is_left_by_a_person",
    "put_back",
    "shown_state",
    "signals_of",
    "standing_of",
]


INTERRUPTED: Final = "interrupted"
"""The word for what counts as running, but nobody runs."""


@attrs.frozen
class Wait:
    """What a step of a paused execution waits for: a signal, a time or both; or, with neither, a decision."""

    execution_id: str
    step: str
    signal: str | None = None
    until: datetime | None = None


@attrs.frozen(kw_only=True)
class Standing:
    """What is known of an execution. `flow` is None where szal's engine did not run it."""

    flow: FlowDef | None = None
    steps: Sequence[StepResult] = ()
    waits: Sequence[Wait] = ()
    is_interrupted: bool = False
    """Whether nobody runs it, although it could go on: by itself, or where a person interrupted it, when told to."""
    is_cancelling: bool = False
    """Whether it was asked to cancel, and has not ended yet."""


def standing_of(store: ExecutionStore, record: ExecutionRecord) -> Standing:
    """Return how far *record*'s execution has come. *store* may be any; only szal's own know."""
    ledger = ledger_of(store)
    steps = () if record.result is None else record.result.steps
    if ledger is None:
        return Standing(steps=steps)
    try:
        known = ledger.read(record.execution_id)
    except ExecutionNotFound:
        return Standing(steps=steps)
    if known.flow is None:
        return Standing(steps=steps)
    flow = decode_flow(known.flow)
    if not record.state.is_live and steps:
        return Standing(flow=flow, steps=steps)
    plan = Plan.of(flow)
    checkpoints = _checkpoints(known, plan)
    items = items_in_rows(known.steps, plan)
    found = [_result(node, checkpoints, items.get(node.step.name)) for node in plan.nodes]
    paused = record.state is WorkflowState.PAUSED
    waits = list(_unanswered(ledger, _waits(ledger, record, flow, known))) if paused else []
    return Standing(
        flow=flow,
        steps=found,
        waits=waits,
        is_interrupted=record.state.is_live
        and (is_left_by_a_person(record) or record.execution_id in _left_in(ledger)),
        is_cancelling=record.state.is_live and known.cancelled,
    )


def age_of(record: ExecutionRecord | None) -> float:
    """Return how many seconds ago an execution began that has not ended; 0 for any other."""
    if record is None or not record.state.is_live:
        return 0.0
    return max(0.0, (utc_now() - record.started_at).total_seconds())


def shown_state(state: WorkflowState | None, *, is_interrupted: bool) -> str:
    """Return the word for a state, as it is printed, and as ``--state`` takes it. None: nobody can tell.

    What counts as running, but nobody runs, is "interrupted"; what is paused is told to be just that.
    """
    if is_interrupted and state is not WorkflowState.PAUSED:
        return INTERRUPTED
    return "unknown" if state is None else str(state)


def interrupted_among(store: ExecutionStore, found: Sequence[ExecutionSummary]) -> frozenset[str]:
    """Return those that nobody runs, although they could go on, as far as *store* knows."""
    ledger = ledger_of(store)
    live = {summary.execution_id: summary for summary in found if summary.state and summary.state.is_live}
    if ledger is None or not live:
        return frozenset()
    marked = (name for name, summary in live.items() if summary.error == Stop.INTERRUPTED.reason)
    by_people = {name for name in marked if _is_left_by_a_person(store, name)}
    return frozenset(by_people | (_left_in(ledger) & live.keys()))


def _is_left_by_a_person(store: ExecutionStore, execution_id: str) -> bool:
    try:
        record = store.get(execution_id)
    except DecodeError:  # nobody can go on with it
        return False
    return record is not None and is_left_by_a_person(record)


def _left_in(ledger: Ledger) -> frozenset[str]:
    """Return the executions with which whoever recovers goes on."""
    return frozenset(ledger.interrupted(is_gone))


def is_left_by_a_person(record: ExecutionRecord) -> bool:
    """Whether a person interrupted it, and has to go on with it."""
    return record.state is WorkflowState.PAUSED and record.stop is Stop.INTERRUPTED


def _checkpoints(known: Snapshot, plan: Plan) -> dict[str, Checkpoint]:
    """Return what is known of the steps of *plan*, by name."""
    ids = {node.step.name: node.step.id for node in plan.nodes}
    return {name: decode_checkpoint(data, name, ids[name]) for name, _, data in known.steps if name in ids}


def _result(
    node: Node, checkpoints: Mapping[str, Checkpoint], items: Mapping[int, StepResult] | None = None
) -> StepResult:
    checkpoint = checkpoints.get(node.step.name)
    if checkpoint is None or (checkpoint.age and checkpoint.outcome is None):  # it is decided on again
        pending = StepResult(node.step.id, node.step.name, StepStatus.PENDING)
        return pending if items is None else with_items(pending, items)
    return (
        checkpoint.result if checkpoint.items is None else with_items(checkpoint.result, items or {}, checkpoint.items)
    )


def _waits(ledger: Ledger, record: ExecutionRecord, flow: FlowDef, known: Snapshot) -> Iterator[Wait]:
    """Yield what each step waits for that could go on otherwise: an undecided one comes before all others."""
    plan = Plan.of(flow)
    checkpoints, items = _checkpoints(known, plan), items_in_rows(known.steps, plan)
    run = _restored(record, plan, checkpoints)
    open_nodes = [node for node in run.plan.nodes if run.results[node.place] is None]
    undecided = [node.step.name for node in open_nodes if _is_undecided(node, checkpoints.get(node.step.name))]
    undecided += [
        item_key(node.step.name, index)
        for node in open_nodes
        for index, item in items.get(node.step.name, {}).items()
        if item.status is StepStatus.RUNNING
    ]
    if undecided:
        yield from (Wait(record.execution_id, name) for name in undecided)
        return
    for node in open_nodes:
        if run.waiting[node.gate] > 0:
            continue
        name = node.step.name
        if node.step.step_type == "sub_flow":
            yield from _waits_below(ledger, record, node)
        elif node.step.step_type in ("wait", "sleep"):
            due = checkpoints[name].due if name in checkpoints else None
            until = None if due is None else datetime.fromtimestamp(due, UTC)
            config = StepContext(run.info, node, 1).config
            signal = config.get("signal") if isinstance(config, Mapping) else None
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
        and not node.step.idempotent
        and checkpoint.due is None
        and checkpoint.result.status is StepStatus.RUNNING
    )


def _waits_below(ledger: Ledger, record: ExecutionRecord, node: Node) -> Iterator[Wait]:
    """Yield what the sub-flow waits for that the step *node* stands for: signals go to its own execution."""
    for _, known in sub_flows_of(ledger, record.execution_id, node.step):
        if known.record.state is WorkflowState.PAUSED and known.flow is not None:
            flow = decode_flow(known.flow)
            yield from _waits(ledger, known.record, flow, known)


def idle_run(record: ExecutionRecord, plan: Plan) -> Run:
    """Return a run of an execution in which nothing is called: its bookkeeping is the scheduler's own."""
    results: list[StepResult | None] = [None] * len(plan.nodes)
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
    )


def put_back(run: Run, name: str, checkpoint: Checkpoint) -> None:
    """Have a step settle in *run* as it did before."""
    outcome = None if checkpoint.outcome is None else Outcome(checkpoint.outcome)
    node = run.plan.nodes[run.plan.places[name]]
    run.put_back(node, checkpoint.result, outcome, checkpoint.age, is_lent=checkpoint.is_lent)


def _restored(record: ExecutionRecord, plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> Run:
    """Return the run as it would go on: what has settled, and what that made ready."""
    run = idle_run(record, plan)
    for name, checkpoint in checkpoints.items():
        if checkpoint.outcome is not None:  # no other has settled
            put_back(run, name, checkpoint)
    run.take_back_all()
    return run


def signals_of(flow: FlowDef) -> set[str] | None:
    """Return the signals that the steps of *flow* wait for; None where that is known only as it runs."""
    names: set[str] = set()
    for step in flow.walk():
        if step.step_type == "sub_flow":
            continue
        signal = step.config.get("signal") if step.step_type == "wait" and isinstance(step.config, Mapping) else None
        if isinstance(signal, str):
            if "{{" in signal:
                return None
            names.add(signal)
    return names


# -- skips ----------------------------------------------------------------------------------------------


def explained(standing: Standing, steps: Sequence[StepResult]) -> list[StepResult]:
    """Return *steps* with skip reasons that name the condition, or the steps, that they are due to."""
    if standing.flow is None:
        return list(steps)
    plan = Plan.of(standing.flow)
    results = {result.step_id: result for result in steps}
    return [_explained(plan, results, result) for result in steps]


def _explained(plan: Plan, results: Mapping[str, StepResult], result: StepResult) -> StepResult:
    place = plan.places.get(result.step_name)
    if result.status is not StepStatus.SKIPPED or place is None:
        return result
    step, cause = plan.nodes[place].step, None
    if result.error == CONDITION_NOT_MET:
        cause = step.condition
    elif result.error in ("dependency failed", "dependency skipped"):
        others = (results.get(other) for other in step.depends_on)
        cause = ", ".join(other.step_name for other in others if other and other.status is not StepStatus.COMPLETED)
    elif result.error == "prior step failed":
        failed = (other for other in results.values() if other.status is StepStatus.FAILED)
        cause = next((other.step_name for other in failed if not other.is_caught), None)
    return attrs.evolve(result, error=f"{result.error}: {cause}") if cause else result
