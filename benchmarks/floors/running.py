"""Calling functions: in a loop, in topological order, on a pool of threads."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import attrs
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
SLEEP = 0.010


@attrs.define
class Result:
    """What the loops make of each call: what a user looks for when a call has ended."""

    name: str
    output: object
    error: str | None
    started: float
    duration: float


def one(_: object) -> int:
    """Do a step's work."""
    return 1


def doze(_: object) -> None:
    """Do the work of a step of `sleeps`."""
    time.sleep(SLEEP)


def loop(names: list[str], function: Callable[[Any], object] = one) -> list[Result]:
    """Call *function* for each name, take two timestamps, make a result."""
    results = []
    for name in names:
        output, error = None, None
        started = time.monotonic()
        try:
            output = function(name)
        except Exception as raised:  # noqa: BLE001 (costs nothing where nothing is raised)
            error = repr(raised)
        results.append(Result(name, output, error, started, time.monotonic() - started))
    return results


def names_of(size: int) -> list[str]:
    """Return the names of steps."""
    return [f"step {place}" for place in range(size)]


def plain_loop(job: "Job") -> "Iterator[Repetition]":
    """The least that a chain costs."""
    names = names_of(job.size)
    yield lambda: loop(names)


def small_loops(job: "Job") -> "Iterator[Repetition]":
    """The least that flows of three steps cost."""
    names = names_of(3)

    def repetition() -> None:
        for _ in range(job.size):
            loop(names)

    yield repetition


def sorted_steps(before: dict[int, list[int]]) -> list[Result]:
    """Run a graph in topological order on this thread; a sorter can be used only once."""
    sorter = TopologicalSorter(before)
    sorter.prepare()
    results = []
    while sorter.is_active():
        for node in sorter.get_ready():
            started = time.monotonic()
            output = one(node)
            results.append(Result("", output, None, started, time.monotonic() - started))
            sorter.done(node)
    return results


def graph_chain(job: "Job") -> "Iterator[Repetition]":
    """Each waits for the one before."""
    before = {place: [place - 1] if place else [] for place in range(job.size)}
    yield lambda: sorted_steps(before)


def layers(size: int, dependencies: int) -> dict[int, list[int]]:
    """Return layers of 50 nodes."""
    width = max(1, min(50, size // 2))
    before: dict[int, list[int]] = {}
    for place in range(size):
        start = place // width * width - width
        before[place] = (
            [start + (place + more) % width for more in range(min(dependencies, width))] if start >= 0 else []
        )
    return before


def graph_layers_2(job: "Job") -> "Iterator[Repetition]":
    """Two dependencies each."""
    before = layers(job.size, 2)
    yield lambda: sorted_steps(before)


def graph_layers_50(job: "Job") -> "Iterator[Repetition]":
    """All to all."""
    before = layers(job.size, 50)
    yield lambda: sorted_steps(before)


def graph_order(job: "Job") -> "Iterator[Repetition]":
    """An order for the edges of the case `plan`, and no more."""
    before = {place: [place - back for back in (1, 7, 50) if back <= place] for place in range(job.size)}
    yield lambda: list(TopologicalSorter(before).static_order())


def one_by_one(pool: ThreadPoolExecutor, names: list[str]) -> None:
    """Submit and wait, for each."""
    for name in names:
        pool.submit(one, name).result()


def pool_one_by_one(job: "Job") -> "Iterator[Repetition]":
    """On a pool that could do sixteen."""
    names = names_of(job.size)
    with ThreadPoolExecutor(WORKERS) as pool:
        yield lambda: one_by_one(pool, names)


def pool_of_one(job: "Job") -> "Iterator[Repetition]":
    """On a single thread."""
    names = names_of(job.size)
    with ThreadPoolExecutor(1) as pool:
        yield lambda: one_by_one(pool, names)


def submit_all(pool: ThreadPoolExecutor, function: Callable[[Any], object], names: list[str]) -> None:
    """Submit all, then wait for each."""
    for future in [pool.submit(function, name) for name in names]:
        future.result()


def pool_all(job: "Job") -> "Iterator[Repetition]":
    """As many independent calls as the case has steps."""
    names = names_of(job.size)
    with ThreadPoolExecutor(WORKERS) as pool:
        yield lambda: submit_all(pool, one, names)


def pool_map(job: "Job") -> "Iterator[Repetition]":
    """The same through `map`."""
    names = names_of(job.size)
    with ThreadPoolExecutor(WORKERS) as pool:
        yield lambda: list(pool.map(one, names))


def pool_sleeps(job: "Job") -> "Iterator[Repetition]":
    """The same of sleeps."""
    names = names_of(job.size)
    with ThreadPoolExecutor(WORKERS) as pool:
        yield lambda: submit_all(pool, doze, names)


def tenacious(job: "Job") -> "Iterator[Repetition]":
    """tenacity around each call, which never has to retry."""
    names = names_of(job.size)
    retrying = Retrying(retry=retry_if_exception_type(OSError), stop=stop_after_attempt(4), wait=wait_fixed(0.5))

    def tried(name: str) -> int:
        return retrying(one, name)

    yield lambda: loop(names, tried)


POOL = "pool of 16, submit all"
CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"loop with results": plain_loop, "graphlib": graph_chain, "pool of 16, submit and wait": pool_one_by_one},
    "chain-timeouts": {"pool of one, submit and wait": pool_of_one},
    "fan-out": {POOL: pool_all, "pool of 16, map": pool_map, "loop with results": plain_loop},
    "layers-2": {POOL: pool_all, "graphlib": graph_layers_2},
    "layers-50": {POOL: pool_all, "graphlib": graph_layers_50},
    "sleeps": {POOL: pool_sleeps},
    "flows": {"loop with results": small_loops},
    "flows-8": {"loop with results": small_loops},
    "retry": {"tenacity around each call": tenacious},
    "plan": {"graphlib, order only": graph_order},
}
