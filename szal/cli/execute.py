"""Runs a flow for the command line: with a store or without, to its end or until a signal."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final, NoReturn

import attrs
import click

from szal import process_events
from szal.cli.console import stderr, write
from szal.cli.executors import Elsewhere
from szal.cli.history import keeps, sink_at
from szal.cli.interrupt import Interruption, Terminated
from szal.cli.live import View
from szal.cli.lost import ExecutorGone, RecordLost
from szal.cli.standing import PAUSED
from szal.cli.target import Target
from szal.clock import monotonic
from szal.engine.config import Durability, EngineConfig
from szal.engine.engine import Engine
from szal.engine.inspection import await_pending
from szal.engine.status import ExecutionStatus, is_left_by_a_person
from szal.engine.view import status_of
from szal.errors import ExecutorBroken, StoreError
from szal.events.bus import WorkflowEvent
from szal.events.progress import InBulk
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord, FlowResult
from szal.model.state import WorkflowState
from szal.scheduler.cancel import CancellationToken
from szal.steps.stop_policy import share_of_parents_grace
from szal.steps.supervisor import supervisor
from szal.stores import InMemoryExecutionStore
from szal.stores.base import ExecutionStore

__all__ = [
    "Job",
    "Outcome",
    "Settings",
    "await_end",
    "execute",
    "in_a_program",
    "leave",
    "leave_at_once",
    "sink_of",
]

_AT_A_TIME: Final = 16
_PATIENCE: Final = 0.5  # seconds for threads that were left behind to end by themselves
_is_left: Final = threading.Event()  # a thread that is not the main one ends the process
_GRACE: Final = 5.0
"""Seconds for what runs to end once it is told to; commands have their own."""
_SHARE_OF_GRACE: Final = 0.6
"""Of the seconds that this szal itself has, where it is a command of another: the rest is for what it has to write."""


@attrs.frozen(kw_only=True)
class Settings:
    """How flows are run. `recorded`: the record is wanted even where there is no store."""

    store: str | None = None
    recorded: bool = False
    elsewhere: Elsewhere | None = None
    max_concurrency: int | None = None
    timeout: float | None = None
    durability: Durability = "flow"
    lease_ttl: float = 30.0
    share_progress: bool = False
    cwd: str | None = None

    def config(self, target: Target, **more: Any) -> EngineConfig:
        """Return the settings of an engine that runs *target*."""
        if self.elsewhere is not None:
            more["executor"] = self.elsewhere.executor
        if self.share_progress:  # else a project may say so
            more["share_progress"] = True
        return target.config(
            max_concurrency=self.max_concurrency or self._steps_at_a_time(),
            timeout=self.timeout,
            durability=self.durability,
            lease_ttl=self.lease_ttl,
            cwd=self.cwd,
            cancel_grace=min(_GRACE, share_of_parents_grace(_SHARE_OF_GRACE)),
            **more,
        )

    def _steps_at_a_time(self) -> int:
        return _AT_A_TIME if self.elsewhere is None else max(_AT_A_TIME, self.elsewhere.workers)


@attrs.frozen(kw_only=True)
class Job:
    """What an engine is to do, and for which execution: None where that is made only then."""

    target: Target
    do: Callable[[Engine, CancellationToken], FlowResult]
    execution_id: str | None


@attrs.frozen(kw_only=True)
class Outcome:
    """How it ended. `result` is None where nothing is known of that.

    `is_old`: it had ended before, and nothing was run. `is_interrupted`: by a signal; `is_left`: it did not end by
    that, and goes on where it stands. `standing`: how far one has come that has not ended. `differences`: how what was
    run differs from what an earlier execution had begun with. `flow`: what its steps are, if that is known.
    """

    status: int
    execution_id: str
    result: FlowResult | None
    record: ExecutionRecord | None
    left_behind: int
    is_old: bool = False
    is_interrupted: bool = False
    is_left: bool = False
    standing: ExecutionStatus | None = None
    differences: Sequence[str] = ()
    flow: FlowDef | None = None


def execute(job: Job, settings: Settings, store: ExecutionStore | None, view: View) -> Outcome:
    """Do it on this thread, the main one, and return how it ended, once that is recorded.

    Raises `RecordLost`, and what the engine raises.
    """
    running = _Running(job, settings, store, view)
    before = None if store is None or job.execution_id is None else store.get(job.execution_id)
    began = monotonic()
    result = running.run()
    took = monotonic() - began
    try:
        return _outcome(running, store, before, result, took)
    except StoreError as error:  # it has run: that its store fails now is no wrong command
        raise RecordLost(running.execution_id or job.execution_id, str(error)) from error


def _outcome(
    running: "_Running",
    store: ExecutionStore | None,
    before: ExecutionRecord | None,
    result: FlowResult | None,
    took: float,
) -> Outcome:
    """Return how it ended, as its store has it."""
    # What was to go on may be a sub-flow: then that is the execution that it belongs to.
    execution_id = (
        (None if result is None else result.execution_id) or running.execution_id or running.job.execution_id or ""
    )
    record = None if store is None else store.get(execution_id)
    came = running.interruption.signal
    standing = None
    is_left = False
    if store is not None and record is not None and record.state.is_live:
        await_pending(store)
        standing = status_of(store, record)
        is_left = came is not None and (record.state is not WorkflowState.PAUSED or is_left_by_a_person(record))
        standing = attrs.evolve(standing, is_interrupted=standing.is_interrupted or is_left)
    if result is None and record is not None:
        result = record.result or _as_it_stands(record, standing, took)
    return Outcome(
        status=_status(result, running.interruption.status),
        execution_id=execution_id,
        result=result,
        record=record,
        left_behind=running.engine.abandoned,
        is_old=_had_ended(before, record),
        is_interrupted=came is not None,
        is_left=is_left,
        standing=standing,
        flow=None if record is None else running.job.target.named(record.flow_name),
    )


def _had_ended(before: ExecutionRecord | None, record: ExecutionRecord | None) -> bool:
    """Whether it had ended *before*, and was not run again since."""
    if before is None or before.result is None or before.state.is_live:
        return False
    return record is None or record.reopened == before.reopened


def _status(result: FlowResult | None, interrupted: int | None) -> int:
    if result is not None and result.success:
        return 0
    if interrupted is not None:
        return interrupted
    return PAUSED if result is not None and result.state is WorkflowState.PAUSED else 1


def _as_it_stands(record: ExecutionRecord, standing: ExecutionStatus | None, took: float) -> FlowResult:
    """Return what is known of an execution that has not ended, and is not paused either."""
    return FlowResult(
        record.flow_name,
        [] if standing is None else list(standing.results),
        took,
        success=False,
        rolled_back=False,
        execution_id=record.execution_id,
        state=record.state,
    )


class _Running:
    """One run and its signals. Where its record is kept they interrupt it: it can be gone on with; else they cancel it.

    It is given a token in any case: with one, the engine calls no handler on this thread, so that a second signal, and
    a cancellation from elsewhere, get out of whatever handler.
    """

    def __init__(self, job: Job, settings: Settings, store: ExecutionStore | None, view: View) -> None:
        is_kept = self._is_kept = settings.store is not None and keeps(settings.store)
        self.execution_id: str | None = None
        """Of what runs: the first that is heard of."""
        self.job = job
        self._view = view
        self._token = CancellationToken()
        self._on_first = _FIRST_KEPT if is_kept else _FIRST
        config = settings.config(
            job.target,
            execution_store=store,
            event_sink=self._on_event,
            progress_sink=InBulk(view.progress),
            on_interrupt="pause" if is_kept else "cancel",
        )
        self.engine = Engine(job.target.handler, config)
        self.interruption = Interruption(
            say=self._say,
            cancel=None if is_kept else self._token.cancel,
            end_grace=self.engine.end_grace,
            get_out=self._get_out,
        )

    def run(self) -> FlowResult | None:
        """Run it to its end, and return how it ended; None where a signal kept it from that."""
        try:
            with self._until_it_is_told(), self.engine, self._view:
                try:
                    return self.job.do(self.engine, self._token)
                finally:
                    self.interruption.is_over = True
        except (KeyboardInterrupt, Terminated):
            if self.interruption.signal is None:  # it came before, or after
                raise
            return None
        except StoreError as error:
            raise RecordLost(self.execution_id or self.job.execution_id, str(error)) from error
        except ExecutorBroken as error:
            raise ExecutorGone(self.execution_id if self._is_kept else None, str(error)) from error

    @contextlib.contextmanager
    def _until_it_is_told(self) -> Iterator[None]:
        """Have signals interrupt the run; after one that did, none interrupts what there is to say of it."""
        self.interruption.__enter__()
        try:
            yield
        finally:
            if self.interruption.signal is None:
                self.interruption.__exit__(None, None, None)
            else:
                click.get_current_context().call_on_close(lambda: self.interruption.__exit__(None, None, None))

    def _on_event(self, event: WorkflowEvent) -> None:
        self.execution_id = self.execution_id or event.execution_id
        self._view.event(event)

    def _say(self, came: signal.Signals, count: int) -> None:
        what = _SECOND if count > 1 else self._on_first.get(came, self._on_first[signal.SIGTERM])
        self._view.say(f"{came.name}: {what}")

    def _get_out(self, status: int) -> None:
        said = "szal: left at once; szal show tells how far it came" if self._is_kept else "szal: left at once"
        leave_at_once(status, said, lambda: self._view.__exit__(None, None, None))


_FIRST: Final = {signal.SIGTERM: "cancelling; once more to stop waiting"}
_FIRST_KEPT: Final = {
    signal.SIGINT: "pausing as soon as what runs has ended; once more to stop waiting",
    signal.SIGTERM: "stopping as soon as what runs has ended; once more to stop waiting",
}
_SECOND: Final = "killing commands, and waiting for nothing else; once more to leave at once"


@contextlib.contextmanager
def sink_of(settings: Settings) -> Iterator[ExecutionStore | None]:
    """Open what runs are recorded in, if they are; on leaving, all is written, or `RecordLost` raised."""
    if settings.store is not None:
        is_over = False
        try:
            with sink_at(settings.store) as sink:
                yield sink
                is_over = True
        except StoreError as error:
            if not is_over:
                raise
            raise RecordLost(None, str(error)) from error
    else:
        yield InMemoryExecutionStore() if settings.recorded else None


_there_before: "ContextVar[Collection[threading.Thread]]" = ContextVar("szal_there_before", default=())


@contextlib.contextmanager
def in_a_program() -> Iterator[None]:
    """Have `leave` know the threads that a program had before it began a command: they are no steps'."""
    token = _there_before.set(tuple(threading.enumerate()))
    try:
        yield
    finally:
        _there_before.reset(token)


