"""Flows of functions across processes: another one finds the functions by the names of flow and step."""

import pytest
from durable.children import killed

from szal import Engine, EngineConfig, Flow, InvalidFlow, InvalidInputs, StepDef, WorkflowState

FLOWS = """
import szal

part = szal.Flow("part")

@part.step
def load(rows):
    return sum(rows)

@load.rollback
def unload(load):
    print("unloaded", load, flush=True)

whole = szal.Flow("whole", rollback_on_failure=True)

@whole.step
def load(n):
    return [*range(n)]

@load.rollback
def unload(load, n):
    print("unlisted", load, n, flush=True)

whole.sub_flow("part", part, inputs={"rows": load})

@whole.step
def report(ctx, part, level=1):
    if ctx.inputs.get("dies") and not survived:
        die()
    if ctx.inputs.get("fails"):
        raise ValueError("no")
    return [part["load"], level]

@whole.step
def end(report, dies=False, fails=False):
    return report
"""


def flows(survived=True, die=None):
    names = {"survived": survived, "die": die, "__name__": "flows"}
    exec(FLOWS, names)
    return names["whole"]


def started(url, inputs):
    killed(
        f"""
    survived = False
    exec({FLOWS!r})
    new_engine(whole).run(whole, {inputs!r}, execution_id="e")
    """,
        url,
    )


def test_an_execution_goes_on_in_another_process_with_that_ones_functions(store_url, store):
    started(store_url, {"n": 4, "dies": True})
    flow = flows()
    with Engine(flow, EngineConfig(execution_store=store)) as engine:
        (result,) = engine.recover()
        assert result.outputs == {"load": [0, 1, 2, 3], "part": {"load": 6}, "report": [6, 1], "end": [6, 1]}
        assert engine.run(flow, {"n": 4, "dies": True}, execution_id="e").outputs == result.outputs


def test_undos_go_on_with_what_was_recorded(store_url, store, capsys):
    started(store_url, {"n": 4, "dies": True, "fails": True})
    flow = flows()
    with Engine([Flow("other"), flow], EngineConfig(execution_store=store)) as engine:
        assert engine.resume("e").state is WorkflowState.ROLLED_BACK
    assert capsys.readouterr().out.splitlines() == ["unloaded 6", "unlisted [0, 1, 2, 3] 4"]


def test_an_engine_without_the_flow_leaves_it_alone(store_url, store):
    started(store_url, {"n": 4, "dies": True})
    with Engine(Flow("other"), EngineConfig(execution_store=store)) as engine:
        assert engine.recover() == []
    assert store.get("e").state is WorkflowState.RUNNING


def test_functions_that_take_what_did_not_come_before_are_refused_and_nothing_is_taken_over(store):
    old = Flow("ci")
    old.step(lambda: "built", name="build")
    old.step(lambda: "linted", name="lint")
    old.add_step(StepDef("ask", step_type="wait", config={"signal": "go"}), needs="build")
    old.step(lambda ask: "tested", name="test")
    with Engine(old, EngineConfig(execution_store=store)) as engine:
        engine.run(old, execution_id="e")

    def engine_of(**functions):
        new = Flow("ci")
        new.step(lambda: "built", name="build")
        new.step(lambda: "linted", name="lint")
        new.step(lambda: "new", name="new")
        new.add_step(StepDef("ask", step_type="wait", config={"signal": "go"}), needs="build")
        new.step(functions["test"], name="test")
        return Engine(new, EngineConfig(execution_store=store))

    for name, function in {"lint": lambda ask, lint: lint, "new": lambda ask, new: new}.items():
        problem = f"step 'test' takes the output of step '{name}', which does not come before it in the definition"
        with engine_of(test=function) as engine, pytest.raises(InvalidFlow, match=problem):
            engine.resume("e")
    assert store.get("e").state is WorkflowState.PAUSED
    with engine_of(test=lambda ask, build: f"{ask} {build}") as engine:  # which came before by way of another
        engine.signal("e", "go", "yes")
        assert engine.resume("e")["test"].output == "yes built"


def test_a_rerun_takes_no_input_that_no_function_takes(new_engine):
    flow = Flow("sums")

    @flow.step
    def add(n, m=1):
        return n + m

    new_engine(flow).run(flow, {"n": 1}, execution_id="e")
    engine = new_engine(flow)
    with pytest.raises(InvalidInputs, match="unknown input 'k'; the flow takes 'n', 'm'"):
        engine.rerun("e", inputs={"k": 3})
    assert engine.rerun("e", "add", {"m": 5})["add"].output == 6


def test_a_sub_flow_that_begins_in_another_process_takes_the_same_inputs(new_engine):
    part, whole = Flow("part"), Flow("whole")
    part.step(lambda rows: rows, name="load")
    approve = whole.add_step(StepDef("approve", step_type="wait", config={"signal": "go"}))
    whole.sub_flow("part", part, inputs={"rows": 1, "row": 2}, needs=approve)
    engine = new_engine(whole)
    assert engine.run(whole, execution_id="e").state is WorkflowState.PAUSED
    engine.signal("e", "go")
    assert "unknown input 'row'; did you mean 'rows'?" in new_engine(whole).resume("e")["part"].error
