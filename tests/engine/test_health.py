"""Whether an engine can work: what `Engine.healthy` tells, in how long, and what it leaves behind."""

import threading
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest
from helper_engine import ForeignStore, bounded, waited
from processes import wait_until

from szal import Engine, EngineConfig, ExecutionRecord, FlowDef, SqliteExecutionStore, StepDef
from szal.stores import connect_store, open_store

FLOW = FlowDef("ci", steps=[StepDef("build")])


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request, tmp_path):
    urls = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/szal.db"}
    url = urls.get(request.param) or request.getfixturevalue("postgres_url")
    with open_store(url) as store:
        yield store


def engine_with(store, **config):
    return Engine(lambda ctx: None, EngineConfig(execution_store=store, **config))


class HangingStore(ForeignStore):
    """A store that does not answer until `go_on` is set."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()
        self.asked = 0

    def get(self, execution_id):
        self.asked += 1
        waited(self.go_on)


def test_an_engine_that_can_work_says_so_and_nothing_is_left_of_the_question(store):
    with store.engine_sink() as sink, engine_with(sink) as engine:
        engine.run(FLOW, execution_id="a")
        health = engine.healthy()
        assert health.ok
        assert health
        assert health.problems == ()
        assert (health.store, health.running, health.abandoned) == (store.name, 0, 0)
        assert 0 <= health.answered < 20
        assert (health.writer.pending, health.writer.lag) == (0, 0)
    assert store.list() == ["a"]


def test_without_a_store_there_is_nothing_that_could_be_broken():
    assert Engine(lambda ctx: None).healthy().ok


def test_a_closed_engine_is_not_healthy(store):
    engine = engine_with(store)
    engine.close()
    assert engine.healthy().problems == ("the engine is closed",)


def test_what_runs_and_when_its_lease_was_renewed(store):
    seen = []
    with engine_with(store) as engine:
        busy = Engine(lambda ctx: seen.append(busy.healthy()), EngineConfig(execution_store=store))
        assert engine.healthy().heartbeat is None
        with busy:
            busy.run(FLOW)
    [health] = seen
    assert health.ok
    assert health.running == 1
    assert 0 <= health.heartbeat < 20


def test_a_store_that_does_not_answer_is_waited_for_so_long_and_asked_once():
    store = HangingStore()
    engine = engine_with(store)
    for _ in range(3):
        health = bounded(engine.healthy, 0.02)
        assert not health.ok
        assert "the store has not answered for" in health.problems[0]
    assert store.asked == 1
    store.go_on.set()
    wait_until(lambda: engine.healthy(10).ok)


def test_a_store_that_is_locked_is_not_healthy_and_is_when_it_is_free(tmp_path: Path):
    path = tmp_path / "szal.db"
    open_store(f"sqlite:///{path}").close()
    with closing(connect(path, isolation_level=None)) as other:
        store = SqliteExecutionStore.connect(path, busy_timeout=0.01)
        engine = engine_with(store)
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in engine.healthy(20).problems[0]
        other.execute("ROLLBACK")
        assert engine.healthy(20).ok


def test_a_store_whose_tables_are_not_there(tmp_path: Path):
    store = connect_store(f"sqlite:///{tmp_path}/szal.db")
    health = engine_with(store).healthy(20)
    assert health.problems == (
        f"NotMigrated: {tmp_path}/szal.db: table szal_executions is missing: call store.migrate() once",
    )


def test_what_cannot_be_written_is_told_with_for_how_long(tmp_path: Path, monkeypatch):
    path = tmp_path / "szal.db"
    open_store(f"sqlite:///{path}").close()
    monkeypatch.setattr("szal.engine.health._SLOW", 1e-9)
    with (
        closing(connect(path, isolation_level=None)) as other,
        SqliteExecutionStore.connect(path, busy_timeout=0.01) as store,
        store.engine_sink() as sink,
    ):
        other.execute("BEGIN IMMEDIATE")
        sink.save(ExecutionRecord("a", "ci"))
        wait_until(lambda: sink.stats().last_error is not None)
        health = engine_with(sink).healthy(20)
        assert any("1 writes are pending" in problem and "locked" in problem for problem in health.problems)
        other.execute("ROLLBACK")
        sink.flush(20)
        assert engine_with(sink).healthy(20).ok


def test_a_time_that_is_none_is_refused():
    with pytest.raises(ValueError, match="timeout"):
        Engine(lambda ctx: None).healthy(-1)
