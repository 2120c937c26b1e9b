"""One top-level run, from the taking of its id to its giving back, and what it is to whoever started it."""

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from szal.engine import family
from szal.engine.conclusion import result_of
from szal.engine.config import EngineConfig
from szal.engine.durations import Durations
from szal.engine.execution import Execution, RunThread
from szal.engine.leased_store import LeasedStore
from szal.engine.lifecycle import Audience, Lifecycle
from szal.engine.spec import ExecutionSpec
from szal.errors import describe
from szal.interruption import is_interruption
from szal.interrupts import Interrupts
from szal.logs import SafeLogger
from szal.model.results import FlowResult
from szal.model.state import Stop, WorkflowState
from szal.raised import is_a
from szal.scheduler.attempt import Attempt
from szal.scheduler.clock import Clock
from szal.scheduler.loop import Relieved, Scheduler
from szal.scheduler.permits import Permits
from szal.scheduler.workers import Threads
from szal.steps.resolving import Resolver
from szal.waiters import Flag

if TYPE_CHECKING:
    from szal.engine.stats import Load
    from szal.engine.status import ExecutionStatus
    from szal.steps.processes import Processes
    from szal.stores.ledger import Signal

__all__ = ["Driver", "Host", "NotAdmitted"]

logger = SafeLogger(logging.getLogger(__name__))

_AROUND: Final[ContextVar[tuple["weakref.ref[Driver]", ...]]] = ContextVar("szal_runs", default=())
"""The runs that a handler is in: its own, and those whose handlers have begun that."""


class Host(Audience, Protocol):
    """What a driver needs of its engine."""

    config: EngineConfig
    resolver: Resolver
    threads: Threads
    durations: Durations
    permits: Permits

    def processes(self) -> "Processes":
        """Return the child processes that attempts are made in."""

    def on_abandoned(self, attempt: Attempt) -> None:
        """Take note that a handler was left behind."""

    def take(self, driver: "Driver") -> bool:
        """Take the id of a run for it; False where it is taken."""

    def has_ended(self, execution_id: str, look: "Callable[[], ExecutionStatus | None]") -> None:
        """Take note that an execution has come to its end, as *look* tells."""

    def give_back(self, driver: "Driver") -> None:
        """Take note that a run is over, and its id free, if it had it."""


class NotAdmitted(Exception):
    """Somebody is running the execution of that id; or none was given, and an earlier one has the flow's own."""


