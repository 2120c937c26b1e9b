"""Flows that are begun again and again: at which times, and what becomes of times that were missed."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs

from szal.clock import utc_now
from szal.errors import StoreUnavailable, SzalError
from szal.errors.description import describe
from szal.extra import optional
from szal.logs import SafeLogger
from szal.model.definition import Definition
from szal.model.flow import FlowDef
from szal.model.json import decode_flow, decode_record, encode_record
from szal.model.results import ExecutionRecord
from szal.stores.queue import Submission
from szal.stores.schedules import ScheduleRow, Schedules

if TYPE_CHECKING:
    from szal.engine.leased_store import LeasedStore

__all__ = ["CatchUp", "Overlap", "Schedule", "Timetable"]

logger = SafeLogger(logging.getLogger(__name__))

CatchUp = Literal["last", "all", "none"]
Overlap = Literal["allow", "skip", "queue"]

_LATE: Final = timedelta(seconds=60)
"""How late a time may be without having been missed."""
_MOST: Final = 100
"""Executions that are begun at a time, of those that were missed; the next ones follow at once."""


@attrs.frozen(kw_only=True)
class Schedule:
    """One schedule, as `Engine.schedules` tells of it.

    >>> nightly = Schedule.checked("nightly", "30 2 * * *", "Europe/Berlin")
    >>> nightly.after(datetime(2026, 3, 28, 12, tzinfo=UTC)).isoformat()
    '2026-03-29T01:00:00+00:00'
    """

    name: str
    cron: str
    timezone: str = "UTC"
    catch_up: CatchUp = "last"
    overlap: Overlap = "allow"
    queue: str = "default"
    flow_name: str = ""
    next_at: datetime | None = None
    """When it is due next."""
    last_id: str | None = None
    """The execution that it began last."""

    @classmethod
    def checked(
        cls, name: str, cron: str, timezone: str, catch_up: str = "last", overlap: str = "allow", **more: Any
    ) -> "Schedule":
        """Return one; raise ValueError and TypeError for what is none, and `MissingExtra`."""
        for what, value, choices in (("catch_up", catch_up, CatchUp), ("overlap", overlap, Overlap)):
            if value not in get_args(choices):
                raise ValueError(f"{what} is one of {', '.join(get_args(choices))}, not {value!r}")
        for what, value in (("cron", cron), ("timezone", timezone)):
            if not isinstance(value, str):
                raise TypeError(f"{what} must be a string, not {type(value).__name__}")
        schedule = cls(name=name, cron=cron, timezone=timezone, catch_up=catch_up, overlap=overlap, **more)  # type: ignore[arg-type]
        schedule.after(utc_now())
        return schedule

    def times(self, after: datetime) -> Iterator[datetime]:
        """Yield its times after that one, in UTC: by the clock on the wall of its time zone.

        A time that the clock leaves out in spring is at the end of that gap; one that it shows twice is the first one.
        """
        with optional("cronsim", extra="cron", feature="a schedule"):
            from cronsim import CronSim, CronSimError
        try:
            zone = ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone {self.timezone!r}: write one as in Europe/Berlin") from error
        try:
            yield from (time.astimezone(UTC) for time in CronSim(self.cron, after.astimezone(zone)))
        except CronSimError as error:
            raise ValueError(f"cron {self.cron!r}: {error}") from None

    def after(self, moment: datetime) -> datetime:
        """Return its first time after that one. Raises ValueError where there is none."""
        for time in self.times(moment):
            return time
        raise ValueError(f"cron {self.cron!r} never comes")

    def missed(self, due: datetime, now: datetime) -> list[datetime]:
        """Return, of its times from *due* to *now*, those at which it is begun."""
        if self.catch_up != "all":
            last = self._last(due, now)
            return [last] if self.catch_up == "last" or now - last <= _LATE else []
        return [due, *islice(takewhile(lambda time: time <= now, self.times(due)), _MOST - 1)]

    def _last(self, due: datetime, now: datetime) -> datetime:
        """Return its last time until *now*, which is *due* at least: looked for further and further back.

        Of a year, each minute would take seconds to go through.
        """
        span = _LATE
        while now - span > due:
            found = [*takewhile(lambda time: time <= now, self.times(now - span))]
            if found:
                return found[-1]
            span *= 8
        return [due, *takewhile(lambda time: time <= now, self.times(due))][-1]


class Timetable:
    """Begins what is due. *now* asks a store for the time that it goes by (Unix time), *is_live* for one execution."""

    def __init__(
        self, schedules: Schedules, leased: "LeasedStore", now: Callable[[], float], is_live: Callable[[str], bool]
    ) -> None:
        self._schedules = schedules
        self._leased = leased
        self._now = now
        self._is_live = is_live
        self._told: dict[str, str] = {}  # what is wrong with schedules: workers look each second, and tell it once

    def put(self, schedule: Schedule, record: ExecutionRecord, definition: Definition) -> None:
        """Keep a schedule, whose executions begin as *record*."""
        fields = attrs.asdict(schedule, filter=lambda field, _: field.name not in ("next_at", "last_id"))
        template = attrs.evolve(record, execution_id="", started_at=datetime.fromtimestamp(0, UTC), flow_id=None)
        data = {**fields, "record": json.loads(encode_record(template)), "content_id": definition.content_id}
        text = json.dumps(data, ensure_ascii=False, sort_keys=True)
        due = schedule.after(datetime.fromtimestamp(self._now(), UTC))
        self._schedules.put(ScheduleRow(schedule.name, text, definition.text, due.timestamp()))

    def all(self) -> list[Schedule]:
        """Return all schedules, the one that is due next first."""
        return [_read(row)[0] for row in self._schedules.all()]

    def next_times(self) -> list[float]:
        """Return when something is to be begun next (Unix time); nothing where nobody knows.

        A schedule that waits for the end of an execution has no time before that.
        """
        for row in self._schedules.all():
            schedule, _ = _read(row)
            if not (schedule.overlap == "queue" and self._is_busy(schedule)):
                return [row.next_at]
        return []

    def _is_busy(self, schedule: Schedule) -> bool:
        """Whether the execution that it began last has not ended."""
        return schedule.overlap != "allow" and schedule.last_id is not None and self._is_live(schedule.last_id)

    def fire(self) -> int:
        """Begin what is due; return how many executions those are. What is wrong with one is logged."""
        rows = self._schedules.all()
        if not rows:  # as in most stores, and workers ask each second
            return 0
        count, now = 0, datetime.fromtimestamp(self._now(), UTC)
        for row in rows:
            if row.next_at > now.timestamp():
                break
            try:
                count += self._fire(row, now)
                self._told.pop(row.name, None)
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 (its row may come from another version)
                self._tell(row.name, error)
        return count

    def _tell(self, name: str, error: Exception) -> None:
        """Log what is wrong with a schedule, once for as long as it is the same."""
        problem = str(error) if isinstance(error, SzalError | ValueError) else describe(error)
        if self._told.get(name) != problem:
            self._told[name] = problem
            logger.error("schedule %s: %s", name, problem)

    def _fire(self, row: ScheduleRow, now: datetime) -> int:
        schedule, data = _read(row)
        due = datetime.fromtimestamp(row.next_at, UTC)
        is_busy = self._is_busy(schedule)
        if is_busy and schedule.overlap == "queue":
            return 0  # it is looked at again when that has ended
        times = schedule.missed(due, now)
        following = schedule.after(max(times[-1], due) if times and schedule.catch_up == "all" else now)
        if schedule.overlap == "queue" and times:
            following = schedule.after(times[0]) if schedule.catch_up == "all" else following
            times = times[:1]
        if is_busy:
            logger.warning("schedule %s: %s still runs, so this time is left out", row.name, row.last_id)
            times = []
        flow = decode_flow(row.flow)
        submissions = [self._submission(schedule, data, flow, time, now) for time in times]
        return len(submissions) if self._schedules.advance(row, following.timestamp(), submissions) else 0

    def _submission(
        self, schedule: Schedule, data: Mapping[str, Any], flow: FlowDef, time: datetime, now: datetime
    ) -> Submission:
        record = attrs.evolve(
            decode_record(json.dumps(data["record"])),
            execution_id=f"{schedule.name}@{time.isoformat()}",
            started_at=now,
            flow_id=flow.id,
        )
        return Submission(new=self._leased.new(record, Definition.of(flow)), queue=schedule.queue)


def _read(row: ScheduleRow) -> tuple[Schedule, Mapping[str, Any]]:
    data = json.loads(row.data)
    names = ("name", "cron", "timezone", "catch_up", "overlap", "queue", "flow_name")
    schedule = Schedule(
        **{name: data[name] for name in names}, next_at=datetime.fromtimestamp(row.next_at, UTC), last_id=row.last_id
    )
    return schedule, data
