"""What is told to executions, wherever they run."""

from typing import TYPE_CHECKING, Literal

from szal.engine.base import EngineBase
from szal.expressions.path import Json
from szal.model.state import Stop

if TYPE_CHECKING:
    from szal.stores.ledger import Signal

__all__ = ["Steering"]


class Steering(EngineBase):
    """An engine that tells executions what came, and what is to become of them."""

    def signal(self, execution_id: str, name: str, value: Json = None, *, signal_id: str | None = None) -> bool:
        """Send a signal to an execution: committed on return, delivered once, to the first step that waits for it.

        It may come before the step is reached. False, and nothing is done: one with the same *signal_id* was sent
        before, or the execution has ended. An execution that is PAUSED goes on with the next `resume` or `recover`, at
        once where this engine recovers in the background. Raises `ExecutionNotFound`, `EncodeError`.
        """
        self._admission.check_asked_for(execution_id)
        return self._send(execution_id, self._admission.recovery().signal_of(name, value, signal_id))

    def _send(self, execution_id: str, signal: "Signal") -> bool:
        if not self._admission.recovery().send(execution_id, signal):
            return False
        for driver in self._admission.active.having(execution_id):
            driver.offer(execution_id, signal)
        for background in self._background:
            background.wake(execution_id)
        return True

    def cancel(self, execution_id: str) -> bool:
        """Have an execution cancelled, wherever it runs: its owner sees it at its next heartbeat, this engine at once.

        One that is PAUSED is cancelled when it is resumed or recovered next, one that was submitted when a worker takes
        it up, whatever its `not_before`; a sub-flow with all that it belongs to.
        False where it has ended, or nothing of it is left here but finally steps. Raises `ExecutionNotFound`,
        `StoreError` (another program, szal-rs say, runs it).
        """
        self._admission.check_asked_for(execution_id)
        here = self._admission.active.having(execution_id)
        if any(driver.is_decided for driver in here):
            return False
        asked = self._admission.recovery().cancel(execution_id, runs_here=bool(here))
        told = [driver.request_stop(Stop.CANCELLED) for driver in here]
        return asked and all(told)

    def pause(self, execution_id: str) -> bool:
        """Have an execution paused, wherever it runs: its owner hears of it at its next heartbeat, this engine at once.

        Nothing new starts in it then; what runs comes to its end, untold, however long that takes, and is recorded.
        Then it is PAUSED, and `run` returns. It stays so until `resume`, or `run` with its id: `recover` leaves it
        alone, whatever it waited for has come. One that nobody runs is PAUSED at once; a sub-flow with all that it
        belongs to. What is being undone, and finally steps, come to their end.

        False where it has ended, is undone, has not begun, or nothing of it is left here but finally steps. Raises
        `ExecutionNotFound`, `SzalError` without one of szal's stores.

        >>> from szal import Engine, EngineConfig, FlowDef, StepDef, open_store
        >>> flow = FlowDef("load", steps=[StepDef("one"), StepDef("two")])
        >>> def handler(ctx):
        ...     if ctx.step.name == "one":
        ...         engine.pause(ctx.execution_id)
        >>> with Engine(handler, EngineConfig(execution_store=open_store("memory:"))) as engine:
        ...     result = engine.run(flow, execution_id="night")
        ...     str(result.state), str(result["one"].status), str(result["two"].status)
        ...     engine.recover(), engine.resume("night").success
        ('paused', 'completed', 'pending')
        ([], True)
        """
        self._admission.check_asked_for(execution_id)
        recovery = self._admission.recovery()
        here = self._admission.active.having(execution_id)
        root = here[0].execution_id if here else recovery.root_of(execution_id)
        if any(driver.is_decided for driver in here):
            return False
        if here:
            recovery.leased.await_begin(root)
        else:
            recovery.leased.drain()
        asked = recovery.pause(root)
        told = [driver.pause() for driver in here]
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
        """Decide on a step that may or may not have been done: its process died, or it raised `UnknownOutcome`.

        "completed" (with *output*), "failed", or "retry": run it again. Then `resume` or `recover` goes on.
        Raises `ExecutionNotFound`, `ExecutionOwned`, `EncodeError` (an output that cannot be recorded), ValueError
        where nothing is to be decided on that step, and for an output with another decision.
        """
        self._admission.check_asked_for(execution_id)
        self._admission.recovery().resolve(execution_id, step, decision, output)
