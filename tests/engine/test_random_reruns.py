"""Random flows that are run again, or go on under a migrated definition, against the model: what runs, and when."""

from collections import Counter
from collections.abc import Iterator

import attrs
import pytest
from engine.test_random_flows import INPUTS, MOSTLY_GOOD, ROOM, change, flows, runs
from helper_flows import (
    COMPLETED,
    EARLY,
    FAILED,
    FlowSpec,
    Model,
    Outcome,
    Performer,
    Rerun,
    Resumption,
    Spec,
)
from hypothesis import given
from hypothesis import strategies as st

from szal import (
    Engine,
    EngineConfig,
    ExecutionRecord,
    FlowMode,
    FlowResult,
    MigrationRegistry,
    StepResult,
    TriggerMode,
    WorkflowState,
)
from szal.model.definition import content_id
from szal.model.json import encode_checkpoint, encode_flow
from szal.scheduler import plan
from szal.stores import open_store
from szal.stores.ledger import NewExecution
from szal.stores.writes import SaveStep

pytestmark = pytest.mark.slow

TRIGGERS = tuple(trigger for trigger in TriggerMode if trigger not in EARLY)  # what these wait for is a race
WORDS = (*["ok"] * 6, "fail", "fail", "skip", "fatal")
OTHER_INPUTS = ({}, {"no": True}, {"yes": ""})


def engine_for(performer: Performer, flow: FlowSpec, room: int, store: object, **config: object) -> Engine:
    """Return an engine whose handlers are *performer*'s."""
    options = {"max_concurrency": room, "storage": flow.storage(), "rollback_handler": performer.undo, **config}
    return Engine(performer, EngineConfig(execution_store=store, **options))


def check_end(model: Model, result: FlowResult) -> None:
    """Compare how an execution ended with the model."""
    seen = {step.step_name: (step.status, step.output) for step in result.steps}
    below = {spec.name for spec in model.flow.in_order if spec.flow is not None}
    expected = {name: (status, model.done[name].output) for name, status in model.final.items()}
    for name in below:  # whose output is a mapping, which is another test's business
        expected[name], seen[name] = expected[name][:1], seen[name][:1]
    assert seen == expected
    assert result.success is model.success
    ends = WorkflowState.FAILED if model.left or not model.rolls_back else WorkflowState.ROLLED_BACK
    assert result.state is (WorkflowState.COMPLETED if model.success else ends)


def sources_of(flow: FlowSpec) -> dict[str, set[str]]:
    """Return, by step, all that has to have ended before it begins, directly or not."""
    found: dict[str, set[str]] = {}
    if flow.mode is FlowMode.DAG:
        for spec in flow.steps:
            found[spec.name] = set().union(*({need} | found[need] for need in spec.needs))
    else:
        names = [spec.name for spec in flow.in_order if not spec.final]
        found = {name: set() if flow.mode is FlowMode.PARALLEL else set(names[:at]) for at, name in enumerate(names)}
    others = {spec.name for spec in flow.in_order if not spec.final}
    return found | {spec.name: others for spec in flow.finals}


def check_order(flow: FlowSpec, performer: Performer) -> None:
    """No step began before all that comes before it had ended, of what ran."""
    sources, begun, ended = sources_of(flow), {}, {}
    for place, (entry, name, _) in enumerate(performer.log):
        if entry != "undo" and "/" not in name:
            begun.setdefault(name, place)
            ended[name] = place
    for name, place in begun.items():
        assert all(ended[source] < place for source in sources[name] if source in ended)


# -- run again ----------------------------------------------------------------------------------------


@st.composite
def mended(draw: st.DrawFn, flow: FlowSpec) -> FlowSpec:
    """Draw what the steps of *flow* do the next time: some of them something else."""
    return change_steps(
        flow, lambda spec: change(spec, script=draw(st.sampled_from([spec.script, ("ok",), ("fail",)])))
    )


