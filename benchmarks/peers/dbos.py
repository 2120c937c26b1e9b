"""DBOS: a durable workflow whose every step is a row, in SQLite."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject


def workflow(job: "Job") -> "Iterator[Repetition]":
    """Yield a repetition that runs a workflow of *job*'s size; a process has one database for all its sizes."""
    from dbos import DBOS

    global _launched  # noqa: PLW0603 (so has DBOS)
    if not _launched:
        _launched = True
        DBOS(
            config={
                "name": "benchmark",
                "system_database_url": f"sqlite:///{job.folder / 'dbos.sqlite'}",
                "run_admin_server": False,
                "log_level": "CRITICAL",
            }
        )

    @DBOS.step(name=f"one-{job.size}")
    def one() -> dict[str, object]:
        return {"rows": 12, "file": "part-0001.parquet"}

    @DBOS.workflow(name=f"chain-{job.size}")
    def chained() -> int:
        for _ in range(job.size):
            one()
        return job.size

    DBOS.launch()
    yield chained
    DBOS.destroy()


_launched = False


CASES: "dict[str, dict[str, Subject]]" = {"chain-sqlite": {"dbos": workflow}}
LARGEST = {"chain-sqlite": 1000}
