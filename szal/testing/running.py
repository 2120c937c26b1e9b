"""A flow run in a test: at once, whatever it waits for, and with nothing really done that has a fake."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, cast

from szal.expressions.path import Json
from szal.model.flow import FlowDef, definition_of
from szal.model.results import FlowResult
from szal.model.state import WorkflowState
from szal.model.step import new_id
from szal.steps.resolving import Authored, Handling
from szal.stores import ExecutionStore, open_store
from szal.testing.clock import FakeClock
from szal.testing.crash import Crash, Crashed
from szal.testing.fakes import Fakes
from szal.testing.signals import Given, Signals, listed
from szal.testing.under_test import EngineUnderTest, engine

__all__ = ["run_flow"]


def run_flow(
    flow: FlowDef | Authored,
    inputs: Mapping[str, Json] | None = None,
    *,
    fakes: Fakes | None = None,
    undos: Fakes | None = None,
    signals: Signals = (),
    handler: Handling | Sequence[Handling] | None = None,
    store: str | ExecutionStore | None = "memory:",
    clock: FakeClock | None = None,
    crash: Crash | None = None,
    execution_id: str | None = None,
    **config: Any,
) -> FlowResult:
    """Run *flow* to its end in memory, on a clock that is skipped forward, and return its result.

    Waits, sleeps, back-offs and time limits pass at once, each in its turn: an hour's is an hour in the result.
    *signals* are what it waits for, by name, sent before anything runs; a wait for one that is not given ends when its
    time does. Where it has none the result is PAUSED, and so it is where a step needs a decision.

    *fakes*, *undos*, *handler*, *store*, *clock* and *config* are as for `engine`. With *crash* (`crash_after`) the
    run is gone at that point, and another engine resumes it; that the crash has come is checked.

    Raises what `Engine.run` raises before anything runs, ValueError for a fake of a step that there is not, and for a
    signal that no step waits for. What steps raise fails them.

    >>> from szal import Flow
    >>> order = Flow("order", rollback_on_failure=True)
    >>> @order.step(max_retries=3, retry_delay=600)
    ... def charge(amount): raise RuntimeError("the test must not get here")
    >>> @charge.rollback
    ... def refund(charge): raise RuntimeError("nor here")
    >>> @order.step
    ... def ship(charge): raise RuntimeError("nor here")
    >>> result = run_flow(order, {"amount": 7}, fakes={"charge": {"id": "c1"}, "ship": "shipped"})
    >>> result.outputs
    {'charge': {'id': 'c1'}, 'ship': 'shipped'}
    >>> def declines_twice(ctx, amount):
    ...     if ctx.attempt < 3:
    ...         raise ConnectionError("no answer")
    ...     return f"charged {amount}"
    >>> fakes = {"charge": declines_twice, "ship": OSError("no stock")}
    >>> result = run_flow(order, {"amount": 7}, fakes=fakes, undos={"charge": "refunded"})
    >>> str(result.state), result["charge"].attempts, result["charge"].undo_output, result.total_duration
    ('rolled_back', 3, 'refunded', 1200.0)
    """
    given = listed(signals, definition_of(flow))  # type: ignore[arg-type]
    name, clock = execution_id or new_id(), clock or FakeClock()
    with ExitStack() as opened:
        recorded_in = opened.enter_context(open_store(store)) if isinstance(store, str) else store
        seen_as = cast("ExecutionStore", Given(recorded_in, given)) if given else recorded_in
        make = partial(engine, flow, fakes=fakes, undos=undos, handler=handler, store=seen_as, clock=clock, **config)
        if crash is not None:
            with make(crash=crash) as first, suppress(Crashed):
                state = _to_its_end(first, flow, inputs, name).state
                raise AssertionError(f"nothing has crashed: step {crash.step!r} has not ended, and the run is {state}")
        with make() as test:
            return _to_its_end(test, flow, inputs, name)


def _to_its_end(
    test: EngineUnderTest, flow: FlowDef | Authored, inputs: Mapping[str, Json] | None, execution_id: str
) -> FlowResult:
    """Run *flow*, or go on with it, until it has ended, or waits for what does not come."""
    given = inputs or {}
    result = test.run(flow, inputs, execution_id=execution_id)  # type: ignore[arg-type]
    while result.state is WorkflowState.PAUSED and (due := test.wake_of(execution_id)) is not None:
        test.clock.skip_to(due)
        hidden = test.look(execution_id).record.secret_inputs
        result = test.resume(execution_id, inputs={name: value for name, value in given.items() if name in hidden})
    return result
