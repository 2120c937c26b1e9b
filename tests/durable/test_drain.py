"""A drain: the engine is closed, what runs comes to its end, nothing new starts, and others go on at once."""

import os
import signal
import sys
import threading
import time
from decimal import Decimal

import pytest
from durable.children import Child
from helper_engine import ForeignStore, bounded, statuses, waited
from injection import Injection
from processes import wait_until

from szal import (
    Engine,
    EngineClosed,
    EngineConfig,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    StepDef,
    StepStatus,
    WorkflowState,
)
from szal.engine import base
from szal.model.json import decode_checkpoint
from szal.stores import open_store

RUNNING, COMPLETED = WorkflowState.RUNNING, WorkflowState.COMPLETED


def chain(*names, **options):
    return FlowDef("chain", steps=[StepDef(name) for name in names], **options)


class Gate:
    """A handler whose steps wait until `open` is set, but for those that are not `held`."""

    def __init__(self, *held):
        self.held = held
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.ran = []
        self.told = []

    def __call__(self, ctx):
        self.ran.append(ctx.step.name)
        if ctx.step.name in self.held:
            self.begun.release()
            waited(self.open)
            self.told.append(ctx.cancelled)
        return ctx.step.name

    def await_begun(self, number=1):
        for _ in range(number):
            assert self.begun.acquire(timeout=20)


@pytest.fixture
def drained(store):
    """Drain an engine on a thread, open the gate once its runs were told, and return when it is over.

    They are before the engine refuses others. *is_heard* says whether a run has acted on it, where it can at once.
    """

    def drain(engine, gate, seconds=20.0, is_heard=lambda: True):
        closing = threading.Thread(target=engine.close, args=[seconds], daemon=True)
        closing.start()
        wait_until(lambda: is_closed(engine) and is_heard())
        gate.open.set()
        closing.join(30)
        assert not closing.is_alive()

    return drain


def is_closed(engine):
    try:
        engine.run(chain(), execution_id="probe")
    except EngineClosed:
        return True
    return False


def withdrawn(store, execution_id):
    """Return the steps that were to begin, and have not, as it is recorded."""
    rows = store.ledger.read(execution_id).steps
    return sorted(name for name, _, data in rows if decode_checkpoint(data, name).result.status is StepStatus.PENDING)


