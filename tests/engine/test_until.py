"""Steps that poll: called again until a condition over their own output holds."""

import threading

import attrs
import pytest

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    FlowDef,
    FlowMode,
    InvalidFlow,
    StepDef,
    StepStatus,
    TriggerMode,
    UnknownOutcome,
    WorkflowState,
    open_store,
)
from szal.errors import SkipStep
from szal.model.json import decode_flow, encode_flow

READY = "output.state == 'ready'"


def polling(**fields):
    return StepDef("start", **{"until": READY, "delay": 0.001, **fields})


def states(*given):
    """Return a handler that returns one state after another, and notes each call as attempt and poll."""
    calls = []

    def handler(ctx):
        calls.append((ctx.attempt, ctx.poll))
        state = given[min(len(calls), len(given)) - 1]
        if isinstance(state, BaseException):
            raise state
        return {"state": state}

    return handler, calls


def run(handler, step, config=None, **flow):
    with Engine(handler, config) as engine:
        return engine.run(FlowDef("f", steps=[step], **flow))


class TestUntil:
    def test_a_step_is_called_until_a_condition_over_its_output_holds(self):
        handler, calls = states("starting", "starting", "ready")
        result = run(handler, polling(until_timeout=20))["start"]
        assert result.output == {"state": "ready"}
        assert (result.status, result.attempts) == (StepStatus.COMPLETED, 1)
        assert calls == [(1, 1), (1, 2), (1, 3)]

    def test_one_that_holds_at_once_is_called_once(self):
        handler, calls = states("ready")
        assert run(handler, polling()).success
        assert calls == [(1, 1)]

    def test_it_holds_no_thread_between_two_polls(self):
        polls, others = [], threading.Event()

        def handler(ctx):
            if ctx.step.name == "other":
                others.set()
                return None
            polls.append(ctx.poll)
            return {"state": "ready" if others.is_set() else "starting"}

        steps = [polling(), StepDef("before", step_type="sleep", config={"seconds": 0.02})]
        steps.append(StepDef("other", depends_on=[steps[1]]))
        with Engine(handler, EngineConfig(max_concurrency=1)) as engine:
            assert engine.run(FlowDef("f", FlowMode.DAG, steps=steps)).success
        assert len(polls) > 1

    def test_what_depends_on_it_comes_after_the_last_poll(self):
        handler, calls = states("starting", "ready", "after")
        steps = [polling(), StepDef("next")]
        with Engine(handler) as engine:
            result = engine.run(FlowDef("f", steps=steps))
        assert result.outputs == {"start": {"state": "ready"}, "next": {"state": "after"}}
        assert calls == [(1, 1), (1, 2), (1, 1)]

    def test_the_condition_sees_inputs_and_the_steps_before(self):
        def handler(ctx):
            return 3 if ctx.step.name == "count" else ctx.poll * ctx.inputs["by"]

        step = StepDef("each", until="output >= steps.count.output && output > inputs.by", delay=0)
        with Engine(handler) as engine:
            assert engine.run(FlowDef("f", steps=[StepDef("count"), step]), {"by": 2})["each"].output == 4

    def test_where_it_cannot_be_compared_the_step_fails(self):
        result = run(lambda ctx: {"done": "half"}, StepDef("start", until="output.done >= 3"))["start"]
        assert result.error == "until of step 'start': output.done >= 3: text and a number have no order"
        assert result.output == {"done": "half"}  # by which it can be seen what was compared

    def test_what_has_no_json_fails_it_too(self):
        result = run(lambda ctx: {"done": object()}, StepDef("start", until="output.done == 3"))
        assert result["start"].error_type == "ValueNotJson"

    def test_every_item_of_a_list_polls_by_itself(self):
        def handler(ctx):
            return [ctx.item, ctx.poll]

        step = StepDef("each", foreach=["a", "b", "c"], until="output[1] > index && output[0] == item", delay=0.001)
        assert run(handler, step)["each"].output == [["a", 1], ["b", 2], ["c", 3]]

    def test_a_skip_ends_it(self):
        handler, calls = states("starting", SkipStep("not today"))
        result = run(handler, polling())["start"]
        assert (result.status, result.error) == (StepStatus.SKIPPED, "not today")
        assert len(calls) == 2

    def test_one_who_does_not_know_needs_a_decision(self):
        handler, calls = states("starting", UnknownOutcome("it does not answer"), "starting", "ready")
        with open_store("memory:") as store, Engine(handler, EngineConfig(execution_store=store)) as engine:
            paused = engine.run(FlowDef("f", steps=[polling()]), execution_id="e")
            assert paused.state is WorkflowState.PAUSED
            engine.resolve("e", "start", "retry")
            assert engine.resume("e").success
        assert calls == [(1, 1), (1, 2), (1, 1), (1, 2)]

    def test_one_start_is_told(self):
        events = []
        handler, _ = states("starting", "starting", "ready")
        run(handler, polling(), EngineConfig(event_sink=lambda event: events.append(event.event_type)))
        assert events.count("step_started") == 1
        assert events.count("step_completed") == 1

    def test_is_asked_only_before_the_first_poll_whether_the_work_is_there(self):
        asked = []
        handler, _ = states("starting", "starting", "ready")
        assert run(handler, polling(done_when=lambda ctx: asked.append(ctx.poll))).success
        assert asked == [1]


