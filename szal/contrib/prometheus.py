"""Metrics of engines for Prometheus, with the extra ``szal[prometheus]``: see docs/observe.md."""

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final, Literal, TypeAlias

import attrs

from szal import process_events
from szal.distribution import Distribution
from szal.engine.engine import Engine
from szal.engine.stats import EngineStats
from szal.events.bus import EventType, WorkflowEvent
from szal.stores.sink.stats import BATCH_SIZES, COMMIT_SECONDS, SinkStats
from szal.waiters import Flag

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        REGISTRY,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        Metric,
        generate_latest,
    )
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "prometheus_client":
        raise
    told = 'szal.contrib.prometheus needs prometheus-client: pip install "szal[prometheus]"'
    raise ModuleNotFoundError(told, name="prometheus_client") from None

__all__ = ["PrometheusSink"]

_BUCKETS: Final = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
_OTHER: Final = "other"
_Note: TypeAlias = Callable[[WorkflowEvent], object]


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
        self._flows, self._step_types = _Names(max_flows), _Names(max_step_types)
        self._events = _Events(registry, tuple(buckets))
        self._notes: dict[tuple[EventType, str, str], _Note] = {}
        self._figures = _Figures(interval if self._is_multiprocess else None)
        registry.register(self._figures)

    def __call__(self, event: WorkflowEvent) -> None:
        """Count *event*. Called by engines."""
        key = event.event_type, self._flows[event.flow_name], self._step_types[event.step_type or "default"]
        note = self._notes.get(key)
        if note is None:
            note = self._notes[key] = self._note(*key)
        note(event)

    def _note(self, event_type: EventType, flow: str, step_type: str) -> _Note:
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


class _Names:
    """The values of a label: the first so many, and one for all others."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"at least one name must be told apart, not {limit}")
        self._limit = limit
        self._known: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        known = self._known.get(name)
        if known is None:
            known = _OTHER if len(self._known) >= self._limit else self._known.setdefault(name, name)
        return known


class _Events:
    """The metrics that events are counted in."""

    def __init__(self, registry: CollectorRegistry, buckets: tuple[float, ...]) -> None:
        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(f"szal_{name}", told, labels, registry=registry)

        def seconds(name: str, told: str, *labels: str) -> Histogram:
            return Histogram(f"szal_{name}_seconds", told, labels, registry=registry, buckets=buckets)

        self._executions = counter("executions", "Executions that ended, or paused, by state.", "flow", "state")
        self._steps = counter("steps", "Steps that ended, or were undone, by status.", "flow", "step_type", "status")
        told = "From an execution's start to its end, waits included."
        self._execution_seconds = seconds("execution", told, "flow")
        told = "From the first attempt of a step to its end, waits included."
        self._step_seconds = seconds("step", told, "flow", "step_type")
        self._retries = counter("retries", "Attempts that failed and were followed by another one.")
        self._timeouts = counter("timeouts", "Attempts that ran past their limit.")
        self._undo_failures = counter("undo_failures", "Steps that could not be undone.")

    def of_execution(self, flow: str, state: str) -> _Note:
        """Return what counts an execution that has ended in *state*."""
        count, seconds = self._executions.labels(flow, state).inc, self._execution_seconds.labels(flow).observe
        has_ended = state != "paused"

        def note(event: WorkflowEvent) -> None:
            count()
            if has_ended and event.duration is not None:
                seconds(event.duration)

        return note

    def of_step(self, flow: str, step_type: str, status: str) -> _Note:
        """Return what counts a step that has ended so; what becomes of an item is no step's end."""
        count, undo_failed = self._steps.labels(flow, step_type, status).inc, self._undo_failures.inc
        seconds = self._step_seconds.labels(flow, step_type).observe
        has_run, is_undo = status in ("completed", "failed"), status == "rolled_back"

        def note(event: WorkflowEvent) -> None:
            if event.index is not None:
                return
            if is_undo and event.error is not None:
                undo_failed()
                return
            count()
            if has_run and event.duration is not None:
                seconds(event.duration)

        return note

    def of_attempt(self, event_type: EventType) -> _Note:
        """Return what counts that an attempt has failed, be that of an item."""
        counter = {"step_retry": self._retries, "step_timeout": self._timeouts}.get(event_type)
        return (lambda _: None) if counter is None else (lambda _: counter.inc())