def on_a_thread(function, *args, **kwargs):
    """Call it on a thread of its own, and return where its result will be."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*args, **kwargs)), daemon=True)
    thread.start()
    return lambda: (thread.join(30), found[0])[1]


def test_whoever_is_refused_a_run_may_rely_on_that_nothing_starts_any_more(new_engine):
    """At each line of `close` from which on the engine refuses runs."""

    def play(moment):
        gate, refused = Gate("a"), []
        engine = new_engine(gate)
        execution = engine.start(chain("a", "b"))
        gate.await_begun()

        def act():
            if is_closed(engine):
                refused.append(True)
                gate.open.set()
                assert execution.wait(30)

        try:
            with Injection(moment, [base], act, opcodes=False) as injection:
                engine.close(drain=0)
        finally:
            gate.open.set()
        assert execution.result(30).state is RUNNING, injection.line
        return injection.happened, bool(refused)

    tried, moment = [], 0
    while (found := bounded(play, moment))[0]:
        tried.append(found[1])
        moment += 1
    assert {*tried} == {False, True}


# -- what is left ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "start"])
def test_what_runs_ends_and_is_recorded_nothing_new_starts_and_another_goes_on_at_once(new_engine, store, drained, how):
    gate = Gate("b")
    engine = new_engine(gate)
    if how == "run":
        result = on_a_thread(engine.run, chain("a", "b", "c"), execution_id="e")
    else:
        execution = engine.start(chain("a", "b", "c"), execution_id="e")

        def result():
            return execution.result(30)

    gate.await_begun()
    drained(engine, gate)
    assert (gate.ran, gate.told) == (["a", "b"], [False])
    assert (store.get("e").state, store.ledger.holder("e")) == (RUNNING, None)
    assert [name for name, _, _ in store.ledger.read("e").steps] == ["a", "b"]
    left = result()
    assert (left.state, left.success, left.error) == (RUNNING, False, "the engine was closed")
    assert statuses(left) == {"a": "completed", "b": "completed", "c": "pending"}
    with pytest.raises(EngineClosed):
        left.raise_for_failure()
    other = new_engine(max_recoveries=0)
    [result] = other.recover()
    assert (result.state, result.outputs) == (COMPLETED, {"a": "a", "b": "b", "c": "c"})


def test_where_nothing_is_left_to_start_it_completes(new_engine, store, drained):
    gate = Gate("b")
    engine = new_engine(gate)
    execution = engine.start(chain("a", "b"), execution_id="e")
    gate.await_begun()
    drained(engine, gate)
    assert execution.result(30).state is store.get("e").state is COMPLETED


def test_a_failure_is_recorded_and_the_undoing_is_left_to_others(new_engine, store, drained):
    gate, undone = Gate("b"), []

    def handler(ctx):
        gate(ctx)
        if ctx.step.name == "b":
            raise ValueError("b")

    steps = [StepDef("a", rollbackable=True), StepDef("b")]
    engine = new_engine(handler, rollback_handler=lambda ctx: undone.append("here"))
    execution = engine.start(FlowDef("f", steps=steps, rollback_on_failure=True), execution_id="e")
    gate.await_begun()
    drained(engine, gate)
    assert execution.result(30).state is store.get("e").state is WorkflowState.ROLLING_BACK
    [result] = new_engine(rollback_handler=lambda ctx: undone.append("there")).recover()
    assert (result.state, undone) == (WorkflowState.ROLLED_BACK, ["there"])


def test_an_undo_that_runs_ends_and_the_next_one_is_left_to_others(new_engine, store, drained):
    gate, undone = Gate("b"), []

    def handler(ctx):
        if ctx.step.name == "fails":
            raise ValueError("fails")

    steps = [StepDef("a", rollbackable=True), StepDef("b", rollbackable=True), StepDef("fails")]
    engine = new_engine(handler, rollback_handler=gate)
    engine.start(FlowDef("f", steps=steps, rollback_on_failure=True), execution_id="e")
    gate.await_begun()
    drained(engine, gate)
    assert (gate.ran, store.ledger.holder("e")) == (["b"], None)
    [result] = new_engine(rollback_handler=lambda ctx: undone.append(ctx.step.name)).recover()
    assert (result.state, undone) == (WorkflowState.ROLLED_BACK, ["a"])


def test_what_is_queued_for_a_worker_does_not_start(new_engine, store, drained):
    gate = Gate("a", "b", "c", "d")
    engine = new_engine(gate, max_concurrency=2)
    steps = [StepDef(name, idempotent=False) for name in "abcd"]
    engine.start(FlowDef("wide", FlowMode.PARALLEL, steps=steps), execution_id="e")
    gate.await_begun(2)
    queued = sorted({*"abcd"} - {*gate.ran})
    drained(engine, gate, is_heard=lambda: withdrawn(store, "e") == queued)
    assert len(gate.ran) == 2
    [result] = new_engine().recover()
    assert statuses(result) == dict.fromkeys("abcd", "completed")


@pytest.mark.parametrize("durability", ["none", "flow", "step"])
def test_with_every_durability(new_engine, store, drained, durability):
    gate = Gate("b")
    engine = new_engine(gate, durability=durability)
    engine.start(chain("a", "b", "c"), execution_id="e")
    gate.await_begun()
    drained(engine, gate)
    engine.config.execution_store.drain()
    assert store.ledger.holder("e") is None
    assert [name for name, _, _ in store.ledger.read("e").steps] == ["a", "b"]


def test_a_sub_flow_is_left_with_what_it_belongs_to(new_engine, store, drained):
    gate, storage = Gate("b"), InMemoryStorage([chain("a", "b", "c")])
    engine = new_engine(gate, storage=storage)
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "chain"}), StepDef("z")])
    execution = engine.start(outer, execution_id="e")
    gate.await_begun()
    drained(engine, gate)
    assert execution.result(30).state is RUNNING
    assert {store.ledger.holder(name) for name in store.list()} == {None}
    [result] = new_engine(storage=storage).recover()
    assert result.outputs == {"in": {"a": "a", "b": "b", "c": "c"}, "z": "z"}
    assert gate.ran == ["a", "b"]


def test_a_sub_flow_whose_last_step_runs_completes_and_what_follows_it_is_left(new_engine, store, drained):
    gate, storage = Gate("b"), InMemoryStorage([chain("a", "b")])
    engine = new_engine(gate, storage=storage)
    outer = FlowDef("outer", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "chain"}), StepDef("z")])
    execution = engine.start(outer, execution_id="e")
    gate.await_begun()
    drained(engine, gate)
    assert statuses(execution.result(30)) == {"in": "completed", "z": "pending"}
    assert sorted(str(store.get(name).state) for name in store.list()) == ["completed", "running"]


def test_a_wait_between_attempts_and_a_sleep_are_left_at_once(new_engine, store):
    def handler(ctx):
        raise ValueError("not yet")

    def listen(event):
        if event.event_type in ("step_retry", "step_started") and event.step_name in ("retry", "nap"):
            both.release()

    both = threading.Semaphore(0)
    steps = [
        StepDef("retry", max_retries=1, retry_delay=1000.0),
        StepDef("nap", step_type="sleep", config={"seconds": 1000}),
    ]
    engine = new_engine(handler, event_sink=listen)
    execution = engine.start(FlowDef("f", FlowMode.PARALLEL, steps=steps), execution_id="e")
    for _ in range(3):
        assert both.acquire(timeout=20)
    bounded(engine.close, 60.0, timeout=30)
    assert execution.result(30).state is RUNNING
    assert store.ledger.holder("e") is None


def test_an_attempt_that_fails_while_it_is_drained_is_made_again_by_others(new_engine, store, drained):
    gate = Gate("a")

    def handler(ctx):
        gate(ctx)
        raise ValueError("not yet")

    engine = new_engine(handler)
    engine.start(FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=1000.0)]), execution_id="e")
    gate.await_begun()
    drained(engine, gate)
    [result] = new_engine().recover()
    assert result.success


# -- what outlasts the seconds ---------------------------------------------------------------------------


def test_what_outlasts_the_seconds_keeps_its_lease_until_it_ends(new_engine, store, renewals, caplog):
    gate = Gate("a")
    engine = new_engine(gate, lease_ttl=6)
    execution = engine.start(chain("a", "b"), execution_id="e")
    gate.await_begun()
    bounded(engine.close, 0.05)
    assert "still running: e" in caplog.text
    renewals.await_another("e")
    assert new_engine().recover() == []
    gate.open.set()
    assert execution.result(30).state is RUNNING
    assert store.ledger.holder("e") is None
    assert (gate.ran, gate.told) == (["a"], [False])


def test_it_can_be_closed_again(new_engine, store, drained):
    gate = Gate("a")
    engine = new_engine(gate)
    engine.start(chain("a", "b"), execution_id="e")
    gate.await_begun()
    engine.close()
    engine.close(drain=0)
    drained(engine, gate)
    assert (store.get("e").state, store.ledger.holder("e")) == (RUNNING, None)
    engine.close(drain=1000)


SECONDS = ["negative", "far too negative", "nan", "too large", "true", "text", "decimal"]


@pytest.mark.parametrize("seconds", [-1, -(10**5000), float("nan"), 10**400, True, "1", Decimal(1)], ids=SECONDS)
def test_the_seconds_are_checked_before_anything_is_closed(new_engine, seconds):
    gate = Gate("a")
    engine = new_engine(gate)
    execution = engine.start(chain("a"))
    gate.await_begun()
    with pytest.raises((ValueError, TypeError), match=r"drain (is|must)"):
        engine.close(drain=seconds)
    gate.open.set()
    assert execution.result(30).success
    assert engine.run(chain("a")).success


def test_a_cancellation_while_it_is_drained_is_heard(new_engine, store):
    begun = threading.Event()

    def handler(ctx):
        begun.set()
        ctx.sleep(20)
        ctx.check()

    engine = new_engine(handler)
    execution = engine.start(chain("a", "b"), execution_id="e")
    waited(begun)
    engine.close(drain=0)
    assert engine.cancel("e")
    assert execution.result(30).state is store.get("e").state is WorkflowState.CANCELLED


def test_a_time_limit_that_passes_while_it_is_drained_counts(new_engine, store):
    gate = Gate("a")
    engine = new_engine(gate)
    execution = engine.start(chain("a", "b", timeout=2), execution_id="e")
    gate.await_begun()
    engine.close(drain=60)
    assert execution.result(30).state is store.get("e").state is WorkflowState.FAILED
    gate.open.set()


def test_end_grace_disturbs_nothing_that_was_not_told_to_end(new_engine, store, drained):
    gate = Gate("a")
    engine = new_engine(gate)
    engine.start(chain("a", "b"), execution_id="e")
    gate.await_begun()
    engine.close(drain=0)
    engine.end_grace()
    drained(engine, gate)
    assert [name for name, _, _ in store.ledger.read("e").steps] == ["a"]


# -- recovery --------------------------------------------------------------------------------------------


def test_any_number_of_orderly_deployments_is_no_crash(new_engine, store, drained):
    """Also where the one step that runs fails each time, and is to be tried again."""
    for _ in range(4):
        gate = Gate("a")

        def handler(ctx, gate=gate):
            gate(ctx)
            raise ValueError("not yet")

        engine = new_engine(handler, max_recoveries=0)
        engine.start(FlowDef("f", steps=[StepDef("a", max_retries=1)]), execution_id="e")
        gate.await_begun()
        drained(engine, gate)
    assert new_engine(max_recoveries=0).resume("e").success


@pytest.mark.parametrize("how", ["recover", "start_recovery"])
def test_what_is_being_recovered_is_drained_too(new_engine, store, drained, how):
    for name in ("e1", "e2"):
        first = Gate("a")
        engine = new_engine(first)
        engine.start(chain("a", "b", "c"), execution_id=name)
        first.await_begun()
        drained(engine, first)
    gate = Gate("b")
    engine = new_engine(gate, max_recovering=1)
    if how == "recover":
        found = on_a_thread(engine.recover)
    else:
        engine.start_recovery(0.02)
    gate.await_begun()
    drained(engine, gate)
    if how == "recover":
        assert [result.state for result in found()] == [RUNNING]
    assert gate.ran == ["b"]
    assert len(new_engine().recover()) == 2


def test_what_a_step_fails_for_as_the_word_of_the_drain_comes_is_not_its_failure(new_engine):
    told, heard, go, over = (threading.Event() for _ in range(4))

    def watch(frame, event, argument):
        if event == "return" and frame.f_code.co_name == "execute":  # the attempt is over, and its end handed in
            sys.setprofile(None)
            over.set()

    def handler(ctx):
        waited(go)
        sys.setprofile(watch)  # from another thread, its frames change while they are looked at
        raise EngineClosed  # as of a flow that it runs in the same engine

    def sink(event):
        if event.event_type == "step_started":
            told.set()
            waited(heard)  # the run has no ear for anything meanwhile

    engine = new_engine(handler, event_sink=sink)
    execution = engine.start(FlowDef("f", steps=[StepDef("outer", timeout=60), StepDef("after")]), execution_id="o")
    waited(told)
    closing = threading.Thread(target=engine.close, args=[20.0], daemon=True)
    closing.start()
    wait_until(lambda: is_closed(engine))
    go.set()
    waited(over)
    heard.set()
    closing.join(30)
    assert statuses(execution.result(30)) == {"outer": "pending", "after": "pending"}


def test_a_step_that_runs_another_flow_in_the_same_engine_runs_again(new_engine, store, drained):
    gate = Gate("inner")

    def handler(ctx):
        if ctx.step.name == "outer":
            return engine.run(chain("inner", "next"), execution_id="i").raise_for_failure().outputs
        return gate(ctx)

    engine = new_engine(handler)
    execution = engine.start(chain("outer", "after"), execution_id="o")
    gate.await_begun()
    drained(engine, gate)
    result = execution.result(30)
    assert statuses(result) == {"outer": "pending", "after": "pending"}, result.error
    engine = new_engine(handler)
    assert engine.resume("o").outputs == {"outer": {"inner": "inner", "next": "next"}, "after": "after"}
    assert gate.ran == ["inner", "next", "after"]


# -- the end of a block ------------------------------------------------------------------------------------


def test_the_end_of_the_block_hears_what_runs_before_the_sink_is_closed(open_one):
    gate, store = Gate("charge"), open_one()

    with store.engine_sink() as sink, Engine(gate, EngineConfig(execution_store=sink)) as engine:
        execution = engine.start(chain("charge", "ship"), execution_id="e")
        gate.await_begun()
        threading.Timer(0.1, gate.open.set).start()
    assert execution.result(30).state is RUNNING
    assert (store.get("e").state, store.ledger.holder("e")) == (RUNNING, None)
    assert [name for name, _, _ in store.ledger.read("e").steps] == ["charge"]
    store.close()


def test_the_end_of_the_block_waits_for_cancel_grace(open_one, caplog):
    gate, store = Gate("charge"), open_one()
    with store.engine_sink() as sink:
        began = time.monotonic()
        with Engine(gate, EngineConfig(execution_store=sink, cancel_grace=0.1)) as engine:
            execution = engine.start(chain("charge", "ship"), execution_id="e")
            gate.await_begun()
        assert time.monotonic() - began >= 0.1
        assert store.ledger.holder("e") is not None
        gate.open.set()
        assert execution.result(30).state is RUNNING
    assert store.ledger.holder("e") is None
    store.close()


# -- in a process ------------------------------------------------------------------------------------------

SCRIPT = """
    def handler(ctx):
        add(sys.argv[2], ctx.step.name)
        if ctx.step.name == "b":
            tell("begun")
            until = time.monotonic() + 15
            while not came and time.monotonic() < until:
                ctx.sleep(0.01)
        return ctx.step.name

    came = []
    engine = new_engine(handler)

    def on_sigterm(*_):
        came.append(True)
        engine.close(drain=20)

    signal.signal(signal.SIGTERM, on_sigterm)
    flow = FlowDef("chain", steps=[StepDef("a"), StepDef("b"), StepDef("c")])
