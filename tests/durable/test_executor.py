"""An executor that breaks in the middle of an execution: what was in flight fails once, the rest waits for another."""

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
import remote_handlers as handlers
from helper_engine import LONG, bounded, errors, statuses

from szal import ExecutorBroken, FlowDef, FlowMode, StepDef


def new_pool():
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def test_a_worker_that_dies_fails_what_was_in_flight_once_and_another_pool_goes_on(new_engine, store, tmp_path):
    """A step that may be tried again is left, as no attempt of it can be made; so is what comes after it."""
    inputs = {"go": str(tmp_path / "go")}
    steps = [StepDef("first"), StepDef("dies", max_retries=3, retry_delay=0, idempotent=False), StepDef("last")]
    flow = FlowDef("f", steps=steps)
    retries = []

    def noted(event):
        if event.event_type == "step_retry":
            retries.append(event.error)

    with new_pool() as pool:
        engine = new_engine(handlers.die_once, executor=pool, event_sink=noted)
        with pytest.raises(ExecutorBroken, match="the executor took step dies no more: BrokenProcessPool"):
            bounded(engine.run, flow, inputs, execution_id="x")
    assert [retry.partition(":")[0] for retry in retries] == ["BrokenProcessPool"]
    assert (str(store.get("x").state), store.get("x").error) == ("running", None)
    (tmp_path / "go").touch()
    with ThreadPoolExecutor(1) as pool:
        result = new_engine(handlers.die_once, executor=pool).resume("x")
    assert (result.success, set(statuses(result).values())) == (True, {"completed"})


def test_a_step_that_is_not_tried_again_fails_and_its_flow_with_it(new_engine, tmp_path):
    flow = FlowDef("f", steps=[StepDef("dies"), StepDef("last")])
    with new_pool() as pool:
        engine = new_engine(handlers.die_once, executor=pool)
        result = bounded(engine.run, flow, {"go": str(tmp_path / "go")}, execution_id="x")
    assert errors(result)["dies"].startswith("BrokenProcessPool: ")
    assert (str(result.state), statuses(result)["last"]) == ("failed", "skipped")


def test_an_undo_that_nobody_can_do_is_done_by_who_goes_on(new_engine, store, tmp_path):
    inputs = {"go": str(tmp_path / "go"), "log": str(tmp_path / "log")}
    flow = FlowDef("f", rollback_on_failure=True, steps=[StepDef("a", rollbackable=True), StepDef("dies")])
    with new_pool() as pool:
        engine = new_engine(handlers.die_once, executor=pool, rollback_handler=handlers.undo)
        with pytest.raises(ExecutorBroken, match="took step a no more"):
            bounded(engine.run, flow, inputs, execution_id="x")
    assert str(store.get("x").state) == "rolling_back"
    with ThreadPoolExecutor(1) as pool:
        result = new_engine(handlers.die_once, executor=pool, rollback_handler=handlers.undo).resume("x")
    assert (str(result.state), statuses(result)["a"]) == ("rolled_back", "rolled_back")
    assert str(os.getpid()) in (tmp_path / "log").read_text()


def test_a_worker_whose_executor_takes_nothing_more_ends_and_leaves_what_it_had_to_others(new_engine, store):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    flow = FlowDef("f", steps=[StepDef("a")])
    new_engine([]).submit(flow, execution_id="x")
    with pytest.raises(ExecutorBroken, match="took step a no more"):
        bounded(new_engine(handlers.nothing, executor=pool).work)
    assert str(store.get("x").state) == "running"
    with ThreadPoolExecutor(1) as pool:
        assert bounded(new_engine(handlers.nothing, executor=pool).work, until_idle=True) == 1
    assert str(store.get("x").state) == "completed"


def test_a_step_that_must_not_run_twice_and_was_not_taken_has_not_begun(new_engine, store):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a", idempotent=False), StepDef("b")])
    with pytest.raises(ExecutorBroken):
        bounded(new_engine(handlers.nothing, executor=pool).run, flow, execution_id="x")
    with ThreadPoolExecutor(1) as pool:
        assert bounded(new_engine(handlers.nothing, executor=pool).resume, "x", timeout=LONG).success