@attrs.frozen
class _Figure:
    """A figure that is no event: *read* from the stats of engines, or of sinks."""

    name: str
    told: str
    read: Callable[[Any], float]
    is_total: bool = False
    """Whether it only grows."""
    of_all: Callable[[Iterable[float]], float] = sum
    """What several come to together."""

    def metric(self) -> Counter | Gauge:
        """Return what tells it, in several processes of those that live."""
        if self.is_total:
            return Counter(f"szal_{self.name}", self.told, registry=None)
        mode: Literal["livesum", "livemax"] = "livesum" if self.of_all is sum else "livemax"
        return Gauge(f"szal_{self.name}", self.told, registry=None, multiprocess_mode=mode)


_total = partial(_Figure, is_total=True)
_OF_ENGINES: Final = (
    _Figure("running_executions", "Executions that run now.", attrgetter("running")),
    _Figure("waiting_steps", "Steps of these that wait for a signal or a time.", attrgetter("waiting")),
    _Figure("workers", "Threads that make attempts.", attrgetter("workers")),
    _Figure("busy_workers", "Those of them that have one.", attrgetter("busy")),
    _Figure("queued_attempts", "Attempts that wait for such a thread.", attrgetter("queued")),
    _total("abandoned", "Handlers that were left behind, as they ran past their time.", attrgetter("abandoned")),
    _total("recoveries", "Executions that were interrupted, and gone on with.", attrgetter("recoveries")),
    _total("lease_renewals", "Leases that were renewed.", attrgetter("lease_renewals")),
    _total("lease_renewal_failures", "Times that leases could not be renewed.", attrgetter("lease_failures")),
    _total("lease_losses", "Runs that another process has taken over.", attrgetter("lease_losses")),
)
_OF_SINKS: Final = (
    _Figure("sink_pending_writes", "Writes that are queued, and not committed yet.", attrgetter("pending")),
    _Figure("sink_lag_seconds", "For how long the first of these has been tried.", attrgetter("lag"), of_all=max),
    _total("sink_writes", "Writes that were committed.", attrgetter("written")),
    _total("sink_failed_writes", "Writes that were lost for good.", attrgetter("failed")),
    _total("sink_retries", "Batches that were tried again.", attrgetter("retries")),
)
_Stats: TypeAlias = Mapping[Any, EngineStats | SinkStats]
"""By engine, or by sink."""


