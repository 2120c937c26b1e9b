"""The writes that failed for good: each is logged, handed to `on_error`, and told to the flush that covers it."""

import logging
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import attrs

from szal.errors import WriteFailed
from szal.stores.operation import Operation

__all__ = ["Losses", "OnError", "without_frames"]

logger = logging.getLogger(__name__)

OnError: TypeAlias = Callable[[Operation, Exception], object]

_REMEMBERED = 10_000


def _memory() -> deque[tuple[int, str, Exception]]:
    return deque(maxlen=_REMEMBERED)


@attrs.define
class Losses:
    """What a writer could not write. Its fields are guarded by the writer's lock."""

    store: str
    on_error: OnError | None
    _untold: deque[tuple[int, str, Exception]] = attrs.field(factory=_memory, init=False)

    def announce(self, operation: Operation, error: Exception) -> None:
        """Log the loss and hand it to `on_error`; without the lock, which foreign code must not hold."""
        kind = type(operation).__name__.lower()
        logger.error("lost the %s of execution %s: %s", kind, operation.execution_id, error)
        if self.on_error is None:
            return
        try:
            self.on_error(operation, error)
        except BaseException:  # the thread belongs to all executions, also if this one says sys.exit()
            logger.exception("on_error failed for execution %s", operation.execution_id)

    def remember(self, number: int, operation: Operation, error: Exception) -> None:
        """Keep the loss of operation *number* for `take`; beyond 10 000, the oldest are only in the log."""
        self._untold.append((number, operation.execution_id, error))

    def take(self, last: int, execution_id: str | None) -> WriteFailed | None:
        """Return what is to be said of the operations up to number *last* (of one execution), and forget it."""
        told = [loss for loss in self._untold if loss[0] <= last and execution_id in (None, loss[1])]
        if not told:
            return None
        for loss in told:
            self._untold.remove(loss)
        return WriteFailed(self.store, tuple(name for _, name, _ in told), tuple(error for *_, error in told))

    def forget(self) -> None:
        """Forget everything: it was the parent's, before a fork."""
        self._untold = _memory()


def without_frames(error: Exception) -> Exception:
    """Return *error* without its tracebacks: what remembers it would keep whole batches alive."""
    cause: BaseException | None = error
    while cause is not None and cause.__traceback__ is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return error
