"""Steps that wait, and whose run is cancelled, runs out of time, or has given them a limit."""

import threading

import pytest
from durable.children import Child
from helper_engine import bounded, statuses, waited

from szal import CancellationToken, Engine, FlowDef, FlowMode, InMemoryStorage, StepDef, WorkflowState

LONG = 3600.0


def nap(name="nap", seconds=LONG, **options):
    return StepDef(name, step_type="sleep", config={"seconds": seconds}, **options)


def ask(name="ask", **options):
    config = {"signal": "approve", **options.pop("config", {})}
    return StepDef(name, step_type="wait", config=config, **options)


def waiting(new_engine, flow, **config):
    """Start a run, and return its engine and its handle once its handler runs beside the step that waits."""
    begun = threading.Event()

    def handler(ctx):
        begun.set()
        ctx.sleep(20)
        return ctx.step.name

    engine = new_engine(handler, **config)
    execution = engine.start(flow)
    waited(begun)
    return engine, execution


@pytest.mark.parametrize("step", [nap(), ask(), ask(config={"timeout": LONG, "default": 1})])
def test_a_cancellation_ends_a_wait_at_once(new_engine, store, step):
    flow = FlowDef("beside", FlowMode.DAG, steps=[StepDef("busy"), step, StepDef("after", depends_on=[step])])
    _, execution = waiting(new_engine, flow, cancel_grace=30)
    execution.cancel()
    result = execution.result(timeout=20)
    assert result.state is WorkflowState.CANCELLED
    assert statuses(result) == {"busy": "completed", step.name: "skipped", "after": "skipped"}
    assert result[step.name].error == "cancelled"
    assert store.get(result.execution_id).state is WorkflowState.CANCELLED


@pytest.mark.parametrize("step", [nap(), ask()])
def test_the_time_limit_of_a_flow_ends_a_wait(new_engine, step):
    busy = StepDef("busy")
    flow = FlowDef("late", FlowMode.DAG, steps=[busy, step, StepDef("after", depends_on=[step])], timeout=1.5)
    _, execution = waiting(new_engine, flow)
    result = execution.result(timeout=20)
    assert (result.state, result.error) == (WorkflowState.FAILED, "flow timeout exceeded")
    assert statuses(result) == {"busy": "failed", step.name: "failed", "after": "skipped"}
    assert result[step.name].error_type == "StepTimeout"


def test_the_limit_of_a_sleep_step_ends_it(new_engine):
    result = bounded(new_engine().run, FlowDef("nap", steps=[nap(timeout=0.05), StepDef("last")]))
    assert result["nap"].error == "step timeout: nap after 50ms"
    assert statuses(result) == {"nap": "failed", "last": "skipped"}


def test_each_attempt_of_a_sleep_step_has_its_own_limit(new_engine):
    flow = FlowDef("nap", steps=[nap(timeout=0.03, max_retries=1, retry_delay=0.0)])
    result = bounded(new_engine().run, flow)
    assert result["nap"].attempts == 2
    assert result["nap"].duration >= 0.06


def test_the_limit_of_a_wait_step_ends_it_whatever_its_default(new_engine):
    flow = FlowDef("asking", steps=[ask(timeout=0.05, config={"timeout": LONG, "default": "yes"})])
    engine = new_engine()
    result = engine.run(flow, execution_id="e")
    while result.state is WorkflowState.PAUSED:
        result = bounded(engine.resume, "e")
    assert result["ask"].error == "step timeout: ask after 50ms"


def test_a_cancelled_sub_flow_that_waits_ends_with_its_parent(new_engine, store):
    inner = FlowDef("inner", steps=[nap()])
    steps = [StepDef("busy"), StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})]
    outer = FlowDef("outer", FlowMode.PARALLEL, steps=steps)
    _, execution = waiting(new_engine, outer, storage=InMemoryStorage([inner]))
    execution.cancel()
    assert execution.result(timeout=20).state is WorkflowState.CANCELLED
    assert {store.get(each).state for each in store.list()} == {WorkflowState.CANCELLED}


def test_without_a_store_a_sleep_is_cancelled_too():
    token, begun = CancellationToken(), threading.Event()
    flow = FlowDef("nap", FlowMode.PARALLEL, steps=[StepDef("busy"), nap()])
    with Engine(lambda ctx: begun.set() or ctx.sleep(20)) as engine:
        execution = engine.start(flow, cancel=token)
        waited(begun)
        token.cancel()
        assert statuses(execution.result(timeout=20)) == {"busy": "completed", "nap": "skipped"}


def test_ctrl_c_ends_a_sleep(store_url):
    code = """
    steps = [StepDef("first"), StepDef("nap", step_type="sleep", config={"seconds": 3600})]
    engine = new_engine(event_sink=lambda event: tell(event.event_type, event.step_name))
    try:
        engine.run(FlowDef("nap", steps=steps), execution_id="e")
    except KeyboardInterrupt:
        tell(sink.get("e").state)
    """
    with Child(code, store_url) as child:
        while child.hear() != "step_started nap":
            pass
        child.process.send_signal(2)
        assert child.hear() == "flow_paused None"
        assert child.hear() == "paused"
        child.end()