class _Figures(Collector):
    """The metrics of what is no event: what engines and their sinks tell when they are asked.

    Engines are held weakly. What has been counted of one that is gone stays counted.
    """

    def __init__(self, interval: float | None) -> None:
        self._interval = interval
        """Where other processes tell of them: in how many seconds they are read."""
        self._of_engines = [(figure, figure.metric()) for figure in _OF_ENGINES]
        self._of_sinks = [(figure, figure.metric()) for figure in _OF_SINKS]
        told = "Writes that were committed together."
        self._sizes = Histogram("szal_sink_batch_writes", told, registry=None, buckets=BATCH_SIZES)
        told = "Until a batch of writes was committed, retries included."
        self._seconds = Histogram("szal_sink_commit_seconds", told, registry=None, buckets=COMMIT_SECONDS)
        self._begin_anew()
        process_events.enroll_renewal(self, _Figures._begin_anew)

    def _begin_anew(self) -> None:
        """Begin with nothing, also in a process that was forked: what engines did in its parent is the parent's."""
        self._lock = threading.Lock()  # guards the three below, and that nothing is counted twice
        self._engines = weakref.WeakSet[Engine](getattr(self, "_engines", ()))
        self._known = weakref.WeakKeyDictionary[Any, Any]()  # what was told of each engine and sink
        self._thread: threading.Thread | None = None

    def add(self, engine: Engine) -> None:
        """Ask *engine* from now on."""
        with self._lock:
            self._engines.add(engine)
        self.keep_up()

    def remove(self, engine: Engine) -> None:
        """Ask it a last time."""
        self.refresh()
        with self._lock:
            self._engines.discard(engine)

    def describe(self) -> Iterable[Metric]:
        """Return the metrics, without asking anybody."""
        return [told for metric in self._metrics() for told in metric.describe()]

    def collect(self) -> Iterator[Metric]:
        """Ask, and return the metrics as they stand then."""
        self.refresh()
        return (told for metric in self._metrics() for told in metric.collect())

    def _metrics(self) -> list[Counter | Gauge | Histogram]:
        return [*(metric for _, metric in (*self._of_engines, *self._of_sinks)), self._sizes, self._seconds]

    def refresh(self) -> None:
        """Ask all, and count what is new."""
        with self._lock:
            engines = {engine: engine.stats() for engine in self._engines}
            sinks = {each.config.execution_store: stats.sink for each, stats in engines.items() if stats.sink}
            for figure, metric in self._of_engines:
                self._tell(figure, metric, engines)
            for figure, metric in self._of_sinks:
                self._tell(figure, metric, sinks)
            for sink, stats in sinks.items():
                known = self._known.get(sink)
                _observe(self._sizes, stats.batch_sizes, known and known.batch_sizes)
                _observe(self._seconds, stats.commit_seconds, known and known.commit_seconds)
            self._known.update(engines)
            self._known.update(sinks)

    def _tell(self, figure: _Figure, metric: Counter | Gauge, stats: _Stats) -> None:
        now = figure.of_all([0, *map(figure.read, stats.values())])
        if isinstance(metric, Gauge):
            metric.set(now)
        else:
            before = (self._known[each] for each in stats if each in self._known)
            metric.inc(max(0, now - sum(map(figure.read, before))))

    # -- where other processes tell of them -------------------------------------------------------------

    def keep_up(self, _: object = None) -> None:
        """Have them read every so often, while there are engines, where nobody asks this process."""
        if self._interval is None or self._thread is not None:
            return
        gone = Flag()
        me = weakref.ref(self, lambda _: gone.set())
        thread = threading.Thread(target=_keep_up, args=(me, gone, self._interval), name="szal-metrics", daemon=True)
        with self._lock:
            if self._thread is None:
                thread.start()
                self._thread = thread

    def is_needed(self) -> bool:
        """Read them; return whether there are engines left. If not, the thread that asks is told of no more."""
        self.refresh()
        with self._lock:
            if not self._engines:
                self._thread = None
            return self._thread is not None


def _keep_up(figures: "weakref.ref[_Figures]", gone: Flag, interval: float) -> None:
    while not gone.wait(interval):
        found = figures()
        if found is None or not found.is_needed():
            return
        del found


def _observe(histogram: Histogram, now: Distribution, before: Distribution | None) -> None:
    """Have *histogram* see what is new: as many as there are in each bucket, which come to what they do together."""
    known = before or Distribution(now.bounds, (0,) * len(now.counts), (0,) * len(now.counts))
    lowest = (-math.inf, *now.bounds)
    for bucket, (low, high) in enumerate(zip(lowest, (*now.bounds, math.inf), strict=True)):
        count = now.counts[bucket] - known.counts[bucket]
        if count > 0:
            mean = (now.sums[bucket] - known.sums[bucket]) / count
            mean = min(max(mean, math.nextafter(low, math.inf)), high)  # where rounding leads out of the bucket
            for _ in range(count):
                histogram.observe(mean)
