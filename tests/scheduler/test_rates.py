"""`StepDef.rate`: how often handlers are called, by the name of what they call."""

import threading

import pytest
from helper_engine import LONG, bounded, waited
from hypothesis import given, settings
from hypothesis import strategies as st

from szal import (
    CancellationToken,
    DecodeError,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    InvalidFlow,
    LoadError,
    StepDef,
    load_flow,
    run,
)
from szal.model.json import decode_flow, encode_flow
from szal.model.rate import interval_of
from szal.scheduler.permits import Permits
from szal.scheduler.resources import Resources
from szal.testing import FakeClock

API = {"api": "10/s"}


def parallel(*steps, **fields):
    return FlowDef("f", FlowMode.PARALLEL, steps=steps, **fields)


class Times:
    """A handler that notes when it is called, by a clock that the engine moves itself."""

    def __init__(self):
        self.clock, self.at = FakeClock(), []

    def __call__(self, ctx):
        self.at.append((self.clock.monotonic(), ctx.step.name))

    def run(self, flow, **config):
        with Engine(self, EngineConfig(clock=self.clock, **config)) as engine:
            began = self.clock.monotonic()
            assert bounded(engine.run, flow).success
        return [(round(at - began, 6), name) for at, name in self.at]


@pytest.mark.parametrize("inline", ["auto", "never", "always"])
def test_attempts_are_spread_evenly_and_hold_up_nobody_else(inline):
    steps = [StepDef(f"{number}", rate=API) for number in range(4)]
    found = Times().run(parallel(*steps, StepDef("free")), inline=inline)
    assert sorted(found) == [(0.0, "0"), (0.0, "free"), (0.1, "1"), (0.2, "2"), (0.3, "3")]


def test_each_name_has_points_of_its_own_and_a_step_waits_for_all_of_its_names():
    both = {"api": "10/s", "mail": "1/s"}
    steps = [StepDef(f"{number}", rate=both) for number in range(3)] + [StepDef("other", rate={"sms": "1/h"})]
    assert sorted(Times().run(parallel(*steps))) == [(0.0, "0"), (0.0, "other"), (1.0, "1"), (2.0, "2")]


def test_it_counts_every_attempt_item_and_undo():
    calls = []

    def handler(ctx):
        calls.append(round(clock.monotonic() - began, 6))
        if ctx.step.name == "fails" and ctx.attempt < 3:
            raise ValueError
        return ctx.item

    clock = FakeClock()
    began = clock.monotonic()
    steps = [
        StepDef("fails", rate=API, max_retries=2, retry_delay=0.0),
        StepDef("over", rate=API, foreach=["a", "b"]),
    ]
    with Engine(handler, EngineConfig(clock=clock)) as engine:
        assert bounded(engine.run, FlowDef("f", steps=steps)).success
    assert calls == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_of_those_that_wait_the_higher_priority_goes_first_once_the_one_before_has_begun():
    permits, told = Permits(Resources({})), []
    steps = [StepDef(f"{number}", rate=API, priority=priority) for number, priority in enumerate((0, 0, 5, 9))]
    asked = [permits.ask(step, None, lambda: 7.0, told.append) for step in steps]
    assert [permit.is_held for permit in asked] == [True, False, False, False]
    asked[0].begun()
    for permit in told:  # grows
        permit.begun()
    assert [(permit.step.name, round(permit.delay, 6)) for permit in told] == [("3", 0.1), ("2", 0.2), ("1", 0.3)]


def test_whoever_waits_for_its_time_keeps_no_worker_and_is_cancelled_at_once():
    begun, token = threading.Event(), CancellationToken()

    def handler(ctx):
        if ctx.step.name == "free":
            begun.set()

    steps = [StepDef("a", rate={"api": "1/h"}), StepDef("b", rate={"api": "1/h"}), StepDef("free")]
    with Engine(handler, EngineConfig(max_concurrency=1)) as engine:
        execution = engine.start(parallel(*steps), cancel=token)
        waited(begun)
        (queued,) = engine.look(execution.execution_id).queued
        assert str(queued) == "waits for its turn of 'api' (1/h)"
        token.cancel()
        result = execution.result(LONG)
    assert sorted(step.error for step in result.steps if step.error) == ["cancelled"]


