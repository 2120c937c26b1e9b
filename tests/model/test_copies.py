"""Flows and results as copies, in this process and in another one."""

import copy
import copyreg
import pickle
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import attrs
import pytest

from szal import (
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    RetryExhausted,
    StepDef,
    StepFailed,
    StepTimeout,
    open_store,
)

COPIES = {
    "copied": copy.copy,
    "copied with all in it": copy.deepcopy,
    "evolved": attrs.evolve,
    **{f"pickled, {n}": lambda flow, n=n: pickle.loads(pickle.dumps(flow, n)) for n in range(2, 6)},
}


def flow_of(**options):
    a = StepDef("a", max_retries=1, retry_delay=0, retry_on=ValueError, config={"list": [1]})
    b = StepDef("b", depends_on=[a], condition="steps.a.output == 'a'", max_retries=1, retry_delay=0)
    return FlowDef("f", FlowMode.DAG, steps=[a, b], inputs={"n": 1}, **options)


@pytest.mark.parametrize("how", COPIES)
def test_a_flow_that_has_run_can_be(how):
    flow = flow_of(timeout=60)
    with (
        open_store("memory:") as store,
        Engine(lambda ctx: ctx.step.name, EngineConfig(execution_store=store)) as engine,
    ):
        assert engine.run(flow).outputs == {"a": "a", "b": "b"}
        other = COPIES[how](flow)
        assert other == flow
        other.add_step(StepDef("c", depends_on=[other.steps[1]]))
        assert engine.run(other).outputs == {"a": "a", "b": "b", "c": "c"}
        assert engine.run(flow).outputs == {"a": "a", "b": "b"}


def test_the_work_that_running_it_left_does_not_travel():
    flow = flow_of()
    size = len(pickle.dumps(flow))
    with Engine(lambda ctx: ctx.step.name) as engine:
        engine.run(flow)
    assert len(pickle.dumps(flow)) == size


class Needs(Exception):
    """Cannot be unpickled: its class takes other arguments than it keeps."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Holds(Exception):
    """Cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Refuses(Exception):
    def __reduce__(self):
        raise RuntimeError("no")


class Exits(Exception):
    def __reduce__(self):
        raise SystemExit(3)


class ExitsLate(Exception):
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return sys.exit, (3,)


class Deceives(Exception):
    def __reduce__(self):
        return (str, ("no exception",))


def result_of(error):
    def handler(ctx):
        raise error

    with Engine(handler) as engine:
        return engine.run(FlowDef("f", steps=[StepDef("a")]))


Local = type("Local", (Exception,), {"__qualname__": "nowhere.Local"})


TRAVEL_BADLY = [Needs(1, "no"), *(kind("no") for kind in (Holds, Refuses, Exits, ExitsLate, Deceives, Local))]


@pytest.mark.parametrize("error", TRAVEL_BADLY, ids=repr)
def test_an_exception_that_cannot_travel_is_left_out(error, monkeypatch):
    # Once a test has imported dask, tblib says how all exceptions travel that there are by then.
    monkeypatch.delitem(copyreg.dispatch_table, type(error), raising=False)
    result = pickle.loads(pickle.dumps(result_of(error)))
    assert result["a"].exception is None
    assert (result["a"].error, result["a"].error_type) == (f"{type(error).__name__}: no", type(error).__name__)
    with pytest.raises(StepFailed, match=f"step failed: a: {type(error).__name__}: no"):
        result.raise_for_failure()


def test_one_that_can_travels_with_its_cause():
    def handler(ctx):
        raise KeyError("x") from OSError("disk")

    with Engine(handler) as engine:
        result = engine.run(FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0)]))
    travelled = pickle.loads(pickle.dumps(result))
    assert travelled == result
    with pytest.raises(RetryExhausted) as caught:
        travelled.raise_for_failure()
    assert repr(caught.value.__cause__) == "KeyError('x')"
    late = Engine(lambda ctx: ctx.sleep(9)).run(FlowDef("f", steps=[StepDef("a", timeout=0.01)]))
    with pytest.raises(StepTimeout):
        pickle.loads(pickle.dumps(late)).raise_for_failure()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, attrs.evolve])
def test_a_copy_in_this_process_has_the_same_exception(how):
    error = Refuses("no")
    result = result_of(error)["a"]
    assert how(result).exception is error


def run_in_child(name):
    return result_of({"needs": Needs(1, "no"), "value": ValueError("no")}[name])


def test_a_result_comes_back_from_a_pool_of_processes():
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert pool.submit(run_in_child, "needs").result(20)["a"].error == "Needs: no"
        assert repr(pool.submit(run_in_child, "value").result(20)["a"].exception) == "ValueError('no')"