def change_steps(flow: FlowSpec, change_one: object) -> FlowSpec:
    """Return *flow* with each step changed, those of its sub-flows too."""

    def changed(spec: Spec) -> Spec:
        below = None if spec.flow is None else change_steps(spec.flow, change_one)
        return change(change_one(spec), flow=below, sub_steps=tuple(map(changed, spec.sub_steps)))

    return FlowSpec(flow.mode, tuple(map(changed, flow.steps)), flow.rollback, flow.name, flow.listed)


def calls_of(model: Model, top: str) -> Iterator[tuple[str, int]]:
    """Yield how often each handler is called, here and below."""
    for spec in model.flow.in_order:
        if spec.flow is None and (not isinstance(model, Rerun) or spec.final or spec.name in model.again):
            name = spec.name if model.flow.name == top else f"{model.flow.name}/{spec.name}"
            yield name, model.done[spec.name].attempts
    for below in model.tried:
        yield from calls_of(below, top)


@st.composite
def nested(draw: st.DrawFn) -> FlowSpec:
    """Draw a flow with sub-flows; every other one of which nothing rolls back, nor of what is below it."""
    words = (*["ok"] * 3, "fail")
    drawn = flows(words=words, triggers=TRIGGERS, nesting=2, most=5, undone=True)
    flow = draw(drawn.filter(lambda flow: any(flow.sub_flows())))
    return not_rolling_back(flow) if draw(st.booleans()) else flow


def not_rolling_back(flow: FlowSpec) -> FlowSpec:
    """Return *flow* such that neither it nor any of its sub-flows rolls back."""
    steps = tuple(change(spec, flow=spec.flow and not_rolling_back(spec.flow)) for spec in flow.steps)
    steps = tuple(change(spec, sub_steps=not_rolling_back(FlowSpec(flow.mode, spec.sub_steps)).steps) for spec in steps)
    return FlowSpec(flow.mode, steps, rollback=False, name=flow.name, listed=flow.listed)


def check_rerun(flow: FlowSpec, model: Model, performer: Performer, result: FlowResult) -> None:
    check_end(model, result)
    expected = Counter()
    for name, count in calls_of(model, flow.name):
        expected[name] += count
    assert Counter(name for entry, name, _ in performer.log if entry == "begin") == +expected
    check_order(flow, performer)


def run_and_rerun(flow: FlowSpec, again: list[FlowSpec], inputs: list[dict], room: int) -> None:
    store = open_store("memory:")
    model = Model(flow, INPUTS).run()
    with engine_for(Performer(flow), flow, room, store) as engine:
        result = engine.run(flow.build(), INPUTS)
    check_end(model, result)
    given_inputs = dict(INPUTS)
    for changed, more in zip(again, inputs, strict=True):
        given_inputs |= more
        model = Rerun(changed, given_inputs, before=model).run()
        performer = Performer(changed)
        with engine_for(performer, flow, room, store) as engine:
            result = engine.rerun(result.execution_id, inputs=more)
        check_rerun(changed, model, performer, result)


@runs(100)
@given(flow=flows(words=WORDS, triggers=TRIGGERS), room=ROOM, data=st.data())
def test_every_rerun_keeps_and_runs_what_the_model_says(flow, room, data):
    """And the rerun of that. Some steps do something else, and conditions may be met that were not."""
    again = [data.draw(mended(flow)) for _ in range(2)]
    inputs = [data.draw(st.sampled_from(OTHER_INPUTS)) for _ in range(2)]
    run_and_rerun(flow, again, inputs, room)


@runs(60)
@given(flow=nested(), data=st.data())
def test_so_does_every_rerun_of_flows_in_flows(flow, data):
    """What a sub-flow completed is kept, what was undone runs again, and nothing on top of what could not be."""
    again = [data.draw(mended(flow)) for _ in range(2)]
    inputs = [data.draw(st.sampled_from(OTHER_INPUTS)) for _ in range(2)]
    run_and_rerun(flow, again, inputs, 2)