class Driver:
    """Drives one execution, with its sub-flows, to its end. It takes the id from the engine, and gives it back.

    With *background*, nothing of it keeps the interpreter from exiting.
    """

    def __init__(
        self,
        host: Host,
        execution_id: str,
        leased: LeasedStore | None,
        *,
        background: bool = False,
        execution: Execution | None = None,
    ) -> None:
        self.execution_id = execution_id
        self._thread: int | None = threading.get_ident()  # that it goes on on; None: on one that is about to
        self._execution = execution
        self._host = host
        self._leased = leased
        self._lifecycle: Lifecycle | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self.has_paused = False
        self.has_lost_lease = False
        self._result: FlowResult | None = None
        self._store_error: Exception | None = None
        self._relieved_error: BaseException | None = None
        self._relieved = Flag()  # set once the thread that took over has ended it
        config = host.config
        can_leave = leased is not None and config.on_interrupt == "pause"
        self.stop_for: Callable[[BaseException], Stop] = _stop_that_leaves if can_leave else _stop_that_cancels
        """Which stop an interruption is to this execution."""
        around = tuple(run for run in _AROUND.get() if run() is not None)
        host_run = around[-1]() if around and execution is None else None
        self.is_waited_for = execution is None
        self._clock: Clock = config.clock.of_run(self, None if host_run is None else host_run._clock)
        self._scheduler = Scheduler(
            host.threads,
            config.max_concurrency,
            config.cancel_grace,
            host.on_abandoned,
            self.stop_for,
            background=background,
            clock=self._clock,
            permits=host.permits,
        )
        self._scheduler.variables.run(_AROUND.set, (*around, weakref.ref(self)))

    # -- on the thread that runs it ------------------------------------------------------------------

    def run(self, admit: Callable[[], ExecutionSpec | FlowResult | None]) -> FlowResult:
        """Take the id, run what *admit* returns, on this thread, or return the result that it found; give the id back.

        Raises `NotAdmitted` where the id is taken or nothing was found, what *admit* raises, what interrupted the run,
        and what the store raised. What a signal handler raises meanwhile interrupts the run, and is raised once it is
        recorded how far that has come.
        """
        with self._scheduler.interrupts():
            try:
                found = admit() if self._take() else None
                if found is None:
                    raise NotAdmitted
                return self._drive(found) if isinstance(found, ExecutionSpec) else found
            finally:
                self._host.give_back(self)
                self._clock.run_ends()

    def _take(self) -> bool:
        """Take the id; False where it is taken."""
        taken = self._host.take(self)
        if taken:
            self._clock.run_begins()
        return taken

    def _drive(self, spec: ExecutionSpec) -> FlowResult:
        try:
            self._start(spec)
            self._scheduler.drive()
        except Relieved:
            error = self._wait_for_relief() or self._scheduler.interruption or self._relieved_error
            if error is not None:
                raise error from None
        except BaseException as error:
            self._finish(error)
            raise
        else:
            self._finish()
        return self._take_result()

    def _wait_for_relief(self) -> BaseException | None:
        """Wait until the thread that took over has ended the run; return what interrupted this one meanwhile."""
        interruption = None
        while not self._relieved.is_set():
            try:
                self._relieved.wait()
            except BaseException as error:  # noqa: BLE001 (raised in the end)
                interruption = error
        return interruption

    def _take_result(self) -> FlowResult:
        """Return how it ended, and keep nothing of it: a traceback may keep the frames of this thread alive."""
        result, error, self._result, self._store_error = self._result, self._store_error, None, None
        if error is not None:
            raise error
        assert result is not None
        return result

    def _start(self, spec: ExecutionSpec) -> None:
        scheduler, host, token = self._scheduler, self._host, spec.token
        lifecycle = Lifecycle(
            spec,
            scheduler,
            host.resolver,
            host.config,
            self._ended,
            leased=self._leased,
            durations=host.durations,
            audience=host,
            processes=host.processes,
        )
        self._lifecycle = lifecycle
        scheduler.is_whole = partial(family.is_whole, lifecycle)
        if lifecycle.recording.can_go_on:
            scheduler.on_idle = partial(family.pause_if_idle, lifecycle)
            scheduler.on_relieved = self._take_over
        if token is not None:
            self._unsubscribe = token.subscribe(lambda: scheduler.request_stop(Stop.CANCELLED))
        lifecycle.start()

    def _take_over(self) -> None:
        """Drive it to its end, on a thread of its own: the one that did is held up in a handler."""
        try:
            self._thread = threading.get_ident()
            try:
                self._scheduler.go_on()
            finally:
                self._finish()
        except BaseException as error:  # noqa: BLE001 (raised by the thread that was relieved, if ever it returns)
            self._relieved_error = error
        self._host.give_back(self)
        if self._execution is not None:
            self._execution.finish(self._result, self._relieved_error or self._store_error)
        self._relieved.set()
        self._clock.run_ends()

    def _ended(self, lifecycle: Lifecycle, result: FlowResult) -> None:
        self._store_error = lifecycle.store_error
        self._result = result
        if self._execution is not None:
            self._execution.last = family.look(lifecycle, self.execution_id)
        if not lifecycle.record.state.is_live:
            self._host.has_ended(self.execution_id, partial(family.look, lifecycle, self.execution_id))
        self.has_paused = result.state is WorkflowState.PAUSED

    def _finish(self, error: BaseException | None = None) -> None:
        """Give up the lease if the run has not come to its end, and let go of everything."""
        lifecycle = self._lifecycle
        if lifecycle is None:
            return
        try:
            if self._result is None:
                self._leave(lifecycle, error)
        finally:
            if self._unsubscribe is not None:
                self._unsubscribe()
            self._lifecycle = None
            family.release(lifecycle)
            if self._leased is not None and lifecycle.record.concurrency_key is not None:
                self._leased.key_is_free()

    def _leave(self, lifecycle: Lifecycle, error: BaseException | None) -> None:
        stop = self._scheduler.leaving or Stop.LOST
        if stop is Stop.LOST and error is not None and is_interruption(error):  # before anything had begun
            stop = self.stop_for(error)
        if stop is Stop.LEASE_LOST:
            self.has_lost_lease = True
            return
        if not stop.breaks and not stop.ends:
            family.leave(lifecycle, stop)
            if stop.is_patient and self._result is None:
                spec, run, state = lifecycle.spec, lifecycle.run, lifecycle.record.state
                self._ended(lifecycle, result_of(spec, run, lifecycle.took(), state, stop.reason))
            return
        with contextlib.suppress(Exception):  # what broke it is raised; a lease that is not given back runs out
            if lifecycle.recording.can_go_on:
                family.leave(lifecycle, stop)
            else:
                family.record_failure(
                    lifecycle, "" if error is None else describe(error, lifecycle.spec.redaction.mask)
                )

    def start(
        self, admit: Callable[[], ExecutionSpec | FlowResult | None], thread: RunThread, execution: Execution
    ) -> Execution | None:
        """Admit on this thread, and have *thread* run it, or find the result; None where `run` raises `NotAdmitted`."""
        with Interrupts() as signals:
            try:
                if not self._take():
                    return None
                found = admit()
                if isinstance(found, ExecutionSpec):
                    self._thread = None
                    thread.give(partial(self._run_started, found, execution))
                    if signals.pending is not None:  # nobody will hear of this run: it is interrupted, too
                        self.request_stop(self.stop_for(signals.pending), signals.pending)
                    return execution
            except BaseException:
                self._host.give_back(self)
                self._clock.run_ends()
                raise
            self._host.give_back(self)
        self._clock.run_ends()
        if found is None:
            return None
        thread.give(None)
        execution.finish(found)
        return execution

    def _run_started(self, spec: ExecutionSpec, execution: Execution) -> None:
        self._thread = threading.get_ident()
        try:
            try:
                result = self._drive(spec)
            finally:
                self._host.give_back(self)
        except BaseException as error:  # noqa: BLE001 (raised again by `Execution.result`)
            execution.finish(None, error)
        else:
            execution.finish(result)
        finally:
            self._clock.run_ends()

    # -- from any thread -----------------------------------------------------------------------------

    @property
    def thread(self) -> int | None:
        """The thread that it goes on on; None: one that is about to."""
        return self._thread

    def load(self) -> "Load":
        """Return what it has under way."""
        from szal.engine.stats import Load  # few ask

        workers, attempts = self._scheduler.workers()
        lifecycle = self._lifecycle
        members = [] if lifecycle is None else family.family_of(lifecycle)
        return Load(workers, attempts, sum(member.waits.count for member in members))

    def under_way(self, *, listens: bool) -> int:
        """Return for how much it waits that is neither a time nor a signal from outside."""
        return self._scheduler.under_way(listens=listens)

    def is_around(self) -> bool:
        """Whether whoever asks is in this run, by a handler or as its thread is: then nobody can wait there for it."""
        return self._thread == threading.get_ident() or any(run() is self for run in _AROUND.get())

    def has(self, execution_id: str) -> bool:
        """Whether that is this execution, or a sub-flow of it that is under way."""
        lifecycle = self._lifecycle
        if execution_id == self.execution_id or lifecycle is None:
            return execution_id == self.execution_id
        return family.has(lifecycle, execution_id)

    def look(self, execution_id: str) -> "ExecutionStatus | None":
        """Return how far this execution, or a sub-flow of it, has come; None where it is just being begun, or over."""
        lifecycle = self._lifecycle
        return None if lifecycle is None else family.look(lifecycle, execution_id)

    @property
    def is_decided(self) -> bool:
        """Whether nothing of it is left but finally steps: it ends as it will, whoever asks for something else."""
        return self._scheduler.is_decided

    def request_stop(self, stop: Stop, error: BaseException | None = None) -> bool:
        """Have it stopped; False where it has come to its end before."""
        return self._scheduler.request_stop(stop, error)

    def drain(self) -> None:
        """Have nothing new started, and what runs come to its end, where somebody else can go on after that."""
        if self._leased is not None:
            self.request_stop(Stop.DRAINED)

    def pause(self) -> bool:
        """Have it paused, if it is not undone; False where it has come to its end before."""
        return self._scheduler.request_pause()

    def offer(self, execution_id: str, signal: "Signal") -> None:
        """Have it take a signal for that execution, which is committed."""

        def take() -> None:
            for lifecycle in [] if self._lifecycle is None else family.family_of(self._lifecycle):
                if lifecycle.execution_id == execution_id:
                    lifecycle.waits.offer(signal)

        self._scheduler.call(take)

    def be_watched(self) -> None:
        """Have it tell whoever watches it, or a sub-flow of it: somebody has begun to."""

        def tell() -> None:
            for lifecycle in [] if self._lifecycle is None else family.family_of(self._lifecycle):
                lifecycle.be_watched()

        self._scheduler.call(tell)

    def end_grace(self) -> None:
        """Give up on handlers that were told to end and still run."""
        self._scheduler.end_grace()


def _stop_that_leaves(error: BaseException) -> Stop:
    """Return which stop an interruption is where somebody can go on with the execution."""
    return Stop.INTERRUPTED if is_a(error, KeyboardInterrupt) else Stop.RELEASED


def _stop_that_cancels(_: BaseException) -> Stop:
    """Return which stop an interruption is where nobody can, or is to."""
    return Stop.CANCELLED
