"""What engines hand their events to, and open and close with."""

import os
from collections.abc import Sequence
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from szal.contrib.prometheus.events import Events, Names, Note
from szal.contrib.prometheus.figures import Figures
from szal.engine.engine import Engine
from szal.events.bus import EventType, WorkflowEvent

__all__ = ["PrometheusSink"]

_BUCKETS: Final = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)


class PrometheusSink:
    """Counts what engines do, in *registry*: `EngineConfig(event_sink=PrometheusSink())`. Several engines may share it.

    docs/observe.md lists the metrics. What is no event, as what a sink has pending, is read from `Engine.stats` when
    the registry is collected. Where ``PROMETHEUS_MULTIPROC_DIR`` is set, each process writes it there every *interval*
    seconds, on a daemon thread that there is while engines are.

    The first *max_flows* names of flows and *max_step_types* types of steps are told apart, in each process; the others
    are "other". *buckets* are the bounds of the durations, in seconds.

    >>> from prometheus_client import CollectorRegistry
    >>> from szal import Engine, EngineConfig, FlowDef, StepDef
    >>> sink = PrometheusSink(CollectorRegistry())
    >>> with Engine(lambda ctx: None, EngineConfig(event_sink=sink)) as engine:
    ...     _ = engine.run(FlowDef("nightly", steps=[StepDef("fetch")]))
    >>> page, content_type = sink.exposition()
    >>> [line for line in page.decode().splitlines() if line.startswith("szal_executions_total")]
    ['szal_executions_total{flow="nightly",state="completed"} 1.0']
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        max_flows: int = 100,
        max_step_types: int = 50,
        buckets: Sequence[float] = _BUCKETS,
        interval: float = 5.0,
    ) -> None:
        if not interval > 0:
            raise ValueError(f"interval must be positive, and is {interval}")
        self._registry = registry
        self._is_multiprocess = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self._flows, self._step_types = Names(max_flows), Names(max_step_types)
        self._events = Events(registry, tuple(buckets))
        self._notes: dict[tuple[EventType, str, str], Note] = {}
        self._figures = Figures(interval if self._is_multiprocess else None)
        registry.register(self._figures)

    def __call__(self, event: WorkflowEvent) -> None:
        """Count *event*. Called by engines."""
        key = event.event_type, self._flows[event.flow_name], self._step_types[event.step_type or "default"]
        note = self._notes.get(key)
        if note is None:
            note = self._notes[key] = self._note(*key)
        note(event)

    def _note(self, event_type: EventType, flow: str, step_type: str) -> Note:
        subject, _, happened = event_type.partition("_")
        if event_type == "flow_started":
            return self._figures.keep_up
        if happened in ("started", "retry", "timeout"):
            return self._events.of_attempt(event_type)
        if subject == "flow":
            return self._events.of_execution(flow, happened)
        return self._events.of_step(flow, step_type, "rolled_back" if happened == "rollback" else happened)

    def engine_opened(self, engine: Engine) -> None:
        """Read the figures of *engine* from now on. Called by engines."""
        self._figures.add(engine)

    def engine_closed(self, engine: Engine) -> None:
        """Read them a last time. Called by engines."""
        self._figures.remove(engine)

    def exposition(self) -> tuple[bytes, str]:
        """Return the page for Prometheus to scrape, and its content type: all of the registry, of all processes."""
        if not self._is_multiprocess:
            return generate_latest(self._registry), CONTENT_TYPE_LATEST
        self._figures.refresh()
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone), CONTENT_TYPE_LATEST
