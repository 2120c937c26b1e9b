"""The engine: what a program calls to run flows."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import attrs

from szal.engine.config import EngineConfig
from szal.engine.execution import Execution
from szal.engine.lifecycle import Lifecycle
from szal.engine.request import Keeper, Request, bind
from szal.engine.sub_flows import is_child_id
from szal.errors import ExecutionNotFound, ExecutionOwned, HandlerNotFound, LeaseLost, SzalError
from szal.expressions.path import Json
from szal.model.flow import FlowDef
from szal.model.json.text import dumps
from szal.model.results import ExecutionRecord, FlowResult
from szal.model.state import WorkflowState
from szal.model.step import new_id
from szal.scheduler.attempt import Attempt
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.context import StepContext
from szal.scheduler.loop import Scheduler
from szal.scheduler.plan import Plan
from szal.scheduler.workers import Threads
from szal.steps.handlers import EveryStep, Handlers

if TYPE_CHECKING:
    from szal.engine.recovery import Recovery

__all__ = ["Engine", "run"]

logger = logging.getLogger(__name__)


class Engine:
    """Runs flows. One engine serves many threads at once; `close` it, or use it in a ``with``, when done.

    `handler` does every step (``handler(ctx) -> JSON value``), or is a `Handlers` registry. A handler fails its
    step by raising. Runs share the engine's threads, which are started when first needed; what bounds a run
    (`EngineConfig.max_concurrency`) is each run's own.

    >>> from szal import Engine, FlowDef, StepDef
    >>> with Engine(lambda ctx: ctx.inputs["n"] * 2) as engine:
    ...     engine.run(FlowDef("double", steps=[StepDef("twice")]), {"n": 21}).outputs
    {'twice': 42}
    """

    def __init__(self, handler: Callable[[StepContext], Json] | Handlers, config: EngineConfig | None = None) -> None:
        self.config = EngineConfig() if config is None else config
        self._resolver = handler if isinstance(handler, Handlers) else EveryStep(handler)
        self._threads = Threads()
        self._lock = threading.RLock()  # `hurry` may interrupt this thread while it holds it
        self._active: dict[str, _Drive | None] = {}  # the executions that this engine runs now, in the process `_pid`
        self._pid = os.getpid()
        self._kept: tuple[int, Recovery] | None = None  # with the pid it is for
        self._ended = threading.Event()
        self._abandoned = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse further runs and let idle threads end. Waits for nothing; runs that go on are not disturbed."""
        self._closed = True
        self._ended.set()
        with self._lock:
            if not self._active:
                self._shut_down()

    def _check_open(self) -> None:
        if self._closed:
            raise SzalError("this engine is closed")

    def _shut_down(self) -> None:
        self._threads.close()
        if self._kept is not None:
            self._kept[1].keeper.heartbeat.close()

    @property
    def abandoned(self) -> int:
        """How many handlers this engine has left behind so far, because they ran past their time.

        Each still occupies a thread until it ends by itself.
        """
        return self._abandoned

    def run(
        self,
        flow: FlowDef,
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

        Raises, before anything runs: `InvalidFlow`, `HandlerNotFound`, `EncodeError` (inputs, labels or a config that
        JSON cannot hold), `ExecutionOwned` (somebody is running that id), `DefinitionMismatch` (that id is another
        flow's). Raises `LeaseLost` where another process has taken the execution over, and what the store raises,
        after the run if it came up in it. KeyboardInterrupt cancels the run and is raised once that is recorded.

        >>> with Engine(lambda ctx: ctx.step.name.upper()) as engine:
        ...     engine.run(FlowDef("demo", steps=[])).success
        True
        """
        prepared = self._prepare(flow, inputs, execution_id, cancel, labels)
        return prepared if isinstance(prepared, FlowResult) else prepared.drive()

    def start(
        self,
        flow: FlowDef,
        inputs: Mapping[str, Json] | None = None,
        *,
        execution_id: str | None = None,
        cancel: CancellationToken | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> "Execution":
        """Run *flow* on a thread of its own, and return at once. Raises what `run` raises before anything runs.

        The interpreter waits for that thread at exit.

        >>> with Engine(lambda ctx: "done") as engine:
        ...     execution = engine.start(FlowDef("demo", steps=[]))
        ...     execution.result(timeout=10).success
        True
        """
        token = CancellationToken() if cancel is None else cancel.child()
        prepared = self._prepare(flow, inputs, execution_id, token, labels)
        if isinstance(prepared, FlowResult):
            return Execution(prepared.execution_id or "", token, lambda: prepared)
        try:
            return Execution(prepared.execution_id, token, prepared.drive)
        except RuntimeError:  # no thread to be had
            self._release(prepared.execution_id)
            raise

    def resume(self, execution_id: str, *, cancel: CancellationToken | None = None) -> FlowResult:
        """Continue an execution that was interrupted or is PAUSED, on this thread; or return the result it ended with.

        Steps that have ended are not run again. A sub-flow goes on with the execution that it belongs to, whose result
        is returned. The definition is the stored one, brought forward by
        `EngineConfig.migrations`. Raises `ExecutionNotFound`, `ExecutionOwned` (its owner is alive),
        `HandlerNotFound`, `DefinitionMismatch` (a step that has ended is no longer there), and what `run` raises.
        """
        return self._finish(self._recovery().resume(execution_id, cancel))

    def recover(self, flow_name: str | None = None, limit: int | None = None) -> list[FlowResult]:
        """Continue, one after another, at most *limit* executions that nobody runs; return how each ended.

        Those of which some step has no handler here are left alone; several processes share them out.
        An execution that raises is logged, and the others go on.
        """
        self._check_open()
        results: list[FlowResult] = []
        for execution_id in self.interrupted(flow_name):
            if self._closed or (limit is not None and len(results) >= limit):
                break
            try:
                results.append(self.resume(execution_id))
            except (ExecutionOwned, ExecutionNotFound, HandlerNotFound, LeaseLost):
                continue
            except SzalError:
                logger.exception("cannot recover execution %s", execution_id)
        return results

    def interrupted(self, flow_name: str | None = None) -> list[str]:
        """Return the executions that nobody runs although they could go on: what `recover` looks at.

        Their processes died, or what they waited for has come; sub-flows go on with their parents.
        """
        return self._recovery().interrupted(flow_name)

    def start_recovery(self, interval: float) -> None:
        """Have `recover` called every *interval* seconds, on a daemon thread, until the engine is closed.

        Raises ValueError for an interval that is not positive.
        """
        if not interval > 0:
            raise ValueError(f"interval must be positive, and is {interval}")
        self._check_open()
        self._recovery()
        thread = threading.Thread(target=self._recover_for_ever, args=[interval], name="szal-recovery", daemon=True)
        thread.start()

    def _recover_for_ever(self, interval: float) -> None:
        while not self._ended.wait(interval):
            try:
                self.recover()
            except Exception:  # the store is away; the next time may be better
                if self._closed:
                    return
                logger.exception("recovery failed; trying again in %gs", interval)

    def rerun(
        self,
        execution_id: str,
        from_step: str | None = None,
        inputs: Mapping[str, Json] | None = None,
        *,
        cancel: CancellationToken | None = None,
    ) -> FlowResult:
        """Run a flow again as a *new* execution that keeps what completed in another one.

        What failed or was skipped runs; with *from_step*, that step and all that comes after it. *inputs* are laid over
        the earlier ones. Raises `ExecutionNotFound`, ValueError (no such step), and what `run` raises.
        """
        return self._finish(self._recovery().rerun(execution_id, from_step, inputs, cancel))

    def signal(self, execution_id: str, name: str, value: Json = None, *, signal_id: str | None = None) -> bool:
        """Send a signal to an execution: committed on return, delivered once, to the first step that waits for it.

        It may come before the step is reached. False, and nothing is done: one with the same *signal_id* was sent
        before, or the execution has ended. An execution that is PAUSED goes on with the next `resume` or `recover`.
        Raises `ExecutionNotFound`, `EncodeError`.
        """
        sent = self._recovery().signal(execution_id, name, value, signal_id)
        for drive in self._drives_of(execution_id):
            drive.look()
        return sent

    def cancel(self, execution_id: str) -> bool:
        """Have an execution cancelled, wherever it runs: its owner sees it at its next heartbeat, this engine at once.

        One that is PAUSED is cancelled when it is resumed or recovered next; a sub-flow with all that it belongs to.
        False where it has ended. Raises `ExecutionNotFound`, `StoreError` (another program, szal-rs say, runs it).
        """
        asked = self._recovery().cancel(execution_id)
        for drive in self._drives_of(execution_id):
            drive.cancel(execution_id)
        return asked

    def _drives_of(self, execution_id: str) -> "list[_Drive]":
        """Return what this engine runs of an execution; of a sub-flow, all among which that may be."""
        with self._lock:
            if execution_id in self._active or not is_child_id(execution_id):
                found = [self._active.get(execution_id)]
            else:
                found = list(self._active.values())
        return [drive for drive in found if drive is not None]

    def hurry(self) -> None:
        """End the grace of cancelled runs: give up on handlers that still run, undoing ones included.

        From any thread, and from a signal handler. Runs that were not cancelled are not touched.
        """
        with self._lock:
            drives = [drive for drive in self._active.values() if drive is not None]
        for drive in drives:
            drive.hurry()

    def resolve(
        self, execution_id: str, step: str, decision: Literal["completed", "failed", "retry"], output: Json = None
    ) -> None:
        """Decide on a step with ``idempotent=False`` that may or may not have been done when its process died.

        "completed" (with *output*), "failed", or "retry": run it again. Then `resume` or `recover` goes on.
        Raises `ExecutionNotFound`, `ExecutionOwned`, ValueError where nothing is to be decided on that step.
        """
        self._recovery().resolve(execution_id, step, decision, output)

    def _finish(self, found: Request | FlowResult) -> FlowResult:
        return found if isinstance(found, FlowResult) else _Drive(self, found).drive()

    def _prepare(
        self,
        flow: FlowDef,
        inputs: Mapping[str, Json] | None,
        execution_id: str | None,
        cancel: CancellationToken | None,
        labels: Mapping[str, str] | None,
    ) -> "_Drive | FlowResult":
        self._check_open()
        if not isinstance(execution_id, str | None):
            raise TypeError(f"execution_id must be a string, not {type(execution_id).__name__}: use str()")
        if execution_id == "":
            raise ValueError("execution_id is empty")
        plan = Plan.of(flow)
        binding = bind(flow, plan, self._resolver, self.config)
        given = {**flow.inputs, **(inputs or {})}
        labels = dict(labels or {})
        if self.config.execution_store is not None:
            dumps(given, "inputs")
            dumps(labels, "labels")
        record = ExecutionRecord(
            flow.id if execution_id is None else execution_id,
            flow.name,
            WorkflowState.RUNNING,
            inputs=given,
            flow_id=flow.id,
            flow_version=flow.version,
            labels=labels,
        )
        request = Request(flow=flow, plan=plan, binding=binding, record=record, token=cancel)
        found = self._reserve(request, wanted=execution_id is not None)
        return found if isinstance(found, FlowResult) else _Drive(self, found)

    def _reserve(self, request: Request, *, wanted: bool) -> Request | FlowResult:
        """Return the request under an id that no other run has; or what there is already under the wanted one."""
        name = request.record.execution_id
        if self.hold(name):
            try:
                found = self._admit(request, wanted=wanted)
            except BaseException:
                self._release(name)
                raise
            if isinstance(found, Request):
                return found
            self._release(name)
            if found is not None:
                return found
        if wanted:
            raise ExecutionOwned(name)
        return self._reserve(
            attrs.evolve(request, record=attrs.evolve(request.record, execution_id=new_id())), wanted=True
        )

    def _admit(self, request: Request, *, wanted: bool) -> Request | FlowResult | None:
        store = self.config.execution_store
        if self._has_ledger:
            return self._recovery().admit(request, wanted=wanted)
        record = None if store is None else store.get(request.record.execution_id)
        if record is None:
            return request
        return record.result if wanted and not record.state.is_live else None

    @property
    def _has_ledger(self) -> bool:
        return getattr(self.config.execution_store, "ledger", None) is not None

    def _recovery(self) -> "Recovery":
        """Return what deals with the ledger, made at first use in the process that uses it."""
        if not self._has_ledger:
            raise SzalError("this needs EngineConfig.execution_store to be one of szal's own stores")
        from szal.engine.recovery import Recovery  # only engines with a ledger need it

        with self._lock:
            if self._kept is None or self._kept[0] != os.getpid():
                self._kept = (os.getpid(), Recovery(self.config, self._resolver, self.hold, self._release))
            return self._kept[1]

    @property
    def _keeper(self) -> Keeper | None:
        return self._recovery().keeper if self._has_ledger else None

    def hold(self, execution_id: str) -> bool:
        """Take an id for a run of this engine; False where one has it. Raises `SzalError` once it is closed."""
        with self._lock:
            self._check_open()
            if self._pid != os.getpid():  # what the parent of a fork runs does not run here
                self._pid, self._active = os.getpid(), {}
            taken = execution_id in self._active
            if not taken:
                self._active[execution_id] = None
        return not taken

    def _release(self, execution_id: str) -> None:
        with self._lock:
            self._active.pop(execution_id, None)
            if self._closed and not self._active:
                self._shut_down()

    def _on_abandoned(self, attempt: Attempt) -> None:
        with self._lock:
            self._abandoned += 1
        logger.warning(
            "step %s of %s (execution %s) runs past its time: its thread is left behind",
            attempt.node.step.name,
            attempt.context.flow_name,
            attempt.context.execution_id,
        )


class _Drive:
    """One top-level run: its lifecycle and the scheduler that drives it."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self.execution_id = request.record.execution_id
        self._engine = engine
        self._request = request
        self._result: FlowResult | None = None
        self._lifecycle: Lifecycle | None = None
        config = engine.config
        self._scheduler = Scheduler(engine._threads, config.max_concurrency, config.cancel_grace, engine._on_abandoned)

    def drive(self) -> FlowResult:
        """Run it on this thread."""
        engine, token, scheduler = self._engine, self._request.token, self._scheduler
        lifecycle = self._lifecycle = Lifecycle(
            self._request, scheduler, engine._resolver, engine.config, self._on_end, keeper=engine._keeper
        )
        if engine._has_ledger:
            scheduler.on_idle = lifecycle.idle
        unsubscribe = None if token is None else token.subscribe(lambda: scheduler.call(scheduler.cancel))
        with engine._lock:
            engine._active[self.execution_id] = self
        try:
            with scheduler.interrupts:
                lifecycle.begin()
                scheduler.drive()
        finally:
            if unsubscribe is not None:
                unsubscribe()
            lifecycle.drop_leases()
            engine._release(self.execution_id)
        if lifecycle.store_error is not None:
            raise lifecycle.store_error
        assert self._result is not None
        return self._result

    def look(self) -> None:
        """Have it see whether a signal has come. From any thread."""
        if self._lifecycle is not None:
            self._scheduler.call(self._lifecycle.look)

    def cancel(self, execution_id: str) -> None:
        """Cancel it, if it is that execution or has it as a sub-flow. From any thread."""
        if execution_id == self.execution_id:
            self._scheduler.end(self._scheduler.cancel)
        elif self._lifecycle is not None:
            self._scheduler.call(partial(self._lifecycle.cancel, execution_id))

    def hurry(self) -> None:
        """Give up on what still runs, if it is cancelled. From any thread."""
        self._scheduler.call(self._scheduler.hurry)

    def _on_end(self, _: Lifecycle, result: FlowResult) -> None:
        self._result = result


def run(
    flow: FlowDef,
    inputs: Mapping[str, Json] | None = None,
    *,
    handler: Callable[[StepContext], Json] | Handlers | None = None,
    store: str | None = None,
    labels: Mapping[str, str] | None = None,
    cancel: CancellationToken | None = None,
) -> FlowResult:
    """Run *flow* with an engine made for it, recorded in the store at the URL `store` ("sqlite:///szal.db").

    `handler` is as for `Engine`; without one the flow's steps must be of the types that `Handlers` brings.

    >>> run(FlowDef("hello"), handler=lambda ctx: "world").success
    True
    """
    from szal.stores import open_store  # the databases' libraries are slow to import, and optional here

    resolver = Handlers() if handler is None else handler
    if store is None:
        with Engine(resolver) as engine:
            return engine.run(flow, inputs, labels=labels, cancel=cancel)
    with (
        open_store(store) as opened,
        opened.engine_sink() as sink,
        Engine(resolver, EngineConfig(execution_store=sink)) as engine,
    ):
        return engine.run(flow, inputs, labels=labels, cancel=cancel)
