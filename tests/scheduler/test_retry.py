"""Retries: whether there is another attempt, when, and what the step's end says of the ones before."""

import builtins
import importlib
import math
import sys
import threading
import types
from decimal import Decimal

import pytest
from helper_engine import LONG, bounded, errors, statuses, waited
from hypothesis import given
from hypothesis import strategies as st

from szal import (
    BackoffStrategy,
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    GiveUp,
    RetryAfter,
    RetryExhausted,
    SkipStep,
    StepDef,
    StepTimeout,
    WorkflowState,
)
from szal.errors import OutputNotSerializable, ShellFailed
from szal.scheduler.retry import decide


class Flaky(Exception):
    pass


class VeryFlaky(Flaky):
    pass


def step(**fields):
    return StepDef("fetch", **{"max_retries": 5, "retry_delay": 1.0, **fields})


def delays(definition, error=None, count=5):
    return [decide(definition, attempt, error or ValueError("no")).delay for attempt in range(1, count + 1)]


def run(handler, *steps, mode=FlowMode.SEQUENTIAL, config=None, **flow):
    with Engine(handler, config) as engine:
        return bounded(engine.run, FlowDef("f", mode, steps=steps, **flow))


def failing(*outcomes):
    """Return a handler that raises or returns the next of *outcomes* at each call, and the list of its calls."""
    calls = []

    def handler(ctx):
        calls.append(ctx.attempt)
        outcome = outcomes[min(len(calls), len(outcomes)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return handler, calls


class TestDelay:
    def test_fixed_is_the_same_each_time(self):
        assert delays(step()) == [1.0] * 5

    def test_linear_grows_by_the_base(self):
        assert delays(step(backoff=BackoffStrategy.LINEAR, retry_delay=0.5)) == [0.5, 1.0, 1.5, 2.0, 2.5]

    def test_exponential_doubles(self):
        assert delays(step(backoff=BackoffStrategy.EXPONENTIAL)) == [1.0, 2.0, 4.0, 8.0, 16.0]

    def test_is_capped_by_max_retry_delay(self):
        assert delays(step(backoff=BackoffStrategy.EXPONENTIAL, max_retry_delay=5)) == [1.0, 2.0, 4.0, 5.0, 5.0]

    def test_never_overflows(self):
        many = step(max_retries=10**6, backoff=BackoffStrategy.EXPONENTIAL)
        assert decide(many, 10**6, ValueError()).delay >= sys.float_info.max
        assert (
            decide(
                step(max_retries=10**6, backoff=BackoffStrategy.EXPONENTIAL, max_retry_delay=60), 10**6, ValueError()
            ).delay
            == 60
        )

    @given(st.floats(0, 1), st.floats(0, 100), st.integers(1, 5))
    def test_jitter_spreads_both_ways_and_no_further(self, jitter, base, attempt):
        delay = decide(step(retry_delay=base, retry_jitter=jitter), attempt, ValueError()).delay
        assert base * (1 - jitter) - 1e-9 <= delay <= base * (1 + jitter) + 1e-9

    def test_jitter_uses_the_full_range(self):
        seen = [decide(step(retry_delay=10, retry_jitter=0.5), 1, ValueError()).delay for _ in range(400)]
        assert 5.0 <= min(seen) < 7.0
        assert 13.0 < max(seen) <= 15.0

    def test_jitter_never_makes_it_negative_nor_passes_the_cap(self):
        seen = [decide(step(retry_jitter=3.0, max_retry_delay=1.5), 1, ValueError()).delay for _ in range(200)]
        assert min(seen) == 0.0
        assert max(seen) == 1.5

    def test_retry_after_takes_the_place_of_the_backoff_and_of_its_cap(self):
        patient = step(backoff=BackoffStrategy.EXPONENTIAL, retry_jitter=0.5, max_retry_delay=2)
        assert delays(patient, RetryAfter(7.5), 2) == [7.5, 7.5]

    def test_retry_after_a_moment_in_the_past_is_at_once(self):
        assert decide(step(), 1, RetryAfter(-3)).delay == 0.0


class TestDecision:
    def test_without_retries_the_error_stands_as_it_is(self):
        error = ValueError("no")
        decision = decide(step(max_retries=0), 1, error)
        assert (decision.delay, decision.error) == (None, error)

    def test_the_last_attempt_ends_in_retry_exhausted_with_its_cause(self):
        error = ValueError("no")
        decision = decide(step(max_retries=2), 3, error)
        assert decision.delay is None
        assert isinstance(decision.error, RetryExhausted)
        assert str(decision.error) == "retry exhausted: fetch after 3 attempts: ValueError: no"
        assert decision.error.__cause__ is error

    def test_give_up_ends_it_whatever_is_left(self):
        error = GiveUp("the licence has expired")
        assert decide(step(), 1, error).delay is None
        assert decide(step(), 1, error).error is error
        assert decide(step(retry_on=GiveUp), 1, error).delay is None

    def test_an_output_that_json_cannot_hold_is_not_tried_again(self):
        assert decide(step(), 1, OutputNotSerializable("output", "object")).delay is None

    def test_retry_on_names_what_is_retried_subclasses_included(self):
        picky = step(retry_on=(Flaky, KeyError))
        assert decide(picky, 1, VeryFlaky()).delay == 1.0
        assert decide(picky, 1, KeyError()).delay == 1.0
        assert decide(picky, 1, ValueError()).delay is None

    def test_give_up_on_names_what_is_not(self):
        assert decide(step(give_up_on=Flaky), 1, VeryFlaky()).delay is None
        assert decide(step(give_up_on=Flaky), 1, ValueError()).delay == 1.0

    def test_give_up_on_beats_retry_on(self):
        both = step(retry_on=Flaky, give_up_on=VeryFlaky)
        assert decide(both, 1, Flaky()).delay == 1.0
        assert decide(both, 1, VeryFlaky()).delay is None
        assert decide(step(retry_on=Flaky, give_up_on=Flaky), 1, Flaky()).delay is None

    def test_retry_after_is_retried_whatever_retry_on_says_but_not_past_give_up_on(self):
        assert decide(step(retry_on=KeyError), 1, RetryAfter(2)).delay == 2
        assert decide(step(give_up_on=RetryAfter), 1, RetryAfter(2)).delay is None

    def test_time_outs_are_retried_unless_retry_on_is_given_without_them(self):
        late = StepTimeout("fetch", 0.5)
        assert decide(step(), 1, late).delay == 1.0
        assert decide(step(retry_on=ValueError), 1, late).delay is None
        assert decide(step(retry_on=(ValueError, StepTimeout)), 1, late).delay == 1.0
        assert decide(step(retry_on="szal.StepTimeout"), 1, late).delay == 1.0

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
    def test_what_is_no_exception_is_retried_only_by_name(self, error):
        assert decide(step(), 1, error).delay is None
        assert decide(step(retry_on=type(error)), 1, error).delay == 1.0


class TestExitStatuses:
    def test_a_command_is_tried_again_after_those_that_are_named(self):
        picky = step(retry_on=[75, 111])
        assert decide(picky, 1, ShellFailed("sync", 75, "")).delay == 1.0
        assert decide(picky, 1, ShellFailed("sync", 1, "")).delay is None
        assert decide(picky, 1, ValueError(75)).delay is None

    def test_they_stand_beside_exceptions(self):
        both = step(retry_on=[75, "StepTimeout"])
        assert decide(both, 1, ShellFailed("sync", 75, "")).delay == 1.0
        assert decide(both, 1, StepTimeout("sync", 1)).delay == 1.0

    def test_one_ends_it_whatever_else_is_tried_again(self):
        stubborn = step(give_up_on=2)
        assert decide(stubborn, 1, ShellFailed("sync", 2, "")).delay is None
        assert decide(stubborn, 1, ShellFailed("sync", 1, "")).delay == 1.0

    def test_that_of_a_signal_is_the_same_whoever_it_has_killed(self):
        for exit_code in (137, -9):  # a program that the shell ran, or the shell itself
            assert decide(step(retry_on=137), 1, ShellFailed("sync", exit_code, "")).delay == 1.0


class TestDottedNames:
    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("ValueError", ValueError()),
            ("builtins.ValueError", ValueError()),
            ("OSError", ConnectionResetError()),
            ("LookupError", KeyError()),
            ("builtins.IOError", FileNotFoundError()),  # an alias of OSError
            ("socket.timeout", TimeoutError()),  # the same
            ("json.JSONDecodeError", __import__("json").JSONDecodeError("no", "", 0)),  # defined in json.decoder
            ("subprocess.CalledProcessError", __import__("subprocess").CalledProcessError(1, "x")),
            ("szal.errors.StepTimeout", StepTimeout("a", 1)),
        ],
    )
    def test_match_the_class_and_what_derives_from_it(self, name, error):
        __import__("socket")
        assert decide(step(retry_on=name), 1, error).delay == 1.0
        assert decide(step(give_up_on=name), 1, error).delay is None

    @pytest.mark.parametrize(
        "name", ["KeyError", "nowhere.ValueError", "json.ValueErro", "ValueErrors", "", ".", "a..b"]
    )
    def test_match_nothing_else(self, name):
        assert decide(step(retry_on=name), 1, ValueError()).delay is None

    def test_match_a_class_of_the_users_own(self):
        assert decide(step(retry_on=f"{__name__}.Flaky"), 1, VeryFlaky()).delay == 1.0

    def test_import_nothing(self):
        sys.modules.pop("wave", None)
        assert decide(step(retry_on="wave.Error"), 1, ValueError()).delay is None
        assert "wave" not in sys.modules

    def test_what_is_no_class_under_that_name_matches_nothing(self, monkeypatch):
        module = types.ModuleType("szal_test_errors")
        module.Broken = "not a class"
        monkeypatch.setitem(sys.modules, "szal_test_errors", module)
        assert decide(step(retry_on="szal_test_errors.Broken"), 1, ValueError()).delay is None


