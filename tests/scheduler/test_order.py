"""What begins when, what is told in which order, and what nobody says any more."""

import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, suppress

import pytest
from helper_engine import bounded, run_new_python, statuses, waited
from processes import wait_until
from stores.samples import run_python

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    StepDef,
    WorkflowState,
)
from szal.errors import StoreUnavailable
from szal.stores import SqliteExecutionStore, open_store

SOON = 3.0  # for what takes milliseconds where it is right, in a test that has to go on where it is not
ENDS = ("step_completed", "step_failed", "step_skipped")


def sub_flow(name, flow):
    return StepDef(name, step_type="sub_flow", config={"flow_name": flow})


def nap(name="nap", seconds=0.01):
    return StepDef(name, step_type="sleep", config={"seconds": seconds})


def ask(name="ask", **config):
    return StepDef(name, step_type="wait", config={"signal": "go", **config})


def told_of(events, step):
    """Return the types of a step's events, in the order in which they came."""
    return [event.event_type for event in events if event.step_name == step]


@pytest.fixture
def sink():
    with open_store("memory:") as store, store.engine_sink() as opened:
        yield opened


# -- nothing holds up the coordinating thread while something else may come -----------------------------


@pytest.mark.parametrize("where", ["in the flow itself", "in a sub-flow"])
def test_what_waits_for_a_signal_begins_while_an_unrelated_handler_is_at_work(sink, where):
    begun, shipped = threading.Event(), threading.Event()

    def handler(ctx):
        if ctx.step.name == "ship":
            return shipped.set()
        if ctx.step.name == "first":
            return None
        begun.set()
        return shipped.wait(SOON)

    child = FlowDef("child", steps=[ask(), StepDef("ship")])
    steps = [first := StepDef("first"), StepDef("long", depends_on=[first])]
    if where == "in a sub-flow":
        steps.append(sub_flow("sub", "child"))
    else:
        steps += [waits := ask(), StepDef("ship", depends_on=[waits])]
    engine = Engine(handler, EngineConfig(execution_store=sink, storage=InMemoryStorage([child])))

    def send():
        waited(begun)
        engine.signal(wait_until(lambda: sink.list("child"))[0] if where == "in a sub-flow" else "e", "go")

    with engine:
        threading.Thread(target=send, daemon=True).start()
        result = bounded(engine.run, FlowDef("f", FlowMode.DAG, steps=steps), execution_id="e")
    assert result.success
    assert result["long"].output is True


def test_a_step_whose_start_is_being_committed_begins_beside_any_other(sink):
    paid = threading.Event()
    engine = Engine(
        lambda ctx: paid.set() if ctx.step.name == "pay" else paid.wait(SOON), EngineConfig(execution_store=sink)
    )
    with engine:
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("pay", idempotent=False), StepDef("long")])
        assert bounded(engine.run, flow)["long"].output is True


def test_what_waits_for_a_commit_begins_beside_any_other_step(tmp_path):
    """The outcome of `left` is committed first, that of `right` a moment later: then `right next` begins."""
    path = tmp_path / "szal.db"
    begun = threading.Event()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:

        def handler(ctx):
            name = ctx.step.name
            if name == "left":
                other.execute("BEGIN IMMEDIATE")
            elif name == "right":
                wait_until(lambda: isinstance(opened.stats().last_error, StoreUnavailable))
                threading.Thread(target=unlock, daemon=True).start()
            elif name == "right next":
                begun.set()
            return begun.wait(SOON) if name == "left next" else None

        def unlock():
            wait_until(lambda: opened.stats().pending == 2)
            other.execute("ROLLBACK")

        with SqliteExecutionStore.connect(path, busy_timeout=0.02) as store:
            store.migrate()
            opened = store.engine_sink()
            left, right = StepDef("left"), StepDef("right")
            steps = [left, right, StepDef("left next", depends_on=[left]), StepDef("right next", depends_on=[right])]
            config = EngineConfig(execution_store=opened, durability="step")
            with Engine(handler, config) as engine:
                result = bounded(engine.run, FlowDef("f", FlowMode.DAG, steps=steps))
            opened.close()
    assert result["left next"].output is True


