"""dask.distributed: a scheduler and one worker of 16 threads, all in this process; each result is kept by a future."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
SLEEP = 0.010


def one(*_: object) -> int:
    """Do a step's work."""
    return 1


def doze(*_: object, seconds: float = SLEEP) -> None:
    """Do the work of a step of `sleeps`, or of a task of a trace."""
    time.sleep(seconds)


def computing() -> "Callable[[object], int]":
    """Return the work of a step that computes. It is sent as it is: workers do not find this file."""

    def compute(_: object) -> int:
        total = 0
        for number in range(400_000):
            total += number & 7
        return total

    return compute


def nothing() -> "Callable[[object], int]":
    """Return the work of a step that does nothing, likewise."""
    return lambda _: 1


@contextmanager
def client_of(job: "Job") -> Iterator[Any]:
    """Give a client of a cluster of threads."""
    from distributed import Client

    options = {"n_workers": 1, "threads_per_worker": WORKERS, "dashboard_address": None}
    with Client(processes=False, local_directory=str(job.folder), set_as_default=False, **options) as client:
        yield client


def submits(job: "Job", before: dict[int, list[int]]) -> "Iterator[Repetition]":
    """Yield a repetition that submits a call for each place, given the futures that it waits for."""
    with client_of(job) as client:

        def repetition() -> None:
            futures: list[Any] = []
            for after in before.values():
                futures.append(client.submit(one, *[futures[place] for place in after], pure=False))
            client.gather(futures)

        yield repetition


def chain(job: "Job") -> "Iterator[Repetition]":
    """Each is given the result of the one before."""
    yield from submits(job, {place: [place - 1] if place else [] for place in range(job.size)})


def maps(job: "Job", function: Any) -> "Iterator[Repetition]":
    """Yield a repetition that maps *function*: many independent calls in one message, as the documentation advises."""
    with client_of(job) as client:
        yield lambda: client.gather(client.map(function, range(job.size), pure=False))


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """Independent calls."""
    yield from maps(job, one)


def in_processes(function: "Callable[[object], int]", job: "Job") -> "Iterator[Repetition]":
    """Independent calls on a cluster of processes, one for each core."""
    from distributed import Client

    options = {"n_workers": os.cpu_count(), "threads_per_worker": 1, "dashboard_address": None}
    with Client(processes=True, local_directory=str(job.folder), set_as_default=False, **options) as client:
        yield lambda: client.gather(client.map(function, range(job.size), pure=False))


def layers(size: int, dependencies: int) -> dict[int, list[int]]:
    """Return layers of 50."""
    width = max(1, min(50, size // 2))
    before: dict[int, list[int]] = {}
    for place in range(size):
        start = place // width * width - width
        before[place] = (
            [start + (place + more) % width for more in range(min(dependencies, width))] if start >= 0 else []
        )
    return before


def layers_2(job: "Job") -> "Iterator[Repetition]":
    """Two dependencies each."""
    yield from submits(job, layers(job.size, 2))


def layers_50(job: "Job") -> "Iterator[Repetition]":
    """All to all."""
    yield from submits(job, layers(job.size, 50))


def sleeps(job: "Job") -> "Iterator[Repetition]":
    """Independent sleeps."""
    yield from maps(job, doze)


def flows(job: "Job") -> "Iterator[Repetition]":
    """Three calls, each given the result of the one before, one such chain after another."""
    with client_of(job) as client:

        def repetition() -> None:
            for _ in range(job.size):
                future = client.submit(one, pure=False)
                for _ in range(2):
                    future = client.submit(one, future, pure=False)
                future.result()

        yield repetition


def replay(job: "Job") -> "Iterator[Repetition]":
    """A trace of a workflow."""
    tasks = json.loads(Path(job.given["trace"]).read_text())["tasks"]
    with client_of(job) as client:

        def repetition() -> None:
            futures: dict[int, Any] = {}
            for place in order(tasks):
                _, seconds, after = tasks[place]
                needed = [futures[before] for before in after]
                futures[place] = client.submit(doze, *needed, seconds=seconds, pure=False)
            client.gather(list(futures.values()))

        yield repetition


def order(tasks: list[Any]) -> list[int]:
    """Return the places of *tasks*, each after those that it waits for."""
    from graphlib import TopologicalSorter

    return list(TopologicalSorter({place: after for place, (_, _, after) in enumerate(tasks)}).static_order())


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import distributed")


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"dask distributed": chain},
    "fan-out": {"dask distributed": fan_out},
    "layers-2": {"dask distributed": layers_2},
    "layers-50": {"dask distributed": layers_50},
    "sleeps": {"dask distributed": sleeps},
    "flows": {"dask distributed": flows},
    "trace": {"dask distributed": replay},
    "attempts": {"dask, processes": partial(in_processes, nothing())},
    "computing": {"dask, processes": partial(in_processes, computing())},
    "import": {"dask distributed": imported},
}
LARGEST = {"chain": 1000, "fan-out": 1000}
