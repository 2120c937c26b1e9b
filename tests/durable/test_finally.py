"""Finally steps of executions that outlive a process: they run once all else is over, whoever gets them done."""

import os
import signal
import threading

import pytest
from durable.children import killed
from helper_engine import waited
from helper_flows import COMPLETED, outcomes

from szal import FlowDef, FlowEnd, FlowMode, InMemoryStorage, StepDef, UnknownOutcome, WorkflowState
from szal.engine.lineage import child_id
from szal.engine.part import Part

DONE = (COMPLETED, None)


def last(name="tell", **options):
    return StepDef(name, finally_=True, **options)


@pytest.mark.parametrize("durability", ["flow", "step"])
def test_the_record_runs_until_the_last_is_over_and_has_them(store, new_engine, durability):
    states = []

    def handle(ctx):
        if ctx.step.finally_:
            states.append(store.get(ctx.execution_id).state)
        if ctx.step.name == "b":
            raise ValueError("broken")

    flow = FlowDef("flow", steps=[StepDef("a", rollbackable=True), StepDef("b"), last()])
    assert new_engine(handle, durability=durability).run(flow, execution_id="one").state is WorkflowState.FAILED
    flow.rollback_on_failure = True
    engine = new_engine(handle, durability=durability, rollback_handler=lambda ctx: None)
    assert engine.run(flow, execution_id="two").state is WorkflowState.ROLLED_BACK
    assert states == [WorkflowState.RUNNING, WorkflowState.ROLLING_BACK]
    assert outcomes(store.get("two").result)["tell"] == DONE


CRASHING = """
    flow = FlowDef("flow", FlowMode.DAG, rollback_on_failure=True)
    a = flow.add_step(StepDef("a", rollbackable=True))
    flow.add_step(StepDef("b", depends_on=a))
    c = flow.add_step(StepDef("c", finally_=True))
    flow.add_step(StepDef("d", finally_=True, depends_on=c))

    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "d":
            die()
        if ctx.step.name == "b" and sys.argv[3] == "fails":
            raise ValueError("broken")

    config = {"durability": "step", "rollback_handler": lambda ctx: add(sys.argv[2], "undo")}
    new_engine(handler, **config).run(flow, execution_id="e")
"""


@pytest.mark.parametrize("how", ["fails", "succeeds"])
def test_after_a_crash_in_one_of_them_they_run_and_nothing_else_does(store_url, store, new_engine, log, how):
    killed(CRASHING, store_url, log.path, how)
    before = log.lines
    fails = how == "fails"
    assert before == (["a", "b", "undo", "c", "d"] if fails else ["a", "b", "c", "d"])
    assert store.get("e").state is (WorkflowState.ROLLING_BACK if fails else WorkflowState.RUNNING)
    ends = []

    def handler(ctx):
        log.add(ctx.step.name)
        ends.append(ctx.flow)

    [result] = new_engine(handler, rollback_handler=lambda ctx: log.add("undo")).recover()
    assert log.lines[len(before) :] == ["d"]
    assert result.state is (WorkflowState.ROLLED_BACK if fails else WorkflowState.COMPLETED)
    error = "step 'b' failed: ValueError: broken" if fails else None
    assert ends == [FlowEnd(result.state, error, ("b",) if fails else ())]
    assert (result["c"].status, result["d"].status) == (COMPLETED, COMPLETED)


@pytest.mark.parametrize("end", ["succeeds", "fails", "is undone"])
def test_interrupted_in_one_the_flow_ends_as_it_would_have_once_somebody_goes_on(store, new_engine, end):
    flow = FlowDef("flow", steps=[StepDef("a", rollbackable=True), StepDef("b"), StepDef("c"), last()])
    flow.rollback_on_failure = end == "is undone"
    calls = []

    def handle(ctx):
        calls.append(ctx.step.name)
        if ctx.step.name == "b" and end != "succeeds":
            raise ValueError("broken")
        if calls.count("tell") == 1:
            os.kill(os.getpid(), signal.SIGINT)
            ctx.sleep(20)
            ctx.check()

    engine = new_engine(handle, rollback_handler=lambda ctx: calls.append("undo"))
    with pytest.raises(KeyboardInterrupt):
        engine.run(flow, execution_id="e")
    before = calls.copy()
    assert store.get("e").state is (WorkflowState.ROLLING_BACK if end == "is undone" else WorkflowState.RUNNING)
    result = new_engine(handle, rollback_handler=lambda ctx: calls.append("undo")).resume("e")
    ends = {"succeeds": "completed", "fails": "failed", "is undone": "rolled_back"}
    assert (str(result.state), calls[len(before) :]) == (ends[end], ["tell"])
    assert None not in store.get("e").result.steps


def test_drained_while_one_runs_it_ends_and_the_others_run_elsewhere(store, new_engine):
    begun, go_on, calls = threading.Event(), threading.Event(), []
    flow = FlowDef("flow", FlowMode.DAG, steps=[StepDef("a"), first := last("first"), last("second", depends_on=first)])

    def handle(ctx):
        calls.append(ctx.step.name)
        if ctx.step.name == "first":
            begun.set()
            waited(go_on)

    engine = new_engine(handle)
    execution = engine.start(flow, execution_id="e")
    waited(begun)
    closing = threading.Thread(target=engine.close, kwargs={"drain": 20})
    closing.start()
    go_on.set()
    assert execution.result(20).state is WorkflowState.RUNNING
    closing.join(20)
    [result] = new_engine(handle).recover()
    assert (result.state, calls) == (WorkflowState.COMPLETED, ["a", "first", "second"])


