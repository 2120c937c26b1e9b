"""What a flow was given is checked before anything is recorded, and recorded as the run sees it."""

import threading
from functools import partial

import pytest

from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    InMemoryStorage,
    InvalidInputs,
    StepDef,
    WorkflowState,
)

INPUTS = {
    "day": {"type": "date", "required": True},
    "n": {"type": "integer", "default": 3},
    "env": {"enum": ["staging", "prod"]},
}


def report(**fields):
    return FlowDef("report", **{"inputs": INPUTS, "steps": [StepDef("seen"), StepDef("again")], **fields})


class Handler:
    """Returns the inputs that it sees; fails the step "again" for as long as it is broken."""

    def __init__(self):
        self.is_broken = True

    def __call__(self, ctx):
        if ctx.step.name == "again" and self.is_broken:
            raise ValueError("broken")
        return ctx.inputs


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def store(open_one):
    with open_one() as opened:
        yield opened


@pytest.fixture
def engine(store, handler):
    with Engine(handler, EngineConfig(execution_store=store)) as engine:
        yield engine


@pytest.mark.parametrize("begin", ["run", "start"])
def test_what_is_wrong_is_refused_before_anything_is_recorded(engine, store, begin):
    with pytest.raises(InvalidInputs) as caught:
        getattr(engine, begin)(report(), {"n": "3", "env": "prod", "out": 1}, execution_id="order-42")
    assert caught.value.problems == (
        "unknown input 'out'; the flow takes 'day', 'n', 'env'",
        "input 'day' is required: a date such as '2026-06-10'",
        "input 'n': expected a whole number, given '3'",
    )
    assert list(store.list()) == []


def test_an_id_that_was_refused_is_free(engine):
    with pytest.raises(InvalidInputs):
        engine.run(report(), execution_id="order-42")
    assert engine.run(report(), {"day": "2026-06-10"}, execution_id="order-42").execution_id == "order-42"


def test_an_id_is_no_excuse(engine):
    engine.run(report(), {"day": "2026-06-10"}, execution_id="order-42")
    with pytest.raises(InvalidInputs):
        engine.run(report(), {"dya": "2026-06-10"}, execution_id="order-42")


def test_the_record_holds_what_the_run_sees(engine, store):
    result = engine.run(report(), {"day": "2026-06-10"})
    assert result["seen"].output == {"day": "2026-06-10", "n": 3, "env": None}
    assert store.get(result.execution_id).inputs == result["seen"].output


def test_a_resumed_run_sees_what_it_saw_before(open_one, handler):
    flow = report(steps=[StepDef("seen"), StepDef("wait", step_type="wait", config={"signal": "go"}), StepDef("last")])
    with open_one() as store, Engine(handler, EngineConfig(execution_store=store)) as engine:
        paused = engine.run(flow, {"day": "2026-06-10"}, execution_id="order-42")
        assert paused.state is WorkflowState.PAUSED
    with open_one() as store, Engine(handler, EngineConfig(execution_store=store)) as engine:
        engine.signal("order-42", "go")
        result = engine.resume("order-42")
        assert result["last"].output == result["seen"].output == {"day": "2026-06-10", "n": 3, "env": None}


class TestReruns:
    def test_what_is_given_is_checked(self, engine, store):
        failed = engine.run(report(), {"day": "2026-06-10"})
        with pytest.raises(InvalidInputs) as caught:
            engine.rerun(failed.execution_id, inputs={"n": 4.5, "emv": "prod"})
        assert caught.value.problems == (
            "unknown input 'emv'; did you mean 'env'?",
            "input 'n': expected a whole number, given 4.5",
        )
        assert list(store.list()) == [failed.execution_id]

    def test_what_was_given_before_need_not_be_given_again(self, engine, handler):
        failed = engine.run(report(), {"day": "2026-06-10"})
        handler.is_broken = False
        done = engine.rerun(failed.execution_id, inputs={"env": "prod"})
        assert done["again"].output == {"day": "2026-06-10", "n": 3, "env": "prod"}


class TestSubFlows:
    """What is wrong is the step's failure, and not tried again."""

    def run(self, store, handler, inputs, **fields):
        steps = [
            StepDef("call", step_type="sub_flow", config={"flow_name": "report", "inputs": inputs}, max_retries=5),
        ]
        config = EngineConfig(execution_store=store, storage=InMemoryStorage([report(**fields)]))
        with Engine(handler, config) as engine:
            return engine.run(FlowDef("parent", steps=steps), {"n": "three"})["call"]

    def test_is_checked_when_it_begins(self, store, handler):
        step = self.run(store, handler, {"n": "{{inputs.n}}", "dya": "x"})
        assert step.error == (
            "invalid inputs for flow 'report': 3 problems\n"
            "  - unknown input 'dya'; did you mean 'day'?\n"
            "  - input 'day' is required: a date such as '2026-06-10'\n"
            "  - input 'n': expected a whole number, given 'three'"
        )
        assert (step.attempts, step.error_type) == (1, "SubFlowError")
        assert len(list(store.list())) == 1

    def test_sees_its_own_defaults(self, store, handler):
        handler.is_broken = False
        step = self.run(store, handler, {"day": "2026-06-10"})
        assert step.output["seen"] == {"day": "2026-06-10", "n": 3, "env": None}


@pytest.mark.parametrize("kind", ["memory"])
class TestInPlaceChanges:
    """A flow is what it says when it runs, be it changed since the last time."""

    def test_of_a_declaration_count(self, engine):
        flow = report(inputs={"n": {"type": "integer", "default": 3}})
        assert engine.run(flow)["seen"].output == {"n": 3}
        flow.inputs["n"]["default"] = 4
        assert engine.run(flow)["seen"].output == {"n": 4}
        flow.inputs["m"] = {"required": True}
        with pytest.raises(InvalidInputs, match="'m' is required"):
            engine.run(flow)

    def test_of_a_default_by_a_run_do_not_reach_the_next(self, store):
        flow = report(inputs={"tags": {"type": "list", "default": []}}, steps=[StepDef("a")])

        def handler(ctx):
            ctx.inputs["tags"].append(1)
            return ctx.inputs["tags"]

        with Engine(handler, EngineConfig(execution_store=store)) as engine:
            assert [engine.run(flow)["a"].output for _ in range(2)] == [[1], [1]]
        with Engine(handler) as engine:
            assert [engine.run(flow)["a"].output for _ in range(2)] == [[1], [1]]


@pytest.mark.parametrize("kind", ["memory"])
def test_many_threads_may_run_one_flow(engine, handler):
    handler.is_broken = False
    flow, results = report(), []
    threads = [
        threading.Thread(target=partial(lambda n: results.append(engine.run(flow, {"day": "2026-06-10", "n": n})), n))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["seen"].output["n"] for result in results) == list(range(8))
