"""Runs a flow for the command line: with a store or without, and until a signal at most."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NoReturn

import attrs

from szal.cli.history import opened
from szal.cli.interrupt import Interruption
from szal.cli.live import View
from szal.cli.standing import Wait, standing_of
from szal.cli.target import Target
from szal.engine.config import Durability
from szal.engine.engine import Engine
from szal.errors import StoreError, SzalError
from szal.model.results import ExecutionRecord, FlowResult
from szal.model.state import WorkflowState
from szal.scheduler.cancel import CancellationToken
from szal.stores import InMemoryExecutionStore, Sink
from szal.stores.base import ExecutionStore

__all__ = ["PAUSED", "Job", "Outcome", "RecordLost", "Settings", "execute", "leave", "sink_of"]

PAUSED: Final = 3
"""The exit status for an execution that waits for something."""

_PATIENCE: Final = 0.5  # seconds for threads that were left behind to end by themselves


@attrs.define
class RecordLost(SzalError):
    """The flow has run, or has begun to, but its store failed."""

    execution_id: str
    problem: str

    def __str__(self) -> str:
        return f"execution {self.execution_id} could not be recorded: {self.problem}"


@attrs.frozen(kw_only=True)
class Settings:
    """How flows are run. `recorded`: the record is wanted even where there is no store."""

    store: str | None = None
    recorded: bool = False
    max_concurrency: int = 16
    timeout: float | None = None
    durability: Durability = "flow"
    lease_ttl: float = 30.0


@attrs.frozen(kw_only=True)
class Job:
    """What an engine is to do, and for which execution: None where that is made only then."""

    target: Target
    do: Callable[[Engine, CancellationToken], FlowResult]
    execution_id: str | None


@attrs.frozen(kw_only=True)
class Outcome:
    """How it ended. `result` is None where the user would not wait for it, and nothing kept it.

    `is_old`: it had ended before, and nothing was run. `waits`: what has to come before it can go on.
    """

    status: int
    execution_id: str
    result: FlowResult | None
    record: ExecutionRecord | None
    left_behind: int
    is_old: bool = False
    is_cancelled: bool = False
    waits: Sequence[Wait] = ()


def execute(job: Job, settings: Settings, store: ExecutionStore | None, view: View) -> Outcome:
    """Do it on this thread, the main one, and return how it ended, once that is recorded.

    Raises `RecordLost`, and what the engine raises.
    """
    config = job.target.config(
        max_concurrency=settings.max_concurrency,
        timeout=settings.timeout,
        durability=settings.durability,
        lease_ttl=settings.lease_ttl,
        execution_store=store,
        event_sink=view.event,
        progress_sink=view.progress,
    )
    engine = Engine(job.target.handler, config)
    notice = "{}: cancelling; once more to stop waiting"
    interruption = Interruption(lambda name: view.say(notice.format(name)), engine.end_grace)
    before = None if store is None or job.execution_id is None else store.get(job.execution_id)
    with engine, view, interruption:
        result = _do(engine, job, interruption)
    # What was to go on may be a sub-flow: then that is the execution that it belongs to.
    execution_id = (None if result is None else result.execution_id) or job.execution_id or ""
    record = None if store is None else store.get(execution_id)
    if result is None and record is not None:
        result = record.result
    return Outcome(
        status=_status(result, interruption.status),
        execution_id=execution_id,
        result=result,
        record=record,
        left_behind=engine.abandoned,
        is_old=before is not None and before.result is not None and not before.state.is_live,
        is_cancelled=interruption.status is not None,
        waits=_waits(store, record),
    )


def _status(result: FlowResult | None, interrupted: int | None) -> int:
    if result is not None and result.success:
        return 0
    if interrupted is not None:
        return interrupted
    return PAUSED if result is not None and result.state is WorkflowState.PAUSED else 1


def _waits(store: ExecutionStore | None, record: ExecutionRecord | None) -> Sequence[Wait]:
    if record is None or record.state is not WorkflowState.PAUSED:
        return ()
    if isinstance(store, Sink):
        store.flush()  # the ledger does not know what is pending
    return standing_of(store, record).waits


def _do(engine: Engine, job: Job, interruption: Interruption) -> FlowResult | None:
    try:
        return job.do(engine, interruption.token)
    except KeyboardInterrupt:  # the third signal
        return None
    except StoreError as error:
        raise RecordLost(job.execution_id or "(new)", str(error)) from error


@contextlib.contextmanager
def sink_of(settings: Settings) -> Iterator[ExecutionStore | None]:
    """Open what runs are recorded in, if they are; on leaving, all is written."""
    if settings.store is not None:
        with opened(settings.store) as store, store.engine_sink() as sink:
            yield sink
    else:
        yield InMemoryExecutionStore() if settings.recorded else None


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
