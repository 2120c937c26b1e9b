"""An execution that is run again as a new one, which keeps what was done."""

import logging
from collections.abc import Mapping

import attrs

from szal.engine.binding import bind
from szal.engine.config import EngineConfig
from szal.engine.correction import Correction, inputs_given_to
from szal.engine.deciding import rows_of, steps_left_open, undecided
from szal.engine.directory import check_directory
from szal.engine.interrupted import check_not_run
from szal.engine.kept_rows import given_rows, kept_rows, with_descendants
from szal.engine.lineage import root_of
from szal.engine.part import Part
from szal.engine.recorded_flows import stored_flow
from szal.engine.secrets import Hidden, check_showable, hide, secrets_of, with_secrets
from szal.engine.spec import ExecutionSpec, IdFrom, compiled
from szal.expressions.path import Json
from szal.logs import SafeLogger
from szal.model.concurrency import key_of
from szal.model.flow import FlowDef
from szal.model.json.text import as_recorded
from szal.model.redaction import Redaction
from szal.model.results import ExecutionRecord
from szal.model.state import WorkflowState
from szal.model.step import new_id
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.plan import Plan
from szal.steps.resolving import Resolver
from szal.stores.ledger import Ledger, Snapshot, StepRows

__all__ = ["Rerun", "spec_of"]

logger = SafeLogger(logging.getLogger(__name__))


@attrs.frozen(kw_only=True)
class Rerun:
    """What a new execution is to be that keeps what completed in an earlier one. `flow`: None, that of the earlier one.

    With `part` it is that part of a flow. `outputs` are those of steps that are not to run: they count as completed.
    """

    from_step: str | None = None
    inputs: Mapping[str, Json] = attrs.field(factory=dict)
    flow: FlowDef | None = None
    part: Part | None = None
    outputs: Mapping[str, Json] = attrs.field(factory=dict)
    new_id: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict)
    token: CancellationToken | None = None


def spec_of(
    ledger: Ledger, config: EngineConfig, resolver: Resolver, execution_id: str, wanted: Rerun
) -> ExecutionSpec:
    """Return the spec of a new execution that keeps what completed in this one.

    Raises `ExecutionOwned` where somebody runs it: what is under way there would run a second time beside it; and
    ValueError where a step that must not run twice may have been done, unless `Rerun.from_step` has it run again.
    """
    known = ledger.read(execution_id)
    if known.record.state.is_live:
        check_not_run(ledger, known.record, root_of(ledger, known.record))
    stored = stored_flow(execution_id, known, config)
    flow, plan = compiled(stored if wanted.flow is None else wanted.flow, config, resolver)
    binding = bind(flow, plan, resolver, config)
    check_directory(known.record, plan, config)
    steps = _rows(ledger, config, known, plan, wanted)
    if wanted.part is None:
        _check_decided(known, stored, plan, wanted)
    redaction = config.redaction()
    check_showable(redaction, "outputs", wanted.outputs)
    given = _given(known.record, stored, plan, wanted, config=config, redaction=redaction)
    record = ExecutionRecord(
        wanted.new_id or new_id(),
        flow.name,
        WorkflowState.RUNNING,
        started_at=config.clock.utc_now(),
        inputs=given.recorded,
        secret_inputs=tuple(given.secrets),
        flow_id=flow.id,
        flow_version=flow.version,
        parent_execution_id=execution_id,
        labels={**known.record.labels, **wanted.labels},
        cwd=config.cwd or known.record.cwd,
        file=known.record.file if wanted.flow is None else flow.file,
        concurrency_key=key_of(flow.name, flow.concurrency_key, given.recorded, given.secrets),
    )
    return ExecutionSpec(
        flow=flow,
        plan=plan,
        binding=binding,
        record=record,
        id_from=IdFrom.NOWHERE if wanted.new_id is None else IdFrom.CALLER,
        token=wanted.token,
        snapshot=Snapshot(record=record, epoch=None, steps=steps),
        secrets=given.secrets,
        redaction=redaction,
    )


def _given(
    before: ExecutionRecord, stored: FlowDef, plan: Plan, wanted: Rerun, *, config: EngineConfig, redaction: Redaction
) -> Hidden:
    """Return what a rerun is given: what is wanted, laid over what the execution *before* was given."""
    earlier = before.inputs if wanted.flow is None else inputs_given_to(before, stored)
    earlier = {**earlier, **secrets_of(before, plan, wanted.inputs, config, redaction)}
    inputs = with_secrets(plan, wanted.inputs, config, earlier)
    found = plan.inputs.effective(before.flow_name, inputs, earlier=earlier)
    return hide(plan, as_recorded(found, "inputs")[1], redaction)


def _rows(ledger: Ledger, config: EngineConfig, known: Snapshot, plan: Plan, wanted: Rerun) -> StepRows:
    """Return what a rerun begins with."""
    corrected = Correction((), frozenset())
    if wanted.flow is not None:
        corrected = Correction.of(ledger, known, wanted.flow, config)
    for line in corrected.differences:
        logger.info("what is run again of execution %s differs: %s", known.record.execution_id, line)
    if wanted.part is not None:
        return wanted.part.rows_from(ledger, known)
    given = given_rows(plan, wanted.outputs, wanted.from_step)
    again = _named(plan, wanted) | with_descendants(plan, corrected.changed)
    again |= {plan.places[name] for name in wanted.outputs}
    kept = kept_rows(ledger, known, plan, again)
    return [*kept, *(row._replace(seq=len(kept) + at) for at, row in enumerate(given))]


def _named(plan: Plan, wanted: Rerun) -> set[int]:
    return with_descendants(plan, () if wanted.from_step is None else [wanted.from_step])


def _check_decided(known: Snapshot, stored: FlowDef, plan: Plan, wanted: Rerun) -> None:
    """Raise ValueError where a step that is to run must not run twice, and may have been done."""
    names = {plan.steps[place].name for place in _named(plan, wanted)}
    unknown = steps_left_open(known)
    for step in stored.walk():
        if (step.idempotent and step.name not in unknown) or step.name in names or step.name in wanted.outputs:
            continue
        for key in rows_of(known, step):
            if undecided(known, key) is not None:
                step_too = "it" if key == step.name else f"step {step.name!r}"
                problem = f"step {key!r} may have been done: resolve it first, or name {step_too} as from_step"
                raise ValueError(f"execution {known.record.execution_id}: {problem}")
