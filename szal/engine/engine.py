"""The engine: what a program calls to run flows."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import attrs

from szal.engine.admission import Admission, under_new_id
from szal.engine.config import EngineConfig
from szal.engine.driver import Driver, NotAdmitted
from szal.engine.execution import Execution, RunThread
from szal.engine.spec import ExecutionSpec
from szal.errors import EngineClosed, ExecutionOwned
from szal.expressions.path import Json
from szal.logs import SafeLogger
from szal.model.flow import Defined, FlowDef, definition_of
from szal.model.json import checked_labels
from szal.model.results import FlowResult
from szal.model.state import Stop
from szal.number import check, check_wait
from szal.scheduler.attempt import Attempt
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.workers import Threads
from szal.steps.resolving import Handling, Resolver, migrations_of, resolver_of

if TYPE_CHECKING:
    from szal.engine.health import Health
    from szal.engine.mass_recovery import BackgroundRecovery
    from szal.engine.part import Part
    from szal.engine.status import ExecutionStatus

__all__ = ["Engine"]

logger = SafeLogger(logging.getLogger(__name__))


def _with_migrations(config: EngineConfig, handler: Handling | Sequence[Handling]) -> EngineConfig:
    """Return *config* with the migrations that flows bring; those that it has itself come first."""
    brought = migrations_of(handler)
    return attrs.evolve(config, migrations={**brought, **config.migrations}) if brought else config


class Engine:
    """Runs flows. One engine serves many threads at once; `close` it, or use it in a ``with``, when done.

    `handler` is a `szal.Flow` or several, a function that does every step (``handler(ctx) -> JSON value``), or a
    `Handlers` registry. A handler fails its step by raising. Runs share the engine's threads, which are started when
    first needed; what bounds a run (`EngineConfig.max_concurrency`) is each run's own.

    >>> from szal import Engine, FlowDef, StepDef
    >>> with Engine(lambda ctx: ctx.inputs["n"] * 2) as engine:
    ...     engine.run(FlowDef("double", steps=[StepDef("twice")]), {"n": 21}).outputs
    {'twice': 42}
    """

    def __init__(self, handler: Handling | Sequence[Handling], config: EngineConfig | None = None) -> None:
        self.resolver: Resolver = resolver_of(handler)
        self.config = _with_migrations(EngineConfig() if config is None else config, handler)
        self.threads = Threads(idle_timeout=self.config.idle_timeout)
        self._admission = Admission(self.config, self.resolver)
        self._background: list[BackgroundRecovery] = []
        self._abandoned: list[None] = []  # its length counts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close(drain=self.config.cancel_grace if self._admission.has_ledger else math.inf)

    def close(self, drain: float | None = None) -> None:
        """Refuse further runs and let idle threads end. Waits for nothing; runs that go on are not disturbed.

        With *drain*, nothing new starts in them, and this waits for them, so many seconds at most. In one of szal's
        stores what runs comes to its end, and is recorded; the execution stays RUNNING, with its lease given back:
        another process goes on at once. One that has nothing left to start ends as ever. What outlasts the seconds
        keeps its lease until it ends, or the process does: the store has to stay open for that. Without such a store
        nobody could go on: there each run goes on to its end.

        A run that is left returns with the state RUNNING (or ROLLING_BACK). The end of a ``with engine`` block drains
        for `EngineConfig.cancel_grace` seconds; without one of szal's stores, it waits for all that was started. May be
        called by a handler, and a signal handler: a run that it is in is not waited for, and ends after that.

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
                logger.warning("the engine is closed, and still running: %s", ", ".join(active.ids()))

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
        self.threads.close()
        self._admission.close()

    @property
    def abandoned(self) -> int:
        """How many handlers this engine has left behind so far, because they ran past their time.

        Each still occupies a thread until it ends by itself.
        """
        return len(self._abandoned)

    def healthy(self, timeout: float = 2.0) -> "Health":
        """Return whether this engine can work, and record what it does: what a ``/healthz`` asks.

        The store is asked to take a write, which is taken back: nothing is left of it. It has *timeout* seconds for
        that; then it counts as broken. Never raises for a store that is. docs/recipes.md has it in a web application,
        and ``szal doctor`` looks at a store from outside.

        >>> from szal import open_store
        >>> health = Engine(lambda ctx: None, EngineConfig(execution_store=open_store("memory:"))).healthy()
        >>> health.ok, health.problems, health.store
        (True, (), 'memory:')
        """
        check_wait("timeout", timeout)
        return self._admission.health(timeout, self.abandoned)

    def run(
        self,
        flow: FlowDef | Defined,
        inputs: Mapping[str, Json] | None = None,
        *,
        execution_id: str | None = None,
        cancel: CancellationToken | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> FlowResult:
        """Run *flow* on this thread, and return how it ended once that is recorded. A flow that fails returns.

        `execution_id` defaults to the flow's id where the store has no execution under it, else to a new UUID.
        Giving one is an idempotent start: an execution that was interrupted or waits is continued, of one that has
        ended the stored result is returned, and nothing runs twice.

        Raises, before anything runs: `InvalidFlow`, `InvalidInputs` (they are not what the flow declares),
        `HandlerNotFound`, `EncodeError` (inputs, labels or a config that JSON cannot hold), `ExecutionOwned` (somebody
        is running that id), `DefinitionMismatch` (that id is another flow's). Raises `LeaseLost` where another process
        has taken the execution over, and what the store raises, after the run if it came up in it. What a signal
        handler raises (Ctrl-C) interrupts the run, and is raised once that is recorded: with one of szal's own stores,
        it can be gone on with (`EngineConfig.on_interrupt`).

        >>> with Engine(lambda ctx: ctx.step.name.upper()) as engine:
        ...     engine.run(FlowDef("demo", steps=[])).success
        True
        """
        spec = self._admission.spec_of(flow, inputs, execution_id, cancel, labels)
        driver = self._driver(spec.record.execution_id)
        with contextlib.suppress(NotAdmitted):
            return driver.run(partial(self._admission.admit, spec))
        if execution_id is not None:
            raise ExecutionOwned(execution_id)
        spec = under_new_id(spec)
        driver = self._driver(spec.record.execution_id)
        return driver.run(partial(self._admission.admit, spec))

    def start(
        self,
        flow: FlowDef | Defined,
        inputs: Mapping[str, Json] | None = None,
        *,
        execution_id: str | None = None,
        cancel: CancellationToken | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> "Execution":
        """Run *flow* on a thread of its own, and return at once. Raises what `run` raises before anything runs.

        The interpreter waits for that thread at exit. What the run then raises is logged, and raised by
        `Execution.result`.

        >>> with Engine(lambda ctx: "done") as engine:
        ...     execution = engine.start(FlowDef("demo", steps=[]))
        ...     execution.result(timeout=10).success
        True
        """
        token = CancellationToken() if cancel is None else cancel.child()
        spec = self._admission.spec_of(flow, inputs, execution_id, token, labels)
        thread = RunThread(f"szal-run-{spec.record.execution_id}")  # before anything is recorded
        try:
            execution = self._start(spec, token, thread)
            if execution is None and execution_id is None:
                spec = under_new_id(spec)
                execution = self._start(spec, token, thread)
            if execution is None:
                raise ExecutionOwned(spec.record.execution_id)
        except BaseException:
            thread.give(None)
            raise
        return execution

    def _start(self, spec: ExecutionSpec, token: CancellationToken, thread: RunThread) -> Execution | None:
        """Have *thread* run what is admitted on this one; None where that id is somebody else's."""
        execution = Execution(spec.record.execution_id, token, self._admission.look)
        driver = self._driver(execution.execution_id, execution=execution)
        return driver.start(partial(self._admission.admit, spec, is_handed_out=True), thread, execution)

    def resume(self, execution_id: str, *, cancel: CancellationToken | None = None) -> FlowResult:
        """Continue an execution that was interrupted or is PAUSED, on this thread; or return the result it ended with.

        Steps that have ended are not run again. A sub-flow goes on with the execution that it belongs to, whose result
        is returned. The definition is the stored one, brought forward by `EngineConfig.migrations`. Raises
        `ExecutionNotFound`, `ExecutionOwned` (its owner is alive), `HandlerNotFound`, `DefinitionMismatch` (a step that
        has ended is no longer there), and what `run` raises.
        """
        return self._resume(execution_id, cancel)

    def _resume(
        self,
        execution_id: str,
        cancel: CancellationToken | None = None,
        *,
        background: bool = False,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> FlowResult:
        """As `resume`, unless it *is_wanted* no more: asked once the run is known here, and can be stopped."""
        recovery = self._admission.recovery()
        root = recovery.root_of(execution_id)
        driver = self._driver(root, background=background)
        with contextlib.suppress(NotAdmitted):
            return driver.run(lambda: recovery.resume(root, cancel) if is_wanted() else None)
        raise ExecutionOwned(root)

    def look(self, execution_id: str) -> "ExecutionStatus":
        """Return how far an execution has come, whichever process runs it: its steps, what it waits for.

        What runs in this engine is told as it stands, anything else as it is stored. Waits for nothing but the store.
        Raises `ExecutionNotFound`, and what the store raises.

        >>> from szal import StepDef, open_store
        >>> store = open_store("memory:")
        >>> with Engine(lambda ctx: 42, EngineConfig(execution_store=store)) as engine:
        ...     _ = engine.run(FlowDef("shop", steps=[StepDef("order")]), execution_id="order-42")
        >>> status = Engine([], EngineConfig(execution_store=store)).look("order-42")
        >>> str(status.state), status.steps["order"].output
        ('completed', 42)
        """
        return self._admission.look(execution_id)

    def check(self, execution_id: str, *, elsewhere: bool = False) -> None:
        """Raise what would keep an execution that has not ended from going on with this engine; it only reads.

        Whoever runs it now is of no account: this is what `resume` asks before it takes anything over. *elsewhere*:
        the working directories of commands are not looked for, as it is to go on on another machine.

        Raises `HandlerNotFound`, `DefinitionMismatch`, `MigrationFailed`, `WorkingDirectoryGone`, `ExecutionNotFound`,
        and `StoreError` where its definition is not recorded.

        >>> from szal import Handlers, StepDef, open_store
        >>> store = open_store("memory:")
        >>> flow = FlowDef("shop", steps=[StepDef("ask", step_type="wait", config={"signal": "go"}), StepDef("pay")])
        >>> with Engine(lambda ctx: None, EngineConfig(execution_store=store)) as engine:
        ...     _ = engine.run(flow, execution_id="order-42")
        >>> Engine(Handlers(), EngineConfig(execution_store=store)).check("order-42")
        Traceback (most recent call last):
        szal.errors.HandlerNotFound: no handler for step: pay
        """
        self._admission.recovery().check(execution_id, elsewhere=elsewhere)

    def recover(self, flow_name: str | None = None, limit: int | None = None) -> list[FlowResult]:
        """Continue at most *limit* executions that nobody runs; return how each ended, once all have.

        Each runs on a thread of its own, `EngineConfig.max_recovering` at a time. Those of which some step has no
        handler here are left alone, and so are those that a person interrupted; several processes share them out.
        What an execution raises is logged, and the others go on.
        """
        from szal.engine.mass_recovery import recover_all

        self._admission.active.check_open()
        found, at_once = self.interrupted(flow_name), self.config.max_recovering
        return recover_all(found, self._resume, limit=limit, at_once=at_once, stop=self._release)

    def interrupted(self, flow_name: str | None = None) -> list[str]:
        """Return the executions that nobody runs although they could go on: what `recover` looks at.

        Their processes died, or what they waited for has come; sub-flows go on with their parents.
        """
        return self._admission.recovery().interrupted(flow_name)

    def start_recovery(self, interval: float) -> None:
        """Have interrupted executions continued in the background, until the engine is closed.

        They are looked for every *interval* seconds, and at once after a `signal`; each runs on a daemon thread of its
        own, `EngineConfig.max_recovering` at a time. Raises ValueError for an interval that is not positive.
        """
        from szal.engine.mass_recovery import BackgroundRecovery

        if not interval > 0:
            raise ValueError(f"interval must be positive, and is {interval}")
        check("interval", interval)
        self._admission.active.check_open()
        recovery = self._admission.recovery()
        self._background.append(
            BackgroundRecovery(
                interval,
                lambda: recovery.interrupted(None),
                lambda execution_id: self._resume(execution_id, background=True),
                lambda execution_id: execution_id in self._admission.active,
                self.config.max_recovering,
            )
        )

    def rerun(
        self,
        execution_id: str,
        from_step: str | None = None,
        inputs: Mapping[str, Json] | None = None,
        *,
        flow: "FlowDef | Defined | Part | None" = None,
        new_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        cancel: CancellationToken | None = None,
    ) -> FlowResult:
        """Run a flow again as a *new* execution that keeps what completed in another one.

        What failed or was skipped runs; with *from_step*, that step too. If a step runs again, so does everything after
        it. A sub-flow that failed keeps what completed in it. *inputs* are laid over the earlier ones, as *labels* are.

        *flow* is the corrected definition: a step that is new or changed runs, with all that comes after it, and one
        that is not there any more is dropped. A `Part` of it runs alone, and takes what comes before it from the other
        execution. With *new_id* that is the id, and giving it is an idempotent start, as for `run`.

        Raises `ExecutionNotFound`, `ExecutionOwned`, `CannotReuse` (what a part needs did not complete), ValueError (no
        such step, one to resolve first, another flow), and what `run` raises.
        """
        from szal.engine.part import Part
        from szal.engine.recovery import Rerun

        self._admission.check_id(new_id)
        part = flow if isinstance(flow, Part) else None
        if part is not None and from_step is not None:
            raise ValueError("from_step does not go with a part of a flow: Part.from_step says where that begins")
        wanted = Rerun(
            from_step=from_step,
            inputs=inputs or {},
            flow=part.flow if part is not None else None if flow is None else definition_of(flow),  # type: ignore[arg-type]
            part=part,
            new_id=new_id,
            labels=checked_labels(labels or {}),
            token=cancel,
        )
        spec = self._admission.recovery().rerun(execution_id, wanted)
        driver = self._driver(spec.record.execution_id)
        with contextlib.suppress(NotAdmitted):
            return driver.run(partial(self._admission.admit, spec))
        raise ExecutionOwned(spec.record.execution_id)

    def signal(self, execution_id: str, name: str, value: Json = None, *, signal_id: str | None = None) -> bool:
        """Send a signal to an execution: committed on return, delivered once, to the first step that waits for it.

        It may come before the step is reached. False, and nothing is done: one with the same *signal_id* was sent
        before, or the execution has ended. An execution that is PAUSED goes on with the next `resume` or `recover`, at
        once where this engine recovers in the background. Raises `ExecutionNotFound`, `EncodeError`.
        """
        signal = self._admission.recovery().signal(execution_id, name, value, signal_id)
        if signal is None:
            return False
        for driver in self._admission.active.having(execution_id):
            driver.offer(execution_id, signal)
        for background in self._background:
            background.wake(execution_id)
        return True

    def cancel(self, execution_id: str) -> bool:
        """Have an execution cancelled, wherever it runs: its owner sees it at its next heartbeat, this engine at once.

        One that is PAUSED is cancelled when it is resumed or recovered next; a sub-flow with all that it belongs to.
        False where it has ended. Raises `ExecutionNotFound`, `StoreError` (another program, szal-rs say, runs it).
        """
        here = self._admission.active.having(execution_id)
        asked = self._admission.recovery().cancel(execution_id, runs_here=bool(here))
        told = [driver.request_stop(Stop.CANCELLED) for driver in here]
        return asked and all(told)

    def end_grace(self) -> None:
        """End the grace of runs that were told to stop: give up on handlers that still run, undoing ones included.

        From any thread, and from a signal handler. Other runs are not touched.
        """
        for driver in self._admission.active.all():
            driver.end_grace()

    def resolve(
        self, execution_id: str, step: str, decision: Literal["completed", "failed", "retry"], output: Json = None
    ) -> None:
        """Decide on a step with ``idempotent=False`` that may or may not have been done when its process died.

        "completed" (with *output*), "failed", or "retry": run it again. Then `resume` or `recover` goes on.
        Raises `ExecutionNotFound`, `ExecutionOwned`, `EncodeError` (an output that cannot be recorded), ValueError
        where nothing is to be decided on that step.
        """
        self._admission.recovery().resolve(execution_id, step, decision, output)

    # -- inside --------------------------------------------------------------------------------------

    def _driver(self, execution_id: str, *, background: bool = False, execution: Execution | None = None) -> Driver:
        return Driver(self, execution_id, self._admission.leased, background=background, execution=execution)

    def _release(self, execution_ids: Iterable[str], error: BaseException) -> None:
        """Have runs given back where they stand, for *error*, which they raise."""
        for driver in self._admission.active.all():
            if driver.execution_id in execution_ids:
                driver.request_stop(Stop.RELEASED, error)

    def take(self, driver: Driver) -> bool:
        """Take the id of a run for it; called by its driver."""
        return self._admission.active.take(driver.execution_id, driver)

    def give_back(self, driver: Driver) -> None:
        """Take note that a run is over; called by its driver."""
        if self._admission.active.give_back(driver.execution_id, driver):
            self._shut_down()
        if driver.has_paused:  # what it waits for may have come meanwhile, when it could not be taken up yet
            for background in self._background:
                background.wake(driver.execution_id)

    def on_abandoned(self, attempt: Attempt) -> None:
        """Take note that a handler was left behind; called by the run's coordinating thread."""
        self._abandoned.append(None)
        logger.warning(
            "step %s of %s (execution %s) runs past its time: its thread is left behind",
            attempt.context.step.name,
            attempt.context.flow_name,
            attempt.context.execution_id,
        )