"""


@pytest.mark.parametrize("how", ["on the main thread", "with workers", "in the background"])
def test_a_signal_handler_drains(store_url, store, new_engine, log, how):
    code = {
        "on the main thread": "    result = engine.run(flow, execution_id='e')\n",
        "with workers": "    result = engine.run(flow, execution_id='e', cancel=CancellationToken())\n",
        "in the background": "    result = engine.start(flow, execution_id='e').result(30)\n",
    }[how]
    with Child(SCRIPT + code + "    tell(result.state)\n    listen()", store_url, log.path) as child:
        assert child.hear() == "begun"
        os.kill(child.process.pid, signal.SIGTERM)
        assert child.hear() == "running"
        assert store.ledger.holder("e") is None
        [result] = new_engine(lambda ctx: (log.add(f"other {ctx.step.name}"), ctx.step.name)[1]).recover()
        assert result.outputs == {"a": "a", "b": "b", "c": "c"}
        child.say()
        child.end()
    assert log.lines == ["a", "b", "other c"]


def test_an_interruption_while_it_is_drained_is_the_first_one(store_url, store):
    """What runs is told, and has the grace."""
    code = """
    def handler(ctx):
        tell("begun")
        while not ctx.cancelled:
            ctx.sleep(0.01)
        tell("told")
        return "in time"

    def on_sigterm(*_):
        engine.close(drain=20)
        tell("draining")

    engine = new_engine(handler)
    signal.signal(signal.SIGTERM, on_sigterm)
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(3))
    try:
        engine.run(FlowDef("f", steps=[StepDef("a"), StepDef("b")]), execution_id="e", cancel=CancellationToken())
    finally:
        sink.close()
    """
    with Child(code, store_url) as child:
        assert child.hear() == "begun"
        os.kill(child.process.pid, signal.SIGTERM)
        assert child.hear() == "draining"
        os.kill(child.process.pid, signal.SIGUSR1)
        assert child.hear() == "told"
        child.process.communicate(timeout=30)
        assert child.process.returncode == 3
    assert (store.get("e").state, store.ledger.holder("e")) == (RUNNING, None)
    assert [name for name, _, _ in store.ledger.read("e").steps] == ["a"]


# -- from within ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["itself", "a run of it", "one that it started"])
@pytest.mark.parametrize("where", ["a worker", "the run's thread"])
@pytest.mark.parametrize("url", ["memory:", None])
def test_a_handler_that_closes_the_engine_does_not_wait_for_itself(url, where, inside):
    took = []
    limit = 60 if where == "a worker" else None

    def close(ctx):
        began = time.monotonic()
        engine.close(drain=15)
        took.append(time.monotonic() - began)

    def handler(ctx):
        if inside == "itself":
            close(ctx)
            return
        flow = FlowDef("inner", steps=[StepDef("close", timeout=limit)])
        with Engine(close) as other:
            result = other.run(flow) if inside == "a run of it" else other.start(flow).result(20)
        result.raise_for_failure()

    engine = Engine(handler, EngineConfig(execution_store=url and open_store(url)))
    assert bounded(engine.run, FlowDef("outer", steps=[StepDef("a", timeout=limit)])).success
    assert took[0] < 5


# -- without one of szal's stores ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "four methods"])
def test_where_nobody_could_go_on_the_end_of_the_block_waits_for_what_was_started(kind):
    gate, store = Gate("a"), None if kind == "none" else ForeignStore()
    with Engine(gate, EngineConfig(execution_store=store, cancel_grace=0)) as engine:
        execution = engine.start(chain("a", "b"), execution_id="e")
        gate.await_begun()
        threading.Timer(0.1, gate.open.set).start()
    assert execution.result(30).state is COMPLETED
    assert gate.ran == ["a", "b"]


def test_there_a_drain_waits_so_long_and_disturbs_nothing():
    gate = Gate("a")
    engine = Engine(gate)
    execution = engine.start(chain("a", "b"))
    gate.await_begun()
    bounded(engine.close, 0.05)
    assert not execution.done
    gate.open.set()
    assert execution.result(30).success