class TestRetries:
    def test_an_exception_goes_to_the_retry_policy_and_is_the_same_poll(self):
        handler, calls = states("starting", OSError("gone"), OSError("gone"), "starting", "ready")
        result = run(handler, polling(max_retries=2, retry_delay=0.001))["start"]
        assert calls == [(1, 1), (1, 2), (2, 2), (3, 2), (3, 3)]
        assert (result.status, result.attempts) == (StepStatus.COMPLETED, 3)

    def test_failures_of_all_polls_count_together(self):
        handler, calls = states(OSError("one"), "starting", OSError("two"))
        result = run(handler, polling(max_retries=1, retry_delay=0.001))["start"]
        assert result.error == "retry exhausted: start after 2 attempts: OSError: two"
        assert calls == [(1, 1), (2, 1), (2, 2)]

    def test_one_that_is_too_long_is_an_attempt_that_failed(self):
        release = threading.Event()

        def handler(ctx):
            if (ctx.attempt, ctx.poll) == (1, 2):
                release.wait(20)
            return {"state": "ready" if ctx.poll == 3 else "starting"}

        result = run(handler, polling(timeout=1, max_retries=1, retry_delay=0))["start"]
        release.set()
        assert (result.status, result.attempts) == (StepStatus.COMPLETED, 2)


class TestTheLimit:
    def test_passes_between_two_polls(self):
        handler, calls = states("starting")
        result = run(handler, polling(delay=60, until_timeout=30))["start"]
        assert result.error == "step timeout: start after 30000ms and 1 poll"
        assert (result.error_type, result.output) == ("StepTimeout", {"state": "starting"})
        assert len(calls) == 1

    def test_passes_in_a_poll(self):
        def handler(ctx):
            if ctx.poll == 2:
                ctx.sleep(30)
            return {"state": "starting"}

        result = run(handler, polling(until_timeout=1.5))["start"]
        assert result.error == "step timeout: start after 1500ms and 2 polls"
        assert result.output == {"state": "starting"}

    @pytest.mark.parametrize("how", [{"timeout": 1.5}, {"total_timeout": 1.5}])
    def test_what_the_last_call_returned_stays_its_output_however_the_next_one_ends(self, how):
        def handler(ctx):
            if ctx.poll == 2:
                ctx.sleep(30)
            return {"state": "starting"}

        result = run(handler, polling(**how))["start"]
        assert (result.error_type, result.output) == ("StepTimeout", {"state": "starting"})

    def test_so_it_is_where_the_next_one_raises(self):
        handler, _ = states("starting", OSError("gone"))
        result = run(handler, polling())["start"]
        assert (result.error, result.output) == ("OSError: gone", {"state": "starting"})

    @pytest.mark.parametrize(
        "fields", [{"until_timeout": 1}, {"total_timeout": 1}, {"until_timeout": 1, "inline": "always"}]
    )
    def test_no_call_is_made_that_would_begin_too_late(self, fields):
        polls, polled = [], threading.Event()

        def handler(ctx):
            if ctx.step.name == "other":
                polled.wait(20)
                threading.Event().wait(1.1)  # it has the only worker, until it is too late for another poll
                return None
            polls.append(ctx.poll)
            polled.set()
            return {"state": "starting"}

        steps = [polling(**fields), StepDef("other", inline=fields.get("inline"))]
        with Engine(handler, EngineConfig(max_concurrency=1)) as engine:
            result = engine.run(FlowDef("f", FlowMode.PARALLEL, steps=steps))["start"]
        assert (result.error_type, result.attempts, result.output) == ("StepTimeout", 1, {"state": "starting"})
        if "until_timeout" in fields:
            assert result.error == f"step timeout: start after 1000ms and {len(polls)} poll{'s' * (len(polls) > 1)}"

    def test_passes_in_the_first_one(self):
        result = run(lambda ctx: ctx.sleep(30), polling(until_timeout=0.5))["start"]
        assert result.error == "step timeout: start after 500ms and 1 poll"

    def test_no_attempt_follows_that_could_not_begin_in_time(self):
        handler, _ = states("starting", OSError("gone"))
        result = run(handler, polling(until_timeout=20, max_retries=3, retry_delay=60))["start"]
        assert result.error == "step timeout: start after 20000ms and 2 polls: OSError: gone"

    def test_a_handler_sees_what_is_left(self):
        left = []

        def handler(ctx):
            left.append(ctx.remaining())
            return {"state": "ready" if ctx.poll == 2 else "starting"}

        assert run(handler, polling(until_timeout=20)).success
        assert 0 < left[1] < left[0] <= 20

    def test_the_limit_of_all_attempts_holds_for_polls_too(self):
        handler, _ = states("starting")
        result = run(handler, polling(delay=60, total_timeout=30))["start"]
        assert result.error == "step timeout: start after 30000ms, all attempts together"


