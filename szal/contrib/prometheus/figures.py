"""The metrics of what is no event: what engines and their sinks tell when they are asked."""

import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Final, Literal, TypeAlias

import attrs
from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

from szal import process_events
from szal.distribution import Distribution
from szal.engine.engine import Engine
from szal.engine.stats import EngineStats
from szal.stores.sink.stats import BATCH_SIZES, COMMIT_SECONDS, SinkStats
from szal.waiters import Flag

__all__ = ["Figures", "observe"]


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


class Figures(Collector):
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
        process_events.enroll_renewal(self, Figures._begin_anew)

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
                observe(self._sizes, stats.batch_sizes, known and known.batch_sizes)
                observe(self._seconds, stats.commit_seconds, known and known.commit_seconds)
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


def _keep_up(figures: "weakref.ref[Figures]", gone: Flag, interval: float) -> None:
    while not gone.wait(interval):
        found = figures()
        if found is None or not found.is_needed():
            return
        del found


def observe(histogram: Histogram, now: Distribution, before: Distribution | None) -> None:
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
