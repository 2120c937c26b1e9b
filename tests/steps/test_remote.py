"""What crosses to an executor and back, at its edges: what one side or the other cannot load."""

import functools
import pickle
import sys
import types
from concurrent.futures import Executor, Future

import pytest
import remote_handlers as handlers

from szal import Engine, EngineConfig, FlowDef, Handlers, NotSendable, StepDef
from szal.steps.errand import Errand
from szal.steps.pickling import pickled
from szal.steps.remote import Parcel, packed, perform, unpacked

WHERE = "on the executor"


class Here(Executor):
    """Makes each attempt at once, on the thread that submits it; its futures never tell that they run."""

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future


def test_any_executor_will_do():
    with Engine(handlers.nothing, EngineConfig(executor=Here())) as engine:
        flow = FlowDef("f", steps=[StepDef("a", timeout=10.0), StepDef("b")])
        assert engine.run(flow).outputs == {"a": "a", "b": "b"}


def test_what_cannot_be_loaded_there_is_told():
    answer = unpacked(perform(b"what is this"), "a", WHERE)
    with pytest.raises(NotSendable, match="a cannot be done on the executor: what was sent cannot be loaded there"):
        answer.outcome("a", WHERE)


def test_so_is_a_module_that_is_not_there(monkeypatch):
    module = types.ModuleType("only_here")
    exec("def work():\n    return 1", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    sent = packed(Parcel(Errand(module.work), None), "a", WHERE).data
    assert unpacked(perform(sent), "a", WHERE).outcome("a", WHERE) == 1
    monkeypatch.delitem(sys.modules, "only_here")
    with pytest.raises(NotSendable, match="cannot be loaded there: ModuleNotFoundError: No module named 'only_here'"):
        unpacked(perform(sent), "a", WHERE).outcome("a", WHERE)


def test_what_cannot_be_loaded_here_is_told():
    with pytest.raises(NotSendable, match="what it has come to cannot be loaded here: Unpickl"):
        unpacked(b"what is this", "a", WHERE)


def decorated(function):
    @functools.wraps(function)
    def wrapper():
        return f"wrapped {function()}"

    return wrapper


def below():
    return "below"


plain, below = below, decorated(below)


def test_a_function_is_found_below_what_a_decorator_has_put_under_its_name():
    found, wrapper = (pickle.loads(pickled(each)) for each in (plain, below))
    assert (found is plain, wrapper is below) == (True, True)


def test_the_files_by_which_a_work_is_there_are_looked_for_here(tmp_path):
    (tmp_path / "made").touch()
    steps = [
        StepDef(
            name,
            step_type="python",
            config={"call": "remote_handlers:where", "up_to_date": {"outputs": [str(tmp_path / name)]}},
        )
        for name in ("made", "missing")
    ]
    with Engine(Handlers(), EngineConfig(executor=Here())) as engine:
        result = engine.run(FlowDef("f", steps=steps))
    assert [str(step.status) for step in result.steps] == ["skipped", "completed"]