class TestInTheEngine:
    def test_a_step_is_tried_until_it_succeeds(self):
        handler, calls = failing(ValueError("1"), ValueError("2"), "done")
        result = run(handler, StepDef("fetch", max_retries=5, retry_delay=0))
        assert calls == [1, 2, 3]
        assert result.success
        assert (result["fetch"].output, result["fetch"].attempts) == ("done", 3)
        assert (result["fetch"].error, result["fetch"].error_type) == (None, None)

    def test_the_end_says_how_often_and_keeps_the_last_cause(self):
        last = KeyError("third")
        handler, calls = failing(ValueError("first"), ValueError("second"), last)
        result = run(handler, StepDef("fetch", max_retries=2, retry_delay=0))
        assert calls == [1, 2, 3]
        assert str(result["fetch"].status) == "failed"
        assert result["fetch"].error == "retry exhausted: fetch after 3 attempts: KeyError: 'third'"
        assert (result["fetch"].attempts, result["fetch"].error_type) == (3, "KeyError")
        assert result["fetch"].exception.__cause__ is last
        assert result.error == "step 'fetch' failed: retry exhausted: fetch after 3 attempts: KeyError: 'third'"

    def test_without_retries_the_text_is_the_error_itself(self):
        result = run(failing(ValueError("message"))[0], StepDef("fetch"))
        assert (result["fetch"].error, result["fetch"].error_type, result["fetch"].attempts) == (
            "ValueError: message",
            "ValueError",
            1,
        )

    def test_give_up_fails_at_once(self):
        handler, calls = failing(ValueError(), GiveUp("the licence has expired"))
        result = run(handler, StepDef("fetch", max_retries=5, retry_delay=0))
        assert calls == [1, 2]
        assert result["fetch"].error == "GiveUp: the licence has expired"
        assert (result["fetch"].attempts, result["fetch"].error_type) == (2, "GiveUp")

    def test_give_up_on_fails_at_once(self):
        handler, calls = failing(VeryFlaky("gone"))
        result = run(handler, StepDef("fetch", max_retries=5, retry_delay=0, retry_on=Flaky, give_up_on=VeryFlaky))
        assert calls == [1]
        assert result["fetch"].error == "VeryFlaky: gone"

    def test_skip_step_skips_and_does_not_fail(self):
        handler, calls = failing(SkipStep("nothing new"))
        result = run(handler, StepDef("fetch", max_retries=5), StepDef("next"))
        assert calls == [1, 1]
        assert result.success
        assert statuses(result) == {"fetch": "skipped", "next": "skipped"}
        assert errors(result)["fetch"] == "nothing new"

    def test_skip_step_on_a_later_attempt_skips_too(self):
        handler, calls = failing(ValueError(), SkipStep("nothing new"))
        result = run(handler, StepDef("fetch", max_retries=5, retry_delay=0))
        assert calls == [1, 2]
        assert statuses(result) == {"fetch": "skipped"}
        assert result["fetch"].attempts == 2

    def test_retry_after_is_waited_for_instead_of_the_backoff(self):
        handler, calls = failing(RetryAfter(0), "done")
        result = run(handler, StepDef("fetch", max_retries=1, retry_delay=1e6))
        assert (result.success, calls) == (True, [1, 2])

    def test_retry_after_needs_an_attempt_that_is_left(self):
        result = run(failing(RetryAfter(0.001))[0], StepDef("fetch", max_retries=1))
        assert result["fetch"].error == "retry exhausted: fetch after 2 attempts: RetryAfter: retry after 0.001s"
        assert run(failing(RetryAfter(60))[0], StepDef("fetch"))["fetch"].error == "RetryAfter: retry after 60s"

    @pytest.mark.parametrize(
        ("make", "text"),
        [
            (lambda: RetryAfter("120"), "TypeError: seconds of RetryAfter is not a number ('120')"),
            (lambda: RetryAfter(None), "TypeError: seconds of RetryAfter is not a number (None)"),
            (lambda: RetryAfter(Decimal("0.5")), "TypeError: seconds of RetryAfter is not a number (Decimal('0.5'))"),
            (lambda: RetryAfter(10**400), "ValueError: seconds of RetryAfter is too large, or no number at all"),
            (lambda: RetryAfter(-math.inf), "ValueError: seconds of RetryAfter is too large, or no number at all"),
            (lambda: SkipStep(404), "TypeError: reason of SkipStep is not a string (404)"),
            (lambda: SkipStep(None), "TypeError: reason of SkipStep is not a string (None)"),
        ],
        ids=["text", "none", "decimal", "big", "infinite", "number for a reason", "none for a reason"],
    )
    def test_an_exception_with_a_wrong_argument_fails_where_it_is_made(self, make, text):
        def handler(ctx):
            raise make()

        result = run(handler, StepDef("fetch", max_retries=1, retry_delay=0))
        assert result["fetch"].error == f"retry exhausted: fetch after 2 attempts: {text}"

    @pytest.mark.parametrize("reason", [404, None])
    def test_a_reason_that_is_no_text_is_told_as_text(self, reason):
        result = run(failing(GiveUp(reason))[0], StepDef("fetch", max_retries=1, retry_delay=0), StepDef("next"))
        assert result["fetch"].error == f"GiveUp: {reason}"
        assert result["fetch"].attempts == 1

    def test_an_exception_that_cannot_be_printed_is_a_failure_like_any_other(self):
        class Unprintable(Exception):
            def __str__(self):
                raise RuntimeError("and this neither")

        result = run(failing(Unprintable())[0], StepDef("fetch", max_retries=1, retry_delay=0))
        assert "Unprintable" in result["fetch"].error

    def test_a_wait_holds_no_worker(self):
        order = []

        def handler(ctx):
            order.append(f"{ctx.step.name}{ctx.attempt}")
            if ctx.step.name == "flaky" and ctx.attempt == 1:
                raise ValueError

        result = run(
            handler,
            StepDef("flaky", max_retries=1, retry_delay=0.3),
            StepDef("other"),
            mode=FlowMode.PARALLEL,
            config=EngineConfig(max_concurrency=1),
        )
        assert result.success
        assert order == ["flaky1", "other1", "flaky2"]

    def test_steps_go_on_while_another_one_waits_for_its_next_attempt(self):
        finished = threading.Event()

        def handler(ctx):
            if ctx.step.name == "flaky" and not finished.is_set():
                raise RetryAfter(0.005)
            if ctx.step.name == "c":
                finished.set()

        a, b = StepDef("a"), StepDef("b", depends_on=())
        steps = [StepDef("flaky", max_retries=10**6), a, b, StepDef("c", depends_on=[a, b])]
        result = run(handler, *steps, mode=FlowMode.DAG, config=EngineConfig(max_concurrency=1))
        assert result.success
        assert result["flaky"].attempts >= 2

    def test_a_cancellation_ends_the_wait_at_once(self):
        token = CancellationToken()
        seen = []

        def sink(event):
            if event.event_type == "step_retry":
                seen.append(event.duration)
                token.cancel()

        handler, calls = failing(ValueError("no"))
        with Engine(handler, EngineConfig(event_sink=sink)) as engine:
            flow = FlowDef("f", steps=[StepDef("fetch", max_retries=1, retry_delay=1e6), StepDef("next")])
            result = bounded(engine.run, flow, cancel=token)
        assert (calls, seen) == ([1], [1e6])
        assert result.state is WorkflowState.CANCELLED
        assert (result["fetch"].error, result["fetch"].attempts) == ("ValueError: no", 1)
        assert errors(result)["next"] == "cancelled"

    def test_a_flow_time_out_ends_the_wait(self):
        handler, calls = failing(ValueError("no"))
        result = run(handler, StepDef("fetch", max_retries=1, retry_delay=1e6), timeout=1)
        assert calls == [1]
        assert result.state is WorkflowState.FAILED
        assert (result["fetch"].error, result["fetch"].attempts) == ("ValueError: no", 1)
        assert result.error == "flow timeout exceeded"

    def test_a_failure_elsewhere_does_not_end_the_attempts_of_a_step(self):
        failed = threading.Event()

        def handler(ctx):
            if ctx.step.name == "broken":
                raise ValueError
            if ctx.attempt == 1:
                raise KeyError
            waited(failed)
            return ctx.attempt

        def sink(event):
            if event.event_type == "step_failed":
                failed.set()

        result = run(
            handler,
            StepDef("flaky", max_retries=1, retry_delay=0),
            StepDef("broken"),
            mode=FlowMode.PARALLEL,
            config=EngineConfig(event_sink=sink),
        )
        assert statuses(result) == {"flaky": "completed", "broken": "failed"}
        assert result["flaky"].output == 2

    def test_duration_counts_from_the_first_attempt_waits_included(self):
        handler, _ = failing(ValueError(), "done")
        result = run(handler, StepDef("fetch", max_retries=1, retry_delay=0.05))
        assert 0.05 <= result["fetch"].duration < LONG
        assert result["fetch"].started_at is not None

    def test_a_step_that_succeeds_asks_for_no_policy(self, monkeypatch):
        def forbidden(*args):
            raise AssertionError("asked")

        monkeypatch.setattr("szal.scheduler.retry.policy", forbidden)
        monkeypatch.setattr("szal.scheduler.retry.decide", forbidden)
        assert run(lambda ctx: None, StepDef("fetch", max_retries=5)).success


