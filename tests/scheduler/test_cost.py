"""What a look and a signal cost as flows grow: counted in lines of Python that run, never in time."""

import sys
import threading

import pytest
from helper_engine import bounded, waited

from szal import Engine, EngineConfig, FlowDef, FlowMode, StepDef, WorkflowState
from szal.stores import open_store

MOST = 6  # times as much for four times the size: 4 where the cost grows as the size does, 16 where as its square


def lines_of(function, *args, **kwargs):
    """Return how many lines of Python *function* runs on this thread, and what it returns."""
    lines, before = 0, sys.gettrace()

    def trace(frame, event, arg):
        nonlocal lines
        lines += event == "line"
        return trace

    sys.settrace(trace)
    try:
        found = function(*args, **kwargs)
    finally:
        sys.settrace(before)
    return lines, found


# -- looking at what was before ---------------------------------------------------------------------------


def chain(count):
    steps = []
    for i in range(count):
        steps.append(StepDef(f"s{i}", depends_on=steps[-1:]))
    return FlowDef("f", FlowMode.DAG, steps=steps)


def layers(count, width=8):
    steps, before = [], []
    while len(steps) < count:
        before = [StepDef(f"s{len(steps) + i}", depends_on=before) for i in range(width)]
        steps += before
    return FlowDef("f", FlowMode.DAG, steps=[*steps, StepDef("last", depends_on=before)])


def line(count):
    return FlowDef("f", steps=[StepDef(f"s{i}") for i in range(count)])


LOOKS = {
    "dict(ctx.outputs)": lambda ctx: dict(ctx.outputs),
    "list(ctx.outputs)": lambda ctx: list(ctx.outputs),
    "len(ctx.outputs)": lambda ctx: range(len(ctx.outputs)),
    "ctx.outputs.items()": lambda ctx: list(ctx.outputs.items()),
    "a look-up of each": lambda ctx: [ctx.outputs[name] for name in ctx.outputs],
    "a template of all steps": lambda ctx: ctx.render("{{steps}}"),
}


def cost_of_a_look(flow, look):
    """Return the lines that the last step's look runs."""
    seen = []
    last = flow.steps[-1].name

    def handler(ctx):
        if ctx.step.name == last:
            lines, found = lines_of(look, ctx)
            seen.append((lines, len(found)))

    with Engine(handler) as engine:
        assert bounded(engine.run, flow, timeout=30).success
    [(lines, found)] = seen
    assert found == len(flow.steps) - 1
    return lines


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(chain, id="a chain of a dag"),
        pytest.param(layers, id="layers of a dag"),
        pytest.param(line, id="a sequence"),
    ],
)
def test_a_look_at_all_outputs_costs_as_much_as_there_are(shape, look):
    def cost(count):
        return cost_of_a_look(shape(count), LOOKS[look])

    cost(8)  # what is done once
    assert cost(400) < MOST * cost(100)


# -- waits and signals --------------------------------------------------------------------------------------


def waits(count, mode):
    steps = [StepDef(f"w{i}", step_type="wait", config={"signal": f"go {i}"}) for i in range(count)]
    return FlowDef("f", mode, steps=steps)


def cost_of_waits(count, mode, *, signals):
    """Return the lines that the coordinating thread runs for so many waits, with all their signals or with none."""
    with (
        open_store("memory:") as store,
        store.engine_sink() as sink,
        Engine(lambda ctx: None, EngineConfig(execution_store=sink)) as engine,
    ):
        lines, paused = bounded(lines_of, engine.run, waits(count, mode), execution_id="e", timeout=20)
        assert paused.state is WorkflowState.PAUSED
        if signals:
            for i in range(count):
                engine.signal("e", f"go {i}", i)
            lines, done = bounded(lines_of, engine.resume, "e", timeout=20)
            assert done.outputs == {f"w{i}": i for i in range(count)}
        return lines


@pytest.mark.parametrize("mode", [FlowMode.PARALLEL, FlowMode.SEQUENTIAL])
def test_waits_cost_as_much_as_there_are_signals(mode):
    cost_of_waits(4, mode, signals=True)  # what is done once
    assert cost_of_waits(400, mode, signals=True) < MOST * cost_of_waits(100, mode, signals=True)


def test_waits_without_signals_cost_as_much_as_there_are():
    cost_of_waits(4, FlowMode.PARALLEL, signals=False)
    small = cost_of_waits(60, FlowMode.PARALLEL, signals=False)
    assert cost_of_waits(240, FlowMode.PARALLEL, signals=False) < MOST * small


def test_signals_to_a_run_under_way_cost_as_much_as_there_are():
    """Counted on the thread that coordinates, which hears of one signal after another."""

    def cost(count):
        heard, begun, go = threading.Semaphore(0), threading.Event(), threading.Event()

        def handler(ctx):
            begun.set()
            waited(go)

        def listen(event):
            if event.event_type == "step_completed":
                heard.release()

        def send():
            waited(begun)
            for i in reversed(range(count)):  # the last wait's first
                engine.signal("e", f"go {i}", i)
                heard.acquire(timeout=30)
            go.set()

        with open_store("memory:") as store, store.engine_sink() as sink:
            config = EngineConfig(execution_store=sink, event_sink=listen)
            with Engine(handler, config) as engine:
                flow = waits(count, FlowMode.PARALLEL)
                flow.add_step(StepDef("busy"))
                flow.add_step(StepDef("as busy"))
                threading.Thread(target=send, daemon=True).start()
                lines, done = bounded(lines_of, engine.run, flow, execution_id="e", timeout=20)
                assert done.completed_count == count + 2
                return lines

    cost(4)
    assert cost(800) < MOST * cost(200)


# -- going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory:", "sqlite"])
def test_each_step_that_is_done_costs_few_lines_when_its_execution_is_gone_on_with(url, tmp_path):
    store = open_store(url if url == "memory:" else f"sqlite:///{tmp_path / 'db'}")
    store.migrate()

    def lines_with(count):
        steps = [*(StepDef(f"s{i}") for i in range(count)), StepDef("ask", step_type="wait", config={"signal": "go"})]
        with Engine(lambda ctx: {"a": 1}, EngineConfig(execution_store=store)) as engine:
            execution_id = engine.run(FlowDef("f", steps=steps)).execution_id
            engine.resume(execution_id)  # from here on its definition is known
            lines, result = lines_of(engine.resume, execution_id)
        assert (result.state, result.completed_count) == (WorkflowState.PAUSED, count)
        return lines

    with store:
        each = (lines_with(400) - lines_with(200)) / 200
    assert each < 180  # 163: its row is read, and read into a result, once; what it came to at the pause never
