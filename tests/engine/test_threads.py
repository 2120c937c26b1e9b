"""The threads of engines: refused, idle, left over, and at the exit of the process."""

import gc
import itertools
import subprocess
import threading
import time
import weakref

import pytest
from helper_engine import LONG, ForeignStore, bounded, waited
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
    TriggerMode,
)
from szal.stores import open_store

SOON = 3.0  # for what takes milliseconds where it is right, in a test that has to go on where it is not


def parallel(count, name="f", **fields):
    return FlowDef(name, FlowMode.PARALLEL, steps=[StepDef(f"s{i}", **fields) for i in range(count)])


def own_threads():
    """Return the threads of szal that are alive."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("szal-")}


# -- refused threads ------------------------------------------------------------------------------------


def test_refused_threads_leave_no_worker_too_many(refuse):
    """Four threads of the pool are busy with another run when no more can be had; then they are free again."""
    first_runs, first_go, second_go = threading.Semaphore(0), threading.Event(), threading.Event()
    lock, running, peak, refused = threading.Lock(), [0], [0], []

    def handler(ctx):
        if ctx.flow_name == "first":
            first_runs.release()
            waited(first_go)
            return
        with lock:
            running[0] += 1
            peak[0] = max(peak[0], running[0])
        second_go.wait(SOON)
        with lock:
            running[0] -= 1

    def end(execution):
        for _ in range(4):
            assert first_runs.acquire(timeout=SOON)
        refused.append(refuse("szal-worker"))
        outcome = threading.Thread(target=engine.run, args=[parallel(24, "second")], daemon=True)
        outcome.start()
        wait_until(lambda: running[0] == 4, timeout=SOON)
        first_go.set()
        assert execution.result(timeout=SOON).success
        with pytest.raises(AssertionError):
            wait_until(lambda: running[0] > 4, timeout=0.5)
        second_go.set()
        outcome.join(SOON)

    with Engine(handler, EngineConfig(max_concurrency=4)) as engine:
        try:
            end(engine.start(parallel(4, "first")))
        finally:
            first_go.set()
            second_go.set()
    assert refused != [[]]
    assert peak[0] == 4


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_run_for_which_no_worker_can_be_had_is_done_all_the_same(refuse, timeout):
    refuse("szal-worker", "szal-limited")
    with Engine(lambda ctx: ctx.step.name) as engine:
        assert bounded(engine.run, parallel(5, timeout=timeout)).completed_count == 5


def test_after_a_start_that_was_refused_a_thread_the_engine_starts_others(refuse):
    with Engine(lambda ctx: "done") as engine:
        refuse("szal-run")
        with pytest.raises(RuntimeError, match="can't start new thread"):
            engine.start(parallel(2), execution_id="e")
        refuse()
        assert engine.start(parallel(2), execution_id="e").result(timeout=20).success


# -- what is idle goes ----------------------------------------------------------------------------------


def test_an_executor_is_idle_for_ten_seconds_before_it_is_shut_down_unless_told_otherwise():
    assert EngineConfig().idle_timeout == 10.0


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_an_idle_time_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError, match="idle_timeout"):
        EngineConfig(idle_timeout=seconds)


@pytest.mark.parametrize("timeout", [None, 30])
def test_the_threads_of_two_bursts_of_runs_are_gone_once_they_were_idle_long_enough(timeout):
    """Only those are looked at that this engine has made: what other tests have left may start others at any time."""
    used = set()

    def handler(ctx):
        used.add(threading.current_thread())
        time.sleep(0.01)

    def start():
        execution = engine.start(parallel(8, timeout=timeout))
        used.update(thread for thread in threading.enumerate() if thread.name.endswith(execution.execution_id))
        return execution

    def wait_for_their_end():
        assert used
        wait_until(lambda: not any(thread.is_alive() for thread in used), timeout=LONG)
        used.clear()

    with Engine(handler, EngineConfig(idle_timeout=0.2)) as engine:
        for _ in range(2):
            for execution in [start() for _ in range(10)]:
                assert execution.result(timeout=LONG).success
        wait_for_their_end()
        assert start().result(timeout=LONG).success  # and it makes others
        wait_for_their_end()


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_handler_that_takes_longer_than_the_idle_time_is_not_disturbed(timeout):

    def handler(ctx):
        if ctx.step.name == "last":
            return ctx.outputs["s0"]
        time.sleep(0.3)
        return "slow"

    with Engine(handler, EngineConfig(idle_timeout=0.05)) as engine:
        flow = FlowDef("f", FlowMode.DAG, steps=[*(slow := parallel(3, timeout=timeout).steps)])
        flow.add_step(StepDef("last", depends_on=slow, timeout=timeout))
        assert bounded(engine.run, flow)["last"].output == "slow"
        assert engine.abandoned == 0


@pytest.mark.parametrize("timeout", [None, 30])
def test_an_executor_that_is_shut_down_just_as_it_is_used_loses_nothing(timeout):
    with Engine(lambda ctx: None, EngineConfig(idle_timeout=0.001)) as engine:
        for i in range(60):
            assert bounded(engine.run, parallel(4, timeout=timeout)).completed_count == 4
            time.sleep(0.0005 * (i % 5))


@pytest.mark.parametrize("how", ["closed", "dropped"])
@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.usefixtures("no_collector")
def test_the_idle_threads_of_an_engine_that_is_gone_are_gone(how, timeout):
    before = own_threads()
    engine = Engine(lambda ctx: None)
    assert bounded(engine.run, parallel(8, timeout=timeout)).success
    if how == "closed":
        engine.close()
    del engine
    wait_until(lambda: own_threads() <= before, timeout=20)


# -- what has ended is free -----------------------------------------------------------------------------


class Thing:
    """What can be referred to weakly."""


class Wrong(Exception):
    """So can this."""


FLOWS = {
    "a chain": FlowDef("f", steps=[StepDef(f"s{i}") for i in range(4)]),
    "parallel steps": parallel(4),
    "parallel steps with limits": parallel(4, timeout=30),
    "a dag": FlowDef(
        "f",
        FlowMode.DAG,
        steps=[a := StepDef("a"), StepDef("b", depends_on=[a]), StepDef("c", depends_on=[a], timeout=30)],
    ),
    "any": FlowDef(
        "f",
        FlowMode.DAG,
        steps=[a := StepDef("a"), b := StepDef("b"), StepDef("c", depends_on=[a, b], trigger_mode=TriggerMode.ANY)],
    ),
    "a flow with a limit": FlowDef("f", steps=[StepDef("a"), StepDef("b")], timeout=30),
    "a sleep": FlowDef("f", steps=[StepDef("a"), StepDef("nap", step_type="sleep", config={"seconds": 0.01})]),
    "a sub-flow": FlowDef("f", steps=[StepDef("a"), StepDef("sub", step_type="sub_flow", config={"flow_name": "sub"})]),
    "a condition and a template": FlowDef(
        "f", steps=[StepDef("a"), StepDef("b", condition="inputs.n == 1", config={"n": "{{inputs.n}}"})]
    ),
    "retries": FlowDef("f", steps=[StepDef("flaky", max_retries=2, retry_delay=0), StepDef("a")]),
    "retries of parallel steps": FlowDef(
        "f", FlowMode.PARALLEL, steps=[StepDef("flaky", max_retries=2, retry_delay=0), StepDef("a")]
    ),
    "a failure": FlowDef("f", steps=[StepDef("a"), StepDef("fails"), StepDef("b")]),
    "a failure of a parallel step": FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("fails")]),
    "a failure for good": FlowDef("f", steps=[StepDef("a"), StepDef("fails", max_retries=1, retry_delay=0)]),
    "a failed sub-flow": FlowDef(
        "f", steps=[StepDef("a"), StepDef("sub", step_type="sub_flow", config={"flow_name": "fails"})]
    ),
    "an undo": FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("fails")], rollback_on_failure=True),
    "a time-out": FlowDef("f", steps=[StepDef("a"), StepDef("hangs", timeout=0.05)]),
    "a flow's time-out": FlowDef("f", steps=[StepDef("a"), StepDef("hangs")], timeout=0.5),
    "a cancellation": FlowDef("f", steps=[StepDef("a"), StepDef("cancels"), StepDef("b")]),
}
CASES = [(name, "run") for name in FLOWS]
CASES += itertools.product(["parallel steps", "a sub-flow", "a failure", "a time-out"], ["start", "recorded"])


@pytest.mark.parametrize(("name", "how"), CASES)
@pytest.mark.usefixtures("no_collector")
def test_a_run_that_has_ended_is_freed_without_the_garbage_collector(name, how):
    """Its outputs, its contexts and what its handlers raised; the engine goes on."""
    refs, token = [], CancellationToken()

    def handler(ctx):
        local, output = Thing(), Thing()
        refs.extend((weakref.ref(local), weakref.ref(output)))
        if ctx.step.name == "fails" or (ctx.step.name == "flaky" and ctx.attempt < 3):
            error = Wrong("no")
            refs.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error
        if ctx.step.name == "hangs":
            ctx.sleep(30)
        if ctx.step.name == "cancels":
            token.cancel()
        return None if how == "recorded" else output

    def once():
        if how == "start":
            result = engine.start(FLOWS[name], {"n": 1}, cancel=token).result(timeout=20)
        else:
            result = engine.run(FLOWS[name], {"n": 1}, cancel=token if name == "a cancellation" else None)
        assert len(result.steps) == len(FLOWS[name].steps)
        refs.append(weakref.ref(result))
        del result  # a traceback of a handler leads to this frame, and keeps what it still holds when it ends

    storage = InMemoryStorage([FlowDef("sub", steps=[StepDef("in")]), FlowDef("fails", steps=[StepDef("fails")])])
    store = ForeignStore() if how == "recorded" else None
    config = EngineConfig(storage=storage, execution_store=store, rollback_handler=lambda ctx: None, idle_timeout=1000)
    with Engine(handler, config) as engine:
        bounded(once)
        if store is not None:
            store.saves.clear()
            store.records.clear()
        assert len(refs) > 1
        wait_until(lambda: all(ref() is None for ref in refs), timeout=LONG)


@pytest.mark.parametrize("kind", ["a chain", "parallel steps", "parallel steps with limits"])
@pytest.mark.usefixtures("no_collector")
def test_an_engine_that_is_dropped_is_freed_with_its_handler(kind):
    def once():
        mine = Thing()

        def handler(ctx):
            return mine and None

        engine = Engine(handler, EngineConfig(idle_timeout=1000))
        assert engine.run(FLOWS[kind]).success
        return [weakref.ref(engine), weakref.ref(handler), weakref.ref(mine)]

    refs = bounded(once)
    wait_until(lambda: all(ref() is None for ref in refs), timeout=LONG)


@pytest.mark.usefixtures("no_collector")
def test_runs_one_after_another_leave_no_objects_behind():
    with Engine(lambda ctx: None) as engine:
        flow = FlowDef("f", steps=[StepDef(f"s{i}") for i in range(5)])
        for _ in range(20):
            engine.run(flow)
        before = len(gc.get_objects())
        for _ in range(100):
            engine.run(flow)
        assert len(gc.get_objects()) - before < 100


# -- the exit of the process ------------------------------------------------------------------------------


EXIT = """
    import sys, threading, time
    from szal import *
    from szal.stores import open_store

    sink = open_store("sqlite:///szal.db").engine_sink()
    begun = threading.Event()

    def handler(ctx):
        if ctx.step.name == "hangs":
            begun.set()
            threading.Event().wait()

    def listen(event):
        if (event.step_name, event.event_type) == ("nap", "step_started"):
            begun.set()

    engine = Engine(handler, EngineConfig(execution_store=sink, event_sink=listen))
    go = StepDef("go", step_type="wait", config={"signal": "go"})
    work = [StepDef(f"s{i}", depends_on=[go]) for i in range(3)]
