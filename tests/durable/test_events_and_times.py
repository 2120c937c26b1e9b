"""Events of what is recorded, and times that outlive a process."""

import sqlite3
import threading
import time
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest
from durable.children import killed
from helper_engine import bounded
from pairs import beside
from processes import wait_until

from szal import FlowDef, FlowMode, InMemoryStorage, StepDef, WorkflowState

DELAY = 1.5  # seconds between two attempts


@pytest.fixture
def other(store_url):
    """A connection of the test's own."""
    if store_url.startswith("sqlite"):
        path = store_url.removeprefix("sqlite:///")
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    else:
        connection = psycopg.connect(store_url, autocommit=True)
    with closing(connection):
        yield connection


def test_a_pause_is_told_once_it_is_committed(new_engine, store, other):
    """The database is locked when the wait begins, and is free again a moment later."""
    states, unlocking = [], []

    def unlock():
        time.sleep(0.4)
        other.execute("ROLLBACK")

    def listen(event):
        if (event.step_name, event.event_type) == ("ask", "step_started"):
            if isinstance(other, sqlite3.Connection):
                other.execute("BEGIN IMMEDIATE")
            else:
                other.execute("BEGIN")
                other.execute("LOCK TABLE szal_executions IN EXCLUSIVE MODE")
            unlocking.append(threading.Thread(target=unlock, daemon=True))
            unlocking[0].start()
        elif event.event_type == "flow_paused":
            states.append(store.get("e").state)

    engine = new_engine(event_sink=listen)
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("ask", step_type="wait", config={"signal": "go"})])
    assert bounded(engine.run, flow, execution_id="e").state is WorkflowState.PAUSED
    assert states == [WorkflowState.PAUSED]
    unlocking[0].join(30)


def test_an_end_is_told_once_it_is_committed(new_engine, store, kind):
    states = []

    def listen(event):
        if event.event_type in ("flow_completed", "flow_failed"):
            states.append(str(store.get(event.execution_id).state))

    def handler(ctx):
        if ctx.inputs["fails"]:
            raise ValueError("no")

    engine = new_engine(handler, event_sink=listen)
    for fails in (False, True):
        bounded(engine.run, FlowDef("f", steps=[StepDef("a")]), {"fails": fails})
    assert states == ["completed", "failed"]


STEPS = {
    "a sub-flow": """StepDef("step", step_type="sub_flow", config={"flow_name": "inner"}, **policy)""",
    "a wait": """StepDef("step", step_type="wait", config={"signal": "go", "timeout": 0}, **policy)""",
    "a sleep": """StepDef("step", step_type="sleep", config={"seconds": 60}, timeout=0.01, **policy)""",
}


@pytest.mark.parametrize(("what", "kind"), beside([*STEPS], ["sqlite", "postgres"]))
def test_a_back_off_that_a_crash_interrupts_goes_on_where_it_was(store_url, new_engine, what):
    """The process dies in the wait between two attempts, and another goes on when that should be over."""
    code = f"""
    policy = {{"max_retries": 1, "retry_delay": {DELAY}}}

    def listen(event):
        if event.event_type == "step_retry":
            died.set()

    def handler(ctx):
        raise ValueError("the first attempt")

    died = threading.Event()
    inner = FlowDef("inner", steps=[StepDef("in")])
    flow = FlowDef("f", steps=[{STEPS[what]}])
    engine = new_engine(handler, event_sink=listen, storage=InMemoryStorage([inner]))
    engine.start(flow, execution_id="e")
    died.wait(30)
    time.sleep(0.2)  # what is recorded of the back-off is recorded by now
    die()
    """
    killed(code, store_url)
    time.sleep(DELAY)
    events = []
    storage = InMemoryStorage([FlowDef("inner", steps=[StepDef("in")])])
    engine = new_engine(event_sink=events.append, storage=storage)
    began = time.monotonic()
    result = bounded(engine.resume, "e", timeout=30)
    while (
        result.state is WorkflowState.PAUSED and time.monotonic() < began + 2 * DELAY
    ):  # a wait that began again, with its time still to come
        result = bounded(engine.resume, "e", timeout=30)
    took = time.monotonic() - began
    assert [event.event_type for event in events if event.event_type == "step_retry"] == []
    assert took < 0.75 * DELAY
    assert result["step"].attempts == 2
    if what == "a sub-flow":
        assert result.success
    else:
        assert result["step"].error.startswith("retry exhausted: step after 2 attempts")


@pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.PARALLEL])
def test_a_retry_is_told_once_for_each_attempt_that_failed(new_engine, mode, kind):
    events = []

    def handler(ctx):
        if ctx.attempt < 3:
            raise ValueError("not yet")

    engine = new_engine(handler, event_sink=events.append)
    steps = [StepDef("a", max_retries=3, retry_delay=0.01), StepDef("b", max_retries=3, retry_delay=0.01)]
    assert bounded(engine.run, FlowDef("f", mode, steps=steps)).success
    retries = [(event.step_name, event.attempt) for event in events if event.event_type == "step_retry"]
    assert sorted(retries) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_a_signal_from_another_engine_is_heard_while_a_handler_is_at_work(new_engine):
    begun, shipped = threading.Event(), threading.Event()

    def handler(ctx):
        if ctx.step.name == "ship":
            return shipped.set()
        begun.set()
        return shipped.wait(40)

    ask = StepDef("ask", step_type="wait", config={"signal": "go"})
    steps = [ask, StepDef("ship", depends_on=[ask]), StepDef("long")]
    engine, other = new_engine(handler, lease_ttl=0.6), new_engine()

    def send():
        wait_until(begun.is_set)
        other.signal("e", "go")

    threading.Thread(target=send, daemon=True).start()
    result = bounded(engine.run, FlowDef("f", FlowMode.DAG, steps=steps), execution_id="e")
    assert result["long"].output is True


def test_what_went_on_took_as_long_as_from_its_start_to_its_end(new_engine, store):
    """It begins, waits for an hour, and goes on; what is run again begins then."""
    told = []
    engine = new_engine(event_sink=lambda event: told.append((event.event_type, event.duration)))
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "go"}), StepDef("fail")])
    engine.run(flow, execution_id="e")
    paused = store.get("e")
    paused.started_at -= timedelta(hours=1)
    store.save(paused)
    engine.signal("e", "go")
    result = engine.resume("e")
    assert 3600 <= result.total_duration < 3700
    assert result.total_duration == pytest.approx(
        (store.get("e").finished_at - store.get("e").started_at).total_seconds(), abs=1
    )
    assert told[-1] == (f"flow_{result.state}", result.total_duration)
    assert engine.rerun("e", "ask").total_duration < 60
