"""sayiir: flows of plain functions on a core in Rust; in memory it keeps nothing, in PostgreSQL a snapshot a step."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject


def one(_: object) -> dict[str, object]:
    """Do a step's work."""
    return {"rows": 12, "file": "part-0001.parquet"}


def chain_of(size: int) -> Any:
    """Return a flow of so many steps; each function needs a name of its own."""
    from sayiir import Flow, task

    flow = Flow("chain")
    for number in range(size):
        flow = flow.then(task(f"s{number}")(one))
    return flow.build()


def bare(flow: Any) -> Callable[..., object]:
    """Return what runs *flow* in memory."""
    from sayiir import run_workflow

    return lambda *_: run_workflow(flow, 0)


def durable(flow: Any, job: "Job") -> Callable[..., object]:
    """Return what runs *flow* under a new id in PostgreSQL."""
    from sayiir import PostgresBackend, run_durable_workflow

    url = job.given["postgres"].replace("@/", "@localhost/")  # it wants a host, even beside a socket
    backend, numbers = PostgresBackend(url), count()

    def run(*_: object) -> None:
        status = run_durable_workflow(flow, f"{job.size}-{next(numbers)}", 0, backend=backend)
        if not status.is_completed():
            raise RuntimeError(status.error)

    return run


def chain(job: "Job") -> "Iterator[Repetition]":
    """One step after another."""
    yield bare(chain_of(job.size))


def recorded_chain(job: "Job") -> "Iterator[Repetition]":
    """The same, with a snapshot after each step."""
    yield durable(chain_of(job.size), job)


def flows(callers: int, kind: str, job: "Job") -> "Iterator[Repetition]":
    """Flows of three steps, by so many threads."""
    flow = chain_of(3)
    run = bare(flow) if kind == "memory" else durable(flow, job)
    with ThreadPoolExecutor(callers) as pool:

        def repetition() -> None:
            if callers > 1:
                list(pool.map(run, range(job.size)))
                return
            for _ in range(job.size):
                run()

        yield repetition


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import sayiir")


MEMORY = "sayiir, in memory"
CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {MEMORY: chain},
    "flows": {MEMORY: partial(flows, 1, "memory")},
    "flows-8": {MEMORY: partial(flows, 8, "memory")},
    "chain-postgres": {"sayiir": recorded_chain},
    "chain-postgres-step": {"sayiir": recorded_chain},
    "flows-postgres": {"sayiir": partial(flows, 1, "postgres")},
    "flows-8-postgres": {"sayiir": partial(flows, 8, "postgres")},
    "import": {"sayiir": imported},
}
LARGEST = {"chain": 1000, "chain-postgres": 1000}
