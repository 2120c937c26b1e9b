"""Runs a flow for the command line: with a store or without, and until a signal at most."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn

import attrs

from szal.cli.history import opened
from szal.cli.interrupt import Interruption
from szal.cli.live import View
from szal.cli.target import Target
from szal.engine import Engine
from szal.errors import StoreError, SzalError
from szal.execution import ExecutionRecord, FlowResult
from szal.step import Json, new_id
from szal.stores import InMemoryExecutionStore
from szal.stores.base import ExecutionStore

__all__ = ["Order", "Outcome", "RecordLost", "execute", "leave"]

_PATIENCE: Final = 0.5  # seconds for threads that were left behind to end by themselves


@attrs.define
class RecordLost(SzalError):
    """The flow has run, or has begun to, but its store failed."""

    execution_id: str
    problem: str

    def __str__(self) -> str:
        return f"execution {self.execution_id} could not be recorded: {self.problem}"


@attrs.frozen(kw_only=True)
class Order:
    """What to run, and how. `recorded`: the record is wanted even where there is no store."""

    target: Target
    inputs: Mapping[str, Json]
    labels: Mapping[str, str]
    store: str | None = None
    recorded: bool = False
    max_concurrency: int = 16
    timeout: float | None = None
    execution_id: str = attrs.field(factory=new_id)


@attrs.frozen(kw_only=True)
class Outcome:
    """How it ended. `result` is None where the user would not wait for it, and nothing kept it."""

    status: int
    result: FlowResult | None
    record: ExecutionRecord | None
    left_behind: int


def execute(order: Order, view: View) -> Outcome:
    """Run the flow on this thread, the main one, and return how it ended, once that is recorded.

    Raises `RecordLost`, and what `Engine.run` and `opened` raise.
    """
    interruption = Interruption(lambda name: view.say(f"{name}: cancelling; once more to stop waiting"))
    with _store(order) as store:
        config = order.target.config(
            max_concurrency=order.max_concurrency,
            timeout=order.timeout,
            execution_store=store,
            event_sink=view.event,
            progress_sink=view.progress,
        )
        engine = Engine(order.target.handler, config)
        with engine, view, interruption:
            result = _run(engine, order, interruption)
        record = None if store is None else store.get(order.execution_id)
    if result is None and record is not None:
        result = record.result
    success = result is not None and result.success
    status = 0 if success else interruption.status or 1
    return Outcome(status=status, result=result, record=record, left_behind=engine.abandoned)


def _run(engine: Engine, order: Order, interruption: Interruption) -> FlowResult | None:
    try:
        return engine.run(
            order.target.flow,
            order.inputs,
            execution_id=order.execution_id,
            cancel=interruption.token,
            labels=order.labels,
        )
    except KeyboardInterrupt:  # the second signal
        return None
    except StoreError as error:
        raise RecordLost(order.execution_id, str(error)) from error


@contextlib.contextmanager
def _store(order: Order) -> Iterator[ExecutionStore | None]:
    if order.store is not None:
        with opened(order.store) as store, store.engine_sink() as sink:
            yield sink
    else:
        yield InMemoryExecutionStore() if order.recorded else None


def leave(status: int) -> NoReturn:
    """End the process though a step's thread hangs, which the interpreter would wait for.

    What is registered with atexit is done, as at any exit: it ends the processes of shell steps.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing takes long from here on
    until = time.monotonic() + _PATIENCE
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    for thread in others:
        thread.join(max(0.0, until - time.monotonic()))
    if not any(thread.is_alive() for thread in others):
        signal.signal(signal.SIGINT, before)
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)
