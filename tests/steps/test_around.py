"""`EngineConfig.around`: what is entered around every attempt and every undo, in its thread."""

import logging
import threading
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
from helper_engine import LONG, waited

import szal
from szal import (
    AroundFailed,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    GiveUp,
    Handlers,
    RetryAfter,
    SkipStep,
    StepDef,
    StepTimeout,
)

ONE = FlowDef("f", steps=[StepDef("a")])


def noting(lines, name="x"):
    """Return a function for `around` that adds to *lines* what it enters and leaves, and with which exception."""

    class Noting:
        def __init__(self, ctx):
            self.ctx = ctx

        def __enter__(self):
            lines.append(f"enter {name} {self.ctx.step.name} {self.ctx.attempt}")

        def __exit__(self, kind, error, trace):
            lines.append(f"leave {name} {'' if kind is None else repr(error)}".rstrip())
            assert (kind is None) == (trace is None)

    return Noting


def run(flow, handler, *around, **inputs):
    with Engine(handler, EngineConfig(around=around)) as engine:
        return engine.run(flow, inputs)


def test_they_are_entered_in_order_and_left_in_reverse():
    lines = []
    run(ONE, lambda ctx: lines.append("work"), noting(lines, "x"), noting(lines, "y"))
    assert lines == ["enter x a 1", "enter y a 1", "work", "leave y", "leave x"]


def test_each_attempt_is_surrounded_and_they_are_passed_what_it_raised():
    lines = []

    def handler(ctx):
        if ctx.attempt == 1:
            raise OSError("not yet")

    flow = FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0)])
    assert run(flow, handler, noting(lines)).success
    assert lines == ["enter x a 1", "leave x OSError('not yet')", "enter x a 2", "leave x"]


@pytest.mark.parametrize("max_concurrency", [1, 4])
def test_they_are_entered_in_the_thread_of_the_attempt(max_concurrency):
    entered, worked = set(), set()

    @contextmanager
    def thread(ctx):
        entered.add((ctx.step.name, threading.get_ident()))
        yield
        assert (ctx.step.name, threading.get_ident()) in entered

    def handler(ctx):
        worked.add((ctx.step.name, threading.get_ident()))

    flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef(name, timeout=LONG) for name in "abc"])
    with Engine(handler, EngineConfig(around=[thread], max_concurrency=max_concurrency)) as engine:
        assert engine.run(flow).success
    assert entered == worked
    assert threading.get_ident() not in {thread for _, thread in entered}


def test_items_finally_steps_sub_flows_and_undos_are_surrounded_and_what_the_engine_does_is_not():
    lines, handlers = [], Handlers(lambda ctx: 1 / 0 if ctx.step.name == "fail" else ctx.item)
    handlers.rollback("before")(lambda ctx: lines.append(f"undo {ctx.reason}"))
    child = FlowDef("child", steps=[StepDef("inner"), StepDef("nap", step_type="sleep", config={"seconds": 0})])
    flow = FlowDef(
        "f",
        rollback_on_failure=True,
        sub_flows=[child],
        steps=[
            StepDef("before", rollbackable=True),
            StepDef("each", foreach="inputs.n"),
            StepDef("sub", step_type="sub_flow", config={"flow_name": "child"}),
            StepDef("skipped", condition="false"),
            StepDef("fail"),
            StepDef("last", finally_=True),
        ],
    )
    run(flow, handlers, noting(lines), n=[1, 2])
    entered = [line for line in lines if not line.startswith("leave")]
    assert sorted(entered[1:3]) == ["enter x each 1", "enter x each 1"]
    assert entered[:1] + entered[3:] == [
        "enter x before 1",
        "enter x inner 1",
        "enter x fail 1",
        "enter x before 1",
        "undo step 'fail' failed: ZeroDivisionError: division by zero",
        "enter x last 1",
    ]


