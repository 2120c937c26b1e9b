"""Random flows against a small sequential model: every status, every reason, whatever the threads do."""

from collections import Counter
from itertools import groupby
from typing import Any

import attrs
import pytest
from helper_flows import (
    COMPLETED,
    EARLY,
    FAILED,
    ROLLED_BACK,
    SKIPPED,
    Condition,
    FlowSpec,
    Model,
    Outcome,
    Performer,
    Spec,
    attempt,
    outcomes,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pairs import FULL

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowMode,
    FlowResult,
    TriggerMode,
    WorkflowEvent,
    WorkflowState,
)

pytestmark = pytest.mark.slow

QUICK = (*["ok"] * 12, "fail", "fail", "skip", "fatal", "give up", "retry after", "exit")
MOSTLY_GOOD = (*["ok"] * 12, "fail")
WITH_TIME_OUTS = (*QUICK, *["hang"] * 3)
OUTPUTS = (None, 0, 1, True, "text", {"n": 1}, [1])
END_EVENTS = {"step_completed": COMPLETED, "step_failed": FAILED, "step_skipped": SKIPPED}
FLOW_ENDS = {"flow_completed", "flow_failed", "flow_cancelled", "flow_rolled_back"}

CALM = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def runs(examples: int) -> settings:
    """Return settings for a property that runs flows *examples* times; half as often without SZAL_TEST_FULL."""
    return settings(CALM, max_examples=examples if FULL else examples // 2)


# -- strategies --------------------------------------------------------------------------------------


@st.composite
def conditions(draw: st.DrawFn, seen: list[Spec], depth: int = 2) -> Condition:
    """Draw a condition on the steps *seen* before, and the inputs."""
    kinds = ["input"] + ["status"] * 4 * bool(seen) + ["not", "and", "or"] * bool(depth)
    with_output = [spec.name for spec in seen if spec.flow is None]
    kinds += ["output", "truth"] * bool(with_output)
    kind = draw(st.sampled_from(kinds))
    if kind == "input":
        return Condition(kind, (draw(st.sampled_from(["yes", "no", "missing"])),))
    if kind == "status":
        name = draw(st.sampled_from(seen)).name
        return Condition(kind, (name, draw(st.sampled_from(["completed", "completed", "failed", "skipped"]))))
    if kind == "output":
        return Condition(kind, (draw(st.sampled_from(with_output)), draw(st.sampled_from([0, 1]))))
    if kind == "truth":
        return Condition(kind, (draw(st.sampled_from(with_output)),))
    inner = conditions(seen, depth - 1)
    return Condition(kind, tuple(draw(inner) for _ in range(1 if kind == "not" else 2)))


@st.composite
def bare_steps(draw: st.DrawFn, name: str, words: tuple[str, ...]) -> Spec:
    """Draw what a step does, not yet where it stands."""
    script = draw(st.lists(st.sampled_from(words), min_size=1, max_size=3))
    if script.count("hang") > 1:
        script = ["hang"]
    return Spec(
        name,
        script=tuple(script),
        output=draw(st.sampled_from(OUTPUTS)),
        retries=0 if script == ["hang"] else draw(st.integers(0, 2)),
        limited=draw(st.booleans()),
        pinned=draw(st.integers(0, 3)) == 3,
        shared=draw(st.integers(0, 3)) == 3,
        rollbackable=draw(st.booleans()),
        stubborn=draw(st.integers(0, 9)) == 9,
        priority=draw(st.sampled_from((0, 0, 0, 1, -1))),
        half=draw(st.integers(0, 5)) == 5,
        caught=draw(st.integers(0, 5)) == 5,
        reason=draw(st.sampled_from(["nothing to do", "dependency failed", "prior step failed", "cancelled"])),
    )


@st.composite
def flows(
    draw: st.DrawFn,
    *,
    words: tuple[str, ...] = QUICK,
    name: str = "flow",
    nesting: int = 0,
    modes: tuple[FlowMode, ...] = (*FlowMode, FlowMode.DAG),
    most: int = 8,
    undone: bool = False,
    triggers: tuple[TriggerMode, ...] = tuple(TriggerMode),
    finals: int = 2,
    fast: bool = False,
) -> FlowSpec:
    """Draw a flow; with *nesting*, some of its steps run flows of their own, that deep; *undone*: they roll back.

    It has up to so many *finals*, finally steps. Where it is a line, it may be a *fast* one, which ends with its first
    failure.
    """
    mode = draw(st.sampled_from(modes))
    steps: list[Spec] = []
    before: list[set[int]] = []  # the places of the steps that each one waits for, directly or not
    surely: list[set[int]] = []  # those of them that must have ended when it begins
    for place in range(draw(st.integers(1, most))):
        spec = draw(bare_steps(f"s{place}", words))
        if nesting and draw(st.integers(0, 2)) == 0:
            options = {"nesting": nesting - 1, "undone": undone, "triggers": triggers, "finals": finals}
            flow = draw(flows(words=words, name=f"{name}-{place}", most=4, **options))
            spec = Spec(spec.name, flow=flow if undone else without_rollback(flow))
            spec = change(spec, retries=draw(st.integers(0, 1)) if undone else 0, caught=draw(st.integers(0, 5)) == 5)
        if mode is FlowMode.DAG:
            spec, behind, sure = draw(wired(spec, before, surely, triggers))
        else:
            behind = sure = set() if mode is FlowMode.PARALLEL else set(range(place))
        if draw(st.integers(0, 2)) == 0:
            seen = sure if spec.trigger in EARLY else behind
            spec = change(spec, condition=draw(conditions([steps[number] for number in sorted(seen)])))
        steps.append(spec)
        before.append(behind)
        surely.append(sure)
    listed = None
    if mode is FlowMode.HIERARCHICAL:
        steps = draw(trees(steps))
    for number in range(draw(st.sampled_from((0, 0, 1, 2))) if finals else 0):
        spec = change(draw(bare_steps(f"f{number}", words)), rollbackable=False, half=False, final=True)
        steps.insert(draw(st.integers(0, len(steps))), spec)
    fast = fast and mode.is_linear and draw(st.booleans())
    if mode is FlowMode.HIERARCHICAL:
        return FlowSpec(mode, tuple(steps), draw(st.booleans()), name, listed, fast)
    if mode is FlowMode.DAG:
        listed = tuple(draw(st.permutations(range(len(steps)))))
    return FlowSpec(mode, tuple(steps), draw(st.booleans()), name, listed, fast)


@st.composite
def wired(
    draw: st.DrawFn, spec: Spec, before: list[set[int]], surely: list[set[int]], triggers: tuple[TriggerMode, ...]
) -> tuple[Spec, set[int], set[int]]:
    """Draw what *spec* depends on; return it, what it waits for, directly or not, and which of it must have ended."""
    needs = draw(st.lists(st.sampled_from(range(len(before))), max_size=3)) if before else []
    trigger = draw(st.sampled_from([mode for mode in triggers if needs or mode not in EARLY]))
    behind = set().union(*({need} | before[need] for need in needs))
    join = set.intersection if trigger in EARLY else set.union
    sure = join(*({need} | surely[need] for need in needs)) if needs else set()
    return change(spec, needs=tuple(f"s{need}" for need in needs), trigger=trigger), behind, sure


@st.composite
def trees(draw: st.DrawFn, specs: list[Spec]) -> list[Spec]:
    """Draw a forest whose depth-first order is that of *specs*."""
    depths = [0]
    for _ in specs[1:]:
        depths.append(draw(st.integers(0, depths[-1] + 1)))
    levels: list[list[Spec]] = [[] for _ in range(max(depths) + 2)]
    for spec, depth in zip(reversed(specs), reversed(depths), strict=True):
        below, levels[depth + 1] = levels[depth + 1], []
        levels[depth].insert(0, change(spec, sub_steps=tuple(below)))
    return levels[0]


def change(spec: Spec, **changes: Any) -> Spec:
    """Return *spec* with some fields changed."""
    return Spec(**{**vars(spec), **changes})


def without_rollback(flow: FlowSpec) -> FlowSpec:
    """Return *flow* such that neither it nor a flow around it undoes any of its steps."""
    steps = tuple(_not_rollbackable(spec) for spec in flow.steps)
    return FlowSpec(flow.mode, steps, False, flow.name, flow.listed)


def _not_rollbackable(spec: Spec) -> Spec:
    return change(spec, rollbackable=False, half=False, sub_steps=tuple(map(_not_rollbackable, spec.sub_steps)))


INPUTS = {"yes": True, "no": ""}
ROOM = st.integers(1, 4)


# -- running and comparing ---------------------------------------------------------------------------


@attrs.define
class Run:
    """One run of a drawn flow, and what was heard of it."""

    result: FlowResult
    performer: Performer
    events: list[WorkflowEvent]

    @property
    def completion_order(self) -> list[str]:
        """The names of the steps that completed or failed, as the engine announced them."""
        ends = ("step_completed", "step_failed")
        return [event.step_name or "" for event in self.own_events if event.event_type in ends]

    @property
    def own_events(self) -> list[WorkflowEvent]:
        """The events of the run itself, without those of its sub-flows."""
        return [event for event in self.events if event.execution_id == self.result.execution_id]


def perform(flow: FlowSpec, room: int, *, cancel_at: int | None = None, timeout: float | None = None) -> Run:
    """Run *flow* with *room* threads, cancelled by handler call number *cancel_at*; 0 is before the start."""
    token = CancellationToken() if cancel_at is not None else None  # without one, chains run on this thread
    if cancel_at == 0:
        token.cancel()
    performer = Performer(flow, on_call=lambda count: count == cancel_at and token.cancel())
    events: list[WorkflowEvent] = []
    config = EngineConfig(
        max_concurrency=room,
        storage=flow.storage(),
        rollback_handler=performer.undo,
        event_sink=events.append,
        timeout=timeout,
    )
    try:
        with Engine(performer, config) as engine:
            result = engine.run(flow.build(), INPUTS, cancel=token)
    finally:
        performer.release.set()
    return Run(result, performer, events)


def check_outcomes(flow: FlowSpec, run: Run, model: Model) -> None:
    """Compare every step's result with the model's."""
    undone = {spec.name for spec in to_undo(flow, run)} if flow.rollback and not model.success else set()
    stuck = {spec.name for spec in to_undo(flow, run) if spec.stubborn} & undone
    seen, expected = {}, {}
    for spec, step in zip(flow.in_order, run.result.steps, strict=True):
        outcome = model.done[spec.name]
        status = ROLLED_BACK if spec.name in undone - stuck else outcome.status
        expected[spec.name] = (status, outcome.error or None, outcome.output, outcome.attempts)
        seen[step.step_name] = (step.status, step.error, step.output, step.attempts)
        if spec.flow is not None:  # what a sub-flow says of itself is another test's business
            expected[spec.name], seen[step.step_name] = expected[spec.name][:1], seen[step.step_name][:1]
    assert seen == expected
    assert run.result.success is model.success
    assert run.result.rolled_back is (flow.rollback and not model.success and not stuck)
    if model.success:
        assert run.result.state is WorkflowState.COMPLETED
    else:
        assert run.result.state is (WorkflowState.ROLLED_BACK if flow.rollback and not stuck else WorkflowState.FAILED)
    if stuck:
        assert all(name in (run.result.error or "") for name in stuck)


def to_undo(flow: FlowSpec, run: Run) -> list[Spec]:
    """Return the steps that have to be undone if the flow rolls back."""
    ends = {spec.name: run.result[spec.name].status for spec in flow.in_order}
    done = [spec for spec in flow.in_order if spec.undoable and ends[spec.name] in {COMPLETED, ROLLED_BACK}]
    return [*done, *(spec for spec in flow.in_order if spec.half and ends[spec.name] is FAILED)]


def check_undo(flow: FlowSpec, run: Run) -> None:
    """What is undone is undone in reverse order of completion, and only where the flow did not succeed."""
    undone = [name for name, _ in groupby(run.performer.logged("undo"))]
    if not flow.rollback or run.result.success:
        assert undone == []
        return
    expected = {spec.name for spec in to_undo(flow, run)}
    assert undone == [name for name in reversed(run.completion_order) if name in expected]
    assert set(undone) == expected
    # The announcements agree with what the handlers saw: who ended before another began is undone after it.
    begin, end = {}, {}
    for place, (entry, name, _) in enumerate(run.performer.log):
        if entry != "undo":
            (begin if entry == "begin" else end)[name] = place
    for place, later in enumerate(undone):
        assert not any(later in end and end[later] < begin[earlier] for earlier in undone[place + 1 :])


def check_events(run: Run) -> None:
    """Every step ends exactly once, as its result says, and the flow ends once."""
    ends = Counter((event.step_name, event.event_type) for event in run.own_events if event.event_type in END_EVENTS)
    expected = Counter()
    for step in run.result.steps:
        status = (FAILED if step.error else COMPLETED) if step.status is ROLLED_BACK else step.status
        expected[step.step_name, next(kind for kind, each in END_EVENTS.items() if each is status)] += 1
    assert ends == expected
    kinds = [event.event_type for event in run.own_events]
    assert kinds[0] == "flow_started"
    assert [kind for kind in kinds if kind in FLOW_ENDS] == kinds[-1:]
    starts = Counter(event.step_name for event in run.own_events if event.event_type == "step_started")
    assert set(starts.values()) <= {1}
    assert set(starts) == {step.step_name for step in run.result.steps if step.attempts}


def check_order(flow: FlowSpec, run: Run) -> None:
    """No step was started twice, and none before all that it has to wait for had ended."""
    began: dict[str, int] = {}
    ended: dict[str, int] = {}
    for place, (_, name, number) in enumerate(entry for entry in run.performer.log if entry[0] != "undo"):
        assert name not in began or number > 1 or run.result[name].attempts == 1
        began.setdefault(name, place)
        ended[name] = place
    before: list[str] = []
    for spec in flow.in_order:
        if flow.mode is FlowMode.DAG:
            before = [] if spec.trigger in EARLY else list(spec.needs)
        if spec.name in began:
            needs = [each.name for each in flow.in_order if not each.final] if spec.final else before
            assert all(ended[name] < began[spec.name] for name in needs if name in ended)
        if flow.mode in {FlowMode.SEQUENTIAL, FlowMode.HIERARCHICAL} and not spec.final:
            before.append(spec.name)


def check_run(flow: FlowSpec, run: Run) -> None:
    """Compare everything that a finished run has to show."""
    model = Model(flow, INPUTS).run()
    check_outcomes(flow, run, model)
    check_undo(flow, run)
    check_events(run)


@runs(150)
@given(flow=flows(fast=True), room=ROOM)
def test_every_flow_ends_as_the_model_says(flow, room):
    run = perform(flow, room)
    check_run(flow, run)
    check_order(flow, run)
    calls = Counter(name for entry, name, _ in run.performer.log if entry == "begin")
    assert calls == {step.step_name: step.attempts for step in run.result.steps if step.attempts}


@runs(80)
@given(flow=flows(words=MOSTLY_GOOD), room=ROOM, data=st.data())
def test_what_completed_before_a_failure_is_undone_in_reverse(flow, room, data):
    """As above, but with more to undo."""
    failing = data.draw(st.sampled_from(flow.in_order[len(flow.in_order) // 2 :])).name
    steps = tuple(_rollbackable(spec, failing) for spec in flow.steps)
    flow = FlowSpec(flow.mode, steps, rollback=True, listed=flow.listed)
    check_run(flow, perform(flow, room))


def _rollbackable(spec: Spec, failing: str) -> Spec:
    sub_steps = tuple(_rollbackable(sub_step, failing) for sub_step in spec.sub_steps)
    script = ("fatal",) if spec.name == failing else spec.script
    return change(spec, sub_steps=sub_steps, script=script, rollbackable=not spec.final)


@runs(40)
@given(flow=flows(words=WITH_TIME_OUTS, most=6), room=ROOM)
def test_flows_with_time_outs_end_as_the_model_says(flow, room):
    check_run(flow, perform(flow, room))


@runs(60)
@given(flow=flows(nesting=2, most=4), room=st.sampled_from([1, 1, 2, 4]))
def test_flows_in_flows_end_as_the_model_says(flow, room):
    """Also with room for one handler: a step that waits for its flow holds none."""
    check_run(flow, perform(flow, room))


@runs(80)
@given(flow=flows(words=MOSTLY_GOOD, nesting=2, most=4, undone=True), room=ROOM)
def test_flows_in_flows_are_undone_as_the_model_says(flow, room):
    """Each sub-flow with what it belongs to, at once where it fails, and again before it is tried again."""
    run = perform(flow, room)
    model = Model(flow, INPUTS).run()
    assert {step.step_name: step.status for step in run.result.steps} == model.final
    ends = WorkflowState.FAILED if model.left or not model.rolls_back else WorkflowState.ROLLED_BACK
    assert run.result.state is (WorkflowState.COMPLETED if model.success else ends)
    assert run.result.rolled_back is (run.result.state is WorkflowState.ROLLED_BACK)
    assert all(name in (run.result.error or "") for name in model.left if model.rolls_back)
    undos = Counter(name for entry, name, number in run.performer.log if entry == "undo" and number == 1)
    assert undos == Counter(step if name == flow.name else f"{name}/{step}" for name, step in model.all_undone())
    check_events(run)


@runs(40)
@given(flow=flows(nesting=1, most=7))
def test_the_outcome_is_the_same_however_many_run_at_once(flow):
    alone, *others = (perform(flow, room).result for room in (1, 2, 3, 16))
    for other in others:
        assert outcomes(other) == outcomes(alone)
        assert (other.success, other.state, other.outputs) == (alone.success, alone.state, alone.outputs)


@runs(50)
@given(flow=flows(modes=(FlowMode.SEQUENTIAL,)), room=ROOM)
def test_a_sequence_is_a_hierarchy_without_sub_steps_and_a_chain_of_a_dag_unless_it_fails(flow, room):
    as_hierarchy = FlowSpec(FlowMode.HIERARCHICAL, flow.steps, flow.rollback)
    first, second = perform(flow, room).result, perform(as_hierarchy, room).result
    assert outcomes(first) == outcomes(second)
    chain = [
        change(spec, needs=tuple(each.name for each in flow.steps[:place] if spec.final or not each.final))
        for place, spec in enumerate(flow.steps)
    ]
    third = perform(FlowSpec(FlowMode.DAG, tuple(chain), flow.rollback), room).result
    as_chain = {
        name: (status, "prior step failed" if error == "dependency failed" and third[name].attempts == 0 else error)
        for name, (status, error) in outcomes(third).items()
    }
    assert as_chain == outcomes(first)


# -- cancelled at a random moment -----------------------------------------------------------------------


def check_cancelled(flow: FlowSpec, run: Run) -> None:
    """What holds whenever a run is cancelled: what ran ended as its handler did, the rest is skipped."""
    model = Model(flow, INPUTS).run()
    assert [step.step_name for step in run.result.steps] == [spec.name for spec in flow.in_order]
    calls = Counter(name for entry, name, _ in run.performer.log if entry == "begin")
    undone = {spec.name for spec in to_undo(flow, run) if not spec.stubborn} if flow.rollback else set()
    for spec, step in zip(flow.in_order, run.result.steps, strict=True):
        if spec.final:  # nothing of that reaches it
            assert (step.status, step.attempts) == (model.final[spec.name], model.done[spec.name].attempts)
        if spec.flow is None:
            expect_consistent(spec, step, calls[spec.name], model.done[spec.name])
        if not run.result.success:
            assert (step.status is ROLLED_BACK) is (spec.name in undone)
    cut_short = any(  # a step may give "cancelled" as a reason of its own, and pass it down
        step.error == "cancelled" and not step.attempts and model.done[step.step_name].error != "cancelled"
        for step in run.result.steps
    )
    if cut_short:
        assert not run.result.success
        stuck = flow.rollback and any(spec.stubborn for spec in to_undo(flow, run))
        rolled_back = WorkflowState.FAILED if stuck else WorkflowState.ROLLED_BACK
        assert run.result.state is (rolled_back if flow.rollback else WorkflowState.CANCELLED)
    check_undo(flow, run)
    check_events(run)


def expect_consistent(spec: Spec, step: Any, calls: int, outcome: Outcome) -> None:
    """Compare the result of a step with what its handler did, in a run that was cut short somewhere."""
    assert step.attempts == calls
    if not calls:
        reasons = {"cancelled"} if outcome.attempts else {"cancelled", outcome.error}
        assert step.status is SKIPPED
        assert step.error in reasons
        return
    last = spec.word(calls)
    if last == "ok":
        assert (step.status in {COMPLETED, ROLLED_BACK}, step.output) == (True, spec.output)
    elif last == "skip":
        assert (step.status, step.error) == (SKIPPED, spec.reason)
    else:
        assert step.status is FAILED or (spec.half and step.status is ROLLED_BACK)
        if calls == attempt(spec).attempts:  # cancelled in its last attempt, a step may not speak of retries
            assert attempt(spec).error.endswith(step.error)


@runs(150)
@given(flow=flows(), room=ROOM, moment=st.integers(0, 8))
def test_whenever_a_run_is_cancelled_every_step_has_its_one_result(flow, room, moment):
    run = perform(flow, room, cancel_at=moment)
    check_cancelled(flow, run)
    finals = {spec.name for spec in flow.finals}
    calls = sum(name not in finals for name in run.performer.logged("begin"))
    if moment == 0:
        assert calls == 0
        assert {step.error for step in run.result.steps if step.step_name not in finals} == {"cancelled"}
    elif moment <= calls:  # the others had room - 1 handlers at work, or just about to be
        assert calls <= moment + room - 1, "a handler was called after the cancellation"


@runs(30)
@given(flow=flows(words=WITH_TIME_OUTS, most=6), room=ROOM, moment=st.integers(1, 4))
def test_cancelled_among_time_outs(flow, room, moment):
    check_cancelled(flow, perform(flow, room, cancel_at=moment))


@runs(40)
@given(flow=flows(nesting=2, most=4, finals=0), room=ROOM, moment=st.integers(0, 6))
def test_cancelled_in_a_flow_in_a_flow(flow, room, moment):
    run = perform(flow, room, cancel_at=moment)
    check_cancelled(flow, run)
    assert len(run.performer.logged("begin")) <= (moment + room - 1 if moment else 0)


@runs(60)
@given(flow=flows(), room=ROOM)
def test_cancelled_from_another_thread(flow, room):
    performer, events = Performer(flow), []
    config = EngineConfig(max_concurrency=room, rollback_handler=performer.undo, event_sink=events.append)
    with Engine(performer, config) as engine:
        execution = engine.start(flow.build(), INPUTS)
        execution.cancel()
        result = execution.result(20)
    check_cancelled(flow, Run(result, performer, events))


# -- past the flow's limit --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FlowMode, ids=str)
@runs(8)
@given(data=st.data(), room=st.integers(2, 4))
def test_past_its_limit_every_step_of_a_flow_has_its_one_result(data, mode, room):
    flow = data.draw(flows(modes=(mode,), most=6))
    stuck = data.draw(st.sampled_from([spec for spec in flow.in_order if not spec.final])).name
    flow = FlowSpec(mode, tuple(_with_stuck(spec, stuck) for spec in flow.steps), flow.rollback, listed=flow.listed)
    model = Model(flow, INPUTS).run()  # for which the step that is stuck fails at its own limit
    run = perform(flow, room, timeout=0.03)
    result = run.result
    if not model.done[stuck].attempts:
        assert result[stuck].status is SKIPPED
        return
    assert result[stuck].error == "flow timeout exceeded" or result[stuck].error_type == "StepTimeout"
    assert not result.success
    assert result.state in (
        {WorkflowState.ROLLED_BACK, WorkflowState.FAILED} if flow.rollback else {WorkflowState.FAILED}
    )
    for spec, step in zip(flow.in_order, result.steps, strict=True):
        late = step.error == "flow timeout exceeded" or step.error_type == "StepTimeout"
        assert not (late and spec.final)
        done = model.done[spec.name]
        is_cut_short = step.attempts < done.attempts  # between two of them
        assert late or is_cut_short or done.error.endswith(step.error or "")
    check_undo(flow, run)
    check_events(run)


class Stuck(Spec):
    """A step that runs past every limit but has none of its own."""

    def limit(self) -> float | None:
        return None


def _with_stuck(spec: Spec, name: str) -> Spec:
    fields = vars(spec) | {"sub_steps": tuple(_with_stuck(sub_step, name) for sub_step in spec.sub_steps)}
    if spec.name != name:
        return Spec(**fields)
    return Stuck(**(fields | {"script": ("hang",), "retries": 0, "pinned": False}))
