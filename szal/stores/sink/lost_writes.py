"""The writes that failed for good: each is logged, handed to `on_error`, and told to the flush that covers it."""

import logging
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

import attrs

from szal.errors import FlushTimeout, LeaseLost, WriteFailed
from szal.interruption import is_interruption
from szal.logs import SafeLogger
from szal.stores.writes import Write

__all__ = ["LostWrites", "OnError", "last_words", "without_frames"]

logger = SafeLogger(logging.getLogger(__name__))

OnError: TypeAlias = Callable[[Write, Exception], object]

_REMEMBERED = 10_000


_LostWrite: TypeAlias = tuple[int, str, Exception]
"""The number of a write, its execution, and what it was lost for."""


def _memory(losses: Iterable[_LostWrite] = ()) -> deque[_LostWrite]:
    return deque(losses, maxlen=_REMEMBERED)


@attrs.define
class LostWrites:
    """What a writer could not write. Its fields are guarded by the writer's lock."""

    store: str
    on_error: OnError | None
    _untold: deque[_LostWrite] = attrs.field(factory=_memory, init=False)
    _overtaken: deque[tuple[str, int | None]] = attrs.field(factory=lambda: deque(maxlen=100), init=False)
    """Leases that are known to be lost: the writer's thread's own."""

    def announce(self, write: Write, error: Exception) -> None:
        """Log the loss and hand it to `on_error`; without the lock, which foreign code must not hold."""
        if not isinstance(error, LeaseLost):
            logger.error("lost the %s of execution %s: %s", _named(write), write.execution_id, error)
        elif (lease := (write.execution_id, write.epoch)) not in self._overtaken:  # its other writes are lost with it
            self._overtaken.append(lease)
            logger.warning("%s: what this process still does for it is not recorded", error)
        if self.on_error is None:
            return
        try:
            self.on_error(write, error)
        except BaseException as problem:  # the thread belongs to all executions, also if this one says sys.exit()
            if is_interruption(problem):
                raise
            logger.exception("on_error failed for execution %s", write.execution_id)

    def remember(self, number: int, write: Write, error: Exception) -> None:
        """Keep the loss of write *number* for `report`; beyond 10 000, the oldest are only in the log."""
        self._untold.append((number, write.execution_id, error))

    def report(self, last: int, execution_ids: Collection[str] | None) -> None:
        """Raise `WriteFailed` for the losses up to number *last* (of these executions), which are forgotten."""
        told: list[_LostWrite] = []
        untold: list[_LostWrite] = []
        for loss in self._untold:
            (told if loss[0] <= last and (execution_ids is None or loss[1] in execution_ids) else untold).append(loss)
        if told:
            failed = WriteFailed(self.store, tuple(name for _, name, _ in told), tuple(error for *_, error in told))
            rest = _memory(untold)
            self._untold = rest  # nothing can come between this and the next
            try:
                raise failed
            finally:
                del failed  # which this frame, being in its traceback, must not refer to

    def forget(self) -> None:
        """Forget everything: it was the parent's, before a fork."""
        self._untold = _memory()


def _named(write: Write) -> str:
    kind = type(write).__name__
    return {"Save": "record", "SaveStep": "outcome of a step", "NewExecution": "beginning"}.get(kind, kind.lower())


def without_frames(error: Exception) -> Exception:
    """Return *error* without its tracebacks: what remembers it would keep whole batches alive."""
    seen: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        each = errors.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            errors += [each.__cause__, each.__context__]
    return error


def last_words(why: str, lost: FlushTimeout) -> None:
    """Say which executions are not written: where logging leads, and on stderr, once."""
    ids = ", ".join(lost.execution_ids)
    logger.error("%s: not written to %s: %s", why, lost.store, ids)
    if sys.stderr is not None and not logger.shows(logging.ERROR):
        sys.stderr.write(f"{why}: not written to {lost.store}: {ids}\n")
