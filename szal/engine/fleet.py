"""Executions that one process submits and another one runs."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import attrs

from szal.engine.going_on import GoingOn
from szal.errors import ExecutionNotFound
from szal.expressions.path import Json
from szal.model.fields import problem_of_name
from szal.model.flow import Defined, FlowDef
from szal.model.results import FlowResult
from szal.number import check
from szal.scheduler.cancel import CancellationToken, check_token

if TYPE_CHECKING:
    from szal.engine.recovery import Recovery
    from szal.engine.timetable import Schedule, Timetable
    from szal.model.bounds import Bounds

__all__ = ["Fleet"]

_HIGHEST: Final = 2**31 - 1
_LATEST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""What a datetime can say: a `not_before` in another time zone may be a little later."""
_TIME: Final = "@2026-11-26T02:00:00+00:00"
"""What the id of an execution has beside the name of its schedule."""


class Fleet(GoingOn):
    """An engine that submits executions to others, and runs what others have submitted."""

    def submit(
        self,
        flow: FlowDef | Defined,
        inputs: Mapping[str, Json] | None = None,
        *,
        execution_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        queue: str = "default",
        priority: int = 0,
        not_before: datetime | None = None,
        connection: object = None,
    ) -> str:
        """Record an execution without running it, for an engine that `work`s, in whatever process; return its id.

        It is CREATED, and committed on return. Those of higher *priority* begin first, the oldest first among equals;
        none begins before *not_before*, an aware datetime, by the database's clock. Its handlers need not be here. The
        id is a new one, or *execution_id*: submitting that again does nothing. A secret input is not recorded: who runs
        it has it from `EngineConfig.secrets` or the environment, so one that has to be given need not be given here.

        With *connection*, the application's (psycopg's or sqlite3's, to the store's database), it is recorded in the
        transaction that is open there: it is committed with what the application writes, or not at all.

        Raises what `run` raises before anything runs, but `HandlerNotFound`, and `SzalError` without one of szal's
        stores.

        >>> from szal import Engine, EngineConfig, StepDef, open_store
        >>> flow, store = FlowDef("mail", steps=[StepDef("send")]), open_store("memory:")
        >>> with Engine([], EngineConfig(execution_store=store)) as shop:
        ...     shop.submit(flow, {"to": "Ada"}, execution_id="mail-1")
        'mail-1'
        >>> with Engine(lambda ctx: f"sent to {ctx.inputs['to']}", EngineConfig(execution_store=store)) as engine:
        ...     engine.work(until_idle=True), engine.result("mail-1").outputs
        (1, {'send': 'sent to Ada'})
        """
        recovery = self._admission.recovery()
        _check_name("queue", queue, recovery.ledger.bounds)
        check("priority", priority, whole=True)
        if abs(priority) > _HIGHEST:
            raise ValueError(f"priority is not between {-_HIGHEST} and {_HIGHEST} ({priority})")
        given: object = not_before
        if given is not None and not (isinstance(given, datetime) and given.utcoffset() is not None):
            raise ValueError("not_before must be an aware datetime: datetime.now(UTC) + timedelta(hours=1), say")
        spec = self._admission.submission_of(flow, inputs, execution_id, labels)
        recovery.submit(spec, queue, priority, None if not_before is None else not_before.timestamp(), connection)
        for background in self._background:
            background.wake(spec.record.execution_id)
        return spec.record.execution_id

    def work(
        self,
        queues: str | Sequence[str] = ("default",),
        max_executions: int = 8,
        *,
        until_idle: bool = False,
        stop: CancellationToken | None = None,
    ) -> int:
        """Run what is submitted to *queues*, and what was interrupted, at most *max_executions* at a time.

        Blocks until *stop* is cancelled, or the engine is closed, and what runs here has ended; returns how many
        executions that were. With *until_idle* it returns as soon as nothing is due: what waits for a time, a signal or
        another process's lease is not. Any number of processes may work on one database: each execution is run by one
        of them. What some step of has no handler here is left to others. What interrupts it (Ctrl-C) is raised once
        what runs here is given back; so is `ExecutorBroken`, once the engine's executor takes nothing more.

        On an idle engine, what is submitted to PostgreSQL begins at once, to SQLite within 20 ms, and through a proxy
        such as PgBouncer within a second.
        """
        from szal.engine.worker import Worker

        recovery = self._admission.recovery()
        names = _named(queues, recovery.ledger.bounds)
        check("max_executions", max_executions, whole=True)
        if max_executions < 1:
            raise ValueError(f"max_executions must be at least 1, not {max_executions}")
        check_token(stop)
        self._admission.active.check_open()
        works = _Works(self, recovery, self._timetable(), self._resume)
        worker = Worker(works, recovery.ledger.queue, names, max_executions, recovery.leased.ttl)
        self._background.append(worker)
        try:
            return worker.work(until_idle=until_idle, stop=stop)
        finally:
            self._background.remove(worker)

    def schedule(
        self,
        flow: FlowDef | Defined,
        cron: str,
        *,
        name: str | None = None,
        timezone: str = "UTC",
        inputs: Mapping[str, Json] | None = None,
        catch_up: Literal["last", "all", "none"] = "last",
        overlap: Literal["allow", "skip", "queue"] = "allow",
        queue: str = "default",
    ) -> str:
        """Have a flow begun at the times that *cron* says, by the wall clock of *timezone*; return its name.

        It is a row in the database: any number of processes may say it, and one that says something else replaces it.
        Its times come where engines `work`, in the queue *queue*, within a second. The id of each execution is
        ``NAME@2026-11-26T02:00:00+00:00``, so each time comes once, whoever is faster.

        What was missed while nobody worked: "last" begins the last time of these, "all" each of them, "none" nothing
        that is more than a minute late. Where the last execution still runs, *overlap* says whether another one begins
        ("allow"), waits for its end ("queue"), or is left out ("skip").

        Raises what `submit` raises, ValueError for what is no time, and `MissingExtra` without ``szal[cron]``.

        >>> from szal import Engine, EngineConfig, StepDef, open_store
        >>> with Engine([], EngineConfig(execution_store=open_store("memory:"))) as engine:
        ...     engine.schedule(FlowDef("nightly", steps=[StepDef("load")]), "0 2 * * *", timezone="Europe/Berlin")
        ...     [(each.name, each.cron, each.next_at.minute) for each in engine.schedules()]
        ...     engine.unschedule("nightly"), engine.schedules()
        'nightly'
        [('nightly', '0 2 * * *', 0)]
        (True, [])
        """
        from szal.engine.timetable import Schedule
        from szal.model.definition import Definition

        spec = self._admission.submission_of(flow, inputs, None, None)
        name = spec.flow.name if name is None else name
        bounds = self._admission.recovery().ledger.bounds
        _check_name("queue", queue, bounds)
        _check_name("schedule", name, bounds, more=len(_TIME))
        more = {"queue": queue, "flow_name": spec.flow.name}
        schedule = Schedule.checked(name, cron, timezone, catch_up, overlap, **more)
        self._timetable().put(schedule, spec.record, Definition.of(spec.flow))
        return name

    def unschedule(self, name: str) -> bool:
        """Have a schedule's times come no more; False where there is none of that name. What has begun goes on."""
        return self._admission.recovery().ledger.schedules.remove(name)

    def schedules(self) -> "list[Schedule]":
        """Return all schedules of the store, the one that is due next first."""
        return self._timetable().all()

    def next_due(self, queues: str | Sequence[str] = ("default",)) -> datetime | None:
        """Return when there is something to do for an engine that works on *queues*; None: nobody knows of anything.

        That is what is submitted, a schedule, a sleep, or the time-out of a wait; a time that is past for what is due
        now. So a process that exits (cron, a timer of systemd, a function without a server) knows when to come back:
        ``work(until_idle=True)``, and then at that time. A signal may come earlier.

        Raises ValueError for what can be no queue's name.
        """
        recovery = self._admission.recovery()
        names = _named(queues, recovery.ledger.bounds)
        ledger = recovery.ledger
        now = ledger.clock()
        found = [seconds for seconds in (ledger.queue.due_in(names), ledger.wakes_in()) if seconds is not None]
        times = [now + seconds for seconds in found]
        times += self._timetable().next_times()
        if recovery.interrupted(None):
            times.append(now)
        return datetime.fromtimestamp(min(*times, _LATEST), UTC) if times else None

    def _timetable(self) -> "Timetable":
        from szal.engine.timetable import Timetable

        recovery = self._admission.recovery()
        leased = recovery.leased

        def now() -> float:
            return leased.ahead() + leased.clock.monotonic()

        def is_live(execution_id: str) -> bool:
            try:
                return recovery.ledger.read(execution_id, steps=False).record.state.is_live
            except ExecutionNotFound:
                return False

        return Timetable(recovery.ledger.schedules, leased, now, is_live)


