"""What docs/semantics.md promises and no other file tests."""

import threading

import pytest
from helper_engine import bounded, waited

from szal import CancellationToken, Engine, EngineConfig, FlowDef, FlowMode, InvalidFlow, StepDef, TriggerMode


def test_a_run_with_a_token_calls_no_handler_on_the_calling_thread():
    def call():
        flow = FlowDef("chain", steps=[StepDef("a"), StepDef("b")])
        return threading.current_thread(), engine.run(flow, cancel=CancellationToken()).outputs

    with Engine(lambda ctx: threading.current_thread()) as engine:
        calling, outputs = bounded(call)
    assert set(outputs) == {"a", "b"}
    assert calling not in outputs.values()


@pytest.mark.parametrize("mode", [mode for mode in FlowMode if mode is not FlowMode.DAG], ids=str)
@pytest.mark.parametrize("trigger", [TriggerMode.ALL_COMPLETED, TriggerMode.ALL_DONE], ids=str)
def test_triggers_are_for_dags(mode, trigger):
    flow = FlowDef("f", mode, steps=[StepDef("a"), StepDef("b", trigger_mode=trigger)])
    with pytest.raises(InvalidFlow, match=f"step 'b': trigger mode {trigger} in {mode} mode"):
        flow.validate()


def test_progress_is_told_on_the_thread_of_its_step():
    told, together = {}, threading.Barrier(2)

    def handler(ctx):
        together.wait(20)
        ctx.report("here")
        return threading.current_thread()

    def sink(progress):
        told[progress.step_name] = threading.current_thread()

    flow = FlowDef("two", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
    with Engine(handler, EngineConfig(progress_sink=sink)) as engine:
        result = bounded(engine.run, flow)
    assert told == result.outputs
    assert told["a"] is not told["b"]


def test_a_sleep_holds_no_worker():
    """With room for one handler; a flow that cannot go on while it sleeps would not end."""
    ran, token = threading.Event(), CancellationToken()
    nap = StepDef("nap", step_type="sleep", config={"seconds": 3600})
    flow = FlowDef("nap", FlowMode.PARALLEL, steps=[nap, StepDef("beside")])
    with Engine(lambda ctx: ran.set(), EngineConfig(max_concurrency=1)) as engine:
        execution = engine.start(flow, cancel=token)
        waited(ran)
        assert not execution.done
        token.cancel()
        execution.result(timeout=20)
