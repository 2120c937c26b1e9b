"""A flow that a handler runs itself is another run: what comes out of it is a failure to the step, and nothing more."""

import copy
import pickle
import threading

import pytest
from helper_engine import bounded, statuses

from szal import (
    Cancelled,
    Engine,
    EngineConfig,
    FlowDef,
    GiveUp,
    OutputNotSerializable,
    RetryAfter,
    RetryExhausted,
    SkipStep,
    StepDef,
    StepFailed,
    ValueNotJson,
)
from szal.scheduler.spent import is_meant, spent

TELLING = [SkipStep("nothing to do"), GiveUp("no licence"), RetryAfter(3600), Cancelled("enough")]


class Licence(GiveUp):
    """An application's own."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def by_type(error):
    return type(error).__name__


def run_outer(handler, **fields):
    """Run *handler* as a step with a retry; return the result of that, and the types of all events."""
    events = []
    step = StepDef("outer", **({"max_retries": 1, "retry_delay": 0} | fields))
    with Engine(handler, EngineConfig(event_sink=lambda event: events.append(event.event_type))) as engine:
        result = bounded(engine.run, FlowDef("outer", steps=[step]))
    return result["outer"], events


def run_inner(error, **fields):
    """Run a flow with one step, which raises *error*."""

    def inner(ctx):
        raise error

    with Engine(inner) as engine:
        return engine.run(FlowDef("inner", steps=[StepDef("inner", **fields)]))


class TestWhatAStepOfTheInnerRunRaised:
    @pytest.mark.parametrize("error", TELLING, ids=by_type)
    def test_is_a_failure_and_is_retried_as_one(self, error):
        def outer(ctx):
            raise run_inner(error)["inner"].exception

        result, events = run_outer(outer)
        assert (str(result.status), result.attempts) == ("failed", 2)
        assert result.error_type == type(error).__name__
        assert events.count("step_retry") == 1

    @pytest.mark.parametrize("error", TELLING, ids=by_type)
    def test_so_it_is_as_the_cause_of_another_one_and_from_a_thread_of_its_own(self, error):
        found = []

        def inner():
            try:
                run_inner(error, max_retries=1, retry_delay=0).raise_for_failure()
            except (StepFailed, RetryExhausted) as failure:
                found.append(failure.__cause__)

        def outer(ctx):
            thread = threading.Thread(target=inner)
            thread.start()
            thread.join()
            if found:
                raise found.pop()
            raise run_inner(error)["inner"].exception

        if isinstance(error, RetryAfter):
            error = RetryAfter(0)
        result, _ = run_outer(outer)
        assert (str(result.status), result.attempts) == ("failed", 2)

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
    @pytest.mark.parametrize("error", [*TELLING, Licence(404)], ids=by_type)
    def test_so_is_a_copy_as_from_another_process(self, error, copied):
        def outer(ctx):
            raise copied(run_inner(error)["inner"].exception)

        result, _ = run_outer(outer)
        assert (str(result.status), result.attempts) == ("failed", 2)
        if isinstance(error, Licence):
            assert result.exception.__cause__.code == 404

    def test_may_be_given_up_on_by_name(self):
        def outer(ctx):
            raise run_inner(GiveUp())["inner"].exception

        result, _ = run_outer(outer, give_up_on="szal.errors.GiveUp")
        assert result.attempts == 1

    def test_one_that_cannot_be_copied_is_a_failure_too(self):
        class Custom(GiveUp):
            def __init__(self, code, *, text):
                super().__init__(f"{code} {text}")

        error = Custom(1, text="no")

        def outer(ctx):
            raise run_inner(error)["inner"].exception

        result, _ = run_outer(outer)
        assert (result.attempts, str(result.status)) == (2, "failed")

    @pytest.mark.parametrize("kind", [OutputNotSerializable, ValueNotJson])
    def test_an_output_that_is_no_json_is_retried(self, kind):
        error = spent(kind("output", "set"))

        def outer(ctx):
            raise error

        assert run_outer(outer)[0].attempts == 2


class TestATimeOutOfTheInnerRun:
    def time_out(self):
        def inner(ctx):
            ctx.sleep(60)

        with Engine(inner) as engine:
            return engine.run(FlowDef("inner", steps=[StepDef("inner", timeout=0.02)]))

    def test_is_no_time_out_of_the_step_around_it(self):
        def outer(ctx):
            return self.time_out().raise_for_failure().outputs

        result, events = run_outer(outer)
        assert "step_timeout" not in events
        assert (result.attempts, result.error_type) == (2, "StepTimeout")
        assert result.error == "retry exhausted: outer after 2 attempts: step timeout: inner after 20ms"

    def test_nor_is_one_of_a_step_that_has_a_limit_and_has_not_passed_it(self):
        def outer(ctx):
            return self.time_out().raise_for_failure().outputs

        _, events = run_outer(outer, timeout=60)
        assert "step_timeout" not in events

    def test_the_steps_own_is_one_wherever_it_was_asked_for(self):
        def outer(ctx):
            def inner(_):
                ctx.sleep(60)
                ctx.check()

            with Engine(inner) as engine:
                return engine.run(FlowDef("inner", steps=[StepDef("inner")])).raise_for_failure().outputs

        result, events = run_outer(outer, timeout=0.05)
        assert events.count("step_timeout") == 2
        assert result.error == "retry exhausted: outer after 2 attempts: step timeout: outer after 50ms"


def test_retries_that_ran_out_in_it_are_not_the_steps_own():
    def outer(ctx):
        return run_inner(ValueError("no"), max_retries=1, retry_delay=0).raise_for_failure().outputs

    result, _ = run_outer(outer, max_retries=0)
    assert (result.attempts, result.error_type) == (1, "RetryExhausted")


def test_one_object_may_be_raised_by_many_attempts_of_many_runs():
    nothing = SkipStep("nothing to do")

    def handler(ctx):
        raise nothing

    flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
    with Engine(handler) as engine:
        for _ in range(3):
            assert statuses(bounded(engine.run, flow)) == {"a": "skipped", "b": "skipped"}
    assert is_meant(nothing, SkipStep)


def test_what_is_kept_is_as_it_was_raised():
    def handler(ctx):
        try:
            raise KeyError("x")
        except KeyError as cause:
            error = GiveUp("no")
            error.add_note("a note")
            raise error from cause

    with Engine(handler) as engine:
        kept = bounded(engine.run, FlowDef("f", steps=[StepDef("a")]))["a"].exception
    assert (type(kept), kept.reason, kept.__notes__) == (GiveUp, "no", ["a note"])
    assert isinstance(kept.__cause__, KeyError)
    assert kept.__traceback__.tb_frame.f_code.co_name == "handler"
