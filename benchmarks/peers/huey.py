"""huey: a queue of tasks, in memory and in SQLite, with its consumer's 16 threads in this process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
AT_A_TIME = 8  # where flows are queued
SLEEP = 0.010
POLL = 0.001  # seconds after which who has nothing to do asks again (huey's own setting: 100 ms)
POLL_FILE = 0.010  # in a file each question takes a lock: asked more often, all are slower


@contextmanager
def consumer_of(queue: Any, poll: float, workers: int = WORKERS) -> Iterator[None]:
    """Have tasks done meanwhile."""
    consumer = queue.create_consumer(workers=workers, periodic=False, initial_delay=poll, max_delay=poll)
    consumer.start()
    yield
    consumer.stop(graceful=True)


def enqueues(queue: Any, size: int, seconds: float = 0.0, poll: float = POLL) -> "Iterator[Repetition]":
    """Yield a repetition that enqueues independent tasks and reads all results."""

    @queue.task()
    def one() -> int:
        if seconds:
            time.sleep(seconds)
        return 1

    def repetition() -> float:
        with consumer_of(queue, poll):  # not longer: those of other sizes would ask all the time
            began = time.perf_counter()
            for result in [one() for _ in range(size)]:
                result.get(blocking=True, max_delay=poll)
            return time.perf_counter() - began

    yield repetition


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """Queue and results in memory."""
    from huey import MemoryHuey

    yield from enqueues(MemoryHuey(), job.size)


def sleeps(job: "Job") -> "Iterator[Repetition]":
    """Independent sleeps."""
    from huey import MemoryHuey

    yield from enqueues(MemoryHuey(), job.size, SLEEP)


def fan_out_sqlite(job: "Job") -> "Iterator[Repetition]":
    """Queue and results in a file, each change committed and on disk."""
    from huey import SqliteHuey

    path = job.new_file()
    yield from enqueues(SqliteHuey(filename=str(path), fsync=True), job.size, poll=POLL_FILE)
    _remove(path)


def heard_of(queue: Any) -> "tuple[Any, SimpleQueue[float]]":
    """Return a task, and when it was begun."""
    began: SimpleQueue[float] = SimpleQueue()

    @queue.task()
    def one() -> int:
        began.put(time.perf_counter())
        return 1  # huey keeps no None, so nobody could wait for it

    return one, began


def flows(job: "Job") -> "Iterator[Repetition]":
    """All are enqueued while the consumer runs; until the last has begun."""
    from huey import SqliteHuey

    path = job.new_file()
    queue = SqliteHuey(filename=str(path), fsync=True)
    one, began = heard_of(queue)

    def repetition() -> float:
        with consumer_of(queue, POLL_FILE, AT_A_TIME):
            first = time.perf_counter()
            for _ in range(job.size):
                one()
            for _ in range(job.size):
                began.get(timeout=60)
            return time.perf_counter() - first

    yield repetition
    _remove(path)


def latency(job: "Job") -> "Iterator[Repetition]":
    """Each is enqueued once the one before has been done."""
    from huey import SqliteHuey

    path = job.new_file()
    queue = SqliteHuey(filename=str(path), fsync=True)
    one, began = heard_of(queue)

    def repetition() -> float:
        took = 0.0
        with consumer_of(queue, POLL_FILE, AT_A_TIME):
            for _ in range(job.size):
                enqueued = time.perf_counter()
                result = one()
                took += began.get(timeout=60) - enqueued
                result.get(blocking=True, max_delay=POLL_FILE)
        return took

    yield repetition
    _remove(path)


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import huey")


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


CASES: "dict[str, dict[str, Subject]]" = {
    "fan-out": {"huey, in memory": fan_out},
    "sleeps": {"huey, in memory": sleeps},
    "fan-out-sqlite": {"huey, SQLite": fan_out_sqlite},
    "queue-sqlite": {"huey, at most once": flows},
    "queue-latency-sqlite": {"huey, at most once": latency},
    "import": {"huey": imported},
}
LARGEST = {"fan-out": 1000, "fan-out-sqlite": 1000}