@attrs.frozen
class _Works:
    """An engine as its worker sees it."""

    engine: Fleet
    recovery: "Recovery"
    timetable: "Timetable"
    resume: Callable[..., FlowResult]

    def run(self, execution_id: str, on_begin: Callable[[], object]) -> FlowResult:
        return self.resume(execution_id, on_begin=on_begin)

    def interrupted(self) -> Sequence[str]:
        return self.recovery.interrupted(None)

    def fire(self) -> None:
        self.timetable.fire()

    def is_active(self, execution_id: str) -> bool:
        return execution_id in self.engine._admission.active

    def is_closed(self) -> bool:
        return self.engine._admission.active.is_closed

    def release(self, execution_ids: Sequence[str], error: BaseException) -> None:
        self.engine._release(execution_ids, error)


def _named(queues: str | Sequence[str], bounds: "Bounds") -> tuple[str, ...]:
    """Return the names of queues, each once; raise ValueError for what is none."""
    names = (queues,) if isinstance(queues, str) else tuple(queues)
    if not names:
        raise ValueError("queues is empty: name one, or leave it out")
    for name in names:
        _check_name("queue", name, bounds)
    return tuple(dict.fromkeys(names))


def _check_name(what: str, name: object, bounds: "Bounds", more: int = 0) -> None:
    """Raise ValueError for what can be no name, or none that fits into an index with so many bytes *more*."""
    problem = problem_of_name(name) or bounds.problem_of_key(f"{name}{'.' * more}")
    if problem is not None:
        raise ValueError(f"the name of a {what} {problem}")
