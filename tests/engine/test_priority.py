"""Which of the steps that are ready goes first, where there are fewer workers."""

import threading

import pytest
from helper_flows import Gate, run_flow

from szal import Engine, EngineConfig, FlowDef, FlowMode, InMemoryStorage, StepDef
from szal.engine.durations import Durations
from szal.scheduler.plan import Plan


class Order:
    """A handler that keeps the order in which steps begin, and holds the first until told to go on."""

    def __init__(self, hold=()):
        self.names, self.go_on, self._lock, self._hold = [], Gate(), threading.Lock(), hold

    def __call__(self, ctx):
        with self._lock:
            self.names.append(ctx.step.name if ctx.item is None else f"{ctx.step.name}[{ctx.index}]")
        if ctx.step.name in self._hold:
            self.go_on.pass_through()


def test_of_the_steps_that_are_ready_those_of_higher_priority_go_first_the_others_as_they_stand():
    steps = [StepDef(f"s{number}", priority=priority) for number, priority in enumerate([0, 3, -1, 7, 0, 3])]
    order = Order()
    assert run_flow(FlowDef("flow", FlowMode.PARALLEL, steps=steps), order, max_concurrency=1).success
    assert order.names == ["s3", "s1", "s5", "s0", "s4", "s2"]


def test_one_that_becomes_ready_later_overtakes_those_that_wait():
    flow = FlowDef("flow", FlowMode.DAG)
    first = flow.add_step(StepDef("first", priority=1))
    flow.steps += [StepDef(f"s{number}") for number in range(9)]
    flow.add_step(StepDef("urgent", depends_on=first, priority=5))
    order = Order()
    assert run_flow(flow, order, max_concurrency=1).success
    assert order.names == ["first", "urgent", *(f"s{number}" for number in range(9))]


def test_where_all_are_equal_they_go_as_they_stand():
    steps = [StepDef(f"s{number}", priority=2) for number in range(12)]
    order = Order()
    assert run_flow(FlowDef("flow", FlowMode.PARALLEL, steps=steps), order, max_concurrency=1).success
    assert order.names == [step.name for step in steps]


def test_the_items_of_a_step_are_as_urgent_as_it_is():
    steps = [StepDef("plain"), StepDef("each", foreach=[1, 2], priority=1), StepDef("last", priority=-1)]
    order = Order()
    assert run_flow(FlowDef("flow", FlowMode.PARALLEL, steps=steps), order, max_concurrency=1).success
    assert order.names == ["each[0]", "each[1]", "plain", "last"]


def test_steps_with_a_limit_are_sorted_with_the_others():
    steps = [StepDef("a"), StepDef("b", timeout=60, priority=1), StepDef("c", priority=2)]
    order = Order()
    assert run_flow(FlowDef("flow", FlowMode.PARALLEL, steps=steps), order, max_concurrency=1).success
    assert order.names == ["c", "b", "a"]


def in_two_runs(flow, times, room, **config):
    """Run *flow* twice in one engine; return in which order the steps of each began."""
    orders = []

    def handle(ctx):
        with lock:
            orders[-1].append(ctx.step.name)
        ctx.sleep(times.get(ctx.step.name, 0))

    lock = threading.Lock()
    with Engine(handle, EngineConfig(max_concurrency=room, **config)) as engine:
        for _ in range(2):
            orders.append([])
            assert engine.run(flow).success
    return orders


def test_the_longest_way_that_is_left_goes_first_once_an_earlier_run_has_shown_it():
    flow = FlowDef("flow", FlowMode.DAG)
    flow.steps += [StepDef(f"short {number}") for number in range(6)]
    head = flow.add_step(StepDef("head"))
    flow.add_step(StepDef("tail", depends_on=head))
    first, second = in_two_runs(flow, {"tail": 0.2}, 1)
    assert first[0] == "short 0"
    assert second[:2] == ["head", "tail"]


def test_a_priority_counts_more_than_that():
    flow = FlowDef(
        "flow", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b"), StepDef("long"), StepDef("c", priority=1)]
    )
    assert in_two_runs(flow, {"long": 0.1}, 1)[1][:2] == ["c", "long"]


def test_so_it_is_in_a_sub_flow():
    inner = FlowDef("inner", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b"), StepDef("long")])
    flow = FlowDef("flow", steps=[StepDef("in", step_type="sub_flow", config={"flow_name": "inner"})])
    first, second = in_two_runs(flow, {"long": 0.1}, 1, storage=InMemoryStorage([inner]))
    assert (first[0], second[0]) == ("a", "long")


def test_another_engine_knows_nothing_of_it():
    flow = FlowDef("flow", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("long")])
    in_two_runs(flow, {"long": 0.05}, 1)
    assert in_two_runs(flow, {"long": 0.05}, 1)[0] == ["a", "long"]


def test_nothing_is_remembered_of_a_flow_whose_steps_never_waited_for_a_worker():
    flow = FlowDef("flow", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
    with Engine(lambda ctx: None, EngineConfig(max_concurrency=2)) as engine:
        engine.run(flow)
        assert engine.durations == Durations()
    with Engine(lambda ctx: ctx.sleep(0.01), EngineConfig(max_concurrency=1)) as engine:
        engine.run(flow)
        assert engine.durations != Durations()


def test_steps_that_take_next_to_nothing_go_as_they_stand():
    """To sort them costs more than it gains: none is handed to a worker ahead of time."""
    flow = FlowDef("flow", FlowMode.PARALLEL, steps=[StepDef(f"s{number}") for number in range(1000)])
    with Engine(lambda ctx: None, EngineConfig(max_concurrency=4)) as engine:
        for _ in range(2):
            assert engine.run(flow).success
        assert engine.durations.urgency("flow", Plan.of(flow)) is None


def test_one_long_step_among_very_many_short_ones_is_not_worth_sorting_them():
    flow = FlowDef("flow", FlowMode.PARALLEL, steps=[StepDef(f"s{number}") for number in range(1000)])
    times = {"s999": 0.005}
    with Engine(lambda ctx: ctx.sleep(times.get(ctx.step.name, 0)), EngineConfig(max_concurrency=4)) as engine:
        assert engine.run(flow).success
        assert engine.durations.urgency("flow", Plan.of(flow)) is None


def test_of_many_flows_the_last_ones_are_remembered():
    known = Durations()
    with Engine(lambda ctx: ctx.sleep(0.001), EngineConfig(max_concurrency=1)) as engine:
        known = engine.durations
        for number in range(300):
            engine.run(FlowDef(f"flow {number}", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")]))
    assert len(known._flows) == 256


@pytest.mark.parametrize("mode", FlowMode, ids=str)
def test_a_priority_changes_no_outcome(mode):
    steps = [StepDef("a", priority=-1), StepDef("b", priority=1), StepDef("c")]
    assert run_flow(FlowDef("flow", mode, steps=steps), {}).outputs == {"a": "a", "b": "b", "c": "c"}
