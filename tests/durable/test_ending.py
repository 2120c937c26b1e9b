"""Waiting for an execution that runs anywhere: in this engine, in another, in a process that dies meanwhile."""

import threading

import pytest
from durable.children import Child
from helper_engine import LONG, bounded, waited

from szal import (
    CancellationToken,
    Cancelled,
    Engine,
    EngineConfig,
    ExecutionNotFound,
    ExecutionOwned,
    FlowDef,
    StepDef,
    SzalError,
    open_store,
)

FLOW = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
HUNG = """
    flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
    def handler(ctx):
        if ctx.step.name == "b":
            sink.flush()
            tell("begun")
            listen()
        return ctx.step.name
    result = new_engine(handler).run(flow, execution_id="e")
    tell(result.state)
"""


class Held:
    """A flow of which the step b waits until it is let go."""

    def __init__(self):
        self.begun, self.go, self.calls = threading.Event(), threading.Event(), []

    def __call__(self, ctx):
        self.calls.append(ctx.step.name)
        if ctx.step.name == "b":
            self.begun.set()
            waited(self.go)
        return ctx.step.name


@pytest.fixture
def held():
    held = Held()
    yield held
    held.go.set()


class InBackground:
    """A call in a thread of its own; `result` returns what it returns, or raises what it raises."""

    def __init__(self, function, *args, **kwargs):
        self.found = []
        self.thread = threading.Thread(target=self._call, args=(function, args, kwargs), daemon=True)
        self.thread.start()

    def _call(self, function, args, kwargs):
        try:
            self.found.append((function(*args, **kwargs), None))
        except BaseException as error:
            self.found.append((None, error))

    def result(self):
        self.thread.join(LONG)
        ((value, error),) = self.found
        if error is not None:
            raise error
        return value


class TestResult:
    def test_is_waited_for_wherever_it_runs(self, new_engine, held):
        engine, other = new_engine(held), new_engine()
        engine.start(FLOW, execution_id="e")
        waited(held.begun)
        results = [InBackground(each.result, "e", timeout=LONG) for each in (engine, other)]
        for each in (engine, other):
            with pytest.raises(TimeoutError, match="execution e has not ended within"):
                each.result("e", timeout=0.02)
        held.go.set()
        assert [each.result().outputs for each in results] == [{"a": "a", "b": "b"}] * 2
        assert held.calls == ["a", "b"]

    def test_of_what_another_process_runs(self, new_engine, store_url):
        with Child(HUNG, store_url) as child:
            assert child.hear() == "begun"
            waiting = InBackground(new_engine().result, "e", timeout=LONG)
            child.say()
            assert child.end() == "completed"
            assert waiting.result().outputs == {"a": "a", "b": "b"}

    def test_comes_though_the_process_that_ran_it_is_killed_once_somebody_goes_on(self, new_engine, store_url):
        engine = new_engine()
        with Child(HUNG, store_url) as child:
            assert child.hear() == "begun"
            waiting = InBackground(engine.result, "e", timeout=LONG)
            child.process.kill()
            child.process.wait()
            engine.resume("e")
            assert waiting.result().outputs == {"a": "a", "b": "b"}

    def test_can_be_waited_for_by_the_thread_that_has_just_started_it(self, new_engine):
        engine = new_engine()
        for number in range(30):
            engine.start(FLOW, execution_id=str(number))
            assert engine.result(str(number), timeout=LONG).success

    def test_of_a_failed_one_is_returned(self, new_engine):
        engine = new_engine(lambda ctx: 1 / 0)
        engine.run(FLOW, execution_id="e")
        assert str(engine.result("e").state) == "failed"

    def test_of_what_is_not_there_is_an_error(self, new_engine):
        with pytest.raises(ExecutionNotFound):
            new_engine().result("none")

    def test_cannot_be_waited_for_in_a_step_of_that_execution(self, new_engine):
        engine = new_engine(lambda ctx: engine.result(ctx.execution_id))
        result = bounded(engine.run, FLOW, execution_id="e")
        assert result["a"].error == "RuntimeError: execution e cannot be waited for in a step of its own"

    def test_is_there_also_after_the_engine_is_closed(self):
        with Engine(lambda ctx: 1, EngineConfig(execution_store=open_store("memory:"))) as engine:
            engine.run(FLOW, execution_id="e")
        assert engine.result("e").success

    def test_cannot_be_waited_for_where_nothing_is_recorded(self):
        with Engine(lambda ctx: None) as engine, pytest.raises(SzalError, match=r"wait with Execution\.result"):
            engine.result("e")


class TestARunThatWaits:
    def test_returns_what_the_other_came_to(self, new_engine, held):
        engine, other = new_engine(held), new_engine(held)
        engine.start(FLOW, execution_id="e")
        waited(held.begun)
        for each in (engine, other):
            with pytest.raises(ExecutionOwned):
                each.run(FLOW, execution_id="e")
        runs = [InBackground(each.run, FLOW, execution_id="e", if_running="wait") for each in (engine, other)]
        held.go.set()
        assert [run.result().outputs for run in runs] == [{"a": "a", "b": "b"}] * 2
        assert held.calls == ["a", "b"]

    def test_goes_on_where_the_other_process_is_killed(self, new_engine, store_url):
        with Child(HUNG, store_url) as child:
            assert child.hear() == "begun"
            run = InBackground(new_engine().run, FLOW, execution_id="e", if_running="wait")
            child.process.kill()
            assert run.result().outputs == {"a": "a", "b": "b"}

    def test_ends_as_its_own_token_says_and_leaves_the_other_alone(self, new_engine, held):
        engine, token = new_engine(held), CancellationToken()
        execution = engine.start(FLOW, execution_id="e")
        waited(held.begun)
        run = InBackground(engine.run, FLOW, execution_id="e", if_running="wait", cancel=token)
        token.cancel()
        with pytest.raises(Cancelled, match="while another run of execution e"):
            run.result()
        held.go.set()
        assert execution.result(LONG).success

    def test_runs_after_the_other_where_nothing_is_recorded(self, held):
        with Engine(held) as engine:
            engine.start(FLOW, execution_id="e")
            waited(held.begun)
            run = InBackground(engine.run, FLOW, execution_id="e", if_running="wait")
            held.go.set()
            assert run.result().success
        assert held.calls == ["a", "b"] * 2

    def test_needs_an_id(self):
        with Engine(lambda ctx: None) as engine:
            with pytest.raises(ValueError, match="needs an execution_id"):
                engine.run(FLOW, if_running="wait")
            with pytest.raises(ValueError, match="'raise' or 'wait', not 'now'"):
                engine.run(FLOW, execution_id="e", if_running="now")
