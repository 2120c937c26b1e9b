"""Spans of other processes, as tests look at them: each that ends is a line of a file."""

import os
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from szal import Engine, EngineConfig, FlowDef, StepDef
from szal.contrib.otel import OpenTelemetrySink


def _as_line(span: ReadableSpan) -> str:
    return span.to_json(indent=None) + "\n"


def export_to(path: str) -> None:
    """Have the global tracer provider of this process write spans there."""
    provider = TracerProvider()
    file = Path(path).open("a", buffering=1)  # noqa: SIM115 (for as long as the process lives)
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=file, formatter=_as_line)))
    trace.set_tracer_provider(provider)


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


def run_and_die(sink: Any, die: Any) -> None:
    """Run that flow until its process kills itself."""
    tracing = OpenTelemetrySink()

    def dying(ctx: Any) -> str:
        if ctx.step.name == "dies":
            die()
        return handler(ctx)

    config = EngineConfig(execution_store=sink, event_sink=tracing, around=[tracing.around])
    Engine(dying, config).run(flow())
