"""Recovery takes up several executions at a time, each on a run thread of its own, and hears of signals at once."""

import logging
import signal
import sqlite3
import threading
import time
from contextlib import closing

import psycopg
import pytest
from helper_engine import bounded, waited
from processes import wait_until

from szal import (
    EngineConfig,
    ExecutionRecord,
    FlowDef,
    FlowMode,
    InMemoryStorage,
    MigrationRegistry,
    StepDef,
    WorkflowState,
)
from szal.errors import StoreFailed
from szal.model.definition import content_id
from szal.model.json import encode_flow
from szal.stores.ledger import NewExecution

SOON = 3.0  # for what takes milliseconds where it is right, in a test that has to go on where it is not
NEVER = 3600.0  # seconds between two looks of a recovery that is to be woken


def order(name="order"):
    return FlowDef(name, steps=[StepDef("ok", step_type="wait", config={"signal": "ok"}), StepDef("pay")])


def paused(engine, *ids, flow=None):
    """Have executions wait for their signal."""
    for execution_id in ids:
        assert engine.run(flow or order(), execution_id=execution_id).state is WorkflowState.PAUSED


def approve(engine, *ids):
    for execution_id in ids:
        assert engine.signal(execution_id, "ok")


def is_completed(store, *ids):
    return all(store.get(execution_id).state is WorkflowState.COMPLETED for execution_id in ids)


class Counted:
    """A handler that counts how many of its calls are under way; each waits for `go`, at most for a moment."""

    def __init__(self):
        self.lock = threading.Lock()
        self.begun = []
        self.running = self.peak = 0
        self.go = threading.Event()

    def __call__(self, ctx):
        with self.lock:
            self.begun.append(ctx.execution_id)
            self.running += 1
            self.peak = max(self.peak, self.running)
        self.go.wait(SOON)
        with self.lock:
            self.running -= 1
        return ctx.execution_id


# -- recover ----------------------------------------------------------------------------------------------


def test_recover_takes_up_several_at_a_time(new_engine):
    together = threading.Barrier(3)
    engine = new_engine(lambda ctx: together.wait(SOON) and None)
    paused(engine, "a", "b", "c")
    approve(engine, "a", "b", "c")
    results = bounded(engine.recover, timeout=30)
    assert {result.execution_id: str(result.state) for result in results} == dict.fromkeys("abc", "completed")


def test_recover_returns_how_each_ended_once_all_have(new_engine, store):
    def handler(ctx):
        if ctx.execution_id == "fails":
            raise ValueError("no money")
        time.sleep(0.1 if ctx.execution_id == "slow" else 0)
        return ctx.execution_id

    engine = new_engine(handler)
    paused(engine, "slow", "fails", "quick")
    approve(engine, "slow", "fails", "quick")
    results = {result.execution_id: result for result in bounded(engine.recover, timeout=30)}
    assert {name: str(result.state) for name, result in results.items()} == {
        "slow": "completed",
        "fails": "failed",
        "quick": "completed",
    }
    assert results["slow"]["pay"].output == "slow"
    assert {name: str(store.get(name).state) for name in results} == {n: str(r.state) for n, r in results.items()}
    assert engine.recover() == []


@pytest.mark.parametrize("how", ["recover", "start_recovery"])
def test_each_is_run_by_a_thread_of_its_own(new_engine, store, how):
    threads, together = {}, threading.Barrier(3)

    def listen(event):
        """On the coordinating thread."""
        if event.event_type == "step_completed":
            threads[event.execution_id] = threading.current_thread()

    def handler(ctx):
        together.wait(SOON)

    engine = new_engine(handler, event_sink=listen)
    paused(engine, "a", "b", "c")
    approve(engine, "a", "b", "c")
    if how == "recover":
        bounded(engine.recover, timeout=30)
    else:
        engine.start_recovery(0.05)
        wait_until(lambda: is_completed(store, "a", "b", "c"), timeout=20)
    assert len(set(threads.values())) == 3
    assert all(thread.name.startswith("szal-run") for thread in threads.values())


def test_eight_are_taken_up_at_a_time_unless_told_otherwise():
    assert EngineConfig().max_recovering == 8


def test_at_least_one_is_taken_up_at_a_time():
    with pytest.raises(ValueError, match="max_recovering"):
        EngineConfig(max_recovering=0)


@pytest.mark.parametrize("how", ["recover", "start_recovery"])
def test_no_more_than_max_recovering_are_taken_up_at_a_time(new_engine, store, how):
    names = [f"e{i}" for i in range(5)]
    handler = Counted()
    engine = new_engine(handler, max_recovering=2)
    paused(engine, *names)
    approve(engine, *names)
    if how == "recover":
        threading.Thread(target=engine.recover, daemon=True).start()
    else:
        engine.start_recovery(0.02)
    wait_until(lambda: handler.running == 2, timeout=SOON)
    with pytest.raises(AssertionError):
        wait_until(lambda: handler.running > 2, timeout=0.15)
    handler.go.set()
    wait_until(lambda: is_completed(store, *names), timeout=20)
    assert handler.peak == 2
    assert sorted(handler.begun) == names