def test_where_nothing_else_is_under_way_a_handler_is_called_on_the_thread_that_runs_the_flow(sink):
    with Engine(lambda ctx: threading.current_thread().name, EngineConfig(execution_store=sink)) as engine:
        result = engine.run(FlowDef("f", steps=[StepDef("a"), nap(), StepDef("b")]))
    assert result.outputs == {name: threading.current_thread().name for name in ("a", "b")} | {"nap": None}


# -- events and times -----------------------------------------------------------------------------------


def test_a_step_with_no_time_at_all_is_told_from_its_start_to_its_end():
    events = []
    with Engine(lambda ctx: None, EngineConfig(event_sink=events.append)) as engine:
        for _ in range(150):
            events.clear()
            steps = [StepDef(f"s{i}", timeout=0) for i in range(8)]
            bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=steps))
            for step in steps:
                assert told_of(events, step.name) == ["step_started", "step_timeout", "step_failed"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_that_begins_and_ends_while_a_timer_fires_is_told_from_its_start_to_its_end(fails):
    events, done, release = [], threading.Event(), threading.Event()

    def handler(ctx):
        if ctx.step.name == "hung":
            release.wait(SOON)
            return
        done.set()
        if fails:
            raise ValueError("no")

    def listen(event):
        """On the coordinating thread."""
        events.append(event)
        if (event.step_name, event.event_type) == ("hung", "step_started"):
            time.sleep(0.2)  # past both limits: both timers are due
        elif (event.step_name, event.event_type) == ("hung", "step_timeout"):
            waited(done)  # the place of what was left behind has gone to the next
            time.sleep(0.2)  # past its limit too

    try:
        with Engine(handler, EngineConfig(max_concurrency=1, event_sink=listen)) as engine:
            steps = [StepDef("hung", timeout=0.1), StepDef("quick", timeout=0.1)]
            bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=steps))
            told = told_of(events, "quick")
            assert told == ["step_started", "step_failed" if fails else "step_completed"]
            assert events[-1].event_type == "flow_failed"
    finally:
        release.set()


@pytest.mark.parametrize("where", ["a handler", "a sink of events"])
def test_a_sigint_handler_that_the_program_installs_during_a_run_stays(where):
    def mine(number, frame):
        raise AssertionError("nobody sent a signal")

    def install(*_):
        signal.signal(signal.SIGINT, mine)

    before = signal.getsignal(signal.SIGINT)
    config = EngineConfig(event_sink=install if where != "a handler" else None)
    try:
        with Engine(install if where == "a handler" else lambda ctx: None, config) as engine:
            assert engine.run(FlowDef("f", steps=[StepDef("a"), StepDef("b")])).success
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


CLOCK = """
    import threading
    from szal import *
    from szal import clock
    from szal.stores import open_store

    real, jump = clock.wall, [0.0]
    clock.wall = lambda: real() + jump[0]
    clock.wall_ns = lambda: int(clock.wall() * 1e9)
"""


def test_the_times_of_a_run_stay_in_order_when_the_system_clock_jumps(tmp_path):
    """Back, and forward."""
    code = f"""{CLOCK}
    def moment(value):
        return value.timestamp() if hasattr(value, "timestamp") else float(value)

    def run(seconds):
        events = []
        jump[0] = 0.0

        def handler(ctx):
            if ctx.step.name == "jumps":
                jump[0] = seconds

        store = open_store("memory:")
        config = EngineConfig(execution_store=store, event_sink=events.append)
        steps = [StepDef("a"), StepDef("jumps"), StepDef("b"), StepDef("c")]
        with Engine(handler, config) as engine:
            result = engine.run(FlowDef("f", steps=steps), execution_id="e")
        record = store.get("e")
        told = [moment(event.timestamp) for event in events]
        assert told == sorted(told), told
        assert told[-1] - told[0] < 60, told
        steps = [moment(record.started_at), *[moment(s.started_at) for s in result.steps], moment(record.finished_at)]
        assert steps[-1] - steps[0] < 60, steps
        assert all(0 <= after - before + 0.05 for before, after in zip(steps, steps[1:])), steps
        print("in order")

    run(-3600)
    run(3600)
    """
    done = run_new_python(tmp_path, code, timeout=30)
    assert done.stdout.split("\n") == ["in order", "in order", ""], done.stderr