def test_every_builtin_exception_can_be_named():
    kinds = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
    for name, kind in kinds.items():
        if issubclass(kind, Exception) and not issubclass(kind, BaseExceptionGroup):
            assert decide(step(retry_on=name), 1, kind.__new__(kind)).delay == 1.0, name


class TestAModuleThatIsLoadedAgain:
    """As an autoreloader does: of each of its classes there are two then."""

    @pytest.fixture
    def classes(self, tmp_path, monkeypatch):
        (tmp_path / "szal_test_reloaded.py").write_text(
            "class Busy(Exception): pass\nclass Deeper(Busy): pass\n"
            "def made():\n    class Local(Exception): pass\n    return Local\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        module = importlib.import_module("szal_test_reloaded")
        before = module.Busy, module.Deeper, module.made()
        importlib.reload(module)
        yield before, (module.Busy, module.Deeper, module.made())
        del sys.modules["szal_test_reloaded"]

    @pytest.mark.parametrize("named", [False, True])
    def test_its_classes_are_those_of_before(self, classes, named):
        for one, other in (classes, classes[::-1]):
            kind = "szal_test_reloaded.Busy" if named else one[0]
            for raised in (*one[:2], *other[:2]):
                assert decide(step(retry_on=kind), 1, raised()).delay == 1.0
                assert decide(step(give_up_on=kind), 1, raised()).delay is None
            assert decide(step(retry_on=other[1]), 1, one[0]()).delay is None

    def test_classes_that_a_function_makes_are_each_another_one(self, classes):
        before, after = classes
        assert decide(step(retry_on=before[2]), 1, before[2]()).delay == 1.0
        assert decide(step(retry_on=before[2]), 1, after[2]()).delay is None