def test_recover_takes_up_no_more_than_its_limit(new_engine):
    engine = new_engine()
    paused(engine, "a", "b", "c", "d")
    approve(engine, "a", "b", "c", "d")
    assert len(bounded(engine.recover, limit=3, timeout=30)) == 3
    assert len(bounded(engine.recover, limit=3, timeout=30)) == 1


def leave(store, flow_name, *ids):
    """Write what is left of executions that were interrupted in their first step."""
    flow = FlowDef(flow_name, steps=[StepDef("pay")])
    for execution_id in ids:
        record = ExecutionRecord(execution_id, flow_name, WorkflowState.RUNNING, flow_id=flow.id)
        store.ledger.create(
            NewExecution(record=record, content_id=content_id(flow), flow=encode_flow(flow), owner="somebody", ttl=-1.0)
        )


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, StoreFailed, GeneratorExit])
def test_whatever_one_raises_it_is_logged_and_the_others_go_on(new_engine, store, caplog, error):
    """A module that ends the program when it is imported, say."""

    def fails(flow):
        raise error("store", "problem") if error is StoreFailed else error("a bug of the program")

    leave(store, "bad", "a", "z")
    leave(store, "good", "b", "y")
    registry = MigrationRegistry()
    registry.register(1, 2, fails)
    engine = new_engine(migrations={"bad": registry}, max_recovering=1)
    with caplog.at_level(logging.ERROR):
        results = bounded(engine.recover, timeout=30)
    assert sorted(result.execution_id for result in results) == ["b", "y"]
    for execution_id in ("a", "z"):
        assert f"cannot recover execution {execution_id}" in caplog.text
        assert store.get(execution_id).state is WorkflowState.RUNNING


BAD_ROWS = {
    "a definition": "UPDATE szal_flows SET data = '{' WHERE data LIKE '%\"bad\"%'",
    "no definition": "UPDATE szal_leases SET content_id = 'none' WHERE {e}",
    "a step": "INSERT INTO szal_steps VALUES ('e', 'pay', 0, '[', NULL)",
    "a record": "UPDATE szal_executions SET data = replace(data, '\"execution_id\"', '\"id\"') WHERE {e}",
    "a record that is no JSON": "UPDATE szal_executions SET data = '{' WHERE {e}",
    "a text that is none": "INSERT INTO szal_steps VALUES ('e', 'pay', 0, CAST(x'ff' AS TEXT), NULL)",
}


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(bad, kind) for bad in BAD_ROWS for kind in ("sqlite", "postgres") if "is none" not in bad or kind == "sqlite"],
)
def test_rows_that_cannot_be_read_keep_no_other_execution_from_going_on(store_url, new_engine, store, kind, bad):
    leave(store, "bad", "e")
    leave(store, "good", "f")
    is_file = kind == "sqlite"
    with closing(
        sqlite3.connect(store_url.removeprefix("sqlite:///")) if is_file else psycopg.connect(store_url)
    ) as other:
        other.execute(BAD_ROWS[bad].replace("{e}", "execution_id = 'e'"))
        other.commit()
    engine = new_engine()
    assert [result.execution_id for result in bounded(engine.recover, timeout=30)] == ["f"]


@pytest.mark.parametrize("kind", ["memory"])
def test_where_no_thread_is_to_be_had_this_one_does_it_and_what_interrupts_it_is_raised(new_engine, store, refuse):
    leave(store, "good", "a", "b", "c")
    ran = []

    def handler(ctx):
        ran.append(ctx.execution_id)
        if len(ran) == 2:
            signal.raise_signal(signal.SIGINT)

    engine = new_engine(handler)
    refuse("szal-run")
    assert [result.execution_id for result in engine.recover(limit=1)] == ["a"]
    with pytest.raises(KeyboardInterrupt):
        engine.recover()
    assert ran == ["a", "b"]
    assert [str(store.get(name).state) for name in "abc"] == ["completed", "paused", "running"]


