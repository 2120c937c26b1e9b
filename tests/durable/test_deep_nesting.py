"""Sub-flows nested deeply, under a caller that has few frames left: nothing of theirs is nested calls."""

import inspect
import os
import sys

import pytest
from helper_engine import bounded
from pairs import beside

from szal import Engine, EngineConfig, FlowDef, InMemoryStorage, StepDef, WorkflowState
from szal.stores import open_store

DEEPEST = 40
FRAMES_LEFT = 150  # four for each sub-flow are more than that


def nest(leaf):
    """Return flows of which each has the next one as its sub-flow; the last has *leaf*."""

    def flow(number):
        below = StepDef("below", step_type="sub_flow", config={"flow_name": f"flow {number + 1}"})
        steps = [StepDef("own", rollbackable=True), below if number < DEEPEST else leaf]
        return FlowDef(f"flow {number}", steps=steps, rollback_on_failure=True)

    return [flow(number) for number in range(DEEPEST + 1)]


def with_few_frames(function, *args, **kwargs):
    """Call *function* as deep down as leaves it `FRAMES_LEFT`."""

    def down(levels):
        return function(*args, **kwargs) if levels == 0 else down(levels - 1)

    return down(sys.getrecursionlimit() - len(inspect.stack(0)) - FRAMES_LEFT)


class Scene:
    """Nested flows and what has been undone of them; "end", the last step, fails while `fails` is set."""

    def __init__(self, leaf):
        self.flows = nest(leaf)
        self.top = self.flows[0]
        self.top.steps.append(StepDef("end"))
        self.undone = []
        self.fails = False
        self.dies = False

    def __call__(self, ctx):
        if ctx.step.name == "leaf" and self.dies:
            os._exit(0)
        if ctx.step.name == "end" and self.fails:
            raise ValueError("no")
        return ctx.step.name

    def config(self, **more):
        catalogue = InMemoryStorage(self.flows)
        return {"storage": catalogue, "max_depth": DEEPEST, "rollback_handler": self.undo} | more

    def undo(self, ctx):
        self.undone.append(ctx.execution_id)


def asks():
    return StepDef("ask", step_type="wait", config={"signal": "go"})


def leaf_of(store):
    """Return the id of the innermost execution, which waits for the signal."""
    [found] = store.find(flow_name=f"flow {DEEPEST}")
    return found.execution_id


@pytest.mark.parametrize("fails", [False, True])
def test_without_a_store(fails):
    scene = Scene(StepDef("leaf"))
    scene.fails = fails
    with Engine(scene, EngineConfig(**scene.config())) as engine:
        result = with_few_frames(engine.run, scene.top)
    assert result.state is (WorkflowState.ROLLED_BACK if fails else WorkflowState.COMPLETED)
    assert len(set(scene.undone)) == (DEEPEST + 1 if fails else 0)


@pytest.mark.parametrize("fails", [False, True])
def test_run_and_the_undoing_of_what_has_completed(new_engine, fails):
    scene = Scene(StepDef("leaf"))
    scene.fails = fails
    result = with_few_frames(new_engine(scene, **scene.config()).run, scene.top)
    assert result.state is (WorkflowState.ROLLED_BACK if fails else WorkflowState.COMPLETED)
    assert len(set(scene.undone)) == (DEEPEST + 1 if fails else 0)


@pytest.mark.parametrize(
    ("end", "kind"), beside(["completes", "fails", "cancelled", "waits on"], ["memory", "postgres", "sqlite"])
)
def test_pause_and_resume(new_engine, store, end):
    scene = Scene(asks())
    paused = with_few_frames(new_engine(scene, **scene.config()).run, scene.top, execution_id="top")
    assert paused.state is WorkflowState.PAUSED
    scene.fails = end == "fails"
    engine = new_engine(scene, **scene.config())
    if end == "cancelled":
        assert engine.cancel("top")
    elif end != "waits on":
        assert with_few_frames(engine.signal, leaf_of(store), "go")
    assert with_few_frames(engine.interrupted) == ([] if end == "waits on" else ["top"])
    result = with_few_frames(engine.resume, "top")
    states = {"completes": "completed", "waits on": "paused"}
    assert str(result.state) == states.get(end, "rolled_back")
    assert len(set(scene.undone)) == (0 if end in states else DEEPEST + 1)


def test_rerun(new_engine, store):
    scene = Scene(StepDef("leaf"))
    scene.top.rollback_on_failure = False
    scene.fails = True
    engine = new_engine(scene, **scene.config())
    assert engine.run(scene.top, execution_id="top").state is WorkflowState.FAILED
    scene.fails = False
    result = with_few_frames(engine.rerun, "top")
    assert result.state is WorkflowState.COMPLETED
    assert store.count(flow_name=f"flow {DEEPEST}") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("max_recoveries", [0, 1])
def test_after_a_crash(new_engine, store, store_url, max_recoveries):
    scene = Scene(StepDef("leaf"))
    pid = os.fork()
    if pid == 0:
        scene.dies = True
        with open_store(store_url) as mine:
            Engine(scene, EngineConfig(execution_store=mine, **scene.config())).run(scene.top, execution_id="top")
        os._exit(1)
    assert bounded(os.waitpid, pid, 0) == (pid, 0)
    engine = new_engine(scene, **scene.config(max_recoveries=max_recoveries))
    result = with_few_frames(engine.resume, "top")
    assert result.state is (WorkflowState.COMPLETED if max_recoveries else WorkflowState.FAILED)
    assert {str(found.state) for found in store.find(limit=1000)} == {str(result.state)}
