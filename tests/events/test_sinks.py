"""Several sinks of one engine, and what they may ask to be told beside events."""

import logging

import pytest
from helper_engine import bounded

from szal import Engine, EngineConfig, EventBus, FlowDef, Handlers, NotAHandler, StepDef
from szal.stores import open_store

FLOW = FlowDef("f", steps=[StepDef("a", step_type="http")])


def test_each_of_several_hears_of_everything_in_order():
    first, bus = [], EventBus()
    second = bus.subscribe()
    with Engine(lambda ctx: None, EngineConfig(event_sink=[first.append, bus])) as engine:
        bounded(engine.run, FLOW)
    second.close()
    assert [event.event_type for event in first] == ["flow_started", "step_started", "step_completed", "flow_completed"]
    assert [*second] == first


def test_one_that_raises_keeps_nothing_from_the_others(caplog):
    def broken(event):
        raise RuntimeError("this sink is broken")

    before, after = [], []
    with Engine(lambda ctx: None, EngineConfig(event_sink=(before.append, broken, after.append))) as engine:
        result = bounded(engine.run, FLOW)
    assert result.success
    assert len(before) == len(after) == 4
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 4
    assert all(result.execution_id in record.getMessage() for record in errors)


def test_none_of_several_is_no_function():
    with pytest.raises(NotAHandler, match=r"event_sink\[1\]"):
        EngineConfig(event_sink=[print, "print"])


def test_an_event_of_a_step_says_of_which_type_it_is():
    events = []
    with Engine(lambda ctx: None, EngineConfig(event_sink=events.append)) as engine:
        bounded(engine.run, FLOW)
    assert [event.step_type for event in events] == [None, "http", "http", None]


class Follower:
    """A sink that asks for all that there is, and keeps a mark with each execution."""

    def __init__(self):
        self.told = []

    def __call__(self, event):
        self.told.append(event.event_type)

    def engine_opened(self, engine):
        self.told.append("opened")
        self.engine = engine

    def engine_closed(self, engine):
        assert engine is self.engine
        self.told.append("closed")

    def run_submitted(self, record):
        self.told.append(f"{record.flow_name} is submitted")
        return "submitted"

    def run_begins(self, record, step):
        self.told.append(f"{record.flow_name} begins, of {step and step.name}, after {[*record.traceparents]}")
        return f"mark {len(self.told)}"

    def run_ends(self, execution_id):
        self.told.append("ends")


def test_one_that_asks_for_it_is_told_of_engines_and_runs():
    sink = Follower()
    flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "go"})])
    with (
        open_store("memory:") as store,
        Engine(Handlers(), EngineConfig(execution_store=store, event_sink=sink)) as engine,
    ):
        bounded(engine.run, flow, execution_id="x")
        assert store.get("x").traceparents == ("mark 2",)
        assert sink.told == [
            "opened",
            "f begins, of None, after []",
            "flow_started",
            "step_started",
            "flow_paused",
            "ends",
        ]
        del sink.told[:]
        engine.signal("x", "go", 1)
        bounded(engine.resume, "x")
        assert store.get("x").traceparents == ("mark 2", "mark 1")
        assert sink.told[0] == "f begins, of None, after ['mark 2']"
        assert sink.told[-2:] == ["flow_completed", "ends"]
    assert sink.told[-1] == "closed"


def test_it_is_told_of_what_is_submitted():
    sink = Follower()
    with open_store("memory:") as store:
        config = EngineConfig(execution_store=store, event_sink=sink)
        with Engine(lambda ctx: None, config) as engine:
            engine.submit(FLOW, execution_id="x")
            assert store.get("x").traceparents == ("submitted",)
            assert bounded(engine.work, until_idle=True) == 1
            assert sink.told[1:3] == ["f is submitted", "f begins, of None, after ['submitted']"]
            assert store.get("x").traceparents[0] == "submitted"


def test_of_a_sub_flow_it_is_told_of_which_step_it_is():
    sink = Follower()
    flow = FlowDef("f", steps=[StepDef("child", step_type="sub_flow", config={"flow_name": "g"})])
    flow.sub_flows = [FlowDef("g", steps=[StepDef("a")])]
    with Engine(lambda ctx: None, EngineConfig(event_sink=sink)) as engine:
        assert bounded(engine.run, flow).success
    assert "g begins, of child, after []" in sink.told


def test_what_it_raises_harms_nothing(caplog):
    class Broken(Follower):
        def engine_opened(self, engine):
            raise RuntimeError("no")

        run_begins = run_ends = engine_closed = engine_opened

    sink = Broken()
    with Engine(lambda ctx: None, EngineConfig(event_sink=sink)) as engine:
        sink.run_begins = sink.run_ends = lambda *args: 1 / 0
        result = bounded(engine.run, FLOW)
    assert result.success
    assert [record.message.partition("failed: ")[2] for record in caplog.records] == [
        "an engine is made",
        f"f, execution {result.execution_id}",
        f"execution {result.execution_id}",
        "an engine is closed",
    ]