# -- under a migrated definition ------------------------------------------------------------------------


@st.composite
def migrated(draw: st.DrawFn, flow: FlowSpec) -> FlowSpec:
    """Draw *flow* with one or two more steps, anywhere."""
    steps = list(flow.steps)
    for number in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(steps)))
        new = Spec(f"n{number}", script=draw(st.sampled_from([("ok",), ("fail",)])), rollbackable=True)
        if flow.mode is FlowMode.DAG:
            before = [spec.name for spec in steps[:at] if not spec.final]
            new = change(
                new, needs=tuple(draw(st.lists(st.sampled_from(before), max_size=2, unique=True)) if before else ())
            )
            for place in range(at, len(steps)):
                if not steps[place].final and draw(st.booleans()):
                    steps[place] = change(steps[place], needs=(*steps[place].needs, new.name))
        steps.insert(at, new)
    return FlowSpec(flow.mode, tuple(steps), flow.rollback, flow.name)


OUTCOMES = {
    "dependency failed": plan.Outcome.BLOCKED,
    "prior step failed": plan.Outcome.BLOCKED,
    "parent step failed": plan.Outcome.BLOCKED,
    "dependency skipped": plan.Outcome.UNMET,
}


def outcome_of(done: Outcome) -> plan.Outcome:
    """Return what a step's end is to its successors."""
    if done.caught:
        return plan.Outcome.CAUGHT
    if done.status in (COMPLETED, FAILED):
        return plan.Outcome.COMPLETED if done.status is COMPLETED else plan.Outcome.FAILED
    return OUTCOMES.get(done.error, plan.Outcome.PASSED)


def leave(store: object, flow: FlowSpec, kept: dict[str, Outcome]) -> str:
    """Write what is left of an execution whose process died after the steps *kept*."""
    definition = flow.build()
    record = ExecutionRecord("e", flow.name, WorkflowState.RUNNING, inputs=INPUTS, flow_id=definition.id)
    epoch = store.ledger.create(
        NewExecution(
            record=record, content_id=content_id(definition), flow=encode_flow(definition), owner="somebody", ttl=-1.0
        )
    )
    for seq, (name, done) in enumerate(kept.items()):
        result = StepResult(f"{flow.name}/{name}", name, done.status, done.output, attempts=done.attempts)
        result = attrs.evolve(result, error=done.error or None, is_caught=done.caught)
        data = encode_checkpoint(result, int(outcome_of(done)))
        store.ledger.apply([SaveStep("e", name, seq, data, None, epoch)])
    return "e"


@runs(100)
@given(flow=flows(words=MOSTLY_GOOD, triggers=TRIGGERS), room=ROOM, data=st.data())
def test_what_goes_on_under_a_migrated_definition_ends_as_the_model_says(flow, room, data):
    """With steps that are new before what has ended: that is not done again, and nothing overtakes them."""
    done, sources = Model(flow, INPUTS).run().done, sources_of(flow)
    kept: dict[str, Outcome] = {}
    for name in done:  # in an order in which they may have ended
        if sources[name] <= kept.keys() and data.draw(st.integers(0, 3)):
            kept[name] = done[name]
    changed = data.draw(migrated(flow))
    registry = MigrationRegistry(flow.name)
    registry.register(1, 2, lambda _: attrs.evolve(changed.build(), version=2))
    store, performer = open_store("memory:"), Performer(changed)
    execution_id = leave(store, flow, kept)
    with engine_for(performer, changed, room, store, migrations={flow.name: registry}) as engine:
        result = engine.resume(execution_id)
    model = Resumption(changed, INPUTS, kept=kept).run()
    check_end(model, result)
    check_order(changed, performer)
    calls = Counter(name for entry, name, _ in performer.log if entry == "begin")
    assert calls == {name: end.attempts for name, end in model.done.items() if end.attempts and name not in kept}
