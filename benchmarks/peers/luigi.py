"""Luigi: its local scheduler and one worker in this process; more workers are processes."""

import itertools
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16
SLEEP = 0.010


def step_class(before: dict[int, list[int]], seconds: float = 0.0) -> Any:
    """Return a class of tasks: one for each place of each run, done once it has run."""
    import luigi

    done: set[tuple[int, int]] = set()

    class Step(luigi.Task):  # type: ignore[misc]
        run_number = luigi.IntParameter()
        place = luigi.IntParameter()

        def requires(self) -> list[Any]:
            return [Step(run_number=self.run_number, place=source) for source in before[self.place]]

        def complete(self) -> bool:
            return (self.run_number, self.place) in done

        def run(self) -> None:
            if seconds:
                time.sleep(seconds)
            done.add((self.run_number, self.place))

    return Step


def builds(step: Any, wanted: list[int], workers: int = 1) -> "Iterator[Repetition]":
    """Yield a repetition that builds the *wanted* places of a run of its own."""
    import luigi

    for name in ("luigi", "luigi-interface"):
        logging.getLogger(name).disabled = True
    numbers = itertools.count()

    def repetition() -> None:
        number = next(numbers)
        tasks = [step(run_number=number, place=place) for place in wanted]
        if not luigi.build(tasks, local_scheduler=True, workers=workers, no_lock=True, log_level="CRITICAL"):
            raise RuntimeError("luigi failed")

    yield repetition


def chain(job: "Job") -> "Iterator[Repetition]":
    """The last task requires the one before, and so on."""
    step = step_class({place: [place - 1] if place else [] for place in range(job.size)})
    yield from builds(step, [job.size - 1])


def fan_out(job: "Job") -> "Iterator[Repetition]":
    """Independent tasks."""
    yield from builds(step_class({place: [] for place in range(job.size)}), list(range(job.size)))


def layers(size: int, dependencies: int) -> "Iterator[Repetition]":
    """Yield a repetition of layers of 50."""
    width = max(1, min(50, size // 2))
    before: dict[int, list[int]] = {}
    for place in range(size):
        start = place // width * width - width
        before[place] = (
            [start + (place + more) % width for more in range(min(dependencies, width))] if start >= 0 else []
        )
    yield from builds(step_class(before), list(range(size - width, size)))


def layers_2(job: "Job") -> "Iterator[Repetition]":
    """Two dependencies a task."""
    yield from layers(job.size, 2)


def layers_50(job: "Job") -> "Iterator[Repetition]":
    """All to all."""
    yield from layers(job.size, 50)


def flows(job: "Job") -> "Iterator[Repetition]":
    """Three tasks, each of which requires the one before, built again and again."""
    step = step_class({place: [place - 1] if place else [] for place in range(3)})
    for repetition in builds(step, [2]):

        def again(repetition: "Repetition" = repetition) -> None:
            for _ in range(job.size):
                repetition()

        yield again


def imported(job: "Job") -> "Iterator[Repetition]":
    """In a new interpreter."""
    yield lambda: job.seconds_of("import luigi")


CASES: "dict[str, dict[str, Subject]]" = {
    "chain": {"luigi": chain},
    "fan-out": {"luigi": fan_out},
    "layers-2": {"luigi": layers_2},
    "layers-50": {"luigi": layers_50},
    "flows": {"luigi": flows},
    "import": {"luigi": imported},
}
LARGEST = {"chain": 1000, "fan-out": 1000, "layers-50": 200}