def test_a_step_that_shares_something_too_has_that_first_and_gives_it_back():
    found = Times().run(parallel(*(StepDef(f"{number}", rate=API, resources={"db": 1}) for number in range(3))))
    assert sorted(found) == [(0.0, "0"), (0.1, "1"), (0.2, "2")]


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("rate", "problem"),
        [
            ({"api": "10"}, "rate of 'api' is no rate: write 10/s, 10/m or 10/h \\('10'\\)"),
            ({"api": "0/s"}, "rate of 'api' is no rate"),
            ({"api": "1/d"}, "rate of 'api' is no rate"),
            ({"api": "-1/s"}, "rate of 'api' is no rate"),
            ({"api": "1.5/s"}, "rate of 'api' is no rate"),
            ({"api": 10}, "rate of 'api' is no rate: write 10/s, 10/m or 10/h \\(10\\)"),
            ({"": "1/s"}, "rate has a name that is empty"),
            ("10/s", "rate is no mapping of names to rates \\('10/s'\\)"),
        ],
    )
    def test_what_is_no_rate_is_refused(self, rate, problem):
        with pytest.raises(InvalidFlow, match=problem):
            parallel(StepDef("a", rate=rate)).validate()

    def test_two_steps_of_one_flow_say_the_same_of_one_name(self):
        parallel(StepDef("a", rate={"api": "60/m"}), StepDef("b", rate={"api": "1/s"})).validate()
        with pytest.raises(InvalidFlow, match="step 'b': its rate of 'api' is 5/s, and that of step 'a' is 10/s"):
            parallel(StepDef("a", rate=API), StepDef("b", rate={"api": "5/s"})).validate()

    def test_what_the_engine_does_itself_has_none(self):
        step = StepDef("a", step_type="sleep", config={"seconds": 0}, rate=API)
        with pytest.raises(InvalidFlow, match="rate of a step of type 'sleep'"):
            parallel(step).validate()

    def test_it_is_recorded_and_said_in_files(self, tmp_path):
        path = tmp_path / "flow.yaml"
        path.write_text("name: f\nsteps:\n  - {name: a, run: 'true', rate: {api: 10/s}}\n")
        flow = load_flow(path)
        assert decode_flow(encode_flow(flow)).steps[0].rate == flow.steps[0].rate == API
        assert '"rate"' not in encode_flow(parallel(StepDef("a")))
        path.write_text("name: f\nsteps:\n  - name: a\n    run: 'true'\n    rate: {api: often}\n")
        with pytest.raises(LoadError, match=r"5:12: 'api' in 'rate' of step 'a': 'often' is no rate"):
            load_flow(path)
        with pytest.raises(DecodeError, match=r"steps\[0\].rate"):
            decode_flow(encode_flow(flow).replace('"10/s"', "10"))

    def test_a_flow_of_functions_has_it(self):
        import szal

        flow = szal.Flow("f")
        flow.step(lambda: 1, name="a", rate=API)
        assert flow.definition.steps[0].rate == API
        assert run(flow).success


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.3)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_whenever_attempts_ask_no_more_begin_in_a_second_than_the_rate_says(asked):
    permits, now, points = Permits(Resources({})), 0.0, []

    def clock():
        return now

    step, waiting = StepDef("a", rate={"api": "4/s"}), []
    for count, pause in asked:
        waiting += [permits.ask(step, None, clock, lambda permit: None) for _ in range(count)]
        while waiting and waiting[0].is_held:
            permit = waiting.pop(0)
            points.append(now + permit.delay)
            permit.begun()
        now += pause
    for place, point in enumerate(points):
        assert sum(point <= other < point + 1 - 1e-6 for other in points[place:]) <= 4


def test_a_rate_is_an_interval():
    assert [interval_of(text) for text in ("1/s", "4 / s", "60/m", "3600/h")] == [1.0, 0.25, 1.0, 1.0]
