"""What steps under way report, kept for whoever looks: the last of each, written by a thread that no run waits for.

And that they have begun, where that was a while ago: what is quick costs nothing.
"""

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, cast

from szal import clock, process_events
from szal.clock import monotonic
from szal.errors import StoreClosed, StoreError
from szal.events.progress import InBulk, Printed, StepProgress
from szal.expressions.path import Json
from szal.logs import SafeLogger, Trouble
from szal.model.results import StepReport
from szal.storable import repr_of
from szal.stores.ledger import Lease, Ledger, Report
from szal.waiters import Flag

__all__ = ["Shared", "Sharing", "report_of"]

logger = SafeLogger(logging.getLogger(__name__))

_EVERY: Final = 1.0
"""Seconds between two writes of what one step reports."""

_LONGEST: Final = 65_536
"""Characters of what is written of a report, as JSON."""


class Shared:
    """What the steps of one execution have reported last; it is the progress sink of its run, before the engine's own.

    Any thread reports. Each change is one atomic operation.
    """

    def __init__(self, sharing: "Sharing | None", execution_id: str, epoch: int, heard: Callable[[], object]) -> None:
        self.execution_id = execution_id
        self._sharing = sharing
        self._epoch = epoch
        self._heard = heard
        self._last: dict[str, StepReport] = {}  # by step
        self.has_ended: Callable[[str], bool] = lambda _: False
        """Whether a step has its result, or counts no more."""

    def into(self, sink: Callable[[StepProgress], object] | None) -> Callable[[StepProgress], object]:
        """Return what keeps a report and hands it to *sink*; of what commands print, as much at once as that takes."""

        def keep(progress: StepProgress) -> None:
            self._keep(progress)
            if sink is not None:
                sink(progress)

        return InBulk(keep) if sink is None or isinstance(sink, InBulk) else keep

    def _keep(self, progress: StepProgress) -> None:
        data = progress.data
        if isinstance(data, Printed):
            *_, data = data.lines()
        report = StepReport(cast(Json, data), clock.utc_now(), progress.index)
        self._last[progress.step_name] = report
        if self._sharing is not None:
            self._sharing.put(_Key(self, progress.step_name), report)
        self._heard()

    def of(self, step_name: str) -> StepReport | None:
        """Return what a step has reported last."""
        return self._last.get(step_name)

    def row(self, step_name: str, report: StepReport) -> Report:
        """Return what is written of it."""
        seconds = report.reported_at.timestamp()
        return Report(self.execution_id, step_name, self._epoch, seconds, _encoded(report.data), report.index)

    def follow(self, news: Callable[[], str | None], lost: Callable[[], None]) -> None:
        """Have it told, from now on, which steps have begun: what *news* returns of that, if it is not None.

        *lost* is called where that could not be written.
        """
        if self._sharing is not None:
            self._sharing.follow(self, Source(Lease(self.execution_id, self._epoch), news, lost))

    def close(self) -> None:
        """Have what was written forgotten: the run is over, or goes on elsewhere."""
        self.has_ended = lambda _: True
        if self._sharing is not None:
            self._sharing.leave(self)
            if self._last or self._epoch > 1:
                self._sharing.end(self.execution_id if self._epoch > 1 else None)


class Source(NamedTuple):
    """Who tells which steps of an execution have begun, under its lease."""

    lease: Lease
    news: Callable[[], str | None]
    lost: Callable[[], None]


class _Key(NamedTuple):
    """A step of a run."""

    shared: Shared
    step_name: str

    @property
    def is_over(self) -> bool:
        return self.shared.has_ended(self.step_name)


