"""One object for the database: `Engine.open`, and `szal.run` with a store."""

import threading
from pathlib import Path

import pytest
from helper_engine import waited

import szal
from szal import (
    Engine,
    EngineClosed,
    EngineConfig,
    Flow,
    FlowDef,
    HandlerNotFound,
    Handlers,
    NotAHandler,
    StepDef,
    WorkflowState,
)
from szal.errors import StoreClosed
from szal.stores import open_store


@pytest.fixture
def url(kind, request):
    return "memory:" if kind == "memory" else request.getfixturevalue(f"{kind}_url")


@pytest.fixture
def new_url(kind, request, fast_path):
    """Where nothing has been migrated yet."""
    if kind == "sqlite":
        return f"sqlite:///{fast_path}/new.db"
    return "memory:" if kind == "memory" else request.getfixturevalue("postgres_url")


def greeting():
    flow = Flow("greet")

    @flow.step
    def hello(name):
        return f"hello {name}"

    return flow


def test_an_engine_opens_its_store_migrates_it_and_closes_it(new_url, kind):
    flow = greeting()
    with Engine.open(new_url, flow, durability="step") as engine:
        assert engine.run(flow, {"name": "Ada"}, execution_id="e")["hello"].output == "hello Ada"
        assert engine.config.durability == "step"
        store = engine.config.execution_store
    if kind == "memory":
        return
    with pytest.raises(StoreClosed):
        store.get("e")
    with open_store(new_url) as again:
        assert again.get("e").state is WorkflowState.COMPLETED


def test_several_flows_share_an_engine(url):
    ci, refund = greeting(), Flow("refund")

    @refund.step
    def pay(amount):
        return -amount

    with Engine.open(url, ci, refund) as engine:
        assert engine.run(refund, {"amount": 3}).outputs == {"pay": -3}
        assert engine.run(ci, {"name": "B"}).outputs == {"hello": "hello B"}


def test_a_function_of_ctx_and_handlers_stand_for_flows(url):
    handlers = Handlers()
    handlers.step("a")(lambda ctx: "handled")
    flow = FlowDef("old", steps=[StepDef("a")])
    with Engine.open(url, lambda ctx: "function") as engine:
        assert engine.run(flow).outputs == {"a": "function"}
    with Engine.open(url, handlers) as engine:
        assert engine.run(flow).outputs == {"a": "handled"}


def test_a_store_of_the_callers_stays_open_and_all_is_in_it(store):
    with Engine.open(store, greeting(), durability="none") as engine:
        engine.run(greeting(), {"name": "Ada"}, execution_id="e")
    assert store.get("e").state is WorkflowState.COMPLETED


def test_a_sink_of_the_callers_stays_open(store):
    with store.engine_sink() as sink:
        for name in ("a", "b"):
            with Engine.open(sink, greeting()) as engine:
                assert engine.config.execution_store is sink
                engine.run(greeting(), {"name": "Ada"}, execution_id=name)
        assert sink.list() == ["a", "b"]


def test_what_goes_on_after_the_close_keeps_the_store_open_until_it_has_ended(new_url):
    begun, go = threading.Event(), threading.Event()
    flow = Flow("slow")

    @flow.step
    def work():
        begun.set()
        return waited(go)

    engine = Engine.open(new_url, flow)
    execution = engine.start(flow, execution_id="e")
    waited(begun)
    engine.close()
    store = engine.config.execution_store
    assert store.get("e").state is WorkflowState.RUNNING
    with pytest.raises(EngineClosed):
        engine.run(flow)
    go.set()
    assert execution.result(timeout=20).success
    engine.close(drain=20)
    if not new_url.startswith("memory"):
        with pytest.raises(StoreClosed):
            store.get("e")


