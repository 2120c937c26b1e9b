"""Executors by themselves: as many calls as there are steps, submitted and waited for."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.work import CORES, compute, one, process_pool

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

Does = Callable[[object], int]


def submitted(make: Callable[[], AbstractContextManager[Executor]], does: Does, job: "Job") -> "Iterator[Repetition]":
    """Yield a repetition that submits all calls, then waits for each."""
    with make() as pool:

        def repetition() -> None:
            for future in [pool.submit(does, place) for place in range(job.size)]:
                future.result()

        yield repetition


def in_turn(job: "Job") -> "Iterator[Repetition]":
    """One after another, on one core."""
    yield lambda: [compute(place) for place in range(job.size)]


def _pools(does: Does) -> "dict[str, Subject]":
    return {
        "ThreadPoolExecutor": partial(submitted, partial(ThreadPoolExecutor, CORES), does),
        "ProcessPoolExecutor": partial(submitted, process_pool, does),
    }


CASES: "dict[str, dict[str, Subject]]" = {
    "attempts": _pools(one),
    "computing": {**_pools(compute), "one after another": in_turn},
}