def test_a_lease_in_memory_is_kept_when_the_system_clock_jumps(tmp_path):
    code = f"""{CLOCK}
    begun, go = threading.Event(), threading.Event()

    def handler(ctx):
        begun.set()
        go.wait(30)

    store = open_store("memory:")
    first = Engine(handler, EngineConfig(execution_store=store.engine_sink()))
    second = Engine(handler, EngineConfig(execution_store=store.engine_sink()))
    execution = first.start(FlowDef("f", steps=[StepDef("a")]), execution_id="e")
    begun.wait(30)
    jump[0] = 3600
    try:
        go_on = threading.Timer(0.5, go.set)
        go_on.start()
        second.resume("e")
    except ExecutionOwned:
        print("owned")
    go.set()
    execution.wait(30)
    """
    done = run_new_python(tmp_path, code, timeout=30)
    assert done.stdout.strip() == "owned", done.stderr


# -- what needs no worker waits for none -----------------------------------------------------------------


NEEDS_NO_WORKER = {
    "a sleep": (nap(), "step_started"),
    "a wait": (ask("nap"), "step_started"),
    "a sub-flow that only sleeps": (sub_flow("nap", "sleeps"), "step_started"),
    "a sub-flow that only waits": (sub_flow("nap", "waits"), "step_started"),
    "a step that is skipped": (StepDef("nap", condition="false"), "step_skipped"),
}


@pytest.mark.parametrize("limits", ["none", "all", "the last"])
@pytest.mark.parametrize("what", NEEDS_NO_WORKER)
def test_what_needs_no_worker_begins_while_all_workers_are_busy(sink, what, limits):
    step, word = NEEDS_NO_WORKER[what]
    seen, late = threading.Event(), threading.Event()

    def handler(ctx):
        if not late.is_set() and not seen.wait(SOON):
            late.set()

    def listen(event):
        if (event.step_name, event.event_type) == ("nap", word):
            seen.set()

    storage = InMemoryStorage([FlowDef("sleeps", steps=[nap("inner")]), FlowDef("waits", steps=[ask("inner")])])
    config = EngineConfig(max_concurrency=1, execution_store=sink, storage=storage, event_sink=listen)
    work = [
        StepDef(f"w{i}", timeout=9 if limits == "all" or (limits, i) == ("the last", 7) else None) for i in range(8)
    ]
    with Engine(handler, config) as engine:
        result = bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=[*work, step]))
    assert seen.is_set()
    assert not late.is_set()
    assert result.failed_count == 0


def test_with_the_usual_settings_a_sleep_begins_before_a_hundred_steps_are_done():
    begun, late, done = threading.Event(), threading.Event(), []

    def handler(ctx):
        if not late.is_set() and not begun.wait(SOON):
            late.set()
        done.append(ctx.step.name)

    def listen(event):
        if (event.step_name, event.event_type) == ("nap", "step_started"):
            begun.set()

    with Engine(handler, EngineConfig(event_sink=listen)) as engine:
        steps = [*(StepDef(f"w{i}") for i in range(100)), nap()]
        result = bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=steps))
    assert result.success
    assert len(done) == 100
    assert not late.is_set()


