"""What PrometheusSink counts, what it asks engines for, and what several processes come to together."""

import gc
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from contrib.sites import environment
from helper_engine import bounded, waited
from processes import wait_until
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from web import ask, send, served

from szal import CancellationToken, Engine, EngineConfig, FlowDef, FlowMode, Handlers, MissingExtra, StepDef
from szal.contrib.prometheus import PrometheusSink
from szal.distribution import Distribution
from szal.stores import open_store

SITE = Path(__file__).with_name("metrics_site.py")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def sink(registry: CollectorRegistry) -> PrometheusSink:
    return PrometheusSink(registry)


def handler(ctx: Any) -> Any:
    if ctx.step.name.startswith("flaky") and ctx.attempt < 3:
        raise ValueError("again")
    if ctx.step.name.startswith("fails"):
        raise ValueError("no")
    if ctx.step.name == "hangs":
        waited(ctx.inputs["let_go"])
    return ctx.step.name


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    """What a step that hangs waits for."""
    event = threading.Event()
    yield event
    event.set()


def run(
    sink: PrometheusSink,
    *steps: StepDef,
    cancel: CancellationToken | None = None,
    inputs: dict[str, Any] | None = None,
    **flow: Any,
) -> None:
    """Run a flow "f"."""
    config = EngineConfig(event_sink=sink, rollback_handler=lambda ctx: None)
    with Engine(handler, config) as engine:
        bounded(engine.run, FlowDef("f", steps=steps, **flow), inputs, cancel=cancel)


