"""What a run tells the world: events in order, metrics by step type, progress."""

import logging
import threading
from datetime import timedelta

import pytest
from helper_engine import bounded

from szal import (
    CancellationToken,
    Engine,
    EngineConfig,
    EventBus,
    FlowDef,
    FlowMode,
    ProgressHub,
    SkipStep,
    StepDef,
    StepStatus,
)


def handler(ctx):
    if ctx.step.name.startswith("fails"):
        raise ValueError("no")
    if ctx.step.name.startswith("flaky") and ctx.attempt < 3:
        raise ValueError("again")
    if ctx.step.name.startswith("skips"):
        raise SkipStep("nothing to do")
    if ctx.step.name.startswith("slow"):
        ctx.sleep(60)


def told(*steps, mode=FlowMode.SEQUENTIAL, cancel=None, do=handler, **flow):
    """Run a flow and return its events."""
    events = []
    with Engine(do, EngineConfig(event_sink=events.append, rollback_handler=lambda ctx: None)) as engine:
        bounded(engine.run, FlowDef("f", mode, steps=steps, **flow), cancel=cancel)
    return events


def types(events, step=None):
    return [event.event_type for event in events if event.step_name == step]


class TestEventsOfAStep:
    def test_that_completes(self):
        assert types(told(StepDef("a")), "a") == ["step_started", "step_completed"]

    def test_that_fails_has_one_failure_at_the_end(self):
        events = told(StepDef("fails", max_retries=2, retry_delay=0))
        assert types(events, "fails") == ["step_started", "step_retry", "step_retry", "step_failed"]
        (failure,) = [event for event in events if event.event_type == "step_failed"]
        assert (failure.attempt, failure.error) == (3, "retry exhausted: fails after 3 attempts: ValueError: no")

    def test_that_is_retried_says_which_attempt_failed_why_and_how_long_it_waits(self):
        events = told(StepDef("flaky", max_retries=5, retry_delay=0.001))
        assert types(events, "flaky") == ["step_started", "step_retry", "step_retry", "step_completed"]
        retries = [event for event in events if event.event_type == "step_retry"]
        assert [(event.attempt, event.error, event.duration) for event in retries] == [
            (1, "ValueError: again", 0.001),
            (2, "ValueError: again", 0.001),
        ]
        assert events[-2].attempt == 3

    def test_that_is_skipped_by_the_engine_never_started(self):
        events = told(StepDef("a", condition="false"))
        assert [(event.event_type, event.error) for event in events if event.step_name == "a"] == [
            ("step_skipped", "condition not met")
        ]

    def test_that_skips_itself_did(self):
        assert types(told(StepDef("skips")), "skips") == ["step_started", "step_skipped"]

    def test_that_times_out_says_so_for_each_attempt(self):
        events = told(StepDef("slow", timeout=0.05, max_retries=1, retry_delay=0))
        assert types(events, "slow") == ["step_started", "step_timeout", "step_retry", "step_timeout", "step_failed"]
        timeouts = [(event.attempt, event.error) for event in events if event.event_type == "step_timeout"]
        assert timeouts == [(1, "step timeout: slow after 50ms"), (2, "step timeout: slow after 50ms")]

    def test_that_is_undone(self):
        events = told(StepDef("a", rollbackable=True), StepDef("fails"), rollback_on_failure=True)
        assert types(events, "a") == ["step_started", "step_completed", "step_rollback"]

    def test_carries_all_that_is_known(self):
        step = StepDef("a")
        events = told(step)
        for event in events:
            assert event.flow_name == "f"
            assert event.execution_id
            assert event.timestamp.utcoffset() == timedelta(0)
        started, completed = [event for event in events if event.step_name == "a"]
        assert (started.step_id, started.attempt, completed.attempt) == (step.id, 1, 1)
        assert completed.duration >= 0
        assert (started.error, completed.error) == (None, None)

    @pytest.mark.parametrize("mode", [FlowMode.PARALLEL, FlowMode.DAG])
    def test_come_in_order_however_many_run(self, mode):
        steps = [
            StepDef(f"{kind}{i}", max_retries=3, retry_delay=0) for i in range(20) for kind in ("a", "flaky", "fails")
        ]
        events = told(*steps, mode=mode)
        expected = {
            "a": ["step_started", "step_completed"],
            "flaky": ["step_started", "step_retry", "step_retry", "step_completed"],
            "fails": ["step_started", "step_retry", "step_retry", "step_retry", "step_failed"],
        }
        for step in steps:
            assert types(events, step.name) == expected[step.name.rstrip("0123456789")]

    def test_end_before_what_depends_on_it_starts(self):
        a, b = StepDef("a"), StepDef("b")
        events = told(a, b, StepDef("c", depends_on=[a, b]), mode=FlowMode.DAG)
        order = [(event.step_name, event.event_type) for event in events]
        assert order.index(("c", "step_started")) > max(order.index((name, "step_completed")) for name in "ab")