def test_several_engines_share_them_out_and_run_none_twice(new_engine, store):
    lock, ran = threading.Lock(), []

    def handler(ctx):
        with lock:
            ran.append(ctx.execution_id)

    engines = [new_engine(handler) for _ in range(3)]
    names = sorted(f"e{i:02}" for i in range(12))
    paused(engines[0], *names)
    approve(engines[0], *names)
    threads = [threading.Thread(target=engine.recover, daemon=True) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for engine in engines:
        bounded(engine.recover)
    assert sorted(ran) == names
    assert is_completed(store, *names)


# -- start_recovery -----------------------------------------------------------------------------------------


def test_an_execution_that_takes_long_holds_up_no_other(new_engine, store):
    begun, others, seen = threading.Event(), threading.Event(), []

    def handler(ctx):
        if ctx.execution_id == "slow":
            begun.set()
            seen.append(others.wait(SOON))

    engine = new_engine(handler)
    paused(engine, "slow", "a", "b", "c")
    engine.start_recovery(0.05)
    approve(engine, "slow")
    waited(begun)
    approve(engine, "a", "b", "c")
    wait_until(lambda: is_completed(store, "a", "b", "c"), timeout=20)
    others.set()
    wait_until(lambda: is_completed(store, "slow"), timeout=20)
    assert seen == [True]


def test_an_execution_that_sleeps_holds_up_no_other(new_engine, store):
    asleep = threading.Event()

    def listen(event):
        if (event.step_name, event.event_type) == ("nap", "step_started"):
            asleep.set()

    engine = new_engine(event_sink=listen)
    nap = StepDef("nap", step_type="sleep", config={"seconds": 4})
    paused(engine, "sleeps", flow=FlowDef("naps", steps=[order().steps[0], nap]))
    paused(engine, "quick")
    engine.start_recovery(0.05)
    approve(engine, "sleeps")
    waited(asleep)
    approve(engine, "quick")
    wait_until(lambda: is_completed(store, "quick"), timeout=SOON)
    assert store.get("sleeps").state is WorkflowState.RUNNING
    assert engine.cancel("sleeps")
    wait_until(lambda: store.get("sleeps").state is WorkflowState.CANCELLED, timeout=SOON)


def test_a_signal_wakes_recovery_at_once(new_engine, store):
    engine = new_engine()
    engine.start_recovery(NEVER)
    paused(engine, "a", "b")
    approve(engine, "a")
    wait_until(lambda: is_completed(store, "a"), timeout=SOON)
    approve(engine, "b")  # and again
    wait_until(lambda: is_completed(store, "b"), timeout=SOON)


def test_signals_to_many_at_once_are_all_heard(new_engine, store):
    engine = new_engine()
    names = [f"e{i:02}" for i in range(20)]
    paused(engine, *names)
    engine.start_recovery(NEVER)
    threads = [threading.Thread(target=approve, args=(engine, name), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    wait_until(lambda: is_completed(store, *names), timeout=SOON)


def test_what_found_no_room_is_taken_up_as_soon_as_there_is(new_engine, store):
    handler = Counted()
    engine = new_engine(handler, max_recovering=1)
    paused(engine, "a", "b", "c")
    engine.start_recovery(NEVER)
    approve(engine, "a", "b", "c")
    wait_until(lambda: handler.running == 1, timeout=SOON)
    handler.go.set()
    wait_until(lambda: is_completed(store, "a", "b", "c"), timeout=SOON)
    assert handler.peak == 1


def test_a_signal_to_a_sub_flow_wakes_recovery_too(new_engine, store):
    engine = new_engine(storage=InMemoryStorage([order("inner")]))
    outer = FlowDef("outer", steps=[StepDef("sub", step_type="sub_flow", config={"flow_name": "inner"})])
    engine.start_recovery(NEVER)
    assert engine.run(outer, execution_id="e").state is WorkflowState.PAUSED
    [child] = store.find(flow_name="inner")
    approve(engine, child.execution_id)
    wait_until(lambda: is_completed(store, "e"), timeout=SOON)


def test_a_signal_that_nobody_waits_for_is_no_reason_to_go_on(new_engine, store):
    engine = new_engine()
    engine.start_recovery(NEVER)
    paused(engine, "a")
    assert engine.signal("a", "another")
    with pytest.raises(AssertionError):
        wait_until(lambda: store.get("a").state is not WorkflowState.PAUSED, timeout=0.2)


def test_an_engine_that_is_closed_takes_nothing_up_any_more(new_engine, store):
    first, second = new_engine(), new_engine()
    paused(first, "a")
    first.start_recovery(0.02)
    first.close()
    approve(second, "a")
    with pytest.raises(AssertionError):
        wait_until(lambda: store.get("a").state is not WorkflowState.PAUSED, timeout=0.2)


def test_parallel_steps_of_what_is_recovered_run_in_parallel(new_engine):
    together = threading.Barrier(3)
    engine = new_engine(lambda ctx: together.wait(SOON) and None)
    ok = order().steps[0]
    flow = FlowDef("wide", FlowMode.DAG, steps=[ok, *(StepDef(f"s{i}", depends_on=[ok]) for i in range(3))])
    paused(engine, "a", flow=flow)
    approve(engine, "a")
    [result] = bounded(engine.recover, timeout=30)
    assert result.success