def test_commands_and_what_says_that_the_work_is_there_are_within():
    lines = []
    steps = [
        StepDef("sh", step_type="shell", config={"run": "true"}),
        StepDef("done", done_when=lambda ctx: lines.append("asked") or True),
    ]
    result = run(FlowDef("f", steps=steps), Handlers(lambda ctx: None), noting(lines))
    assert result["done"].error == "up to date"
    assert lines[:4] == ["enter x sh 1", "leave x", "enter x done 1", "asked"]
    assert lines[4].startswith("leave x SkipStep")


def test_context_variables_that_they_set_are_the_handlers():
    user: ContextVar[str] = ContextVar("user")

    @contextmanager
    def session(ctx):
        token = user.set(ctx.inputs["user"])
        yield
        user.reset(token)

    result = run(ONE, lambda ctx: user.get(), session, user="ada")
    assert result.outputs == {"a": "ada"}
    assert user.get(None) is None


class TestWhatEnteringRaises:
    @staticmethod
    @contextmanager
    def broken(ctx):
        raise ConnectionError("no database")
        yield

    def test_fails_the_attempt_and_leaves_what_was_entered(self):
        lines = []
        result = run(ONE, lambda ctx: lines.append("work"), noting(lines), self.broken)
        assert result["a"].error == "around[1] (broken), entering: ConnectionError: no database"
        assert lines[0] == "enter x a 1"
        assert lines[1].startswith("leave x AroundFailed")
        with pytest.raises(AroundFailed) as raised:
            result.raise_for_failure()
        assert isinstance(raised.value.__cause__, ConnectionError)

    @pytest.mark.parametrize(
        ("policy", "attempts"),
        [({}, 3), ({"retry_on": ConnectionError}, 3), ({"retry_on": KeyError}, 1), ({"give_up_on": "OSError"}, 1)],
    )
    def test_is_tried_again_as_the_step_says_of_it(self, policy, attempts):
        flow = FlowDef("f", steps=[StepDef("a", max_retries=2, retry_delay=0, **policy)])
        assert run(flow, lambda ctx: None, self.broken)["a"].attempts == attempts

    @pytest.mark.parametrize(
        ("error", "status", "attempts", "text"),
        [
            (SkipStep("not today"), "skipped", 1, "not today"),
            (GiveUp("no licence"), "failed", 1, "GiveUp: no licence"),
            (RetryAfter(0), "failed", 2, "retry exhausted: a after 2 attempts: RetryAfter: retry after 0s"),
        ],
    )
    def test_means_what_it_means_in_a_handler(self, error, status, attempts, text):
        def telling(ctx):
            raise error

        flow = FlowDef("f", steps=[StepDef("a", max_retries=1, retry_delay=0)])
        result = run(flow, lambda ctx: None, telling)["a"]
        assert (str(result.status), result.attempts, result.error) == (status, attempts, text)

    def test_what_is_no_context_manager_is_named(self):
        def app(ctx):
            return 42

        assert run(ONE, lambda ctx: None, app)["a"].error == (
            "around[0] (app), entering: TypeError: returned no context manager, but int"
        )

    def test_its_own_exit_is_the_steps_failure(self):
        def leaves(ctx):
            raise SystemExit(3)

        assert run(ONE, lambda ctx: None, leaves)["a"].error == "SystemExit: 3"


