"""How a batch gets into the database: again what may pass, one by one what is refused together."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import attrs
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_exponential,
    wait_random,
)

from szal.errors import StoreFailed, StoreUnavailable, describe
from szal.interruption import is_interruption
from szal.stores import retrying
from szal.stores.base import Backend
from szal.stores.operation import Operation
from szal.stores.sink.losses import without_frames

__all__ = ["Committer"]

Part: TypeAlias = tuple[Sequence[Operation], Exception | None]
"""Some operations of a batch: committed (None), or lost for this."""
Sleep: TypeAlias = Callable[[float], None]
BeforeSleep: TypeAlias = Callable[[RetryCallState], None]


@attrs.define(eq=False)
class Committer:
    """Writes batches to *backend*; where the trouble may pass, each for *give_up_after* seconds. Used by the writer."""

    backend: Backend
    give_up_after: float | None
    at_work: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    """Held while the database is at work, and by who is about to fork; taken before the writer's lock."""

    def commit(self, batch: Sequence[Operation], sleep: Sleep, before_sleep: BeforeSleep) -> Iterator[Part]:
        """Write *batch*, or what of it can be written, and yield its parts, in order, each as soon as it is certain."""
        error = self._try(batch, sleep, before_sleep)
        if error is None or len(batch) == 1 or isinstance(error, StoreUnavailable):  # which is given up
            yield batch, error
            return
        without_frames(error)  # tenacity's refer to it
        for operation in batch:
            yield [operation], self._try([operation], sleep, before_sleep)

    def _try(self, batch: Sequence[Operation], sleep: Sleep, before_sleep: BeforeSleep) -> Exception | None:
        """Write *batch* in one transaction, and return what the database objects to."""
        try:
            retrying.call(partial(self._retrying, sleep, before_sleep), self._apply, batch)
        except Exception as error:  # noqa: BLE001 - whatever the database objects to
            return error
        return None

    def _retrying(self, sleep: Sleep, before_sleep: BeforeSleep, spent: float) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential(multiplier=0.02, max=2.0) + wait_random(0, 0.02),
            stop=stop_never if self.give_up_after is None else stop_after_delay(max(0.0, self.give_up_after - spent)),
            sleep=sleep,
            before_sleep=before_sleep,
            reraise=True,
        )

    def _apply(self, batch: Sequence[Operation]) -> None:
        with self.at_work:
            try:
                self.backend.apply(batch)
            except Exception:
                raise
            except BaseException as error:
                if is_interruption(error):
                    raise
                raise StoreFailed(self.backend.name, describe(error)) from error
