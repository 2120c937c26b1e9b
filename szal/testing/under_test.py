"""An engine in a test: its clock stands still, its store is in memory, and fakes do what must not really be done."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any, Final, cast

import attrs

from szal.engine.driver import NotAdmitted
from szal.engine.engine import Engine
from szal.engine.execution import Execution, RunThread
from szal.engine.opening import config_of
from szal.errors import ExecutionOwned
from szal.expressions.path import Json
from szal.model.flow import Defined, FlowDef, definition_of
from szal.model.results import FlowResult
from szal.model.state import WorkflowState
from szal.model.step import new_id
from szal.scheduler.cancel import CancellationToken
from szal.steps.handlers import Handlers
from szal.steps.resolving import Authored, Handling
from szal.stores import Store, open_store
from szal.stores.base import ExecutionStore
from szal.stores.ledger import ledger_of
from szal.testing.clock import FakeClock
from szal.testing.crash import Crash, Mortal
from szal.testing.fakes import Faked, Fakes
from szal.testing.joined import Joinable, is_in_memory
from szal.testing.paused import Paused

__all__ = ["EngineUnderTest", "engine"]

_CREATED: Final = WorkflowState.CREATED


@attrs.frozen
class _Own:
    """What was opened for an engine."""

    opened: ExitStack

    def close(self, limit: float) -> None:  # noqa: ARG002 (nothing is queued: there is no sink)
        self.opened.close()


class EngineUnderTest(Engine):
    """An engine that `engine` returns: `Engine`, with a `clock` that a test moves."""

    _faked: Faked
    _paused: Paused | None = None
    _is_eager = False

    @property
    def clock(self) -> FakeClock:
        """The clock that it goes by. Several engines may have one."""
        return cast("FakeClock", self.config.clock)

    def run(self, flow: FlowDef | Defined, inputs: Mapping[str, Json] | None = None, **options: Any) -> FlowResult:
        """As `Engine.run`. What the run waits for in this process comes at once."""
        return super().run(self._as_run(flow), inputs, **options)

    def start(self, flow: FlowDef | Defined, inputs: Mapping[str, Json] | None = None, **options: Any) -> Execution:
        """As `Engine.start`. The run waits until `clock` is moved; of an eager engine it is over, or paused."""
        begin = self._start_here if self._is_eager else super().start
        return begin(self._as_run(flow), inputs, **options)

    def _start_here(
        self,
        flow: FlowDef,
        inputs: Mapping[str, Json] | None = None,
        *,
        execution_id: str | None = None,
        cancel: CancellationToken | None = None,
        labels: Mapping[str, str] | None = None,
        signal: tuple[str, Json] | None = None,
    ) -> Execution:
        """Run *flow* on this thread."""
        token = CancellationToken() if cancel is None else cancel.child()
        spec = self._admission.spec_of(flow, inputs, execution_id or new_id(), token, labels)
        sent = None if signal is None else self._admission.recovery().signal_of(*signal, f"start:{signal[0]}")
        name = spec.record.execution_id
        execution = Execution(name, token, self._admission.look)
        try:
            execution.finish(self._driver(name).run(partial(self._admission.admit, spec, signal=sent)))
        except NotAdmitted:
            raise ExecutionOwned(name) from None
        return execution

    def signal(self, execution_id: str, name: str, value: Json = None, *, signal_id: str | None = None) -> bool:
        """As `Engine.signal`. An eager engine goes on with the execution at once, on this thread."""
        is_sent = super().signal(execution_id, name, value, signal_id=signal_id)
        if self._is_eager and self._paused is not None:
            self._paused.fire()
        return is_sent

    def submit(self, flow: FlowDef | Defined, inputs: Mapping[str, Json] | None = None, **options: Any) -> str:
        """As `Engine.submit`. Whoever works takes it at once: `not_before` goes by the database's clock.

        An eager engine does so itself, on this thread, but for what has a `not_before`.
        """
        execution_id = super().submit(self._as_run(flow), inputs, **options)
        if self._is_eager and options.get("not_before") is None and self.look(execution_id).state is _CREATED:
            self._resume(execution_id)
        return execution_id

    def schedule(self, flow: FlowDef | Defined, cron: str, **options: Any) -> str:
        """As `Engine.schedule`: its times are those of the real clock."""
        return super().schedule(self._as_run(flow), cron, **options)

    def interrupted(self, flow_name: str | None = None) -> list[str]:
        """As `Engine.interrupted`; what waits for a time does so by `clock`."""
        found = super().interrupted(flow_name)
        return found if self._paused is None else self._paused.instead_of(found, flow_name)

    def root_of(self, execution_id: str) -> str:
        """Return with which execution that one goes on: a sub-flow with what it belongs to."""
        return self._admission.recovery().root_of(execution_id)

    def wake_of(self, execution_id: str) -> float | None:
        """Return when an execution that is paused goes on by itself (Unix time), if it does."""
        return None if self._paused is None else self._paused.wake_of(execution_id)

    def start_recovery(self, interval: float) -> None:
        """Do nothing: whenever `clock` is moved, executions go on with which others would."""

    def go_on_with(self, execution_id: str) -> None:
        """Resume an execution, on a thread of its own. Raises what `resume` raises before anything runs."""
        if self._is_eager:
            self._resume(execution_id)
            return
        recovery = self._admission.recovery()
        token = CancellationToken()
        execution = Execution(execution_id, token, self._admission.look)
        thread = RunThread(f"szal-run-{execution_id}", daemon=True)
        try:
            driver = self._driver(execution_id, execution=execution)
            if driver.start(partial(recovery.resume, execution_id, token), thread, execution) is None:
                raise ExecutionOwned(execution_id)
        except BaseException:
            thread.give(None)
            raise

    def close(self, drain: float | None = None) -> None:
        """As `Engine.close`. What it waits for comes at once."""
        if self._paused is not None:
            self.clock.remove_agenda(self._paused)
        with self.clock.moving_itself() if drain is not None else nullcontext():
            super().close(drain)

    def _as_run(self, flow: FlowDef | Defined) -> FlowDef:
        return self._faked.definition(definition_of(flow))


def engine(
    *flows: FlowDef | Authored,
    fakes: Fakes | None = None,
    undos: Fakes | None = None,
    handler: Handling | Sequence[Handling] | None = None,
    store: str | ExecutionStore | None = "memory:",
    clock: FakeClock | None = None,
    crash: Crash | None = None,
    eager: bool = False,
    **config: object,
) -> EngineUnderTest:
    """Return an engine for a test of *flows*: to be used in a ``with``, which closes it.

    Where an execution is started with `Engine.start`, time passes by ``engine.clock.advance(seconds)`` alone; `run`
    passes it as it needs. Executions that wait for a signal go on when that has been sent and the clock is moved,
    be it by 0.

    *fakes* do steps in the place of what does them, and *undos* undo them, by name: each is the output itself, an
    exception to raise, or a function, whose parameters are bound as those of the step's own are. A name is that of a
    step of *flows*, or else of one of their sub-flows; where several have it, ``"FLOW/STEP"`` says which. A wait, a
    sleep and a sub-flow can be faked, too. *handler* does the steps of flows that are no `szal.Flow`, as that of an
    `Engine`.

    *store* is a URL, or a store, which stays open; None: nothing is recorded. It is written to at once, without a sink.
    *clock* may be one that other engines have, too. *crash* says where the engine dies (`crash_after`). An *eager* one
    runs what is started or submitted on the thread that does so, until it has ended, or waits for something from
    outside; so it does with what goes on after a signal. *config* are settings of `EngineConfig`.

    >>> from szal import Flow
    >>> remind = Flow("remind")
    >>> @remind.step(max_retries=1, retry_delay=3600)
    ... def send(ctx, to):
    ...     raise ConnectionError("not now")
    >>> with engine(remind) as test:
    ...     execution = test.start(remind, {"to": "Ada"})
    ...     test.clock.advance(1800)
    ...     print(execution.progress().steps["send"].attempts, execution.done)
    ...     test.clock.advance(1800)
    ...     execution.result().error
    1 False
    "step 'send' failed: retry exhausted: send after 2 attempts: ConnectionError: not now"
    """
    given = [definition_of(flow) for flow in flows]  # type: ignore[arg-type]
    brought = [flow for flow in flows if isinstance(flow, Authored)]
    handling = (brought or Handlers()) if handler is None else handler
    storage = cast("Any", config.get("storage"))
    others = [] if storage is None else [definition_of(flow) for flow in storage.list()]
    faked = Faked(given, handling, fakes=fakes or {}, undos=undos or {}, others=others)
    settings = {"clock": clock or FakeClock(), **config}
    with ExitStack() as opened:
        recorded_in = opened.enter_context(open_store(store)) if isinstance(store, str) else store
        seen_as = cast("ExecutionStore", Joinable(recorded_in)) if is_in_memory(recorded_in) else recorded_in
        if crash is not None:
            mortal = Mortal(seen_as, crash, given)
            opened.callback(mortal.bury)
            seen_as = cast("Store", mortal)
        made = EngineUnderTest(faked, config_of(seen_as, settings))
        made._faked, made._is_eager = faked, eager
        made._owned = _Own(opened.pop_all())
    ledger = ledger_of(seen_as)
    if ledger is not None:
        made._paused = Paused(made, cast("Store", seen_as), ledger)
        made.clock.add_agenda(made._paused)
    return made
