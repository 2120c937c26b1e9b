"""The spans of an execution: what is in what, from when to when, and what they are linked to after a crash."""

import importlib
import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextvars import ContextVar
from functools import partial
from multiprocessing import get_context
from typing import Any

import pytest
from contrib import traced as there
from forking import killed_child
from helper_engine import bounded, waited
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from szal import CancellationToken, Engine, EngineConfig, FlowDef, FlowMode, MissingExtra, SkipStep, StepDef
from szal.contrib.application import without_context
from szal.contrib.otel import OpenTelemetrySink
from szal.stores import open_store


class Traced:
    """Spans that have ended, by name."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.sink = OpenTelemetrySink(self.provider)

    def config(self, **more: Any) -> EngineConfig:
        return EngineConfig(event_sink=self.sink, around=[self.sink.around], **more)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self._exporter.get_finished_spans()]

    def __getitem__(self, name: str) -> ReadableSpan:
        """Return the one span of that name."""
        (span,) = [span for span in self._exporter.get_finished_spans() if span.name == name]
        return span

    def path_of(self, name: str) -> list[str]:
        """Return the names of the spans that one is in, from the outermost to itself."""
        by_id = {span.context.span_id: span for span in self._exporter.get_finished_spans()}
        span: ReadableSpan | None = self[name]
        found: list[str] = []
        while span is not None:
            found.insert(0, span.name)
            span = None if span.parent is None else by_id.get(span.parent.span_id)
        return found


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    assert not traced.sink._runs
    traced.provider.shutdown()


def run(traced: Traced, do: Any, *steps: StepDef, inputs: Any = None, cancel: Any = None, **flow: Any) -> Any:
    with Engine(do, traced.config(rollback_handler=lambda ctx: ctx.step.name)) as engine:
        return bounded(engine.run, FlowDef("f", steps=steps, **flow), inputs, cancel=cancel)


class TestWhatIsInWhat:
    def test_a_flow_its_steps_and_their_attempts(self, traced: Traced) -> None:
        result = run(traced, lambda ctx: None, StepDef("a", step_type="http"), StepDef("b"))
        assert traced.names == ["attempt a #1", "step a", "attempt b #1", "step b", "flow f"]
        assert traced.path_of("attempt b #1") == ["flow f", "step b", "attempt b #1"]
        assert dict(traced["flow f"].attributes) == {
            "szal.execution.id": result.execution_id,
            "szal.flow.name": "f",
            "szal.flow.version": 1,
            "szal.execution.state": "completed",
        }
        assert dict(traced["step a"].attributes) == {
            "szal.execution.id": result.execution_id,
            "szal.flow.name": "f",
            "szal.step.name": "a",
            "szal.step.id": result["a"].step_id,
            "szal.step.type": "http",
            "szal.step.status": "completed",
            "szal.step.attempts": 1,
        }
        assert traced["attempt a #1"].attributes["szal.attempt.number"] == 1
        assert {traced[name].status.status_code for name in traced.names} == {StatusCode.UNSET}

    @pytest.mark.parametrize("inline", ["auto", "never"])
    def test_each_lasts_from_the_real_start_to_the_real_end(self, traced: Traced, inline: Any) -> None:
        with Engine(lambda ctx: ctx.sleep(0.02), traced.config(inline=inline)) as engine:
            result = bounded(engine.run, FlowDef("f", steps=[StepDef("a"), StepDef("b")]))
        step, attempt = traced["step b"], traced["attempt b #1"]
        slack = 1_000_000_000  # the clocks of an attempt and of its step are two, and one of them may be set
        assert traced["flow f"].start_time <= step.start_time <= attempt.start_time + slack
        assert attempt.end_time - slack <= step.end_time <= traced["flow f"].end_time + slack
        assert attempt.end_time - attempt.start_time >= 20_000_000
        assert abs(step.start_time / 1e9 - result["b"].started_at.timestamp()) < 20

    @pytest.mark.parametrize("start", [False, True])
    def test_the_flow_is_in_the_context_of_the_caller(self, traced: Traced, start: bool) -> None:
        seen = []
        with Engine(lambda ctx: seen.append(baggage.get_baggage("tenant")), traced.config()) as engine:
            tracer = traced.provider.get_tracer("app")
            token = context.attach(baggage.set_baggage("tenant", "7"))
            with tracer.start_as_current_span("request"):
                flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
                if start:
                    engine.start(flow).result(timeout=20)
                else:
                    engine.run(flow)
            context.detach(token)
        assert traced.path_of("attempt a #1") == ["request", "flow f", "step a", "attempt a #1"]
        assert seen == ["7", "7"]

    def test_what_a_request_starts_has_nothing_of_it_but_its_trace(self, traced: Traced) -> None:
        variable: ContextVar[int] = ContextVar("variable", default=0)
        variable.set(1)
        seen = []
        with Engine(lambda ctx: seen.append(variable.get()), traced.config()) as engine:
            with traced.provider.get_tracer("app").start_as_current_span("request"):
                execution = without_context(lambda: engine.start(FlowDef("f", steps=[StepDef("a")])))
            execution.result(timeout=20)
        assert traced.path_of("step a") == ["request", "flow f", "step a"]
        assert seen == [0]

    @pytest.mark.parametrize("mode", [FlowMode.SEQUENTIAL, FlowMode.PARALLEL])
    def test_a_handler_runs_inside_its_attempt(self, traced: Traced, mode: FlowMode) -> None:
        tracer = traced.provider.get_tracer("library")

        def handler(ctx: Any) -> None:
            with tracer.start_as_current_span(f"query {ctx.step.name}"):
                pass

        run(traced, handler, StepDef("a"), StepDef("b"), mode=mode)
        assert traced.path_of("query b") == ["flow f", "step b", "attempt b #1", "query b"]
        assert not trace.get_current_span().get_span_context().is_valid

    def test_a_sub_flow_is_in_its_step(self, traced: Traced) -> None:
        flow = FlowDef("f", steps=[StepDef("child", step_type="sub_flow", config={"flow_name": "g"})])
        flow.sub_flows = [FlowDef("g", steps=[StepDef("a")])]
        with Engine(lambda ctx: None, traced.config()) as engine:
            result = bounded(engine.run, flow)
        assert traced.path_of("attempt a #1") == ["flow f", "step child", "flow g", "step a", "attempt a #1"]
        assert traced["flow g"].attributes["szal.execution.parent_id"] == result.execution_id

    def test_items_are_in_their_step(self, traced: Traced) -> None:
        run(traced, lambda ctx: ctx.item, StepDef("each", foreach="inputs.all"), inputs={"all": [1, 2]})
        assert traced.path_of("attempt each[1] #1") == ["flow f", "step each", "step each[1]", "attempt each[1] #1"]
        assert traced["step each[1]"].attributes["szal.step.index"] == 1
        assert traced.names.count("step each") == 1

    def test_a_wait_is_a_step(self, traced: Traced) -> None:
        run(traced, lambda ctx: None, StepDef("nap", step_type="sleep", config={"seconds": 0.02}))
        assert traced.path_of("step nap") == ["flow f", "step nap"]
        assert traced["step nap"].end_time - traced["step nap"].start_time >= 15_000_000


class TestHowItEnds:
    def test_an_exception_is_recorded_and_what_it_is_in_has_failed(self, traced: Traced) -> None:
        def handler(ctx: Any) -> None:
            raise LookupError("no such order")

        run(traced, handler, StepDef("a"), StepDef("never"))
        attempt = traced["attempt a #1"]
        (event,) = attempt.events
        assert event.name == "exception"
        assert event.attributes["exception.type"] == attempt.attributes["error.type"] == "builtins.LookupError"
        assert event.attributes["exception.message"] == "LookupError: no such order"
        assert 'raise LookupError("no such order")' in event.attributes["exception.stacktrace"]
        for name in ("attempt a #1", "step a", "flow f"):
            assert traced[name].status.status_code is StatusCode.ERROR
            assert traced[name].status.description.endswith("LookupError: no such order")
        assert traced["step never"].attributes["szal.step.status"] == "skipped"
        assert traced["step never"].attributes["szal.step.reason"] == "prior step failed"
        assert traced["step never"].status.status_code is StatusCode.UNSET
        assert traced["flow f"].attributes["szal.execution.state"] == "failed"

    def test_each_attempt_is_a_span_and_a_retry_an_event(self, traced: Traced) -> None:
        def handler(ctx: Any) -> None:
            if ctx.attempt < 3:
                raise ValueError("again")

        run(traced, handler, StepDef("a", max_retries=5, retry_delay=0.001))
        assert traced.names == ["attempt a #1", "attempt a #2", "attempt a #3", "step a", "flow f"]
        retries = [(event.name, event.attributes["szal.attempt.number"]) for event in traced["step a"].events]
        assert retries == [("retry", 1), ("retry", 2)]
        assert traced["step a"].attributes["szal.step.attempts"] == 3
        assert traced["step a"].status.status_code is StatusCode.UNSET

    def test_a_step_that_skips_itself_has_not_failed(self, traced: Traced) -> None:
        def handler(ctx: Any) -> None:
            raise SkipStep("nothing to do")

        run(traced, handler, StepDef("a"))
        assert traced["attempt a #1"].status.status_code is StatusCode.UNSET
        assert traced["step a"].attributes["szal.step.reason"] == "nothing to do"

    def test_what_is_left_behind_ends_when_nobody_waits_for_it_any_more(self, traced: Traced) -> None:
        let_go, ended = threading.Event(), threading.Event()

        def handler(ctx: Any) -> None:
            try:
                waited(let_go)
            finally:
                ended.set()

        run(traced, handler, StepDef("a", timeout=0.05))
        attempt = traced["attempt a #1"]
        assert attempt.attributes["szal.attempt.abandoned"] is True
        assert attempt.status.description == "step timeout: a after 50ms"
        let_go.set()
        waited(ended)

    def test_a_step_that_polls_keeps_nothing_of_its_calls(self, traced: Traced) -> None:
        seen = []

        def handler(ctx: Any) -> bool:
            (step,) = traced.sink._runs[ctx.execution_id]._steps.values()
            seen.append(len(step.attempts))
            return ctx.poll == 3

        run(traced, handler, StepDef("a", until="output == true", delay=0.001))
        assert traced.names == ["attempt a #1"] * 3 + ["step a", "flow f"]
        assert seen == [1, 1, 1]
        polls = [span.attributes.get("szal.attempt.poll") for span in traced._exporter.get_finished_spans()[:3]]
        assert polls == [None, 2, 3]

    def test_a_provider_that_raises_harms_nothing(self, traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(SpanProcessor):
            def on_start(self, span: Any, parent_context: Any = None) -> None:
                if span.name.startswith("attempt a") or span.name == "flow f":
                    raise RuntimeError("this processor is broken")

            def on_end(self, span: Any) -> None:
                if span.name.startswith("attempt b"):
                    raise RuntimeError("this processor is broken")

        traced.provider.add_span_processor(Broken())
        with Engine(lambda ctx: ctx.step.name, traced.config()) as engine:
            for flow in (FlowDef("f", steps=[StepDef("a")]), FlowDef("g", steps=[StepDef("a"), StepDef("b")])):
                assert bounded(engine.run, flow).success
        assert {str(record.exc_info[1]) for record in caplog.records} == {"this processor is broken"}
        assert {"step a", "step b", "flow g"} <= {*traced.names}

    def test_undos(self, traced: Traced) -> None:
        def handler(ctx: Any) -> None:
            if ctx.step.name == "fails":
                raise ValueError("no")

        run(traced, handler, StepDef("a", rollbackable=True), StepDef("fails"), rollback_on_failure=True)
        (undo,) = [name for name in traced.names if name.startswith("undo")]
        assert undo == "undo a"
        assert traced[undo].attributes["szal.step.status"] == "rolled_back"
        assert traced.path_of(undo) == ["flow f", "undo a"]
        (first, second) = [span for span in traced._exporter.get_finished_spans() if span.name == "attempt a #1"]
        assert first.parent.span_id == traced["step a"].context.span_id
        assert second.parent.span_id == traced["undo a"].context.span_id
        assert traced["flow f"].attributes["szal.execution.state"] == "rolled_back"
        assert traced["flow f"].status.status_code is StatusCode.ERROR

    def test_the_undoing_of_a_sub_flow_is_in_that_of_its_step(self, traced: Traced) -> None:
        flow = FlowDef("f", rollback_on_failure=True)
        flow.add_step(StepDef("child", step_type="sub_flow", config={"flow_name": "g"}))
        flow.add_step(StepDef("fails"))
        flow.sub_flows = [FlowDef("g", steps=[StepDef("a", rollbackable=True)])]

        def handler(ctx: Any) -> None:
            if ctx.step.name == "fails":
                raise ValueError("no")

        with Engine(handler, traced.config(rollback_handler=lambda ctx: None)) as engine:
            bounded(engine.run, flow)
        assert traced.path_of("undo a") == ["flow f", "undo child", "flow g", "undo a"]

    def test_a_cancelled_flow(self, traced: Traced) -> None:
        token = CancellationToken()
        token.cancel()
        run(traced, lambda ctx: None, StepDef("a"), cancel=token)
        assert traced["flow f"].attributes["szal.execution.state"] == "cancelled"
        assert traced["flow f"].status.description == "cancelled"

    def test_a_secret_is_nowhere(self, traced: Traced) -> None:
        def handler(ctx: Any) -> None:
            try:
                raise ValueError(f"token {ctx.inputs['token']}")
            except ValueError as error:
                raise LookupError(ctx.inputs["token"]) from error

        run(traced, handler, StepDef("a"), inputs={"token": "hunter22"})
        plain = json.dumps([span.to_json() for span in traced._exporter.get_finished_spans()])
        assert "hunter22" in plain  # it was no secret
        traced._exporter.clear()
        flow = FlowDef("f", steps=[StepDef("a")], inputs={"token": {"type": "string", "secret": True}})
        with Engine(handler, traced.config()) as engine:
            bounded(engine.run, flow, {"token": "hunter22"})
        assert len(traced.names) == 3
        assert "hunter22" not in json.dumps([span.to_json() for span in traced._exporter.get_finished_spans()])


class TestGoingOn:
    def test_after_a_pause_the_next_run_is_linked_to_the_one_before(self, traced: Traced) -> None:
        flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "go"}), StepDef("pay")])
        with open_store("memory:") as store, Engine(lambda ctx: 1, traced.config(execution_store=store)) as engine:
            bounded(engine.run, flow, execution_id="x")
            first = traced["flow f"]
            assert first.attributes["szal.execution.state"] == "paused"
            assert first.status.status_code is StatusCode.UNSET
            traced._exporter.clear()
            engine.signal("x", "go", 1)
            bounded(engine.resume, "x")
        assert [link.context.span_id for link in traced["flow f"].links] == [first.context.span_id]
        assert traced["flow f"].context.trace_id != first.context.trace_id

    def test_one_that_was_submitted_is_linked_to_what_submitted_it(self, traced: Traced) -> None:
        with open_store("memory:") as store, Engine(lambda ctx: 1, traced.config(execution_store=store)) as engine:
            with traced.provider.get_tracer("app").start_as_current_span("request"):
                engine.submit(FlowDef("f", steps=[StepDef("a")]))
            assert bounded(engine.work, until_idle=True) == 1
        assert traced["flow f"].parent is None
        assert [link.context.span_id for link in traced["flow f"].links] == [traced["request"].context.span_id]

    def test_one_that_is_left_has_ended_too(self, traced: Traced) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def handler(ctx: Any) -> None:
            begun.set()
            waited(go_on)

        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
        with open_store("memory:") as store, Engine(handler, traced.config(execution_store=store)) as engine:
            execution = engine.start(flow)
            waited(begun)
            closing = threading.Thread(target=engine.close, args=[20])
            closing.start()
            while not engine._admission.active.is_closed:
                begun.wait(0.001)
            go_on.set()
            closing.join()
            assert str(execution.result(timeout=20).state) == "running"
        assert traced["flow f"].attributes["szal.execution.left"] is True
        assert "step b" not in traced.names

    @pytest.mark.parametrize("kind", ["sqlite", "postgres"])
    def test_after_kill_9_another_process_links_its_spans_to_those_of_the_one_that_died(
        self, kind: str, tmp_path: Any, request: Any, traced: Traced
    ) -> None:
        url = f"sqlite:///{tmp_path}/szal.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
        killed_child(partial(there.run_and_die, url, str(tmp_path / "spans")), within=50)
        before = {span["name"]: span for span in map(json.loads, (tmp_path / "spans").read_text().splitlines())}
        assert {*before} == {"attempt a #1", "step a", "attempt in g #1", "step in g"}  # the others never ended
        store = open_store(url)
        with store, store.engine_sink() as sink, Engine(there.handler, traced.config(execution_store=sink)) as engine:
            assert [result.success for result in engine.recover()] == [True]
        assert traced.path_of("attempt dies #1") == ["flow f", "step child", "flow g", "step dies", "attempt dies #1"]
        for name, step in (("flow f", "step a"), ("flow g", "step in g")):
            (link,) = traced[name].links
            assert f"0x{link.context.trace_id:032x}" == before[step]["context"]["trace_id"]
            assert f"0x{link.context.span_id:016x}" == before[step]["parent_id"]


def test_where_an_executor_makes_the_attempts_their_spans_are_in_those_of_the_steps(tmp_path: Any) -> None:
    methods = get_context("forkserver" if sys.platform != "win32" else "spawn")
    with ProcessPoolExecutor(1, methods, initializer=there.export_to, initargs=[str(tmp_path / "spans")]) as pool:
        here = Traced()
        with Engine(there.elsewhere, here.config(executor=pool)) as engine:
            result = bounded(engine.run, FlowDef("f", steps=[StepDef("a")]), timeout=60)
        assert result.success
        pids = {*pool._processes}
    assert here.names == ["step a", "flow f"]
    spans = [json.loads(line) for line in (tmp_path / "spans").read_text().splitlines()]
    assert [span["name"] for span in spans] == ["in the handler", "attempt a #1"]
    assert result["a"].output in pids
    assert spans[0]["parent_id"] == spans[1]["context"]["span_id"]
    assert spans[1]["parent_id"] == f"0x{here['step a'].context.span_id:016x}"
    assert spans[1]["context"]["trace_id"] == f"0x{here['flow f'].context.trace_id:032x}"


def test_without_the_api_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "szal.contrib.otel")
    with pytest.raises(MissingExtra, match=r'szal.contrib.otel needs .* pip install "szal\[otel\]"'):
        importlib.import_module("szal.contrib.otel")
