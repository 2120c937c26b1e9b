"""A clock that a test moves: what is due comes in order, each at its own time, and nothing is waited for."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from helper_engine import bounded
from hypothesis import given, settings
from hypothesis import strategies as st

from szal import CancellationToken, Engine, EngineConfig, Flow, FlowDef, FlowMode, StepDef, WorkflowState, open_store
from szal.testing import FakeClock, engine

MIDNIGHT = datetime(2026, 11, 26, tzinfo=UTC)


def sleep(name, seconds, **fields):
    return StepDef(name, step_type="sleep", config={"seconds": seconds}, **fields)


def wait(name, **config):
    return StepDef(name, step_type="wait", config={"signal": name, **config})


def seconds(moment, clock_start=MIDNIGHT):
    return round((moment - clock_start).total_seconds(), 3)


class Diary:
    """What happens in an engine, and when: an event sink."""

    def __init__(self):
        self.lines = []

    def __call__(self, event):
        self.lines.append((seconds(event.timestamp), event.step_name, event.event_type.removeprefix("step_")))

    def of(self, *kinds):
        return [line for line in self.lines if line[2] in kinds]


@pytest.fixture
def clock():
    return FakeClock(MIDNIGHT)


@pytest.fixture
def diary():
    return Diary()


def fail_twice(ctx):
    if ctx.step.name == "retry" and ctx.attempt < 3:
        raise ConnectionError("no answer")
    if ctx.step.name == "hang":
        ctx.sleep(10**6)
    return ctx.attempt


MIXED = FlowDef(
    "mixed",
    FlowMode.PARALLEL,
    steps=[
        StepDef("retry", max_retries=2, retry_delay=10),
        sleep("nap", 15),
        StepDef("hang", timeout=18),
        sleep("night", 8 * 3600),
    ],
)


def test_what_is_due_comes_in_order_each_at_its_own_time(clock, diary):
    with engine(MIXED, handler=fail_twice, clock=clock, event_sink=diary) as test:
        execution = test.start(MIXED)
        test.clock.advance(24 * 3600)
        assert execution.done
    assert diary.of("retry", "completed", "timeout") == [
        (0, "retry", "retry"),
        (10, "retry", "retry"),
        (15, "nap", "completed"),
        (18, "hang", "timeout"),
        (20, "retry", "completed"),
        (28800, "night", "completed"),
    ]


def test_no_more_happens_than_is_due(clock, diary):
    with engine(MIXED, handler=fail_twice, clock=clock, event_sink=diary) as test:
        execution = test.start(MIXED)
        for step, expected in ((0, 1), (9.5, 1), (0.5, 2), (5, 3), (2, 3), (100, 5)):
            test.clock.advance(step)
            assert len(diary.of("retry", "completed", "timeout")) == expected
        assert not execution.done
        assert seconds(test.clock.utc_now()) == 117
        execution.cancel()
        assert execution.result(20).state is WorkflowState.CANCELLED


def test_a_run_that_is_waited_for_moves_the_clock_itself(clock, diary):
    with engine(MIXED, handler=fail_twice, clock=clock, event_sink=diary) as test:
        result = bounded(test.run, MIXED)
    assert result.total_duration == 28800
    assert [step.duration for step in result.steps] == [20, 15, 18, 28800]
    assert seconds(clock.utc_now()) == 28800


def test_any_engine_takes_it_without_a_store_too(clock):
    with Engine(fail_twice, EngineConfig(clock=clock)) as plain:
        assert bounded(plain.run, MIXED).total_duration == 28800


def test_a_handler_sees_its_time_pass(clock):
    seen = []

    def handler(ctx):
        seen.append(ctx.remaining())
        seen.append(ctx.sleep(20))
        seen.append(ctx.remaining())
        seen.append(ctx.sleep(20))
        seen.append(ctx.remaining())

    flow = FlowDef("f", steps=[StepDef("a", timeout=30)])
    with engine(flow, handler=handler, clock=clock) as test:
        result = bounded(test.run, flow)
    assert seen == [30, True, 10, False, 0]
    assert result["a"].error == "step timeout: a after 30000ms"
    assert result.total_duration == 30


def test_limits_of_a_flow_and_of_all_attempts_go_by_it(clock):
    flow = FlowDef("f", FlowMode.PARALLEL, timeout=100, steps=[
        StepDef("a", max_retries=50, retry_delay=30, total_timeout=70), sleep("b", 1000),
    ])  # fmt: skip

    def handler(ctx):
        raise OSError("down")

    with engine(flow, handler=handler, clock=clock) as test:
        result = bounded(test.run, flow)
    assert result["a"].attempts == 3
    assert "70000ms" in result["a"].error
    assert (result.total_duration, result.error) == (100, "flow timeout exceeded")


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_handlers_that_sleep_take_as_long_as_there_is_room_for(clock, at_once):
    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(name) for name in "abcdef"])
    with engine(flow, handler=lambda ctx: ctx.sleep(60), clock=clock, max_concurrency=at_once) as test:
        assert bounded(test.run, flow).total_duration == 360 / at_once


def test_a_handler_that_is_at_work_holds_up_the_time(clock):
    go_on, at_work = threading.Event(), threading.Event()

    def handler(ctx):
        at_work.set()
        assert go_on.wait(20)

    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("work"), sleep("b", 3600)])
    with engine(flow, handler=handler, clock=clock) as test:
        execution = test.start(flow)
        mover = threading.Thread(target=test.clock.advance, args=[7200])
        mover.start()
        assert at_work.wait(20)
        assert clock.utc_now() == MIDNIGHT
        go_on.set()
        mover.join(20)
        assert execution.done
        result = execution.result()
    assert (result["work"].duration, result["b"].duration) == (0, 3600)


@pytest.mark.parametrize("how", ["run", "advance"])
def test_one_that_hangs_for_longer_than_its_limit_is_left_behind(clock, how, monkeypatch):
    monkeypatch.setattr("szal.testing.run_clock._PATIENCE", 0.05)
    end = threading.Event()
    flow = FlowDef("f", steps=[StepDef("a", timeout=0.1)])
    with engine(flow, handler=lambda ctx: end.wait(30), clock=clock) as test:
        if how == "run":
            result = bounded(test.run, flow)
        else:
            execution = test.start(flow)
            bounded(test.clock.advance, 60)
            result = execution.result(0)
        end.set()
    assert result["a"].error == "step timeout: a after 100ms"


def test_one_that_never_ends_is_told_of(clock, monkeypatch):
    monkeypatch.setattr("szal.testing.clock._MOST", 0.05)
    end = threading.Event()
    flow = FlowDef("f", steps=[StepDef("a")])
    with engine(flow, handler=lambda ctx: end.wait(30), clock=clock) as test:
        execution = test.start(flow)
        with pytest.raises(TimeoutError, match="still at work"):
            test.clock.advance(60)
        end.set()
        assert execution.result(20).success


def test_executions_side_by_side_have_one_time(clock, diary):
    one, two = (
        FlowDef(name, steps=[sleep(f"{name}{n}", length) for n in (1, 2)]) for name, length in (("a", 30), ("b", 20))
    )
    with engine(one, two, clock=clock, event_sink=diary) as test, engine(two, clock=clock, event_sink=diary) as other:
        started = [test.start(one), other.start(two)]
        clock.advance(60)
        assert all(each.done for each in started)
    assert diary.of("completed") == [
        (20, "b1", "completed"), (30, "a1", "completed"), (40, "b2", "completed"), (60, "a2", "completed"),
    ]  # fmt: skip


def test_a_run_in_a_handler_passes_the_time_of_both(clock):
    inner = FlowDef("inner", steps=[sleep("nap", 50)])
    outer = FlowDef("outer", FlowMode.PARALLEL, steps=[StepDef("call"), sleep("nap", 20)])
    with engine(outer, inner, handler=lambda ctx: test.run(inner).total_duration, clock=clock) as test:
        result = bounded(test.run, outer)
        assert (result["call"].output, result.total_duration) == (50, 50)
        for _ in range(100):  # it must not come to its end while what has ended is on its way from thread to thread
            execution = test.start(outer)
            test.clock.advance(50)
            assert execution.done


def test_a_handler_cannot_move_it(clock):
    flow = FlowDef("f", steps=[StepDef("a")])
    with engine(flow, handler=lambda ctx: clock.advance(1), clock=clock) as test:
        assert "cannot move the clock" in bounded(test.run, flow)["a"].error


@pytest.mark.parametrize(("given", "error"), [(-1, ValueError), ("2", TypeError), (float("nan"), ValueError)])
def test_it_refuses_what_is_no_time(clock, given, error):
    with pytest.raises(error):
        clock.advance(given)


def test_it_begins_with_a_moment_that_has_a_time_zone():
    with pytest.raises(ValueError, match="time zone"):
        FakeClock(datetime(2026, 1, 1))  # noqa: DTZ001
    assert abs(FakeClock().utc_now() - datetime.now(UTC)) < timedelta(minutes=5)
    with pytest.raises(TypeError, match=r"must be a szal\.testing\.FakeClock"):
        EngineConfig(clock=lambda: 0)


def test_what_is_cancelled_while_it_sleeps_ends_where_it_stands(clock):
    flow, token = FlowDef("f", steps=[StepDef("a"), StepDef("b")]), CancellationToken()
    with engine(flow, handler=lambda ctx: ctx.sleep(3600), clock=clock) as test:
        execution = test.start(flow, cancel=token)
        test.clock.advance(60)
        token.cancel()
        test.clock.advance(0)
        assert execution.result(0).state is WorkflowState.CANCELLED
        assert execution.result(0).total_duration == 60


# -- executions that are paused --------------------------------------------------------------------------


ASK = Flow("ask")
ASK.add_step(wait("approve", timeout=3600, default="nobody"))


@ASK.step
def ship(approve):
    return f"shipped for {approve}"


def test_a_wait_ends_when_its_time_has_come(url, clock, diary):
    with engine(ASK, store=url, clock=clock, event_sink=diary) as test:
        name = test.start(ASK).execution_id
        test.clock.advance(3599)
        assert test.look(name).state is WorkflowState.PAUSED
        assert test.interrupted() == []
        test.clock.advance(1)
        assert test.result(name, timeout=0).outputs == {"approve": "nobody", "ship": "shipped for nobody"}
    assert diary.of("completed") == [(3600, "approve", "completed"), (3600, "ship", "completed")]


def test_who_recovers_sees_that_it_is_over(url, clock):
    with engine(ASK, store=url, clock=clock) as test:
        name = test.start(ASK).execution_id
        test.clock.advance(60)
        test.clock.skip_to(test.clock.wall() + 3600)
        assert test.interrupted() == test.interrupted("ask") == [name]
        assert test.interrupted("other") == []
        [result] = bounded(test.recover)
        assert result["ship"].output == "shipped for nobody"


def test_it_goes_on_with_a_signal(url, clock):
    with engine(ASK, store=url, clock=clock) as test:
        name = test.start(ASK).execution_id
        test.clock.advance(60)
        test.signal(name, "approve", "Ada")
        test.clock.advance(0)
        assert test.result(name, timeout=0).outputs["ship"] == "shipped for Ada"
        assert test.look(name).record.result.total_duration == 60


def test_what_two_executions_tell_each_other_comes_at_one_time(clock):
    ping, pong = Flow("ping"), Flow("pong")

    def tell(to, what):
        return lambda ctx: test.signal(to, what, ctx.step.name)

    for flow, other, first in ((ping, "pong", False), (pong, "ping", True)):
        for number in (1, 2):
            said = flow.step(tell(other, f"{other}{number}"), name=f"tell{number}") if first else None
            heard = flow.add_step(wait(f"{flow.name}{number}"), needs=[said] if first else [])
            if not first:
                flow.step(tell(other, f"{other}{number}"), name=f"tell{number}", needs=[heard.name])
    with engine(ping, pong, clock=clock) as test:
        for flow in (ping, pong):
            test.start(flow, execution_id=flow.name)
        test.clock.advance(0)
        assert {str(test.look(name).state) for name in ("ping", "pong")} == {"completed"}


def test_executions_of_others_in_its_store_are_left_alone(clock):
    other = FlowDef("other", steps=[wait("a", timeout=5), StepDef("b")])
    with open_store("memory:") as store:
        with engine(other, handler=print, store=store, clock=clock) as test:
            assert test.run(other).state is WorkflowState.PAUSED
        with engine(ASK, store=store, clock=clock) as test:
            test.clock.advance(60)
            assert [each.state for each in store.find()] == [WorkflowState.PAUSED]


# -- whatever it is --------------------------------------------------------------------------------------


JOBS = st.lists(
    st.tuples(st.sampled_from(["sleep", "retry", "handler"]), st.integers(1, 9), st.integers(1, 4)),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=40)
@given(jobs=JOBS, steps=st.lists(st.integers(0, 12), max_size=6))
def test_whatever_waits_ends_at_its_time_however_the_clock_is_moved(jobs, steps):
    diary, clock, made, ends = Diary(), FakeClock(MIDNIGHT), [], {}
    for number, (kind, length, times) in enumerate(jobs):
        name = f"{kind}{number}"
        ends[name] = length * times
        if kind == "sleep":
            made.append(sleep(name, length * times))
        else:
            made.append(StepDef(name, max_retries=times, retry_delay=length, config={"length": length, "times": times}))

    def handler(ctx):
        length, times = ctx.config["length"], ctx.config["times"]
        if ctx.step.name.startswith("handler"):
            return [ctx.sleep(length) for _ in range(times)]
        if ctx.attempt <= times:
            raise OSError
        return ctx.attempt

    flow = FlowDef("f", FlowMode.PARALLEL, steps=made)
    with engine(flow, handler=handler, clock=clock, store=None, event_sink=diary) as test:
        execution, moved = test.start(flow), 0
        for step in steps:
            test.clock.advance(step)
            moved += step
            ended = {name: moment for moment, name, _ in diary.of("completed")}
            assert ended == {name: end for name, end in ends.items() if end <= moved}
        test.clock.advance(100)
        assert execution.result(0).success
    times = [moment for moment, *_ in diary.lines]
    assert times == sorted(times)
    assert {name: moment for moment, name, _ in diary.of("completed")} == ends


def test_the_end_of_the_block_waits_for_nothing_that_is_only_time(clock):
    flow, seen = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), sleep("b", 60)]), []
    with engine(flow, handler=lambda ctx: seen.append(ctx.sleep(8 * 3600)), clock=clock) as test:
        execution = test.start(flow)
        test.clock.advance(1)
    assert execution.done
    assert seen == [True]


def test_what_is_submitted_is_worked_off_at_once(url, clock):
    flow = FlowDef("f", steps=[wait("approve"), sleep("nap", 3600), StepDef("ship", max_retries=1, retry_delay=60)])
    fails = iter([OSError("down"), None])

    def handler(ctx):
        if error := next(fails):
            raise error

    with engine(flow, handler=handler, fakes={"approve": "Ada"}, store=url, clock=clock) as test:
        name = test.submit(flow)
        assert bounded(test.work, until_idle=True) == 1
        assert test.result(name, timeout=0).total_duration == 3660


def test_one_that_stays_on_its_thread_sleeps_beside_one_that_is_at_work(clock):
    go_on, flow = (
        threading.Event(),
        FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a", inline="always"), StepDef("b")]),
    )

    def handler(ctx):
        if ctx.step.name == "a":
            assert ctx.sleep(60)
            return seconds(clock.utc_now())
        assert go_on.wait(20)
        return seconds(clock.utc_now())

    with engine(flow, handler=handler, clock=clock) as test:
        execution = test.start(flow)
        mover = threading.Thread(target=test.clock.advance, args=[3600])
        mover.start()
        assert not execution.wait(0.05)
        go_on.set()
        mover.join(20)
        assert execution.result(0).outputs == {"a": 60, "b": 0}


def an_hour(ctx):
    return ctx.sleep(3600)


def test_what_waits_for_a_resource_does_not_keep_the_time_from_going_on(clock):
    steps = [
        StepDef(name, resources={"db": 1}, inline=inline)
        for name, inline in zip("abc", (None, "always", "never"), strict=True)
    ]
    flow = FlowDef("f", FlowMode.PARALLEL, steps=steps)
    with engine(flow, handler=an_hour, clock=clock, store=None) as test:
        assert bounded(test.run, flow).total_duration == 3 * 3600
        started = [test.start(flow) for _ in range(2)]
        test.clock.advance(6 * 3600)
        assert all(execution.result(0).success for execution in started)


def test_what_stays_on_the_thread_of_its_run_waits_for_the_workers_too(clock):
    """And they for it: no time passes while one of them is at work."""
    began = threading.Event()

    def handler(ctx):
        if ctx.step.name == "worker":
            began.wait(20)
            assert clock.utc_now() == MIDNIGHT
            return an_hour(ctx)
        if not began.is_set():
            threading.Timer(0.05, began.set).start()
        return an_hour(ctx)

    steps = [*(StepDef(name, inline="always") for name in "ab"), StepDef("worker")]
    flow = FlowDef("f", FlowMode.PARALLEL, steps=steps)
    with engine(flow, handler=handler, clock=clock, store=None) as test:
        assert bounded(test.run, flow).raise_for_failure().total_duration == 2 * 3600


@pytest.mark.parametrize("inline", ["always", "auto"])
def test_an_eager_engine_does_what_it_can_before_start_returns(url, clock, inline):
    flow, threads = FlowDef("f", steps=[StepDef("pay", timeout=30), wait("ok", timeout=3600), StepDef("ship")]), set()

    def handler(ctx):
        threads.add(threading.get_ident())
        return ctx.sleep(20)

    with engine(flow, handler=handler, store=url, clock=clock, eager=True, inline=inline) as test:
        execution = test.start(flow, execution_id="e1")
        assert (execution.done, execution.result().state) == (True, WorkflowState.PAUSED)
        assert test.signal("e1", "ok", "Ada")
        assert test.result("e1", timeout=0).outputs == {"pay": True, "ok": "Ada", "ship": True}
        assert test.start(flow, signal=("ok", "Bob")).result()["ok"].output == "Bob"
        late = test.start(flow).execution_id
        test.clock.advance(3600)
        assert test.result(late, timeout=0)["ok"].error == "step timeout: ok after 3600000ms"
    assert (threads == {threading.get_ident()}) is (inline == "always")