"""


@pytest.mark.parametrize(("last", "close"), [("sleeps", True), ("hangs", False)])
def test_the_interpreter_does_not_wait_for_a_run_that_was_recovered_in_the_background(tmp_path, last, close):
    code = f"""{EXIT}
    if {last!r} == "sleeps":
        tail = StepDef("nap", step_type="sleep", config={{"seconds": 60}}, depends_on=work)
    else:
        tail = StepDef("hangs", depends_on=[go])
    engine.run(FlowDef("f", FlowMode.DAG, steps=[go, *work, tail]), execution_id="e")
    engine.signal("e", "go")
    engine.start_recovery(0.05)
    assert begun.wait(30)
    if {close}:
        engine.close()
    print("main ends", flush=True)
    """
    try:
        done = run_python(code, cwd=tmp_path, timeout=30)
    except subprocess.TimeoutExpired:
        pytest.fail("the process does not end")
    assert (done.returncode, done.stdout.strip()) == (0, "main ends"), done.stderr
    with open_store(f"sqlite:///{tmp_path}/szal.db") as store:
        assert str(store.get("e").state) == "running"  # for another process to go on with


def test_the_interpreter_waits_for_a_run_that_was_started():
    code = """
    import time
    from szal import *

    def handler(ctx):
        time.sleep(0.3)
        print(ctx.step.name, flush=True)

    Engine(handler).start(FlowDef("f", steps=[StepDef("a"), StepDef("b")]))
    """
    done = run_python(code, timeout=30)
    assert (done.returncode, done.stdout.split()) == (0, ["a", "b"]), done.stderr


@pytest.mark.parametrize("mode", ["PARALLEL", "SEQUENTIAL"])
def test_the_interpreter_waits_for_nothing_of_a_daemon_engine(mode):
    """Its handlers wait for ever; nobody but the interpreter's own exit ends them."""
    code = f"""
    import threading
    from szal import Engine, EngineConfig, FlowDef, FlowMode, StepDef
    begun = threading.Semaphore(0)

    def handler(ctx):
        begun.release()
        threading.Event().wait()

    flow = FlowDef("f", FlowMode.{mode}, steps=[StepDef("a"), StepDef("b")])
    Engine(handler, EngineConfig(daemon=True)).start(flow)
    begun.acquire()
    """
    assert run_python(code, timeout=30).returncode == 0