class TestEventsOfAFlow:
    def check(self, events, end, error=None):
        assert types(events) == ["flow_started", end]
        assert (events[0].event_type, events[-1].event_type) == ("flow_started", end)
        assert events[-1].error == error
        assert events[-1].duration >= 0
        assert len({event.execution_id for event in events}) == 1

    def test_completed(self):
        self.check(told(StepDef("a")), "flow_completed")

    def test_completed_without_steps(self):
        self.check(told(), "flow_completed")

    def test_failed(self):
        self.check(told(StepDef("fails")), "flow_failed", "step 'fails' failed: ValueError: no")

    def test_timed_out(self):
        self.check(told(StepDef("slow"), StepDef("a"), timeout=0.05), "flow_failed", "flow timeout exceeded")

    def test_cancelled(self):
        token = CancellationToken()
        token.cancel()
        self.check(told(StepDef("a"), cancel=token), "flow_cancelled", "cancelled")

    def test_rolled_back(self):
        events = told(StepDef("fails"), rollback_on_failure=True)
        self.check(events, "flow_rolled_back", "step 'fails' failed: ValueError: no")


class TestSinks:
    def test_an_event_bus_is_one(self):
        bus = EventBus()
        failures = bus.subscribe("szal/step/*/step_failed")
        with Engine(handler, EngineConfig(event_sink=bus)) as engine:
            bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("fails")]))
        failures.close()
        assert [event.step_name for event in failures] == ["fails"]

    @pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.PARALLEL])
    @pytest.mark.parametrize("which", ["event_sink", "step_type_metrics", "progress_sink"])
    def test_one_that_raises_is_logged_and_fails_nothing(self, which, mode, caplog):
        def broken(*args):
            raise RuntimeError("this sink is broken")

        def reporting(ctx):
            ctx.report("half way")
            return ctx.step.name

        with Engine(reporting, EngineConfig(**{which: broken})) as engine:
            result = bounded(engine.run, FlowDef("f", mode, steps=[StepDef("a"), StepDef("b")]))
        assert (result.success, result.outputs) == (True, {"a": "a", "b": "b"})
        broken_ones = [record for record in caplog.records if record.exc_info and record.levelno >= logging.ERROR]
        assert {str(record.exc_info[1]) for record in broken_ones} == {"this sink is broken"}
        assert all(result.execution_id in record.getMessage() for record in broken_ones)

    def test_events_and_metrics_come_on_the_thread_that_runs_the_flow(self):
        threads = set()
        config = EngineConfig(
            event_sink=lambda event: threads.add(threading.current_thread()),
            step_type_metrics=lambda *args: threads.add(threading.current_thread()),
        )

        def run():
            with Engine(handler, config) as engine:
                engine.run(FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b", timeout=60)]))
            return threading.current_thread()

        assert bounded(run) in threads
        assert len(threads) == 1

    def test_a_run_without_any_is_the_same(self):
        with Engine(handler) as engine:
            result = bounded(engine.run, FlowDef("f", steps=[StepDef("flaky", max_retries=5, retry_delay=0)]))
        assert (result.success, result["flaky"].attempts) == (True, 3)


class TestMetrics:
    def test_once_after_each_step_by_its_type(self):
        calls = []

        def metrics(step_type, status, seconds):
            calls.append((step_type, status))
            assert seconds >= 0

        steps = [
            StepDef("a", step_type="http"),
            StepDef("flaky", step_type="http", max_retries=3, retry_delay=0),
            StepDef("b"),
            StepDef("skipped", condition="false", step_type="mail"),
            StepDef("fails"),
            StepDef("never"),
        ]
        with Engine(handler, EngineConfig(step_type_metrics=metrics)) as engine:
            bounded(engine.run, FlowDef("f", steps=steps))
        assert calls == [
            ("http", StepStatus.COMPLETED),
            ("http", StepStatus.COMPLETED),
            ("default", StepStatus.COMPLETED),
            ("mail", StepStatus.SKIPPED),
            ("default", StepStatus.FAILED),
            ("default", StepStatus.SKIPPED),
        ]


class TestProgress:
    def test_reaches_every_subscriber_with_where_it_came_from(self):
        hub = ProgressHub()
        clients = [hub.subscribe(), hub.subscribe()]

        def reporting(ctx):
            for done in range(3):
                ctx.report({"done": done})

        step = StepDef("a")
        with Engine(reporting, EngineConfig(progress_sink=hub.sink())) as engine:
            result = bounded(engine.run, FlowDef("f", steps=[step]))
        hub.close()
        for client in clients:
            reports = list(client)
            assert [report.data for report in reports] == [{"done": 0}, {"done": 1}, {"done": 2}]
            assert {(report.step_name, report.step_id, report.execution_id) for report in reports} == {
                ("a", step.id, result.execution_id)
            }

    def test_comes_while_the_step_runs(self):
        heard = threading.Event()

        def reporting(ctx):
            ctx.report("are you there?")
            return heard.wait(20)

        with Engine(reporting, EngineConfig(progress_sink=lambda progress: heard.set())) as engine:
            assert bounded(engine.run, FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])).outputs == {
                "a": True,
                "b": True,
            }

    def test_without_a_sink_goes_nowhere(self):
        with Engine(lambda ctx: ctx.report("hello")) as engine:
            assert bounded(engine.run, FlowDef("f", steps=[StepDef("a")])).success