def test_an_engine_without_flows_looks_and_signals_and_runs_nothing(store):
    flow = FlowDef("shop", steps=[StepDef("ask", step_type="wait", config={"signal": "paid"})])
    with Engine.open(store, Handlers()) as engine:
        engine.run(flow, execution_id="order")
    with Engine.open(store) as looker:
        assert looker.look("order").state is WorkflowState.PAUSED
        assert looker.signal("order", "paid", 7)
        assert looker.recover() == []
        for call in (lambda: looker.resume("order"), lambda: looker.run(flow), lambda: looker.rerun("order")):
            with pytest.raises(
                HandlerNotFound, match=r"no flow 'shop' in this engine, and so no handler for step: ask"
            ):
                call()
        assert looker.look("order").state is WorkflowState.PAUSED
        assert store.list() == ["order"]
    with Engine.open(store, Handlers()) as engine:
        assert engine.resume("order").outputs == {"ask": 7}


def test_what_is_wrong_is_told_before_anything_is_opened(fast_path):
    url, flow = f"sqlite:///{fast_path}/none.db", greeting()
    with pytest.raises(TypeError, match="an engine has no setting 'durabilty'; did you mean 'durability'"):
        Engine.open(url, flow, durabilty="step")
    with pytest.raises(TypeError, match="the store is given once"):
        Engine.open(url, flow, execution_store=None)
    with pytest.raises(ValueError, match="durability is one of"):
        Engine.open(url, flow, durability="full")
    with pytest.raises(ValueError, match="two flows of this engine are called 'greet'"):
        Engine.open(url, flow, greeting())
    with pytest.raises(NotAHandler):
        Engine.open(url, {"a": 1})
    assert not (fast_path / "none.db").exists()


# -- szal.run -----------------------------------------------------------------------------------------


def test_run_takes_a_url_a_store_and_a_sink(kind, open_one, request):
    flow, given = greeting(), {"name": "Ada"}
    with open_one() as store, store.engine_sink() as sink:
        for name, each in {"store": store, "sink": sink}.items():
            assert flow.run(given, store=each, execution_id=name, durability="step").success
            assert sink.get(name).state is WorkflowState.COMPLETED
        if kind != "memory":
            url = request.getfixturevalue("store_url")
            assert szal.run(flow, given, store=url, execution_id="url", max_concurrency=1).success
            assert store.get("url").state is WorkflowState.COMPLETED


def test_run_takes_a_path(fast_path, monkeypatch):
    monkeypatch.chdir(fast_path)
    for path in (Path("a.db"), fast_path / "szal", "b.db", str(fast_path / "c.sqlite")):
        assert greeting().run({"name": "x"}, store=path, execution_id="e").success
    assert {each.name for each in fast_path.iterdir() if each.suffix in ("", ".db", ".sqlite")} == {
        *("a.db", "szal", "b.db", "c.sqlite")
    }


def test_run_with_an_id_is_an_idempotent_start(url, fast_path):
    calls = []
    flow = FlowDef("count", steps=[StepDef("a")])
    path = fast_path / "count.db"
    for _ in range(2):
        result = szal.run(flow, handler=lambda ctx: calls.append(1), store=path, execution_id="day-1")
        assert result.execution_id == "day-1"
    assert calls == [1]


@pytest.mark.parametrize("wrong", [42, b"szal.db", object(), {"a": 1}, open_store, EngineConfig])
def test_a_wrong_store_is_told(wrong):
    with pytest.raises(TypeError, match="store must be a URL, a path, a store or its sink, not"):
        greeting().run({"name": "x"}, store=wrong)
    with pytest.raises(TypeError, match="execution_store must be a store or its sink, not"):
        EngineConfig(execution_store=wrong)


@pytest.mark.parametrize("wrong", ["sqlite:///app.db", Path("app.db")])
def test_a_config_wants_a_store_and_no_url(wrong):
    with pytest.raises(TypeError, match=r"Engine\.open"):
        EngineConfig(execution_store=wrong)


def test_a_url_of_no_store_is_told():
    with pytest.raises(ValueError, match="this is no URL of a store"):
        greeting().run({"name": "x"}, store="szal")
    with pytest.raises(ValueError, match="did you mean sqlite"):
        Engine.open("sqlit:///szal.db")
