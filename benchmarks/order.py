"""How near one graph comes to the bound: as its steps come, and once the engine knows the longest way left.

``python -m benchmarks.order [TRACE]``: of a workflow's trace, or of a graph whose longest way stands last. The bound is
the least time that so many workers can take: the longest way, or all work shared evenly.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.trace import Task, Trace, read_trace

__all__ = ["main", "ratios", "unlucky"]

WORKERS = 4


def unlucky(seconds: float = 0.1) -> Trace:
    """Return a graph that is done badly first come, first served: many short tasks, and then a chain of some more."""
    short = [Task(f"short {number}", seconds, ()) for number in range(24)]
    chain = [Task(f"chain {number}", seconds, (len(short) + number - 1,) if number else ()) for number in range(8)]
    return Trace("24 short tasks before a chain of 8", (*short, *chain))


def ratios(trace: Trace, workers: int, runs: int) -> list[float]:
    """Return for each of so many runs in one engine how often it took the bound; it learns from one to the next."""
    from szal import Engine, EngineConfig, FlowDef, FlowMode, StepDef

    steps = [StepDef(task.name, config={"seconds": task.seconds}) for task in trace.tasks]
    flow = FlowDef(trace.name, FlowMode.DAG)
    for step, task in zip(steps, trace.tasks, strict=True):
        needs = [steps[place] for place in task.after]
        flow.add_step(StepDef(step.name, id=step.id, config=step.config, depends_on=needs))
    doze: Callable[[Any], None] = lambda ctx: time.sleep(ctx.config["seconds"])  # noqa: E731
    found = []
    with Engine(doze, EngineConfig(max_concurrency=workers)) as engine:
        for _ in range(runs):
            begun = time.monotonic()
            engine.run(flow).raise_for_failure()
            found.append((time.monotonic() - begun) / trace.bound(workers))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.order", description=__doc__.splitlines()[0])
    parser.add_argument("trace", nargs="?", type=Path, help="a trace in WfCommons' format")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--makespan", type=float, default=1.0, help="scale it so that no run can be shorter (1 s)")
    given = parser.parse_args(arguments)
    trace = unlucky() if given.trace is None else read_trace(given.trace)
    trace = trace.scaled(given.makespan / trace.bound(given.workers))
    first, *_, last = ratios(trace, given.workers, 3)
    print(f"{trace.name}, on {given.workers} workers: {trace.bound(given.workers):.2f} s at least")
    print(f"  as its steps come:                  {first:.2f} x the bound")
    print(f"  the longest way left first:         {last:.2f} x the bound")


if __name__ == "__main__":
    main()