def leave(status: int) -> NoReturn:
    """End the process though a step's thread hangs, which the interpreter would wait for.

    What szal does at any exit is done: it ends the processes of shell steps, and writes what is still to be written.
    What others have registered with `atexit` is not.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing takes long from here on
    until = monotonic() + _PATIENCE
    before_it = {threading.main_thread(), *_there_before.get()}
    others = [thread for thread in threading.enumerate() if thread not in before_it and not thread.daemon]
    for thread in others:
        thread.join(max(0.0, until - monotonic()))
    if not any(thread.is_alive() for thread in others):
        signal.signal(signal.SIGINT, before)
        sys.exit(status)
    _finish()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


def leave_at_once(status: int, said: str = "szal: left at once", *lasts: Callable[[], object]) -> NoReturn:
    """End the process from a thread that is not the main one, which may hang, once *lasts* were called."""
    time.sleep(_PATIENCE)  # the main thread has been told too, and may be on its way out
    _is_left.set()
    supervisor().kill()
    for last in (*lasts, _finish):
        thread = threading.Thread(target=last, name="szal-exit", daemon=True)
        thread.start()  # what holds up the main thread may hold up this one too
        thread.join(_PATIENCE)
    write(stderr(), said)
    os._exit(status)


def await_end() -> None:
    """Where the process is being left at once, wait for that: what it comes to here, as its sinks end, is no news."""
    if _is_left.is_set():
        time.sleep(10 * _PATIENCE)


def _finish() -> None:
    process_events.end_process()
    logging.shutdown()
