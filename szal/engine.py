"""The engine: what a program calls to run flows."""

import contextvars
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Self

from szal import jsontext
from szal.attempt import Attempt
from szal.cancel import CancellationToken
from szal.config import EngineConfig
from szal.context import StepContext
from szal.errors import ExecutionOwned, SzalError
from szal.execution import FlowResult
from szal.flow import FlowDef
from szal.handlers import EveryStep, Handlers
from szal.lifecycle import Lifecycle, Request, bind
from szal.plan import Plan
from szal.scheduler import Scheduler
from szal.step import Json, new_id
from szal.workers import Threads

__all__ = ["Engine", "Execution", "run"]

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
        self._lock = threading.Lock()
        self._active: set[str] = set()  # ids of the executions that this engine runs now
        self._abandoned = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Refuse further runs and let idle threads end. Waits for nothing; runs that go on are not disturbed."""
        self._closed = True
        with self._lock:
            if not self._active:
                self._threads.close()

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
        With an id whose execution has finished, its stored result is returned and nothing runs.

        Raises, before anything runs: `InvalidFlow`, `HandlerNotFound`, `EncodeError` (inputs or labels that JSON
        cannot hold), `ExecutionOwned` (that id is being run). Raises what the store raises, after the run if it
        came up in it. KeyboardInterrupt cancels the run and is raised once that is recorded.

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

    def _prepare(
        self,
        flow: FlowDef,
        inputs: Mapping[str, Json] | None,
        execution_id: str | None,
        cancel: CancellationToken | None,
        labels: Mapping[str, str] | None,
    ) -> "_Drive | FlowResult":
        if self._closed:
            raise SzalError("this engine is closed")
        plan = Plan.of(flow)
        binding = bind(flow, plan, self._resolver, self.config)
        given = {**flow.inputs, **(inputs or {})}
        labels = dict(labels or {})
        if self.config.execution_store is not None:
            jsontext.dumps(given, "inputs")
            jsontext.dumps(labels, "labels")
        found = self._claim(flow, execution_id)
        if isinstance(found, FlowResult):
            return found
        request = Request(
            flow=flow, plan=plan, binding=binding, inputs=given, execution_id=found, labels=labels, token=cancel
        )
        return _Drive(self, request)

    def _claim(self, flow: FlowDef, wanted: str | None) -> str | FlowResult:
        """Return the id for a new execution, taken so that no other run of this engine gets it."""
        store = self.config.execution_store
        name = flow.id if wanted is None else wanted
        with self._lock:
            taken = name in self._active
            if not taken:
                self._active.add(name)
        if not taken:
            try:
                record = None if store is None else store.get(name)
            except BaseException:
                self._release(name)
                raise
            if record is None:
                return name
            self._release(name)
            if wanted is not None and record.result is not None and not record.state.is_live:
                return record.result
        if wanted is not None:
            raise ExecutionOwned(wanted)
        fresh = new_id()
        with self._lock:
            self._active.add(fresh)
        return fresh

    def _release(self, execution_id: str) -> None:
        with self._lock:
            self._active.discard(execution_id)
            if self._closed and not self._active:
                self._threads.close()

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
        self.execution_id = request.execution_id
        self._engine = engine
        self._request = request
        self._result: FlowResult | None = None

    def drive(self) -> FlowResult:
        """Run it on this thread."""
        engine, token = self._engine, self._request.token
        config = engine.config
        scheduler = Scheduler(engine._threads, config.max_concurrency, config.cancel_grace, engine._on_abandoned)
        lifecycle = Lifecycle(self._request, scheduler, engine._resolver, config, self._ended)
        unsubscribe = None if token is None else token.subscribe(lambda: scheduler.call(scheduler.cancel))
        try:
            with scheduler.interrupts:
                lifecycle.begin()
                scheduler.drive()
        finally:
            if unsubscribe is not None:
                unsubscribe()
            engine._release(self.execution_id)
        if lifecycle.store_error is not None:
            raise lifecycle.store_error
        assert self._result is not None
        return self._result

    def _ended(self, _: Lifecycle, result: FlowResult) -> None:
        self._result = result


class Execution:
    """A run in the background, as `Engine.start` returns it. Its methods may be called from any thread."""

    def __init__(self, execution_id: str, token: CancellationToken, drive: Callable[[], FlowResult]) -> None:
        self.execution_id = execution_id
        self._token = token
        self._drive = drive
        self._result: FlowResult | None = None
        self._error: BaseException | None = None
        work = contextvars.copy_context().run
        self._thread = threading.Thread(target=work, args=(self._work,), name=f"szal-run-{execution_id}")
        self._thread.start()

    def _work(self) -> None:
        try:
            self._result = self._drive()
        except BaseException as error:  # noqa: BLE001 (raised again by `result`)
            self._error = error

    @property
    def done(self) -> bool:
        """Whether the run has ended and is recorded."""
        return not self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run has ended, at most *timeout* seconds; return whether it has."""
        self._thread.join(timeout)
        return self.done

    def result(self, timeout: float | None = None) -> FlowResult:
        """Block for the result, at most *timeout* seconds (then TimeoutError); raise what `Engine.run` would have."""
        if not self.wait(timeout):
            raise TimeoutError(f"execution {self.execution_id} has not ended within {timeout:g}s")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def cancel(self) -> None:
        """Cancel the run. Returns at once; `result` then has the state CANCELLED, or ROLLED_BACK."""
        self._token.cancel()


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