class TestWhatLeavingRaises:
    @staticmethod
    @contextmanager
    def committing(ctx):
        try:
            yield
        finally:
            raise OSError("connection lost")

    def test_fails_an_attempt_that_had_completed(self):
        lines = []
        result = run(ONE, lambda ctx: 1, noting(lines), self.committing)
        assert result["a"].error == "around[1] (committing), leaving: OSError: connection lost"
        assert result["a"].output is None
        assert lines[1].startswith("leave x AroundFailed")

    def test_tells_what_the_handler_had_raised(self):
        error = run(ONE, lambda ctx: {}["key"], self.committing)["a"].error
        assert error == "around[0] (committing), leaving: OSError: connection lost, after KeyError: 'key'"

    def test_keeps_what_a_command_had_printed(self):
        flow = FlowDef("f", steps=[StepDef("a", step_type="shell", config={"run": "echo half; exit 3"})])
        assert run(flow, Handlers(), self.committing)["a"].output["stdout"] == "half"

    @pytest.mark.parametrize("told", [GiveUp("no licence"), szal.UnknownOutcome("who knows")])
    def test_what_the_handler_has_told_the_engine_holds(self, told, caplog):
        def handler(ctx):
            raise told

        flow = FlowDef("f", steps=[StepDef("a", max_retries=3, retry_delay=0)])
        with caplog.at_level(logging.ERROR, "szal"):
            result = run(flow, handler, self.committing)["a"]
        assert (result.error, result.attempts) == (f"{type(told).__name__}: {told}", 1)
        assert "leaving: OSError: connection lost" in caplog.text

    def test_a_step_that_is_skipped_fails(self):
        def handler(ctx):
            raise SkipStep("nothing new")

        assert run(ONE, handler, self.committing)["a"].error == (
            "around[0] (committing), leaving: OSError: connection lost, after SkipStep: nothing new"
        )

    def test_it_may_say_what_an_exception_means(self):
        @contextmanager
        def translate(ctx):
            try:
                yield
            except ValueError as error:
                raise GiveUp("of no use") from error

        flow = FlowDef("f", steps=[StepDef("a", max_retries=3, retry_delay=0)])
        result = run(flow, lambda ctx: int("x"), translate)["a"]
        assert (result.error, result.attempts) == ("GiveUp: of no use", 1)


def test_one_that_suppresses_an_exception_makes_no_success_of_it():
    lines = []

    @contextmanager
    def swallow(ctx):
        try:
            yield
        except ValueError:
            lines.append("swallowed")

    result = run(ONE, lambda ctx: int("x"), noting(lines), swallow)
    assert not result.success
    assert result["a"].error.startswith("ValueError: invalid literal")
    assert lines[1] == "swallowed"
    assert lines[2].startswith("leave x ValueError")


def test_the_time_limit_counts_them_in():
    hung, left = threading.Event(), threading.Event()

    @contextmanager
    def slow(ctx):
        waited(hung)
        yield
        left.set()

    with Engine(lambda ctx: 1, EngineConfig(around=[slow])) as engine:
        result = engine.run(FlowDef("f", steps=[StepDef("a", timeout=0.05)]))
        assert isinstance(result["a"].exception, StepTimeout)
        assert engine.abandoned == 1
        hung.set()
        waited(left)  # what was entered is left all the same


@pytest.mark.parametrize(
    ("around", "problem"),
    [
        (lambda ctx: None, r"around must be a sequence of functions, as around=\(app_context,\), not a function"),
        (42, "around must be a sequence of functions, as .*, not int"),
        ([42], r"around\[0\] is no function, but of type int"),
    ],
)
def test_what_can_be_none_is_refused(around, problem):
    with pytest.raises(TypeError, match=problem):
        EngineConfig(around=around)


def test_functions_that_would_enter_nothing_are_refused():
    def session(ctx):
        yield

    async def app(ctx): ...

    with pytest.raises(TypeError, match=r"is .*session, a generator function: decorate it with contextlib"):
        EngineConfig(around=[session])
    with pytest.raises(TypeError, match=r"around\[0\] is .*app, an async function"):
        EngineConfig(around=[app])


def test_an_interruption_passes_and_interrupts(tmp_path):
    lines = []

    @contextmanager
    def failing(ctx):
        try:
            yield
        finally:
            raise OSError("lost as well")

    def handler(ctx):
        raise KeyboardInterrupt

    with (
        szal.open_store("memory:") as store,
        Engine(handler, EngineConfig(around=[noting(lines), failing], execution_store=store)) as engine,
    ):
        with pytest.raises(KeyboardInterrupt):
            engine.run(ONE, execution_id="a")
        assert str(engine.look("a").state) == "paused"
    assert lines == ["enter x a 1", "leave x KeyboardInterrupt()"]
