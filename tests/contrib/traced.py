"""Spans of other processes, as tests look at them: each that ends is a line of a file."""

import os
import signal
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from szal import Engine, EngineConfig, FlowDef, StepDef
from szal.contrib.otel import OpenTelemetrySink
from szal.stores import open_store


def _as_line(span: ReadableSpan) -> str:
    return span.to_json(indent=None) + "\n"


def exporter_to(path: str) -> TracerProvider:
    """Return a tracer provider that writes spans there."""
    provider = TracerProvider(shutdown_on_exit=False)
    file = Path(path).open("a", buffering=1)  # noqa: SIM115 (for as long as the process lives)
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=file, formatter=_as_line)))
    return provider


def export_to(path: str) -> None:
    """Have the global tracer provider of this process do so."""
    trace.set_tracer_provider(exporter_to(path))


def elsewhere(ctx: Any) -> int:
    """Do a step in the process of an executor."""
    with trace.get_tracer("library").start_as_current_span("in the handler"):
        return os.getpid()


def handler(ctx: Any) -> str:
    """Do a step."""
    return str(ctx.step.name)


def flow() -> FlowDef:
    """Return a flow whose sub-flow is under way, after a step of each, when the process dies."""
    found = FlowDef("f", steps=[StepDef("a"), StepDef("child", step_type="sub_flow", config={"flow_name": "g"})])
    found.sub_flows = [FlowDef("g", steps=[StepDef("in g"), StepDef("dies")])]
    return found


def run_and_die(url: str, path: str) -> None:
    """Run that flow until this process kills itself, with its spans written to *path*."""
    tracing = OpenTelemetrySink(exporter_to(path))
    sink = open_store(url).engine_sink()

    def dying(ctx: Any) -> str:
        if ctx.step.name == "dies":
            sink.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return handler(ctx)

    config = EngineConfig(execution_store=sink, event_sink=tracing, around=[tracing.around])
    Engine(dying, config).run(flow())
