"""Prefect: a flow of tasks, with the API server that it starts for itself, on SQLite."""

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
SLEEP = 0.010


def prepare(job: "Job") -> Any:
    """Import Prefect with a home of its own, quiet and without telemetry."""
    settings = {
        "PREFECT_HOME": str(job.folder),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    os.environ.update(settings)
    import prefect

    return prefect


def chain(job: "Job") -> "Iterator[Repetition]":
    """Tasks called one after another, each given the result of the one before."""
    prefect = prepare(job)

    @prefect.task
    def one(_: object) -> int:
        return 1

    @prefect.flow
    def chained() -> None:
        result: object = None
        for _ in range(job.size):
            result = one(result)

    yield chained


def submitted(job: "Job", seconds: float = 0.0) -> "Iterator[Repetition]":
    """Yield a repetition that submits independent tasks to 16 threads."""
    prefect = prepare(job)
    from prefect.task_runners import ThreadPoolTaskRunner

    @prefect.task
    def one(_: int) -> int:
        if seconds:
            time.sleep(seconds)
        return 1

    @prefect.flow(task_runner=ThreadPoolTaskRunner(max_workers=WORKERS))
    def fanned_out() -> None:
        for future in [one.submit(place) for place in range(job.size)]:
            future.result()

    yield fanned_out


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """Independent tasks."""
    yield from submitted(job)


def sleeps(job: "Job") -> "Iterator[Repetition]":
    """Independent sleeps."""
    yield from submitted(job, SLEEP)


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import prefect")


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"prefect": chain},
    "fan-out": {"prefect": fan_out},
    "sleeps": {"prefect": sleeps},
    "import": {"prefect": imported},
}
LARGEST = {"chain": 100, "fan-out": 100}
