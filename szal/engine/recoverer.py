"""Recovering many executions: several at a time, each on a thread of its own, so that a slow one holds up no other."""

import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue

import attrs

from szal.clock import monotonic
from szal.errors import ExecutionNotFound, ExecutionOwned, HandlerNotFound, LeaseLost
from szal.logs import SafeLogger
from szal.model.results import FlowResult
from szal.waiters import next_of

__all__ = ["BackgroundRecovery", "recover_all"]

logger = SafeLogger(logging.getLogger(__name__))

Resume = Callable[[str], FlowResult]
Stopper = Callable[[Iterable[str], BaseException], object]


def _resume(resume: Resume, execution_id: str) -> FlowResult | None:
    """Return how an execution ended; None where it is not to be had, or raised, which is logged."""
    try:
        return resume(execution_id)
    except (ExecutionOwned, ExecutionNotFound, HandlerNotFound, LeaseLost):
        return None
    except BaseException:  # also what interrupted the thread that waits for it
        logger.exception("cannot recover execution %s", execution_id)
        return None


def recover_all(
    execution_ids: Iterable[str], resume: Resume, *, limit: int | None, at_once: int, stop: Stopper
) -> list[FlowResult]:
    """Resume executions, *at_once* at a time, and return how they ended, in the order given: at most *limit* of them.

    Blocks until all have ended. Where this thread is interrupted meanwhile, it calls *stop* with those that are under
    way and with what came up, and waits all the same.
    """
    pending = deque(enumerate(execution_ids))
    finished: SimpleQueue[tuple[int, FlowResult | None]] = SimpleQueue()
    ended: dict[int, FlowResult] = {}
    under_way: dict[int, str] = {}
    interruption: BaseException | None = None

    def work(place: int, execution_id: str) -> None:
        finished.put((place, _resume(resume, execution_id)))

    while True:
        room = at_once if limit is None else min(at_once, limit - len(ended))
        while pending and len(under_way) < room:
            place, execution_id = pending.popleft()
            under_way[place] = execution_id
            if not _start(work, place, execution_id):
                work(place, execution_id)  # no thread to be had: this one does it
        if not under_way:
            break
        try:
            place, result = next_of(finished)
        except BaseException as error:
            if interruption is not None:
                raise
            interruption = error
            pending.clear()
            stop([*under_way.values()], error)
            continue
        del under_way[place]
        if result is not None:
            ended[place] = result
    if interruption is not None:
        raise interruption
    return [ended[place] for place in sorted(ended)]


def _start(work: Callable[..., None], *arguments: object) -> bool:
    """Have a run thread do some work, with a copy of this one's context; False where there is none to be had."""
    context = contextvars.copy_context()
    name = f"szal-run-{arguments[-1]}"
    try:
        threading.Thread(target=context.run, args=(work, *arguments), name=name, daemon=True).start()
    except RuntimeError:
        return False
    return True


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
        self._messages: SimpleQueue[_Message | None] = SimpleQueue()  # None: closed
        # The recovery thread's own:
        self._running: set[str] = set()
        self._refused: set[str] = set()  # what could not be continued, and is not tried again before its time
        threading.Thread(target=self._work, name="szal-recovery", daemon=True).start()

    def wake(self, execution_id: str) -> None:
        """Look at once: something has come for that execution. From any thread."""
        self._messages.put(_Message(execution_id))

    def close(self) -> None:
        """Take up nothing more. Waits for nothing."""
        self._messages.put(None)

    def _work(self) -> None:
        due = monotonic() + self._interval
        while True:
            try:
                message = next_of(self._messages, due - monotonic())
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
        except Exception:  # the store is away; the next time may be better
            logger.exception("recovery failed; trying again in %gs", self._interval)
            return
        for execution_id in found:
            if len(self._running) >= self._at_once:
                return
            tried = execution_id in self._running or execution_id in self._refused
            if not tried and not self._is_active(execution_id) and _start(self._recover, execution_id):
                self._running.add(execution_id)

    def _recover(self, execution_id: str) -> None:
        result = None
        try:
            result = _resume(self._resume, execution_id)
        finally:
            self._messages.put(_Message(execution_id, result is not None))


@attrs.frozen
class _Message:
    """Of an execution: something has come for it; or a run of it has ended, as it should (True) or could not begin."""

    execution_id: str
    has_ended: bool | None = None
