"""Taking executions up again: one that is named, all that can go on, and those in the background."""

import contextlib
from collections.abc import Callable, Iterable, Mapping

from szal.engine.driver import NotAdmitted
from szal.engine.spec import ExecutionSpec
from szal.engine.steering import Steering
from szal.errors import ExecutionOwned
from szal.expressions.path import Json
from szal.model.results import FlowResult
from szal.model.state import Stop
from szal.number import check
from szal.scheduler.cancel import CancellationToken, check_token

__all__ = ["GoingOn"]


class GoingOn(Steering):
    """An engine that goes on with what was interrupted, or waited."""

    def resume(
        self,
        execution_id: str,
        *,
        inputs: Mapping[str, Json] | None = None,
        cancel: CancellationToken | None = None,
    ) -> FlowResult:
        """Continue an execution that was interrupted or is PAUSED, on this thread; or return the result it ended with.

        Steps that have ended are not run again. A sub-flow goes on with the execution that it belongs to, whose result
        is returned. The definition is the stored one, brought forward by `EngineConfig.migrations`. Raises
        `ExecutionNotFound`, `ExecutionOwned` (its owner is alive), `HandlerNotFound`, `DefinitionMismatch` (a step that
        has ended is no longer there), and what `run` raises.

        *inputs* are those that were not recorded, as they are secret; `InvalidInputs` for any other. Where one is
        neither given nor had from `EngineConfig.secrets` or the environment, `SecretMissing`.
        """
        self._admission.check_asked_for(execution_id)
        check_token(cancel)
        return self._resume(execution_id, cancel, inputs=inputs)

    def _resume(
        self,
        execution_id: str,
        cancel: CancellationToken | None = None,
        *,
        inputs: Mapping[str, Json] | None = None,
        background: bool = False,
        is_wanted: Callable[[], bool] = lambda: True,
        on_begin: Callable[[], object] = lambda: None,
    ) -> FlowResult:
        """As `resume`, unless it *is_wanted* no more: asked once the run is known here, and can be stopped.

        *on_begin* is called before anything of it runs; not where it has ended before.
        """
        recovery = self._admission.recovery()
        root = recovery.root_of(execution_id)
        driver = self._driver(root, background=background)

        def admit() -> ExecutionSpec | FlowResult | None:
            found = recovery.resume(root, cancel, inputs) if is_wanted() else None
            if isinstance(found, ExecutionSpec):
                on_begin()
            return found

        with contextlib.suppress(NotAdmitted):
            return driver.run(admit)
        raise ExecutionOwned(root)

    def check(self, execution_id: str, *, elsewhere: bool = False) -> None:
        """Raise what would keep an execution that has not ended from going on with this engine; it only reads.

        Whoever runs it now is of no account: this is what `resume` asks before it takes anything over. *elsewhere*:
        the working directories of commands are not looked for, as it is to go on on another machine.

        Raises `HandlerNotFound`, `DefinitionMismatch`, `MigrationFailed`, `WorkingDirectoryGone`, `SecretMissing`,
        `ExecutionNotFound`, and `StoreError` where its definition is not recorded.

        >>> from szal import Engine, EngineConfig, FlowDef, Handlers, StepDef, open_store
        >>> store = open_store("memory:")
        >>> flow = FlowDef("shop", steps=[StepDef("ask", step_type="wait", config={"signal": "go"}), StepDef("pay")])
        >>> with Engine(lambda ctx: None, EngineConfig(execution_store=store)) as engine:
        ...     _ = engine.run(flow, execution_id="order-42")
        >>> Engine(Handlers(), EngineConfig(execution_store=store)).check("order-42")
        Traceback (most recent call last):
        szal.errors.HandlerNotFound: no handler for step: pay
        """
        self._admission.check_asked_for(execution_id)
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

    def _release(self, execution_ids: Iterable[str], error: BaseException) -> None:
        """Have runs given back where they stand, for *error*, which they raise."""
        wanted = frozenset(execution_ids)
        for driver in self._admission.active.all():
            if driver.execution_id in wanted:
                driver.request_stop(Stop.RELEASED, error)