def test_what_begins_without_a_worker_leaves_the_limit_on_workers_as_it_is(sink):
    lock, running, peak = threading.Lock(), [0], [0]

    def handler(ctx):
        with lock:
            running[0] += 1
            peak[0] = max(peak[0], running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1

    steps = []
    for i in range(12):
        steps += [StepDef(f"w{i}"), StepDef(f"l{i}", timeout=9), nap(f"n{i}"), StepDef(f"no{i}", condition="false")]
    with Engine(handler, EngineConfig(max_concurrency=3, execution_store=sink)) as engine:
        assert bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=steps), timeout=30).success
    assert peak[0] <= 3


# -- what was left behind says nothing any more -----------------------------------------------------------


def test_an_attempt_that_was_left_behind_reports_nothing_beside_the_next_one():
    progress, second, said = [], threading.Event(), threading.Event()

    def handler(ctx):
        if ctx.attempt == 1:
            waited(second)
            ctx.report("late")
            said.set()
        else:
            ctx.report("first of the second")
            second.set()
            waited(said)
            ctx.report("last of the second")

    config = EngineConfig(progress_sink=lambda each: progress.append(each.data))
    with Engine(handler, config) as engine:
        steps = [StepDef("a", timeout=1.5, max_retries=1, retry_delay=0)]
        assert bounded(engine.run, FlowDef("f", steps=steps)).success
    assert progress == ["first of the second", "last of the second"]


@pytest.mark.parametrize("why", ["its limit", "its flow's limit", "a cancellation", "the limit of an undo"])
def test_an_attempt_that_was_left_behind_reports_nothing_after_its_run_has_ended(why):
    progress, begun, ended, said = [], threading.Event(), threading.Event(), threading.Event()

    def hangs(ctx):
        begun.set()
        waited(ended)
        ctx.report("late")
        said.set()
        return "late as well"

    def handler(ctx):
        if ctx.step.name == "fails":
            raise ValueError("so the other is undone")
        return None if why == "the limit of an undo" else hangs(ctx)

    token = CancellationToken()
    if why == "the limit of an undo":
        flow = FlowDef("f", steps=[StepDef("a", rollbackable=True, timeout=1.5), StepDef("fails")])
        flow.rollback_on_failure = True
    else:
        flow = FlowDef("f", steps=[StepDef("a", timeout=1.5 if why == "its limit" else None)])
        flow.timeout = 1.5 if why == "its flow's limit" else None
    config = EngineConfig(
        progress_sink=lambda each: progress.append(each.data), cancel_grace=0.05, rollback_handler=hangs
    )
    with Engine(handler, config) as engine:
        execution = engine.start(flow, cancel=token)
        waited(begun)
        if why == "a cancellation":
            token.cancel()
        result = execution.result(timeout=20)
        before = statuses(result)
        ended.set()
        waited(said)
    assert progress == []
    assert statuses(result) == before


def test_the_outcome_of_an_attempt_that_was_left_behind_counts_for_nothing():
    second, said = threading.Event(), threading.Event()

    def handler(ctx):
        if ctx.attempt == 1:
            waited(second)
            threading.Timer(0.1, said.set).start()
            return "late"
        second.set()
        waited(said)
        return "in time"

    with Engine(handler) as engine:
        flow = FlowDef("f", steps=[StepDef("a", timeout=1.5, max_retries=1, retry_delay=0)])
        assert bounded(engine.run, flow).outputs == {"a": "in time"}