class TestStops:
    def ended_by(self, stop, *, handler=None, **flow):
        """Return the result of a step that is polling when *stop* is called."""
        polled = threading.Event()

        def poll(ctx):
            if ctx.step.name == "start":
                polled.set()
                return {"state": "starting"}
            polled.wait(20)
            return stop() if handler is None else handler()

        steps = [polling(delay=60, rollbackable=True), StepDef("other")]
        token = CancellationToken()
        self.token = token
        with Engine(poll, EngineConfig(rollback_handler=lambda ctx: None)) as engine:
            return engine.run(FlowDef("f", FlowMode.PARALLEL, steps=steps, **flow), cancel=token)

    def test_a_cancellation_ends_it(self):
        result = self.ended_by(lambda: self.token.cancel())  # noqa: PLW0108 (it is made later)
        assert (result.state, result["start"].status) == (WorkflowState.CANCELLED, StepStatus.FAILED)
        assert result["start"].error == "Cancelled: cancelled between two polls"
        assert result["start"].output == {"state": "starting"}

    def test_the_limit_of_its_flow_ends_it(self):
        result = self.ended_by(lambda: None, timeout=0.3)
        assert result["start"].error == "Cancelled: flow timeout exceeded between two polls"

    @pytest.mark.parametrize("how", [{"rollback_on_failure": True}, {"fail_fast": True}])
    def test_a_failure_that_will_end_the_flow_ends_it_as_it_ends_a_wait(self, how):
        def fail():
            raise ValueError("no")

        result = self.ended_by(None, handler=fail, **how)
        assert result["start"].error == "Cancelled: flow failed between two polls"
        assert not result.success

    def test_the_end_of_a_race_ends_it(self):
        def handler(ctx):
            if ctx.step.name == "slow":
                started.set()
            elif ctx.step.name == "fast":
                started.wait(20)
            return {"state": "starting"}

        started = threading.Event()
        slow, fast = StepDef("slow", until=READY, delay=60), StepDef("fast")
        last = StepDef("last", depends_on=[slow, fast], trigger_mode=TriggerMode.ANY, cancel_losers=True)
        with Engine(handler) as engine:
            result = engine.run(FlowDef("f", FlowMode.DAG, steps=[slow, fast, last]))
        assert result.success
        assert result["slow"].error == "Cancelled: another won"


class TestDefinitions:
    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"until": "output.x ="}, "until: expected an operator"),
            ({"until": "steps.gone.output == output"}, "until refers to an unknown step 'gone'"),
            ({"until": "inputs.x == 1"}, "until names nothing of the output: it would hold at once, or never"),
            ({"until": "result.state == 'up'"}, "until: there is no 'result' here: did you mean output.state?"),
            ({"until": 3}, "until is not a string (3)"),
            ({"until": None}, "delay without until: the wait between attempts is retry_delay"),
            ({"until": None, "delay": 1, "until_timeout": 3}, "until_timeout without until"),
            ({"delay": -1}, "delay is negative (-1)"),
            ({"until_timeout": "soon"}, "until_timeout"),
            ({"idempotent": False}, "until and idempotent=False: a poll is repeated"),
            ({"step_type": "sleep", "config": {"seconds": 1}}, "until of a step of type 'sleep'"),
            ({"condition": "output.state == 'up'"}, "condition: "),
        ],
    )
    def test_what_is_wrong_is_told(self, fields, problem):
        with pytest.raises(InvalidFlow) as caught:
            FlowDef("f", steps=[polling(**fields)]).validate()
        assert any(f"step 'start': {problem}" in each for each in caught.value.problems), caught.value.problems

    def test_is_kept_as_json(self):
        flow = FlowDef("f", steps=[StepDef("start", until=READY, delay="2s", until_timeout="1m")])
        assert '"until":"output.state == \'ready\'","delay_ms":2000,"until_timeout_ms":60000' in encode_flow(flow)
        assert decode_flow(encode_flow(flow)).steps == flow.steps
        assert '"until' not in encode_flow(
            FlowDef("f", steps=[attrs.evolve(flow.steps[0], until=None, until_timeout=None)])
        )
