"""What a failed command printed, recorded."""

import pytest
from helper_engine import statuses

from szal import FlowDef, FlowMode, Handlers, StepDef, TriggerMode, WorkflowState

CAME_TO = {"exit_code": 3, "stdout": "1 of 5 tests failed", "stderr": "a warning"}
FAILS = StepDef(
    "fails",
    step_type="shell",
    config={"run": "[ -e mended ] || { echo '1 of 5 tests failed'; echo 'a warning' >&2; exit 3; }"},
)
AFTER = StepDef(
    "after",
    config="{{steps.fails.output.stdout}}",
    depends_on=[FAILS],
    trigger_mode=TriggerMode.ALL_DONE,
)
FLOW = FlowDef("flow", FlowMode.DAG, steps=[FAILS, AFTER])


@pytest.fixture
def handlers():
    handlers = Handlers()
    handlers.step("after")(lambda ctx: ctx.config)
    return handlers


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("durability", ["flow", "step"])
def test_it_is_in_the_record(new_engine, handlers, store, durability):
    new_engine(handlers, durability=durability).run(FLOW, execution_id="e")
    found = store.get("e").result
    assert (found["fails"].output, found["after"].output) == (CAME_TO, "1 of 5 tests failed")


def test_it_is_there_for_what_runs_after_an_interruption(new_engine, handlers):
    def interrupted(_):
        raise KeyboardInterrupt

    first = Handlers()
    first.step("after")(interrupted)
    with pytest.raises(KeyboardInterrupt):
        new_engine(first).run(FLOW, execution_id="e")
    result = new_engine(handlers).resume("e")
    assert (result["fails"].output, result["after"].output) == (CAME_TO, "1 of 5 tests failed")


def test_a_rerun_does_the_step_again(new_engine, handlers, store, here):
    engine = new_engine(handlers)
    failed = engine.run(FLOW)
    assert failed.state is WorkflowState.FAILED
    (here / "mended").touch()
    again = engine.rerun(failed.execution_id, "fails")
    assert statuses(again) == {"fails": "completed", "after": "completed"}
    assert again["fails"].output["stdout"] == ""
