"""Flows of functions across processes: another one finds the functions by the names of flow and step."""

from durable.children import killed

from szal import Engine, EngineConfig, Flow, WorkflowState

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
