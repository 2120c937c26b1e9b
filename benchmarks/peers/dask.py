"""dask's scheduler of threads: graphs of plain calls, no records, no retries."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
SLEEP = 0.010


def one(*_: object) -> int:
    """Do a step's work."""
    return 1


def doze(*_: object) -> None:
    """Do the work of a step of `sleeps`."""
    time.sleep(SLEEP)


def threaded(graph: dict[Any, Any]) -> "Iterator[Repetition]":
    """Yield a repetition that computes every key of *graph*, whose results are all kept."""
    from dask.threaded import get

    keys = list(graph)
    yield lambda: get(graph, keys, num_workers=WORKERS)


def chain(job: "Job") -> "Iterator[Repetition]":
    """Each key depends on the one before."""
    yield from threaded({place: (one, place - 1) if place else (one,) for place in range(job.size)})


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """Independent keys."""
    yield from threaded(dict.fromkeys(range(job.size), (one,)))


def layers(size: int, dependencies: int) -> dict[int, Any]:
    """Return layers of 50 keys."""
    width = max(1, min(50, size // 2))
    graph = {}
    for place in range(size):
        start = place // width * width - width
        before = [start + (place + more) % width for more in range(min(dependencies, width))] if start >= 0 else []
        graph[place] = (one, *before)
    return graph


def layers_2(job: "Job") -> "Iterator[Repetition]":
    """Two dependencies a key."""
    yield from threaded(layers(job.size, 2))


def layers_50(job: "Job") -> "Iterator[Repetition]":
    """All to all."""
    yield from threaded(layers(job.size, 50))


def sleeps(job: "Job") -> "Iterator[Repetition]":
    """Independent sleeps."""
    yield from threaded(dict.fromkeys(range(job.size), (doze,)))


def flows(job: "Job") -> "Iterator[Repetition]":
    """Small graphs, one after another."""
    from dask.threaded import get

    graph = {place: (one, place - 1) if place else (one,) for place in range(3)}

    def repetition() -> None:
        for _ in range(job.size):
            get(graph, [0, 1, 2], num_workers=WORKERS)

    yield repetition


def flows_8(job: "Job") -> "Iterator[Repetition]":
    """The same, from eight threads, for each of which dask keeps a pool."""
    from dask.threaded import get

    graph = {place: (one, place - 1) if place else (one,) for place in range(3)}
    with ThreadPoolExecutor(8) as callers:
        yield lambda: list(callers.map(lambda _: get(graph, [0, 1, 2], num_workers=WORKERS), range(job.size)))


def replay(job: "Job") -> "Iterator[Repetition]":
    """A trace of a workflow."""
    tasks = json.loads(Path(job.given["trace"]).read_text())["tasks"]
    yield from threaded({place: (nap, seconds, *after) for place, (_, seconds, after) in enumerate(tasks)})


def nap(seconds: float, *_: object) -> None:
    """Do the work of a task of a trace."""
    time.sleep(seconds)


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import dask.threaded")


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"dask threads": chain},
    "fan-out": {"dask threads": fan_out},
    "layers-2": {"dask threads": layers_2},
    "layers-50": {"dask threads": layers_50},
    "sleeps": {"dask threads": sleeps},
    "flows": {"dask threads": flows},
    "flows-8": {"dask threads": flows_8},
    "trace": {"dask threads": replay},
    "import": {"dask threads": imported},
}
LARGEST = {"chain": 10_000}
