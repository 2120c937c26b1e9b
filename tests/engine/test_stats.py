"""What `Engine.stats` tells: what an engine does, and has done, in figures."""

import threading

import pytest
from helper_engine import bounded, waited
from processes import wait_until

from szal import Engine, EngineConfig, FlowDef, FlowMode, LeaseLost, StepDef
from szal.engine.stats import EngineStats
from szal.errors import StoreUnavailable
from szal.stores import open_store
from szal.stores.ledger import TakeOver


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request, tmp_path):
    urls = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/szal.db"}
    url = urls.get(request.param) or request.getfixturevalue("postgres_url")
    with open_store(url) as store:
        yield store


def test_an_engine_that_has_done_nothing():
    assert Engine(lambda ctx: None).stats() == EngineStats()


def test_what_runs_and_on_how_many_threads():
    go_on = threading.Event()

    def handler(ctx):
        waited(go_on)

    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(name) for name in "abcd"])
    with Engine(handler, EngineConfig(max_concurrency=2)) as engine:
        execution = engine.start(flow)
        try:
            wait_until(lambda: engine.stats().queued == 2, timeout=20)
            stats = engine.stats()
        finally:
            go_on.set()
        execution.result(timeout=20)
        assert (stats.running, stats.workers, stats.busy, stats.queued) == (1, 2, 2, 2)
        wait_until(lambda: engine.stats().running == 0, timeout=20)


def test_steps_that_wait_count_those_of_sub_flows_too(store):
    begun, go_on = threading.Event(), threading.Event()

    def handler(ctx):
        begun.set()
        waited(go_on)

    wait = {"step_type": "wait", "config": {"signal": "go"}}
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("ask", **wait), StepDef("work", timeout=60)])
    flow.add_step(StepDef("child", step_type="sub_flow", config={"flow_name": "g"}))
    flow.sub_flows = [FlowDef("g", steps=[StepDef("ask too", **wait)])]
    with store.engine_sink() as sink, Engine(handler, EngineConfig(execution_store=sink)) as engine:
        execution = engine.start(flow)
        try:
            waited(begun)
            wait_until(lambda: engine.stats().waiting == 2, timeout=20)
        finally:
            go_on.set()
        assert str(execution.result(timeout=20).state) == "paused"
        wait_until(lambda: engine.stats() == EngineStats(sink=sink.stats()), timeout=20)


def test_what_is_written_in_which_time_and_how_much_of_it_together(store):
    flow = FlowDef("f", steps=[StepDef(name) for name in "abc"])
    with store.engine_sink() as sink, Engine(lambda ctx: None, EngineConfig(execution_store=sink)) as engine:
        bounded(engine.run, flow)
        sink.flush()
        stats = engine.stats().sink
    assert (stats.pending, stats.failed, stats.retries) == (0, 0, 0)
    assert stats.batches == stats.batch_sizes.count == stats.commit_seconds.count > 0
    assert stats.batch_sizes.total == stats.written >= 4
    assert 0 < stats.commit_seconds.total < 20


def test_batches_that_are_tried_again(store, monkeypatch):
    tried = []
    apply = store.ledger.apply

    def away_at_first(writes, *, once=False):
        tried.append(writes)
        if len(tried) < 3:
            raise StoreUnavailable(store.name, "away")
        apply(writes, once=once)

    monkeypatch.setattr(store.ledger, "apply", away_at_first)
    with store.engine_sink() as sink, Engine(lambda ctx: None, EngineConfig(execution_store=sink)) as engine:
        bounded(engine.run, FlowDef("f", steps=[StepDef("a")]))
        assert engine.stats().sink.retries == 2


def test_leases_renewals_losses_and_what_is_taken_up(store):
    begun, go_on = threading.Event(), threading.Event()

    def handler(ctx):
        begun.set()
        waited(go_on)

    flow = FlowDef("f", steps=[StepDef("a")])
    one = Engine(handler, EngineConfig(execution_store=store, lease_ttl=0.3, cancel_grace=0))
    execution = one.start(flow, execution_id="x")
    try:
        waited(begun)
        wait_until(lambda: one.stats().lease_renewals >= 2, timeout=20)
        taken = TakeOver(execution_id="x", owner="another", ttl=0.01, is_gone=lambda owner: True, rise=1)
        store.ledger.take_over(taken)
        with pytest.raises(LeaseLost):
            execution.result(timeout=20)
    finally:
        go_on.set()
    assert (one.stats().lease_losses, one.stats().recoveries) == (1, 0)
    with Engine(lambda ctx: None, EngineConfig(execution_store=store)) as two:
        wait_until(lambda: [result.success for result in two.recover()] == [True], timeout=20)
        assert (two.stats().recoveries, two.stats().lease_losses) == (1, 0)


def test_handlers_that_are_left_behind():
    go_on = threading.Event()
    with Engine(lambda ctx: waited(go_on)) as engine:
        result = bounded(engine.run, FlowDef("f", steps=[StepDef("a", timeout=0.05)]))
        go_on.set()
        assert not result.success
        assert engine.stats().abandoned == engine.abandoned == 1
