"""What an engine has, and how it ends."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import attrs

from szal.count import Count
from szal.engine.admission import Admission
from szal.engine.config import EngineConfig
from szal.engine.driver import Driver
from szal.engine.durations import Durations
from szal.engine.execution import Execution
from szal.engine.opening import Opened, StoreLike, config_of, opened
from szal.errors import EngineClosed, FlushTimeout, WriteFailed
from szal.logs import SafeLogger
from szal.model.key import item_key
from szal.number import check_wait
from szal.per_process import PerProcess
from szal.raised import raise_beside
from szal.scheduler.attempt import Attempt
from szal.scheduler.call import Where
from szal.scheduler.clock import REAL
from szal.scheduler.permits import Permits
from szal.scheduler.resources import Resources
from szal.scheduler.workers import Threads
from szal.steps.resolving import Handling, Resolver, migrations_of, resolver_of

if TYPE_CHECKING:
    from szal.engine.health import Health
    from szal.engine.monitoring import Monitoring
    from szal.engine.sharing import Shared
    from szal.engine.stats import EngineStats
    from szal.engine.status import ExecutionStatus
    from szal.steps.processes import Processes

__all__ = ["Background", "EngineBase"]

logger = SafeLogger(logging.getLogger(__name__))


class Background(Protocol):
    """What takes up executions for an engine by itself."""

    def wake(self, execution_id: str) -> None:
        """Look at once: something has come for that execution. From any thread."""

    def close(self) -> None:
        """Take up nothing more. From any thread, and from a signal handler."""


def _with_migrations(config: EngineConfig, handler: Handling | Sequence[Handling]) -> EngineConfig:
    """Return *config* with the migrations that flows bring; those that it has itself come first."""
    brought = migrations_of(handler)
    return attrs.evolve(config, migrations={**brought, **config.migrations}) if brought else config


class EngineBase:
    """An engine's threads, its store, and the runs that it has; and their end."""

    def __init__(self, handler: Handling | Sequence[Handling], config: EngineConfig | None = None) -> None:
        given: object = config
        if not isinstance(given, EngineConfig | None):
            told = f"config must be an EngineConfig, not {type(given).__name__}"
            raise TypeError(f"{told}: Engine(flow, EngineConfig(max_concurrency=4))")
        self.resolver: Resolver = resolver_of(handler)
        self.config = _with_migrations(EngineConfig() if config is None else config, handler)
        self.threads = Threads(idle_timeout=self.config.idle_timeout)
        self.durations = Durations()
        self._admission = Admission(self.config, self.resolver)
        self._beyond = self._admission.shared_limits()
        self.resources = Resources(self.config.capacities, self._beyond)
        self.permits = Permits(self.resources, goes_by_store=self.config.clock is REAL)
        self._monitoring = PerProcess["Monitoring"]()
        self._background: list[Background] = []
        self._abandoned = Count()
        self._lease_losses = Count()
        self._owned: Opened | None = None
        self._processes: dict[str, Processes] = {}  # that there are, once they are needed
        self.config.sinks.opened(self)

    @classmethod
    def open(cls, store: StoreLike, *flows: Handling, **config: object) -> Self:
        """Return an engine of *flows* that records in *store*, with *config* as the settings of `EngineConfig`.

        *store* is a URL ("sqlite:///app.db", "postgresql://…") or the path of a file: it is opened and migrated, seen
        through a sink, and closed with the engine. A store that is given as such stays open, and a sink of it is made
        and closed; a sink, and any other store of four methods, is used as it is. A function of ``ctx``, or a
        `Handlers`, may stand for the flows. Without any, it looks, signals and waits, and runs nothing.

        Raises TypeError for what is no store or no setting, and what `open_store` raises.

        >>> from szal import Engine, Flow
        >>> greet = Flow("greet")
        >>> @greet.step
        ... def hello(name):
        ...     return f"hello {name}"
        >>> with Engine.open("memory:", greet, durability="step") as engine:
        ...     _ = engine.run(greet, {"name": "Ada"}, execution_id="first")
        ...     engine.look("first").steps["hello"].output
        'hello Ada'
        """
        handler: Handling | Sequence[Handling] = flows[0] if len(flows) == 1 else flows
        resolver_of(handler), config_of(None, config)  # before anything is opened
        recorded_in, owned = opened(store)
        try:
            engine = cls(handler, config_of(recorded_in, config))
        except BaseException:
            if owned is not None:
                owned.close(0.0)  # nothing is queued yet
            raise
        engine._owned = owned
        return engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            self.close(drain=self.config.cancel_grace if self._admission.has_ledger else math.inf)
        except (FlushTimeout, WriteFailed) as unwritten:
            raise_beside(error, unwritten)

    def close(self, drain: float | None = None) -> None:
        """Refuse further runs and let idle threads end. Runs that go on are not disturbed.

        Waits for nothing, but for idle child processes to end, if there are any: that takes a moment.

        With *drain*, nothing new starts in them, and this waits for them, so many seconds at most. In one of szal's
        stores what runs comes to its end, and is recorded; the execution stays RUNNING, with its lease given back:
        another process goes on at once. One that has nothing left to start ends as ever. What outlasts the seconds
        keeps its lease until it ends, or the process does: the store has to stay open for that. Without such a store
        nobody could go on: there each run goes on to its end.

        A run that is left returns with the state RUNNING (or ROLLING_BACK). The end of a ``with engine`` block drains
        for `EngineConfig.cancel_grace` seconds; without one of szal's stores, it waits for all that was started. May be
        called by a handler, and a signal handler: a run that it is in is not waited for, and ends after that.

        The store that `open` opened is closed once nothing runs, and all is written that was queued for it. Where that
        cannot be written for `EngineConfig.commit_timeout`, `FlushTimeout` is raised: it goes on being tried.

        >>> from szal import Engine, FlowDef
        >>> engine = Engine(lambda ctx: ctx.step.name)
        >>> execution = engine.start(FlowDef("demo", steps=[]))
        >>> engine.close(drain=20)
        >>> str(execution.result(timeout=10).state)
        'completed'
        """
        if drain is not None:
            check_wait("drain", drain)
        for background in self._background:
            background.close()
        active = self._admission.active
        if drain is not None:
            active.drain()  # before runs are refused: whoever sees that may go by it
        if active.close():
            self._shut_down()
        elif drain is not None:
            active.drain()  # what has begun meanwhile
            if not active.wait_for_others(drain):
                level = logging.WARNING if drain else logging.INFO  # who gives no time expects nothing else
                logger.log(level, "the engine is closed, and still running: %s", ", ".join(active.ids()))
            elif not active.ids():
                self._shut_down()  # who ran last does so too: here it is waited for

    def release(self) -> None:
        """Refuse further runs, and have those that go on told to end, as SIGTERM has them. Waits for nothing.

        With one of szal's stores, what has not ended within `EngineConfig.cancel_grace` is left behind, each execution
        stays RUNNING with its lease given back, so that another process goes on with it at once, and `run` raises
        `EngineClosed`. Without one, what runs is cancelled. From any thread, and from a signal handler.
        """
        for background in self._background:
            background.close()
        active = self._admission.active
        if active.close():
            self._shut_down()
        for driver in active.all():
            closed = EngineClosed()
            driver.request_stop(driver.stop_for(closed), closed)

    def _shut_down(self) -> None:
        """Let go of what runs have used, now that there is none."""
        self.threads.close()
        for processes in self._processes.copy().values():
            processes.close()
        if self._beyond is not None:
            self._beyond.close()
        self._admission.close()
        try:
            if self._owned is not None:
                self._owned.close(self.config.commit_timeout)
        finally:
            self.config.sinks.closed(self)

    @property
    def abandoned(self) -> int:
        """How many handlers this engine has left behind so far, because they ran past their time.

        Each still occupies a thread, or a worker of the executor, until it ends by itself.
        """
        return self._abandoned.value

    def stats(self) -> "EngineStats":
        """Return what this engine is doing in this process, and what it has done there so far, in figures.

        It only reads what is kept anyway, and asks no store: a page of metrics may call it as often as it likes
        (`szal.contrib.prometheus`). From any thread.

        >>> from szal import Engine, EngineConfig, FlowDef, StepDef, open_store
        >>> with open_store("memory:").engine_sink() as sink:
        ...     with Engine(lambda ctx: None, EngineConfig(execution_store=sink)) as engine:
        ...         _ = engine.run(FlowDef("demo", steps=[StepDef("a")]))
        ...     stats = engine.stats()
        >>> stats.running, stats.abandoned, stats.sink.pending, stats.sink.written > 0
        (0, 0, 0, True)
        """
        return self._monitor().stats(abandoned=self.abandoned, lease_losses=self._lease_losses.value)

    def healthy(self, timeout: float = 2.0) -> "Health":
        """Return whether this engine can work, and record what it does: what a ``/healthz`` asks.

        The store is asked to take a write, which is taken back: nothing is left of it. It has *timeout* seconds for
        that; then it counts as broken. Never raises for a store that is. docs/recipes.md has it in a web application,
        and ``szal doctor`` looks at a store from outside.

        >>> from szal import Engine, EngineConfig, open_store
        >>> health = Engine(lambda ctx: None, EngineConfig(execution_store=open_store("memory:"))).healthy()
        >>> health.ok, health.problems, health.store
        (True, (), 'memory:')
        """
        check_wait("timeout", timeout)
        return self._monitor().health(timeout, self.abandoned)

    def _monitor(self) -> "Monitoring":
        from szal.engine.monitoring import Monitoring  # few ask

        return self._monitoring.get_or_make(lambda: Monitoring(self.config, self._admission))

    # -- what runs need of it -------------------------------------------------------------------------

    def _driver(self, execution_id: str, *, background: bool = False, execution: Execution | None = None) -> Driver:
        is_background = background or self.config.daemon
        return Driver(self, execution_id, self._admission.leased, background=is_background, execution=execution)

    def processes(self) -> "Processes":
        """Return the child processes that attempts are made in; none is started by that."""
        if not self._processes:
            from szal.engine.process_start import way_to_start
            from szal.steps.processes import Processes

            config = self.config
            start = way_to_start(config.process_start, config.process_preload)
            made = Processes(config.max_concurrency, config.cancel_grace, config.idle_timeout, start)
            self._processes.setdefault("all", made)  # another thread may have been faster
        return self._processes["all"]

    def take(self, driver: Driver) -> bool:
        """Take the id of a run for it; called by its driver."""
        return self._admission.active.take(driver.execution_id, driver)

    def watched(self, execution_id: str) -> Callable[[], object] | None:
        """Return what a run calls whenever something changes, where somebody watches it; called by its driver."""
        watching = self._admission.watching()
        return None if watching is None else watching.hook(execution_id)

    def shared(self, execution_id: str, epoch: int, heard: Callable[[], object]) -> "Shared | None":
        """Return what keeps what the steps of an execution report, where that is shared; called by its driver."""
        return self._admission.shared(execution_id, epoch, heard) if self.config.share_progress else None

    def has_ended(self, execution_id: str, look: "Callable[[], ExecutionStatus | None]") -> None:
        """Take note of how a run has ended; called by its driver."""
        watching = self._admission.watching()
        if watching is not None:
            watching.has_ended(execution_id, look)

    def give_back(self, driver: Driver) -> None:
        """Take note that a run is over; called by its driver."""
        if self._admission.active.give_back(driver.execution_id, driver):
            try:
                self._shut_down()
            except Exception:  # the run has ended as it has
                logger.exception("the engine is closed, and its store cannot be")
        if driver.has_lost_lease:
            self._lease_losses.add()
        watching = self._admission.watching()
        if watching is not None:
            watching.changed(driver.execution_id)
        if driver.has_paused:  # what it waits for may have come meanwhile, when it could not be taken up yet
            for background in self._background:
                background.wake(driver.execution_id)

    def on_abandoned(self, attempt: Attempt) -> None:
        """Take note that a handler was left behind; called by the run's coordinating thread."""
        self._abandoned.add()
        name, index = attempt.context.step.name, attempt.context.index
        shared = () if attempt.permit is None else attempt.context.step.resources
        kept = f", and keeps {', '.join(shared)} until it ends" if shared else ""
        logger.warning(
            "step %s of %s (execution %s) runs past its time: %s is left behind%s",
            name if index is None else item_key(name, index),
            attempt.context.flow_name,
            attempt.context.execution_id,
            "its thread" if attempt.call.where is Where.HERE else "what the executor does for it",
            kept,
        )
