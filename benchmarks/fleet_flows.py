"""The flow that workers run in `benchmarks.fleet`: a chain of steps that do nothing."""

import szal

__all__ = ["fleet"]

fleet = szal.Flow("fleet")


def work() -> dict[str, object]:
    """Do a step's work: something small to be recorded."""
    return {"rows": 12, "file": "part-0001.parquet"}


for _number in range(3):
    fleet.step(work, name=f"step {_number}", needs=[f"step {_number - 1}"] if _number else [])