# -- races ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        "cancelled",
        "left behind",
    ],
)
def test_every_thread_that_sleeps_for_one_handler_wakes(monkeypatch, how):
    """Two threads come to their first sleep at the same moment."""
    together, asleep, slept = threading.Barrier(2), threading.Semaphore(0), []
    real = threading.Event

    class Event(real):
        def __init__(self):
            super().__init__()
            if threading.current_thread().name.startswith("sleeper"):
                with suppress(threading.BrokenBarrierError):
                    together.wait(0.15)

    def sleep(ctx):
        asleep.release()
        slept.append(ctx.sleep(30))

    def handler(ctx):
        threads = [threading.Thread(target=sleep, args=[ctx], name=f"sleeper {i}", daemon=True) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    token = CancellationToken()
    with Engine(handler) as engine:
        monkeypatch.setattr(threading, "Event", Event)
        flow = FlowDef("f", steps=[StepDef("a", timeout=0.6 if how == "left behind" else None)])
        execution = engine.start(flow, cancel=token)
        assert asleep.acquire(timeout=20)
        assert asleep.acquire(timeout=20)
        if how == "cancelled":
            threading.Timer(0.4, token.cancel).start()  # both are in their wait by then
        execution.wait(30)
        wait_until(lambda: len(slept) == 2, timeout=SOON)
    assert slept == [False, False]


def test_an_attempt_that_is_left_behind_before_it_began_is_dated_within_its_run(tmp_path):
    """The worker that has taken it is held up before it says when it began."""
    code = """
    import threading, time
    real, gate = time.monotonic, threading.Event()

    def monotonic():
        name = threading.current_thread().name
        if name.startswith("szal-") and not name.startswith(("szal-run", "szal-writer", "szal-heartbeat")):
            gate.wait(30)
        return real()

    time.monotonic = monotonic
    from szal import *
    events = []
    began = time.time()
    with Engine(lambda ctx: None, EngineConfig(event_sink=events.append)) as engine:
        result = engine.run(FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")], timeout=0.3))
        gate.set()

    def moment(value):
        return value.timestamp() if hasattr(value, "timestamp") else float(value)

    times = [moment(event.timestamp) for event in events]
    times += [moment(step.started_at) for step in result.steps if step.started_at is not None]
    assert all(began - 5 <= each <= began + 30 for each in times), (began, times)
    assert all(step.duration < 30 for step in result.steps), [step.duration for step in result.steps]
    print("within")
    """
    done = run_new_python(tmp_path, code, timeout=30)
    assert done.stdout.strip() == "within", done.stderr


def test_an_undo_that_is_given_up_does_not_begin_again_and_is_told_as_it_was():
    begun, undone, release = threading.Event(), [], threading.Event()

    def undo(ctx):
        undone.append(ctx.attempt)
        begun.set()
        release.wait(SOON)

    token = CancellationToken()

    def handler(ctx):
        if ctx.step.name == "b":
            token.cancel()

    steps = [StepDef("a", rollbackable=True, max_retries=3, retry_delay=0), StepDef("b")]
    flow = FlowDef("f", steps=steps, rollback_on_failure=True)
    try:
        with Engine(handler, EngineConfig(rollback_handler=undo, cancel_grace=77)) as engine:
            execution = engine.start(flow, cancel=token)
            waited(begun)
            engine.end_grace()
            result = execution.result(timeout=20)
    finally:
        release.set()
    assert undone == [1]
    assert result.state is WorkflowState.FAILED
    assert "not rolled back: a" in result.error
    assert "77" not in result.error


def test_a_second_ctrl_c_gives_up_an_undo_with_retries_once_and_for_all():
    code = """
    import os, signal, threading, time
    from szal import *
    undone, release = [], threading.Event()

    def undo(ctx):
        undone.append(ctx.attempt)
        if len(undone) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        release.wait(25)

    def handler(ctx):
        if ctx.step.name == "b":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    steps = [StepDef("a", rollbackable=True, timeout=30, max_retries=3, retry_delay=0), StepDef("b")]
    engine = Engine(handler, EngineConfig(rollback_handler=undo, cancel_grace=77))
    try:
        engine.run(FlowDef("f", steps=steps, rollback_on_failure=True))
    except KeyboardInterrupt:
        print("interrupted", undone, flush=True)
    os._exit(0)
    """
    try:
        done = run_python(code, timeout=30)
    except subprocess.TimeoutExpired:
        pytest.fail("the process does not end")
    assert done.stdout.strip() == "interrupted [1]", done.stdout + done.stderr
