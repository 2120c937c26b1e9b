"""The engine: what a program calls to run flows."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

import attrs

from szal.clock import monotonic
from szal.engine.admission import under_new_id
from szal.engine.driver import NotAdmitted
from szal.engine.execution import Execution, RunThread
from szal.engine.fleet import Fleet
from szal.engine.spec import ExecutionSpec
from szal.errors import ConcurrencyKeyTaken, ExecutionNotFound, ExecutionOwned
from szal.expressions.path import Json
from szal.model.flow import Defined, FlowDef, definition_of
from szal.model.json import checked_labels
from szal.model.results import FlowResult
from szal.number import check, check_wait, shown
from szal.scheduler.cancel import CancellationToken, check_token

if TYPE_CHECKING:
    from szal.engine.part import Part
    from szal.engine.status import ExecutionStatus
    from szal.engine.watching import Watch
    from szal.stores.ledger import Signal

__all__ = ["Engine"]


class Engine(Fleet):
    """Runs flows. One engine serves many threads at once; `close` it, or use it in a ``with``, when done.

    `handler` is a `szal.Flow` or several, a function that does every step (``handler(ctx) -> JSON value``), or a
    `Handlers` registry. A handler fails its step by raising. Runs share the engine's threads, which are started when
    first needed; what bounds a run (`EngineConfig.max_concurrency`) is each run's own.

    >>> from szal import Engine, FlowDef, StepDef
    >>> with Engine(lambda ctx: ctx.inputs["n"] * 2) as engine:
    ...     engine.run(FlowDef("double", steps=[StepDef("twice")]), {"n": 21}).outputs
    {'twice': 42}
    """

    def run(
        self,
        flow: FlowDef | Defined,
        inputs: Mapping[str, Json] | None = None,
        *,
        execution_id: str | None = None,
        cancel: CancellationToken | None = None,
        labels: Mapping[str, str] | None = None,
        retry_failed: bool = False,
        if_running: Literal["raise", "wait"] = "raise",
    ) -> FlowResult:
        """Run *flow* on this thread, and return how it ended once that is recorded. A flow that fails returns.

        `execution_id` defaults to the flow's id where the store has no execution under it, else to a new UUID.
        Giving one is an idempotent start: an execution that was interrupted or waits is continued, of one that has
        ended the stored result is returned, and nothing runs twice. Where somebody is running it, `if_running` says
        what then: "raise" `ExecutionOwned`, or "wait" until they do no more, and do as above; *cancel* ends the waiting
        (`Cancelled`), not what they run. So it is where another execution has the flow's `concurrency_key`: "raise"
        `ConcurrencyKeyTaken`, which names it, or "wait" until that has ended, for the flow's `timeout` at most.

        With *retry_failed*, an execution that has failed is run again under its id, with the inputs that it had: what
        failed, what that skipped, and what comes after either; the rest stands. One that was undone or cancelled is
        refused (`CannotRetry`). `rerun` makes a new execution instead.

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
        if if_running not in ("raise", "wait"):
            raise ValueError(f"if_running is 'raise' or 'wait', not {if_running!r}")
        if if_running == "wait" and execution_id is None and definition_of(flow).concurrency_key is None:
            raise ValueError("if_running='wait' needs an execution_id, or a concurrency_key: without, a run is new")
        if retry_failed and (execution_id is None or not self._admission.has_ledger):
            raise ValueError("retry_failed=True needs an execution_id, and one of szal's own stores")
        if if_running == "wait":
            run = partial(self.run, flow, inputs, execution_id=execution_id, cancel=cancel, labels=labels)
            limit = self.config.limit_of(definition_of(flow))
            return self._run_once_free(execution_id, cancel, limit, partial(run, retry_failed=retry_failed))
        spec = self._admission.spec_of(flow, inputs, execution_id, cancel, labels)
        if retry_failed:
            spec = attrs.evolve(spec, retries_failed=True)
        driver = self._driver(spec.record.execution_id)
        try:
            return driver.run(partial(self._admission.admit, spec))
        except NotAdmitted:
            if execution_id is not None:
                raise ExecutionOwned(execution_id) from None
        spec = under_new_id(spec)
        driver = self._driver(spec.record.execution_id)
        return driver.run(partial(self._admission.admit, spec))

    def _run_once_free(
        self,
        execution_id: str | None,
        cancel: CancellationToken | None,
        limit: float | None,
        run: Callable[[], FlowResult],
    ) -> FlowResult:
        """Return what *run* does, tried again as long as somebody else runs that execution, or has its concurrency key.

        For the key it waits for *limit* seconds at most.
        """
        endings, until = self._admission.endings(), None if limit is None else monotonic() + limit
        while True:
            try:
                return run()
            except ExecutionOwned as error:
                if execution_id is None or error.execution_id != execution_id:
                    raise
                endings.until_free(execution_id, cancel)
            except ConcurrencyKeyTaken as error:
                endings.until_key_free(error, cancel, None if until is None else max(0.0, until - monotonic()))

    def start(
        self,
        flow: FlowDef | Defined,
        inputs: Mapping[str, Json] | None = None,
        *,
        execution_id: str | None = None,
        cancel: CancellationToken | None = None,
        labels: Mapping[str, str] | None = None,
        signal: tuple[str, Json] | None = None,
    ) -> "Execution":
        """Run *flow* on a thread of its own, and return at once. Raises what `run` raises before anything runs.

        The interpreter waits for that thread at exit (but see `EngineConfig.daemon`). What the run then raises is
        logged, and raised by `Execution.result`.

        *signal*, a name and a value, is sent to it before anything of it runs, once for all calls with the same
        `execution_id`: so who calls again after a crash does no harm. Somebody else's execution is sent it too, before
        `ExecutionOwned` is raised; one that has ended is not.

        >>> with Engine(lambda ctx: "done") as engine:
        ...     execution = engine.start(FlowDef("demo", steps=[]))
        ...     execution.result(timeout=10).success
        True
        """
        check_token(cancel)
        given: object = signal
        if given is not None and not (isinstance(given, tuple | list) and len(given) == len(("name", "value"))):
            raise TypeError(f"signal must be a name and a value, as in ('approve', True), not {shown(given)}")
        token = CancellationToken() if cancel is None else cancel.child()
        spec = self._admission.spec_of(flow, inputs, execution_id, token, labels)
        sent = None if signal is None else self._admission.recovery().signal_of(*signal, f"start:{signal[0]}")
        thread = RunThread(f"szal-run-{spec.record.execution_id}", daemon=self.config.daemon)  # before it is recorded
        try:
            execution = self._start(spec, token, thread, sent)
            if execution is None and execution_id is None:
                spec = under_new_id(spec)
                execution = self._start(spec, token, thread, sent)
            if execution is None:
                raise ExecutionOwned(spec.record.execution_id)
        except BaseException as error:
            thread.give(None)
            if sent is not None and isinstance(error, ExecutionOwned):
                self._send(spec.record.execution_id, sent)
            raise
        return execution

    def check_start(
        self,
        flow: FlowDef | Defined,
        inputs: Mapping[str, Json] | None = None,
        *,
        execution_id: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Raise what `start` raises for what is wrong with the call. It only looks: for a start that is put off.

        >>> Engine(lambda ctx: "done").check_start(FlowDef("demo", inputs={"day": {"required": True}}, steps=[]))
        Traceback (most recent call last):
        szal.errors.InvalidInputs: invalid inputs for flow 'demo': input 'day' is required: a value
        """
        self._admission.spec_of(flow, inputs, execution_id, None, labels)

    def _start(
        self, spec: ExecutionSpec, token: CancellationToken, thread: RunThread, signal: "Signal | None"
    ) -> Execution | None:
        """Have *thread* run what is admitted on this one; None where that id is somebody else's."""
        execution = Execution(spec.record.execution_id, token, self._admission.look)
        execution.redaction = spec.redaction
        driver = self._driver(execution.execution_id, execution=execution)
        return driver.start(partial(self._admission.admit, spec, is_handed_out=True, signal=signal), thread, execution)

    def look(self, execution_id: str) -> "ExecutionStatus":
        """Return how far an execution has come, whichever process runs it: its steps, what it waits for.

        What runs in this engine is told as it stands, anything else as it is stored. Waits for nothing but the store.
        Raises `ExecutionNotFound`, and what the store raises.

        >>> from szal import EngineConfig, StepDef, open_store
        >>> store = open_store("memory:")
        >>> with Engine(lambda ctx: 42, EngineConfig(execution_store=store)) as engine:
        ...     _ = engine.run(FlowDef("shop", steps=[StepDef("order")]), execution_id="order-42")
        >>> status = Engine([], EngineConfig(execution_store=store)).look("order-42")
        >>> str(status.state), status.steps["order"].output
        ('completed', 42)
        """
        self._admission.check_asked_for(execution_id)
        return self._admission.look(execution_id)

    def watch(self, execution_id: str, timeout: float | None = None, *, interval: float = 1.0) -> "Watch":
        """Return an iterator over how far an execution has come: now, and whenever that changes, until it has ended.

        Iterating blocks. The last is how it ended (COMPLETED, FAILED, ROLLED_BACK or CANCELLED); one that is PAUSED has
        not. It ends without that after *timeout* seconds in all (None: never), and when the engine is closed. What has
        changed several times between two looks is told once: nothing queues up.

        What runs in this engine is heard of at once, and what another process runs as soon as it is written: of
        PostgreSQL by LISTEN and NOTIFY, of an SQLite file within 20 ms. Besides, and of other stores, it looks every
        *interval* seconds: which is how it sees that a process has died. Any number may watch, for one thread more.

        Leaving the loop lets go of everything, as `close` does, which may be called from any thread, and the end of a
        ``with``. Raises `ExecutionNotFound`, and what the store raises; once it has begun, a store that is away is
        waited for.

        >>> from szal import EngineConfig, StepDef, open_store
        >>> with Engine(lambda ctx: 42, EngineConfig(execution_store=open_store("memory:"))) as engine:
        ...     _ = engine.start(FlowDef("shop", steps=[StepDef("order")]), execution_id="order-42")
        ...     *_, last = engine.watch("order-42", timeout=20)
        >>> str(last.state), last.steps["order"].output
        ('completed', 42)
        """
        self._admission.check_asked_for(execution_id)
        if timeout is not None:
            check_wait("timeout", timeout)
        check("interval", interval)
        if not interval > 0:
            raise ValueError(f"interval must be positive, and is {interval}")
        return self._admission.watchers().watch(execution_id, timeout, interval)

    def result(self, execution_id: str, timeout: float | None = None) -> FlowResult:
        """Wait until an execution has ended, whichever process runs it, and return its result, as it is recorded.

        Blocks for at most *timeout* seconds (None: for as long as it takes), then raises TimeoutError; one that is
        PAUSED has not ended. Another process is heard of by looking at the store, twice a second at least. Raises
        `ExecutionNotFound`, RuntimeError in a step of that very execution, `SzalError` where nothing is recorded.

        >>> from szal import EngineConfig, StepDef, open_store
        >>> with Engine(lambda ctx: 42, EngineConfig(execution_store=open_store("memory:"))) as engine:
        ...     _ = engine.start(FlowDef("shop", steps=[StepDef("order")]), execution_id="order-42")
        ...     engine.result("order-42", timeout=10).outputs
        {'order': 42}
        """
        self._admission.check_asked_for(execution_id)
        if timeout is not None:
            check_wait("timeout", timeout)
        return self._admission.endings().result(execution_id, timeout)

    def rerun(
        self,
        execution_id: str,
        from_step: str | None = None,
        inputs: Mapping[str, Json] | None = None,
        *,
        flow: "FlowDef | Defined | Part | None" = None,
        outputs: Mapping[str, Json] | None = None,
        new_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        cancel: CancellationToken | None = None,
    ) -> FlowResult:
        """Run a flow again as a *new* execution that keeps what completed in another one.

        What failed or was skipped runs; with *from_step*, that step too. If a step runs again, so does everything after
        it. A sub-flow that failed keeps what completed in it. *inputs* are laid over the earlier ones, as *labels* are.

        *flow* is the corrected definition: a step that is new or changed runs, with all that comes after it, and one
        that is not there any more is dropped. A `Part` of it runs alone, and takes what comes before it from the other
        execution. *outputs* are those of steps, by name, that are not to run: they count as completed, what comes after
        them runs, and nothing undoes them. With *new_id* that is the id, and giving it is an idempotent start, as for
        `run`: the second call goes on with the same rerun, or returns its result.

        Raises `ExecutionNotFound`, `ExecutionOwned`, `CannotReuse` (what a part needs did not complete), ValueError (no
        such step, one to resolve first, another flow), and what `run` raises.
        """
        from szal.engine.part import Part
        from szal.engine.rerun import Rerun

        self._admission.check_asked_for(execution_id)
        self._admission.check_id(new_id)
        check_token(cancel)
        given: object = outputs
        if not isinstance(given, Mapping | None):
            raise TypeError(f"outputs must be a mapping of steps to their outputs, not {type(given).__name__}")
        part = flow if isinstance(flow, Part) else None
        if part is not None and from_step is not None:
            raise ValueError("from_step does not go with a part of a flow: Part.from_step says where that begins")
        if part is not None and outputs:
            raise ValueError("outputs do not go with a part of a flow: that takes them from the other execution")
        wanted = Rerun(
            from_step=from_step,
            inputs=inputs or {},
            flow=part.flow if part is not None else None if flow is None else definition_of(flow),  # type: ignore[arg-type]
            part=part,
            outputs=outputs or {},
            new_id=new_id,
            labels=checked_labels(labels or {}),
            token=cancel,
        )
        recovery = self._admission.recovery()
        try:
            spec = recovery.rerun(execution_id, wanted)
        except (ExecutionNotFound, ExecutionOwned):  # what it was made of is gone, or runs; it is there all the same
            if new_id is None or not recovery.is_rerun(new_id, execution_id):
                raise
            return self._resume(new_id, cancel)
        driver = self._driver(spec.record.execution_id)
        with contextlib.suppress(NotAdmitted):
            return driver.run(partial(self._admission.admit, spec))
        raise ExecutionOwned(spec.record.execution_id)