def values(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a metric that there are, by its labels."""
    samples = (sample for metric in registry.collect() for sample in metric.samples)
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}


class TestEvents:
    def test_steps_by_type_and_status_and_attempts(self, sink: PrometheusSink, registry: CollectorRegistry) -> None:
        flaky = StepDef("flaky", step_type="http", max_retries=3, retry_delay=0)
        run(sink, flaky, StepDef("not", condition="false"), StepDef("fails"), StepDef("never"))
        assert values(registry, "szal_steps_total") == {
            ("f", "http", "completed"): 1,
            ("f", "default", "skipped"): 2,
            ("f", "default", "failed"): 1,
        }
        assert values(registry, "szal_step_seconds_count") == {("f", "http"): 1, ("f", "default"): 1}
        assert values(registry, "szal_retries_total") == {(): 2}
        assert values(registry, "szal_executions_total") == {("f", "failed"): 1}
        assert values(registry, "szal_execution_seconds_count") == {("f",): 1}

    def test_time_outs_and_what_is_left_behind(
        self, sink: PrometheusSink, registry: CollectorRegistry, let_go: threading.Event
    ) -> None:
        run(sink, StepDef("hangs", timeout=0.05), inputs={"let_go": let_go})
        assert values(registry, "szal_timeouts_total") == {(): 1}
        assert values(registry, "szal_abandoned_total") == {(): 1}

    def test_states_are_in_snake_case(self, sink: PrometheusSink, registry: CollectorRegistry) -> None:
        run(sink, StepDef("a", rollbackable=True), StepDef("fails"), rollback_on_failure=True)
        token = CancellationToken()
        token.cancel()
        run(sink, StepDef("a"), cancel=token)
        assert values(registry, "szal_executions_total") == {("f", "rolled_back"): 1, ("f", "cancelled"): 1}
        assert values(registry, "szal_steps_total")["f", "default", "rolled_back"] == 1

    def test_what_cannot_be_undone(self, sink: PrometheusSink, registry: CollectorRegistry) -> None:
        config = EngineConfig(event_sink=sink, rollback_handler=lambda ctx: 1 / 0)
        flow = FlowDef("f", steps=[StepDef("a", rollbackable=True), StepDef("fails")], rollback_on_failure=True)
        with Engine(handler, config) as engine:
            bounded(engine.run, flow)
        assert values(registry, "szal_undo_failures_total") == {(): 1}
        assert values(registry, "szal_steps_total")["f", "default", "rolled_back"] == 0

    def test_a_pause_is_counted_and_is_no_end(self, sink: PrometheusSink, registry: CollectorRegistry) -> None:
        flow = FlowDef("f", steps=[StepDef("ask", step_type="wait", config={"signal": "go"})])
        config = EngineConfig(execution_store=open_store("memory:"), event_sink=sink)
        with Engine(Handlers(), config) as engine:
            bounded(engine.run, flow, execution_id="x")
            assert values(registry, "szal_execution_seconds_count") == {("f",): 0}
            engine.signal("x", "go", 1)
            bounded(engine.resume, "x")
        assert values(registry, "szal_executions_total") == {("f", "paused"): 1, ("f", "completed"): 1}
        assert values(registry, "szal_execution_seconds_count") == {("f",): 1}

    def test_a_step_over_a_list_is_one_step_and_its_items_attempts_count(
        self, sink: PrometheusSink, registry: CollectorRegistry
    ) -> None:
        flow = FlowDef("f", steps=[StepDef("flaky", foreach="inputs.all", max_retries=3, retry_delay=0)])
        with Engine(handler, EngineConfig(event_sink=sink)) as engine:
            assert bounded(engine.run, flow, {"all": [1, 2, 3]}).success
        assert values(registry, "szal_steps_total") == {("f", "default", "completed"): 1}
        assert values(registry, "szal_retries_total") == {(): 6}

    def test_names_beyond_the_limit_are_one(self, registry: CollectorRegistry) -> None:
        sink = PrometheusSink(registry, max_flows=2, max_step_types=1)
        with Engine(handler, EngineConfig(event_sink=sink)) as engine:
            for number in range(5):
                bounded(engine.run, FlowDef(f"f{number}", steps=[StepDef("a", step_type=f"t{number}")]))
        done = {("f0", "completed"): 1, ("f1", "completed"): 1, ("other", "completed"): 3}
        assert values(registry, "szal_executions_total") == done
        assert {flow for flow, *_ in values(registry, "szal_steps_total")} == {"f0", "f1", "other"}
        assert len(sink._notes) < 20

    def test_many_threads_at_once_are_all_counted(self, sink: PrometheusSink, registry: CollectorRegistry) -> None:
        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
        with Engine(handler, EngineConfig(event_sink=sink)) as engine, ThreadPoolExecutor(8) as callers:
            assert all(result.success for result in callers.map(lambda _: engine.run(flow), range(40)))
        assert values(registry, "szal_executions_total") == {("f", "completed"): 40}
        assert values(registry, "szal_steps_total") == {("f", "default", "completed"): 80}
        assert values(registry, "szal_step_seconds_count") == {("f", "default"): 80}

    def test_a_secret_is_nowhere(self, sink: PrometheusSink) -> None:
        def telling(ctx: Any) -> None:
            raise ValueError(ctx.inputs["token"])

        flow = FlowDef("f", steps=[StepDef("a")], inputs={"token": {"type": "string", "secret": True}})
        with Engine(telling, EngineConfig(event_sink=sink)) as engine:
            bounded(engine.run, flow, {"token": "hunter22"})
        assert b"hunter22" not in sink.exposition()[0]


class TestFigures:
    def test_what_runs_now_is_read_when_it_is_asked_for(
        self, sink: PrometheusSink, registry: CollectorRegistry
    ) -> None:
        begun, go_on = threading.Barrier(3), threading.Event()

        def holding(ctx: Any) -> None:
            begun.wait(20)
            waited(go_on)

        flow = FlowDef("f", FlowMode.PARALLEL, steps=[StepDef("a"), StepDef("b")])
        with Engine(holding, EngineConfig(event_sink=sink)) as engine:
            execution = engine.start(flow)
            begun.wait(20)
            try:
                assert values(registry, "szal_running_executions") == {(): 1}
                assert values(registry, "szal_busy_workers") == values(registry, "szal_workers") == {(): 2}
            finally:
                go_on.set()
            execution.result(timeout=20)
        assert values(registry, "szal_running_executions") == {(): 0}

    def test_what_sinks_have_written_is_counted_once_however_many_engines_write(
        self, sink: PrometheusSink, registry: CollectorRegistry
    ) -> None:
        flow = FlowDef("f", steps=[StepDef("a"), StepDef("b")])
        with open_store("memory:") as store, store.engine_sink() as one, store.engine_sink() as other:
            engines = [
                Engine(handler, EngineConfig(execution_store=each, event_sink=sink)) for each in (one, one, other)
            ]
            for engine in engines:
                bounded(engine.run, flow)
                list(registry.collect())  # as often as anybody likes
            written = one.stats().written + other.stats().written
            both = [one.stats().commit_seconds, other.stats().commit_seconds]
            assert values(registry, "szal_sink_writes_total") == {(): written}
            assert values(registry, "szal_sink_batch_writes_sum")[()] == written
            assert values(registry, "szal_sink_commit_seconds_count") == {(): both[0].count + both[1].count}
            assert values(registry, "szal_sink_commit_seconds_sum")[()] == pytest.approx(both[0].total + both[1].total)
            assert values(registry, "szal_sink_pending_writes") == {(): 0}

    def test_each_bucket_has_what_the_sink_says(self, sink: PrometheusSink, registry: CollectorRegistry) -> None:
        from szal.contrib.prometheus.figures import observe
        from szal.stores.sink.stats import BATCH_SIZES

        counts = (3, 0, 7, *[0] * (len(BATCH_SIZES) - 3), 1)
        sums = (3.0, 0.0, 35.0, *[0.0] * (len(BATCH_SIZES) - 3), 1e6)  # on the bounds of their buckets, and beyond
        observe(sink._figures._sizes, Distribution(BATCH_SIZES, counts, sums), None)
        found = values(registry, "szal_sink_batch_writes_bucket")
        assert [found[bound,] for bound in ("1.0", "2.0", "5.0", "1000.0", "+Inf")] == [3, 3, 10, 10, 11]
        assert values(registry, "szal_sink_batch_writes_sum") == {(): 1e6 + 38}

    def test_an_engine_that_is_gone_stays_counted_and_is_not_kept(
        self, sink: PrometheusSink, registry: CollectorRegistry, let_go: threading.Event
    ) -> None:
        run(sink, StepDef("hangs", timeout=0.01), inputs={"let_go": let_go})
        engine = Engine(handler, EngineConfig(event_sink=sink))
        bounded(engine.run, FlowDef("f", steps=[StepDef("hangs", timeout=0.01)]), {"let_go": let_go})
        assert values(registry, "szal_abandoned_total") == {(): 2}
        del engine
        gc.collect()
        assert not [*sink._figures._engines]
        assert values(registry, "szal_abandoned_total") == {(): 2}

    def test_an_engine_that_is_closed_before_anybody_asks_has_been_counted(
        self, sink: PrometheusSink, registry: CollectorRegistry
    ) -> None:
        with Engine.open("memory:", handler, event_sink=sink) as engine:
            bounded(engine.run, FlowDef("f", steps=[StepDef("a")]))
        del engine
        gc.collect()
        assert values(registry, "szal_sink_writes_total")[()] > 0


def problems_of(metric: Metric) -> Iterator[str]:
    """Yield what promtool would object to."""
    name = metric.name + ("_total" if metric.type == "counter" else "")
    if not re.fullmatch(r"szal_[a-z]+(_[a-z]+)*", name):
        yield f"{name}: no name in snake case"
    if not metric.documentation:
        yield f"{name}: no help"
    if any(
        word in name.split("_") for word in ("milliseconds", "ms", "minutes", "hours", "counter", "gauge", "histogram")
    ):
        yield f"{name}: no base unit, or its type in its name"
    if metric.type != "counter" and re.search(r"_(total|count|sum|bucket|info|created)$", name):
        yield f"{name}: the end of another type's name"
    labels = {label for sample in metric.samples for label in sample.labels}
    if not labels <= {"flow", "step_type", "status", "state", "le"}:
        yield f"{name}: {labels}"


def test_names_and_units_are_as_prometheus_has_them(sink: PrometheusSink) -> None:
    run(sink, StepDef("a"))
    page, content_type = sink.exposition()
    assert content_type.startswith("text/plain")
    metrics = [metric for metric in text_string_to_metric_families(page.decode()) if metric.name.startswith("szal_")]
    metrics = [metric for metric in metrics if not metric.name.endswith("_created")]
    assert len(metrics) > 20
    assert [problem for metric in metrics for problem in problems_of(metric)] == []


@pytest.mark.parametrize("setting", [{"max_flows": 0}, {"max_step_types": 0}, {"interval": 0}])
def test_a_setting_that_makes_no_sense_is_refused(setting: Any, registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match=r"must be|at least one"):
        PrometheusSink(registry, **setting)


def test_under_gunicorn_all_processes_are_one_and_what_a_killed_one_has_counted_stays(tmp_path: Path) -> None:
    files = tmp_path / "metrics"
    files.mkdir()
    conf = tmp_path / "conf.py"
    conf.write_text(
        "from prometheus_client import multiprocess\n"
        "def child_exit(server, worker):\n"
        "    multiprocess.mark_process_dead(worker.pid)\n"
    )
    options = ["--workers=2", "--graceful-timeout=10", "--chdir", str(SITE.parent), "-c", str(conf)]
    variables = environment(tmp_path, SZAL_STORE=f"sqlite:///{tmp_path}/szal.db", PROMETHEUS_MULTIPROC_DIR=str(files))
    with served("metrics_site:app", *options, place=tmp_path, environment=variables) as address:
        pids: list[int] = []

        def told(name: str) -> dict[tuple[str, ...], float]:
            metrics = text_string_to_metric_families(send(address, "GET", "/metrics").text)
            samples = (sample for metric in metrics for sample in metric.samples)
            return {tuple(sample.labels.values()): sample.value for sample in samples if sample.name == name}

        def order() -> int:
            pids.append(ask(address, "POST", "/orders")["pid"])
            return len({*pids})

        wait_until(lambda: order() == 2, 30)
        assert told("szal_executions_total") == {("order", "completed"): len(pids)}
        wait_until(lambda: told("szal_sink_batch_writes_count")[()] >= len(pids), 20)  # of the other one, too
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: not [*files.glob(f"gauge_live*_{pids[0]}.db")], 20)
        assert told("szal_executions_total") == {("order", "completed"): len(pids)}
        order()
        assert told("szal_executions_total") == {("order", "completed"): len(pids)}
        wait_until(lambda: told("szal_running_executions") == {(): 0}, 20)  # what a process wrote last may be older


def test_without_prometheus_client_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "szal.contrib.prometheus")
    with pytest.raises(MissingExtra, match=r'szal.contrib.prometheus needs .* pip install "szal\[prometheus\]"'):
        importlib.import_module("szal.contrib.prometheus")
