"""Calls on a cluster that are made once: whoever is about to make one claims it first, at the scheduler."""

import uuid
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

import attrs
import distributed
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import KilledWorker as DaskKilledWorker

__all__ = ["ENGINE", "Claims", "KilledWorker", "Refused", "call", "killed", "worker_of"]

_GONE: Final = "is gone, killed (for its memory, say), stopped or out of reach: nobody knows how far it came"
ENGINE: Final = "szal-engine"
"""Who claims a call so that nobody makes it."""


class KilledWorker(DaskKilledWorker):
    """The worker that had an attempt is gone. It is one failed attempt, which the step's policy may repeat.

    dask's own repetitions of it are prevented.
    """

    def __str__(self) -> str:
        worker = getattr(self.last_worker, "address", self.last_worker)
        return f"the worker {worker} {_GONE}. dask does not call it again by itself: the step's retries do"


def killed(key: str, worker: Any) -> KilledWorker:
    """Return the error of a call that a worker of that address had begun."""
    return KilledWorker(key, worker, 0)


class Claims(SchedulerPlugin):
    """Who has begun which call; the part of it that the scheduler has. On the scheduler's own thread.

    A call that its scheduler has forgotten is nobody's: it was called off, or is over.
    """

    name = "szal-claims"
    idempotent = True

    def __init__(self) -> None:
        self._claimed: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._scheduler: Any = None

    def __reduce__(self) -> tuple[type["Claims"], tuple[()]]:
        return Claims, ()

    def start(self, scheduler: Any) -> None:  # type: ignore[override] # one of dask's is awaited
        """Answer those who claim a call."""
        self._scheduler = scheduler
        scheduler.handlers["szal_claim"] = self.claim

    def claim(self, key: str, by: str, topic: str) -> str | None:
        """Let *by* have the call, and tell who listens to *topic*; return who has it then, None for one unknown."""
        task = self._scheduler.tasks.get(key)
        if task is None:
            return None
        if task not in self._claimed:
            self._claimed[task] = by
            self._scheduler.log_event(topic, [key, by])
        return self._claimed[task]


@attrs.frozen
class Refused:
    """What comes back instead of a result where others had claimed the call: a worker of that address, or ENGINE."""

    by: str | None


def call(topic: str, key: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call *function*, on a worker, unless that was begun before."""
    worker = distributed.get_worker()
    mine = f"{worker.address} {uuid.uuid4().hex}"
    claimed = distributed.utils.sync(worker.loop, worker.scheduler.szal_claim, key=key, by=mine, topic=topic)
    if claimed != mine:
        return Refused(None if claimed is None else worker_of(claimed))
    return function(*args)


def worker_of(claim: str) -> str:
    """Return the address of the worker that has made *claim*."""
    return claim.partition(" ")[0]
