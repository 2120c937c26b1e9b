"""Running what others have submitted, and what was interrupted: several at a time, each on a thread of its own."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty
from typing import Final, Protocol

import attrs

from szal.clock import monotonic
from szal.engine.side_by_side import start_thread
from szal.errors import (
    ConcurrencyKeyTaken,
    DefinitionMismatch,
    EngineClosed,
    ExecutionNotFound,
    ExecutionOwned,
    ExecutorBroken,
    HandlerNotFound,
    LeaseLost,
    SecretMissing,
    StoreClosed,
    StoreError,
    StoreUnavailable,
    SzalError,
)
from szal.interruption import is_interruption
from szal.logs import SafeLogger, Trouble
from szal.model.results import FlowResult
from szal.scheduler.cancel import CancellationToken
from szal.stores.listening import Listening
from szal.stores.queue import Claim, Queue
from szal.waiters import Mailbox

__all__ = ["Worker", "Works"]

logger = SafeLogger(logging.getLogger(__name__))

_RECOVER_EVERY: Final = 1.0
"""Seconds between two looks for what was interrupted, and at the queues where nobody tells of submissions."""

_TRY_AGAIN_AFTER: Final = 60.0
"""Seconds for which what cannot be run here is left to others."""


class Works(Protocol):
    """What a worker needs of its engine."""

    def run(self, execution_id: str, on_begin: Callable[[], object]) -> FlowResult:
        """Run one execution, on this thread, and return how it ended; *on_begin* is called unless it had before."""

    def interrupted(self) -> Sequence[str]:
        """Return what nobody runs although it could go on."""

    def fire(self) -> None:
        """Submit what schedules have due."""

    def is_active(self, execution_id: str) -> bool:
        """Whether this engine has it already."""

    def is_closed(self) -> bool:
        """Whether the engine takes up nothing any more."""

    def release(self, execution_ids: Sequence[str], error: BaseException) -> None:
        """Have what runs given back where it stands, for *error*, which came up on the thread that works."""


@attrs.frozen
class _Ended:
    execution_id: str
    is_claimed: bool
    result: FlowResult | None
    """None: it could not be run here."""
    has_begun: bool
    """Whether it was run here; else somebody else had."""
    is_others: bool = False
    """Whether another process may be able to."""
    again_after: float = _TRY_AGAIN_AFTER
    """Seconds for which it is left to others, where it could not be run."""


class Worker:
    """One call of `Engine.work`: it belongs to the thread that makes it, but for `_heard`, which others put into."""

    def __init__(self, works: Works, queue: Queue, queues: Sequence[str], most: int, ttl: float) -> None:
        self._works = works
        self._queue = queue
        self._queues = tuple(queues)
        self._most = most
        self._ttl = ttl
        self._heard: Mailbox[_Ended | None] = Mailbox()  # None: look
        self._running: set[str] = set()
        self._interrupted = deque[str]()  # what was found the last time, and has not been taken up
        self._left_alone: dict[str, float] = {}  # what cannot be run here, with when it is tried again
        self._done: list[str] = []  # what has begun, and is to be taken from the queue
        self._given_back: list[str] = []  # what others are to have
        self._count = 0
        self._looks_at = self._recovers_at = self._fires_at = 0.0
        self._is_closing = False
        self._trouble = Trouble(logger)
        self._broken: ExecutorBroken | None = None

    def work(self, *, until_idle: bool, stop: CancellationToken | None) -> int:
        """Run what comes, until *stop* is cancelled, the engine is closed, or, with *until_idle*, nothing is due.

        Returns how many executions were run here, once all of these have ended. Raises `ExecutorBroken` where the
        engine's executor takes nothing more: all that it would take up could only be left again.
        """
        listening = unregister = None
        try:
            if not until_idle:
                listening = Listening(self._queue.listen(), partial(self._heard.put, None), _RECOVER_EVERY)
            unregister = None if stop is None else stop.subscribe(self.close)
            while not (self._is_closing or self._works.is_closed()):
                is_idle = not self._take(looks_again=until_idle) and not self._running
                if is_idle and until_idle:
                    break
                self._hear(_RECOVER_EVERY)
        except BaseException as error:
            self._works.release([*self._running], error)
            raise
        finally:
            if listening is not None:
                listening.close()
            if unregister is not None:
                unregister()
            self._tell_at_last()
            while self._running:
                self._hear(None)
                self._tell_at_last()
        if self._broken is not None:
            raise self._broken
        return self._count

    def wake(self, execution_id: str) -> None:  # noqa: ARG002 (it is among those that are looked for)
        """Look at once for what can go on: something has come for that execution. From any thread."""
        self._recovers_at = 0.0
        self._heard.put(None)

    def close(self) -> None:
        """Take up nothing more. From any thread, and from a signal handler."""
        self._is_closing = True
        self._heard.put(None)

    def _hear(self, timeout: float | None) -> None:
        """Wait for something, and take note of all that has come."""
        try:
            message = self._heard.next(timeout)
            while True:
                if message is not None:
                    self._note(message)
                message = self._heard.get()
        except Empty:
            return

    def _note(self, ended: _Ended) -> None:
        execution_id = ended.execution_id
        self._running.discard(execution_id)
        if ended.result is not None:
            self._count += ended.has_begun
            if ended.is_claimed:
                self._done.append(execution_id)
        else:
            self._left_alone[execution_id] = monotonic() + ended.again_after
            if ended.is_claimed and ended.is_others:
                self._given_back.append(execution_id)

    def _take(self, *, looks_again: bool) -> bool:
        """Begin what is due, as far as there is room; return whether there was anything.

        With *looks_again* what was interrupted is looked for whenever nothing runs here, else now and then.
        """
        now = monotonic()
        if now < self._looks_at:
            return True
        for execution_id in [each for each, until in self._left_alone.items() if until <= now]:
            del self._left_alone[execution_id]
        room = self._most - len(self._running)
        if room <= 0:
            return False
        try:
            self._tell_queue()
            if now >= self._fires_at or looks_again:
                self._fires_at = now + _RECOVER_EVERY
                self._works.fire()
            if now >= self._recovers_at or (looks_again and not self._running):
                self._recovers_at = now + _RECOVER_EVERY
                self._interrupted = deque(self._works.interrupted())
            taken = [(each, False) for each in self._next_interrupted(room)]
            if room := room - len(taken):
                but = {*self._running, *self._left_alone, *(each for each, _ in taken)}
                claimed = self._queue.claim(Claim(queues=self._queues, most=room, ttl=self._ttl, but=but))
                taken += [(each, True) for each in claimed]
        except StoreError as error:
            self._looks_at = monotonic() + _RECOVER_EVERY
            self._trouble.met(error, f"cannot look for executions; trying again every {_RECOVER_EVERY:g}s")
            return True
        if self._trouble.is_over():
            logger.warning("looking for executions again")
        begun = [self._begin(*each) for each in taken]
        return any(begun)

    def _next_interrupted(self, room: int) -> list[str]:
        """Return so many of those that were found interrupted, and are not at work here: what has begun comes first."""
        taken: list[str] = []
        while self._interrupted and len(taken) < room:
            each = self._interrupted.popleft()
            if not (each in self._running or each in self._left_alone or self._works.is_active(each)):
                taken.append(each)
        return taken

    def _begin(self, execution_id: str, is_claimed: bool) -> bool:
        self._running.add(execution_id)
        begun = start_thread(lambda: self._run(execution_id, is_claimed), name=execution_id)
        if not begun:  # no thread to be had just now
            self._running.discard(execution_id)
            if is_claimed:
                self._given_back.append(execution_id)
        return begun

    def _tell_queue(self) -> None:
        """Have the queue know what has begun, and what others are to have; what it could not be told stays here."""
        self._queue.begun(self._done)
        self._done = []
        self._queue.give_back(self._given_back)
        self._given_back = []

    def _tell_at_last(self) -> None:
        """Do so as it ends, while there is a store: that of an engine is closed with its last run.

        What it cannot be told others find out, once what was reserved is so no more.
        """
        try:
            self._tell_queue()
        except StoreClosed:
            return
        except StoreError as error:
            logger.warning("cannot tell the queue what has ended: %s", error)

    # -- on a run thread --------------------------------------------------------------------------------

    def _run(self, execution_id: str, is_claimed: bool) -> None:
        result, is_others, again_after = None, False, _TRY_AGAIN_AFTER
        begun: list[None] = []
        try:
            result = self._works.run(execution_id, lambda: begun.append(None))
        except (HandlerNotFound, DefinitionMismatch, EngineClosed) as error:
            is_others = True
            logger.debug("execution %s is left to others: %s", execution_id, error)
        except SecretMissing as error:  # which another process may have
            is_others = True
            logger.error("cannot run %s", error)
        except ConcurrencyKeyTaken as error:  # of what is queued the queue knows when its turn has come
            is_others, again_after = True, 0.0 if is_claimed else _RECOVER_EVERY
            logger.debug("%s", error)
        except (ExecutionOwned, ExecutionNotFound, LeaseLost) as error:  # if it is given back, anybody may have it
            again_after = _RECOVER_EVERY
            logger.debug("execution %s is not run here: %s", execution_id, error)
        except StoreUnavailable as error:  # it may be there again at once
            is_others, again_after = True, _RECOVER_EVERY
            logger.error("cannot run execution %s just now: %s", execution_id, error)
        except ExecutorBroken as error:
            is_others, self._broken = True, error
            self.close()
            logger.error("execution %s is left to others: %s", execution_id, error)
        except SzalError as error:
            logger.error("cannot run execution %s: %s", execution_id, error)
        except BaseException as error:
            if is_interruption(error):
                raise
            logger.exception("cannot run execution %s", execution_id)
        finally:
            self._heard.put(_Ended(execution_id, is_claimed, result, bool(begun), is_others, again_after))
