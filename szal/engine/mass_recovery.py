"""Recovering many executions: several at a time, each on a thread of its own, so that a slow one holds up no other."""

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty

import attrs

from szal.clock import monotonic
from szal.engine.side_by_side import Stopper, each_on_a_thread, start_thread
from szal.errors import (
    EngineClosed,
    ExecutionNotFound,
    ExecutionOwned,
    HandlerNotFound,
    LeaseLost,
    SecretMissing,
    StoreClosed,
    WorkingDirectoryGone,
)
from szal.interruption import is_interruption
from szal.logs import SafeLogger, Trouble
from szal.model.results import FlowResult
from szal.waiters import Mailbox

__all__ = ["BackgroundRecovery", "recover_all"]

logger = SafeLogger(logging.getLogger(__name__))

Resume = Callable[[str], FlowResult]


def _resume(resume: Resume, execution_id: str) -> FlowResult | None:
    """Return how an execution ended; None where it is not to be had, or raised, whatever that is: it is logged.

    What interrupted it is raised.
    """
    try:
        return resume(execution_id)
    except (ExecutionOwned, ExecutionNotFound, HandlerNotFound, LeaseLost, EngineClosed) as error:
        logger.debug("execution %s is not recovered: %s", execution_id, error)
    except (SecretMissing, WorkingDirectoryGone) as error:
        logger.error("cannot recover %s", error)
    except BaseException as error:
        if is_interruption(error):
            raise
        logger.exception("cannot recover execution %s", execution_id)
    return None


def recover_all(
    execution_ids: Iterable[str], resume: Callable[..., FlowResult], *, limit: int | None, at_once: int, stop: Stopper
) -> list[FlowResult]:
    """Resume executions, *at_once* at a time, and return how they ended, in the order given: at most *limit* of them.

    Blocks until all have ended. *stop* is as `each_on_a_thread` says; *resume* is told with `is_wanted` whether it has
    been called: one that it does not find is to ask.
    """

    def resume_if_wanted(execution_id: str, is_wanted: Callable[[], bool]) -> FlowResult | None:
        return _resume(partial(resume, is_wanted=is_wanted), execution_id)

    results: dict[int, FlowResult] = {}

    def keep(place: int, _: str, result: FlowResult | None) -> None:
        if result is not None:
            results[place] = result

    def room() -> int:
        return at_once if limit is None else min(at_once, limit - len(results))

    each_on_a_thread(execution_ids, resume_if_wanted, room=room, on_end=keep, stop=stop)
    return [results[place] for place in sorted(results)]


class BackgroundRecovery:
    """Looks for interrupted executions every *interval* seconds, and when woken, and has each resumed on a thread.

    All its threads are daemons. `interrupted` lists what could go on, `resume` continues one, `is_active` tells what
    runs here already.
    """

    def __init__(
        self,
        interval: float,
        interrupted: Callable[[], list[str]],
        resume: Resume,
        is_active: Callable[[str], bool],
        at_once: int,
    ) -> None:
        self._interval = interval
        self._interrupted = interrupted
        self._resume = resume
        self._is_active = is_active
        self._at_once = at_once
        self._is_closed = False
        self._messages: Mailbox[_Message | None] = Mailbox()  # None: closed
        # The recovery thread's own:
        self._running: set[str] = set()
        self._trouble = Trouble(logger)
        self._refused: set[str] = set()  # what could not be continued, and is not tried again before its time
        threading.Thread(target=self._work, name="szal-recovery", daemon=True).start()

    def wake(self, execution_id: str) -> None:
        """Look at once: something has come for that execution. From any thread."""
        self._messages.put(_Message(execution_id))

    def close(self) -> None:
        """Take up nothing more. Waits for nothing; what is just being looked for may find its store closed."""
        self._is_closed = True
        self._messages.put(None)

    def _work(self) -> None:
        due = monotonic() + self._interval
        while True:
            try:
                message = self._messages.next(due - monotonic())
            except Empty:
                self._refused.clear()
                due = monotonic() + self._interval
                self._look()
                continue
            if message is None:
                return
            if self._is_reason_to_look(message):
                self._look()

    def _is_reason_to_look(self, message: "_Message") -> bool:
        """Take note of a message; return whether something may go on now that could not before."""
        execution_id = message.execution_id
        if message.has_ended is None:
            self._refused.discard(execution_id)
            return True
        was_full = len(self._running) >= self._at_once
        self._running.discard(execution_id)
        if not message.has_ended:
            self._refused.add(execution_id)
        return was_full

    def _look(self) -> None:
        try:
            found = self._interrupted()
        except Exception as error:  # noqa: BLE001 (the store is away; the next time may be better)
            if not self._is_closed:
                what = f"recovery failed; trying again every {self._interval:g}s"
                self._trouble.met(error, what)
            return
        self._trouble.is_over()
        for execution_id in found:
            if len(self._running) >= self._at_once:
                return
            tried = execution_id in self._running or execution_id in self._refused
            recover = partial(self._recover, execution_id)
            if not tried and not self._is_active(execution_id) and start_thread(recover, name=execution_id):
                self._running.add(execution_id)

    def _recover(self, execution_id: str) -> None:
        result = None
        try:
            result = _resume(self._resume_if_open, execution_id)
        finally:
            self._messages.put(_Message(execution_id, result is not None))

    def _resume_if_open(self, execution_id: str) -> FlowResult:
        try:
            return self._resume(execution_id)
        except StoreClosed as error:
            if self._is_closed:
                raise EngineClosed from error
            raise


@attrs.frozen
class _Message:
    """Of an execution: something has come for it; or a run of it has ended, as it should (True) or could not begin."""

    execution_id: str
    has_ended: bool | None = None
