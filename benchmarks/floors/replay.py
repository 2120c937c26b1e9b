"""A trace of a workflow, replayed with sleeps by what the standard library has."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16


def replay(job: "Job") -> "Iterator[Repetition]":
    """graphlib says what is ready; a pool of threads does it."""
    tasks = json.loads(Path(job.given["trace"]).read_text())["tasks"]
    before = {place: after for place, (_, _, after) in enumerate(tasks)}

    with ThreadPoolExecutor(WORKERS) as pool:

        def repetition() -> None:
            sorter = TopologicalSorter(before)
            sorter.prepare()
            done: SimpleQueue[tuple[int, Future[None]]] = SimpleQueue()
            while sorter.is_active():
                for place in sorter.get_ready():
                    future = pool.submit(time.sleep, tasks[place][1])
                    future.add_done_callback(lambda future, place=place: done.put((place, future)))
                place, future = done.get()
                future.result()
                sorter.done(place)

        yield repetition


CASES: "dict[str, dict[str, Subject]]" = {"trace": {"graphlib, pool of 16": replay}}