class Sharing:
    """Writes what is to be shared by the runs of one engine, on a thread that is there while something is."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        process_events.enroll_renewal(self, Sharing._begin_anew)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """In a process that was forked: what the parent runs, that shares."""
        self._pending: dict[_Key, StepReport] = {}  # by atomic operations only
        self._written: dict[_Key, float] = {}  # when; the thread's own
        self._sources: dict[Shared, Source] = {}  # by atomic operations only
        self._taken_over: set[str] = set()  # executions that are over, and had another owner; by atomic operations
        self._thread: threading.Thread | None = None
        self._has_ended = Flag()

    def put(self, key: "_Key", report: StepReport) -> None:
        """Have a report written soon, in the place of the one before. Waits for nothing."""
        self._pending[key] = report
        self._look()

    def follow(self, shared: "Shared", source: Source) -> None:
        """Have it told which steps of a run have begun, until `leave`. Waits for nothing."""
        self._sources[shared] = source
        self._look()

    def leave(self, shared: "Shared") -> None:
        """Tell nothing more of a run: it is over."""
        self._sources.pop(shared, None)

    def end(self, execution_id: str | None) -> None:
        """Have it seen at once what has ended; of that execution, forget also what an earlier owner wrote."""
        if execution_id is not None:
            self._taken_over.add(execution_id)
        self._has_ended.set()
        self._look()

    def _has_work(self) -> bool:
        return bool(self._pending or self._written or self._taken_over or self._sources)

    def _look(self) -> None:
        thread = self._thread
        if (thread is None or not thread.is_alive()) and self._has_work():
            self._thread = thread = threading.Thread(target=self._work, name="szal-progress", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there is none to be had now: the next report tries it again
                self._thread = None

    def _work(self) -> None:
        me, trouble = threading.current_thread(), Trouble(logger)
        while self._thread is me and self._has_work():
            self._has_ended = Flag()
            try:
                self._write()
                self._tell_under_way()
                trouble.is_over()
            except Exception as error:  # noqa: BLE001 (the store is away: it is written later)
                trouble.met(error, "progress is not shared")
            self._has_ended.wait(_EVERY)
        if self._thread is me:
            self._thread = None
            if self._has_work():  # it came just now
                self._look()

    def _write(self) -> None:
        now = monotonic()
        due = [key for key in self._pending.copy() if self._written.get(key, -_EVERY) + _EVERY <= now or key.is_over]
        reports = {key: self._pending.pop(key) for key in due}
        kept = {key: report for key, report in reports.items() if not key.is_over}
        over = [key for key in self._written if key.is_over]
        taken_over = self._taken_over.copy()
        if not (kept or over or taken_over):
            return
        self._written.update(dict.fromkeys(kept, now))
        try:
            rows = [key.shared.row(key.step_name, report) for key, report in kept.items()]
            ended = {(key.shared.execution_id, key.step_name) for key in over}
            ended |= {(row.execution_id, row.step_name) for each in taken_over for row in self._ledger.reports(each)}
            self._ledger.report(rows, ended)
        except StoreClosed:  # nobody could see it any more
            self._begin_anew()
            return
        except StoreError as error:
            logger.info("progress is not shared just now: %s", error)
            for key, report in kept.items():
                self._pending.setdefault(key, report)
            return
        self._taken_over -= taken_over
        for key in over:
            del self._written[key]

    def _tell_under_way(self) -> None:
        """Write which steps have begun, of the runs in which that has changed: one statement for all of them."""
        sources = {source.lease: source for source in self._sources.copy().values()}
        news = {lease: text for lease, source in sources.items() if (text := source.news()) is not None}
        if not news:
            return
        try:
            self._ledger.tell_under_way(news)
        except StoreError as error:
            logger.info("which steps run is not shared just now: %s", error)
            for lease in news:
                sources[lease].lost()


def report_of(row: Report) -> StepReport:
    """Return a report as it was made."""
    return StepReport(json.loads(row.data), datetime.fromtimestamp(row.reported, UTC), row.index)


def _encoded(data: Json) -> str:
    try:
        text = json.dumps(data, allow_nan=False)
    except (TypeError, ValueError, RecursionError, RuntimeError):  # the last: it was changed meanwhile
        text = json.dumps(repr_of(data))
    return text if len(text) <= _LONGEST else json.dumps(f"{text[:1000]}…")
