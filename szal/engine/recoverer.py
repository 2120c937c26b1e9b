"""Recovering many executions: several at a time, each on a thread of its own, so that a slow one holds up no other."""

import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue

from szal.errors import ExecutionNotFound, ExecutionOwned, HandlerNotFound, LeaseLost
from szal.logs import SafeLogger
from szal.model.results import FlowResult

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
            place, result = finished.get()
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
        self._woken = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()  # guards the next
        self._running: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="szal-recovery", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look at once. From any thread."""
        self._woken.set()

    def close(self) -> None:
        """Take up nothing more. Waits for nothing."""
        self._closed.set()
        self._woken.set()

    def _work(self) -> None:
        while not self._closed.is_set():
            self._woken.wait(self._interval)
            self._woken.clear()
            if self._closed.is_set():
                return
            try:
                for execution_id in self._interrupted():
                    self._begin(execution_id)
            except Exception:  # the store is away; the next time may be better
                if not self._closed.is_set():
                    logger.exception("recovery failed; trying again in %gs", self._interval)

    def _begin(self, execution_id: str) -> None:
        with self._lock:
            full = len(self._running) >= self._at_once
            if self._closed.is_set() or full or execution_id in self._running or self._is_active(execution_id):
                return
            self._running.add(execution_id)
        if not _start(self._recover, execution_id):
            self._ended(execution_id)

    def _recover(self, execution_id: str) -> None:
        try:
            _resume(self._resume, execution_id)
        finally:
            self._ended(execution_id)

    def _ended(self, execution_id: str) -> None:
        with self._lock:
            was_full = len(self._running) >= self._at_once
            self._running.discard(execution_id)
        if was_full:
            self._woken.set()
