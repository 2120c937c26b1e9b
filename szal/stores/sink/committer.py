"""How a batch gets into the database, and how often that is tried."""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
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

from szal.errors import LeaseLost, StoreFailed, StoreUnavailable, describe
from szal.interruption import is_interruption
from szal.stores import retrying
from szal.stores.batch import lost_with
from szal.stores.ledger import Ledger
from szal.stores.writes import NewExecution, Write

__all__ = ["Committer", "what_can_be"]

Part: TypeAlias = tuple[Sequence[Write], Exception | None]
"""Writes that follow each other, and what they are lost for, if they are."""
Commit: TypeAlias = Callable[[Sequence[Write]], Exception | None]
Sleep: TypeAlias = Callable[[float], None]
BeforeSleep: TypeAlias = Callable[[RetryCallState], None]


@attrs.define(eq=False)
class Committer:
    """Writes batches to *ledger*; where the trouble may pass, each for *give_up_after* seconds. Used by the writer."""

    ledger: Ledger
    give_up_after: float | None
    at_work: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    """Held while the database is at work, and by who is about to fork; taken before the writer's lock."""

    def commit(self, batch: Sequence[Write], sleep: Sleep, before_sleep: BeforeSleep) -> Exception | None:
        """Write *batch* in one transaction, all of it or nothing; return what keeps it from being written."""
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

    def _apply(self, batch: Sequence[Write]) -> None:
        with self.at_work:
            try:
                self.ledger.apply(batch, once=True)
            except Exception:
                raise
            except BaseException as error:
                if is_interruption(error):
                    raise
                raise StoreFailed(self.ledger.name, describe(error)) from error


def what_can_be(batch: Sequence[Write], error: Exception, commit: Commit) -> Iterator[Part]:
    """Write what can be written of *batch*, of which *error* has kept all, together where it can; yield it in order.

    Of leases that are lost, all are known at once: that one is lost costs the others one more transaction.
    """
    lost = lost_with(error.leases, batch) if isinstance(error, LeaseLost) else set()

    def is_held(write: Write) -> bool:
        return write.epoch is None or (write.execution_id, write.epoch) not in lost

    kept = [write for write in batch if is_held(write)]
    if not lost or (kept and commit(kept) is not None):  # there is more to it
        yield from _one_by_one(batch, commit)
        return
    for held, group in groupby(batch, is_held):
        if held:
            yield [*group], None
        else:
            yield from (([write], LeaseLost(write.execution_id)) for write in group)


def _one_by_one(batch: Sequence[Write], commit: Commit) -> Iterator[Part]:
    """Write each by itself; what belongs to an execution that could not be recorded is lost for the same reason."""
    unrecorded: dict[tuple[str, int | None], Exception] = {}
    for write in batch:
        problem = unrecorded.get((write.execution_id, write.epoch)) or commit([write])
        if problem is not None and type(write) is NewExecution:
            unrecorded[write.lease] = problem
        yield [write], problem
