"""Waiting for commits has a limit, and says what it waits for: `EngineConfig.commit_timeout`."""

import re
import time
from contextlib import closing

import pytest
from helper_engine import bounded
from locking import Lock
from processes import wait_until

from szal import Engine, EngineConfig, FlowDef, StepDef, WorkflowState
from szal.engine import leased_store
from szal.errors import FlushTimeout
from szal.stores import SqliteExecutionStore, open_store

LIMIT = 0.4  # seconds
FLOW = FlowDef("f", steps=[StepDef("a"), StepDef("locks")])


def opened(url):
    """Open a store that soon says that it is locked."""
    if url.startswith("sqlite"):
        return SqliteExecutionStore.connect(url.removeprefix("sqlite:///"), busy_timeout=0.02)
    return open_store(url)


@pytest.fixture
def scene(store_url):
    """An engine, whose step "locks" does that, its sink and the lock."""
    with opened(store_url) as store, store.engine_sink() as sink, closing(Lock(store_url)) as lock:

        def handler(ctx):
            if ctx.step.name == "locks":
                lock.take()
            return ctx.step.name

        config = EngineConfig(execution_store=sink, commit_timeout=LIMIT, lease_ttl=60)
        engine = Engine(handler, config)
        yield engine, sink, lock
        lock.leave()
        engine.close()


def refused(function, *args, **kwargs):
    """Return what is raised, once that took about as long as it may."""
    began = time.monotonic()
    with pytest.raises(FlushTimeout) as caught:
        bounded(function, *args, timeout=30, **kwargs)
    assert time.monotonic() - began >= LIMIT * 0.9
    return caught.value


def test_a_run_whose_end_cannot_be_committed_raises_and_is_committed_later(scene, kind):
    engine, sink, lock = scene
    error = refused(engine.run, FLOW, execution_id="e")
    assert (error.execution_ids, error.timeout) == (("e",), LIMIT)
    assert re.search(r": not written after 0\.4s: e", str(error))
    if kind == "sqlite":
        assert "database is locked: another connection to it has a transaction open" in str(error)
    lock.leave()
    sink.flush(10)
    assert sink.get("e").state is WorkflowState.COMPLETED
    assert bounded(engine.run, FLOW, execution_id="e").outputs == {"a": "a", "locks": "locks"}


def test_what_ends_the_block_of_an_engine_is_raised_and_tells_of_what_was_not_written_then(store_url):
    def locks(ctx):
        if ctx.step.name == "locks":
            lock.take()

    def run_and_fail():
        with engine:
            with pytest.raises(FlushTimeout):
                engine.run(FLOW, execution_id="e")
            raise KeyError("the program's own")

    with closing(Lock(store_url)) as lock:
        engine = Engine.open(store_url, locks, commit_timeout=LIMIT, lease_ttl=60)
        with pytest.raises(KeyError, match="the program's own") as caught:
            bounded(run_and_fail, timeout=30)
        [note] = caught.value.__notes__
        assert note.startswith("FlushTimeout, as the block was left: ")
        lock.leave()
        with opened(store_url) as store:
            wait_until(lambda: store.get("e").state is WorkflowState.COMPLETED, 30)


def test_nor_does_the_end_of_the_engine_wait_longer_and_its_store_stays_open_until_all_is_written(store_url):
    with closing(Lock(store_url)) as lock:

        def handler(ctx):
            if ctx.step.name == "locks":
                lock.take()

        engine = Engine.open(store_url, handler, commit_timeout=LIMIT, lease_ttl=60)
        error = refused(_run_and_close, engine)
        assert (error.execution_ids, error.timeout) == (("e",), LIMIT)
        lock.leave()
        with opened(store_url) as store:
            wait_until(lambda: store.get("e").state is WorkflowState.COMPLETED, 30)


def _run_and_close(engine):
    with engine:
        engine.run(FLOW, execution_id="e")


@pytest.mark.parametrize("what", ["resume", "recover", "interrupted", "rerun", "resolve", "cancel"])
def test_nothing_else_waits_without_a_limit_either(scene, what):
    engine, sink, lock = scene
    assert bounded(engine.run, FlowDef("g", steps=[StepDef("a")]), execution_id="before").success
    lock.take()
    sink.save(sink.get("before"))
    calls = {
        "resume": lambda: engine.resume("before"),
        "recover": engine.recover,
        "interrupted": engine.interrupted,
        "rerun": lambda: engine.rerun("before"),
        "resolve": lambda: engine.resolve("before", "a", "failed"),
        "cancel": lambda: engine.cancel("before"),
    }
    assert refused(calls[what]).execution_ids == ("before",)


def test_a_long_wait_is_logged_with_what_is_waited_for(scene, caplog, monkeypatch):
    monkeypatch.setattr(leased_store, "_TOLD_AFTER", LIMIT / 4)
    engine, _, _ = scene
    assert refused(engine.run, FLOW, execution_id="e").timeout == LIMIT
    [told] = [record for record in caplog.records if record.name == "szal.engine.leased_store"]
    assert "not written after 0.1s: e" in told.getMessage()
    assert told.getMessage().endswith("; waiting up to 0.4 s in all (commit_timeout)")


def test_with_the_durability_none_a_run_does_not_wait_for_its_end(store_url):
    with opened(store_url) as store, store.engine_sink() as sink, closing(Lock(store_url)) as lock:
        config = EngineConfig(execution_store=sink, commit_timeout=LIMIT, durability="none", lease_ttl=60)
        with Engine(lambda ctx: lock.take(), config) as engine:
            assert bounded(engine.run, FlowDef("f", steps=[StepDef("locks")]), execution_id="e").success
            lock.leave()
        sink.flush(10)
        assert store.get("e").state is WorkflowState.COMPLETED