def test_a_cancelled_execution_that_waits_runs_them(store, new_engine):
    ask = StepDef("ask", step_type="wait", config={"signal": "go"})
    ends = []
    engine = new_engine(lambda ctx: ends.append(ctx.flow.state))
    flow = FlowDef("flow", steps=[ask, last()])
    assert engine.run(flow, execution_id="e").state is WorkflowState.PAUSED
    assert ends == []
    engine.cancel("e")
    [result] = engine.recover()
    assert (result.state, ends) == (WorkflowState.CANCELLED, [WorkflowState.CANCELLED])


def test_a_rerun_runs_them_again(new_engine):
    calls = []

    def handle(ctx):
        calls.append(ctx.step.name)
        if calls == ["a", "b"]:
            raise ValueError("broken")
        return ctx.step.name

    engine = new_engine(handle)
    engine.run(FlowDef("flow", steps=[StepDef("a"), StepDef("b"), last()]), execution_id="e")
    again = engine.rerun("e")
    assert (again.success, calls) == (True, ["a", "b", "tell", "b", "tell"])
    assert engine.rerun(again.execution_id, from_step="tell").success
    assert calls[5:] == ["tell"]


@pytest.mark.parametrize(
    ("part", "ran"), [(Part.only, ["b", "tell"]), (Part.from_step, ["b", "c", "tell"])], ids=["only", "from"]
)
def test_a_part_of_a_flow_has_them(part, ran):
    flow = FlowDef("flow", steps=[StepDef("a"), last(), StepDef("b"), StepDef("c")])
    found = part(flow, "b")
    assert (sorted(found.runs), found.needs) == (ran, ("a",))
    assert [step.name for step in Part.only(flow, "tell").flow.steps] == ["tell"]


def test_a_sub_flow_that_is_undone_later_does_not_run_them_again(store, new_engine):
    calls = []
    inner = FlowDef("inner", steps=[StepDef("x", rollbackable=True), last("inner tell")])
    steps = [StepDef("in", step_type="sub_flow", config={"flow_name": "inner"}), StepDef("b"), last()]
    flow = FlowDef("flow", steps=steps, rollback_on_failure=True)

    def handle(ctx):
        calls.append(ctx.step.name)
        if ctx.step.name == "b":
            raise ValueError("broken")

    config = {
        "storage": InMemoryStorage([inner]),
        "rollback_handler": lambda ctx: calls.append(f"undo {ctx.step.name}"),
    }
    result = new_engine(handle, **config).run(flow, execution_id="e")
    assert result.state is WorkflowState.ROLLED_BACK
    assert calls == ["x", "inner tell", "b", "undo x", "tell"]
    child = store.get(child_id("e", "in", 1)).result
    assert [(step.step_name, str(step.status)) for step in child.steps] == [
        ("x", "rolled_back"),
        ("inner tell", "completed"),
    ]


@pytest.mark.parametrize("how", ["cancel", "pause"])
def test_it_is_too_late_to_end_or_pause_what_has_nothing_but_these_left(new_engine, how):
    begun, go_on = threading.Event(), threading.Event()

    def handle(ctx):
        if ctx.step.finally_:
            begun.set()
            waited(go_on)

    engine = new_engine(handle)
    execution = engine.start(FlowDef("flow", steps=[StepDef("a"), last()]), execution_id="e")
    waited(begun)
    assert getattr(engine, how)("e") is False
    go_on.set()
    assert execution.result(20).state is WorkflowState.COMPLETED


INNER = FlowDef("inner", steps=[StepDef("send", idempotent=False), StepDef("each", foreach=[1, 2])])
OUTER = FlowDef(
    "outer",
    steps=[StepDef("a"), StepDef("tell", step_type="sub_flow", config={"flow_name": "inner"}, finally_=True)],
    rollback_on_failure=True,
    sub_flows=(INNER,),
)


@pytest.mark.parametrize("unsure", ["send", "each"])
@pytest.mark.parametrize("fails", [False, True])
def test_what_nobody_knows_of_in_a_sub_flow_is_a_failure_as_nobody_could_decide(new_engine, fails, unsure):
    def handle(ctx):
        if ctx.step.name == "a" and fails:
            raise ValueError
        if ctx.step.name == unsure and ctx.index != 0:
            raise UnknownOutcome("no answer")

    engine = new_engine(handle)
    result = engine.run(OUTER, execution_id="e")
    assert result.state is (WorkflowState.ROLLED_BACK if fails else WorkflowState.COMPLETED)
    assert "UnknownOutcome: no answer" in result["tell"].error


def test_a_crash_in_a_step_of_a_sub_flow_that_must_not_run_twice_is_its_failure(store_url, new_engine):
    code = """
    inner = FlowDef("inner", steps=[StepDef("send", idempotent=False)])
    tell = StepDef("tell", step_type="sub_flow", config={"flow_name": "inner"}, finally_=True)
    flow = FlowDef("outer", steps=[StepDef("a"), tell], sub_flows=(inner,))
    new_engine(lambda ctx: die() if ctx.step.name == "send" else None).run(flow, execution_id="e")
    """
    killed(code, store_url)
    calls = []
    [result] = new_engine(lambda ctx: calls.append(ctx.step.name)).recover()
    assert (result.state, calls) == (WorkflowState.COMPLETED, [])
    assert "send ended before it was decided whether it had been done" in result["tell"].error
