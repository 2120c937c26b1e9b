"""A trace of a workflow, replayed with sleeps."""

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from szal import Engine, EngineConfig, FlowDef, FlowMode, StepContext, StepDef

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

WORKERS = 16


def doze(context: StepContext) -> None:
    """Do a task's work."""
    time.sleep(context.config["seconds"])


def replay(job: "Job") -> "Iterator[Repetition]":
    """A step for each task, which waits for the steps of its parents."""
    trace = json.loads(Path(job.given["trace"]).read_text())
    steps = [StepDef(name, config={"seconds": seconds}) for name, seconds, _ in trace["tasks"]]
    flow = FlowDef(trace["name"], FlowMode.DAG)
    for step, (_, _, after) in zip(steps, trace["tasks"], strict=True):
        flow.add_step(StepDef(step.name, id=step.id, config=step.config, depends_on=[steps[place] for place in after]))
    with Engine(doze, EngineConfig(max_concurrency=WORKERS)) as engine:
        yield partial(_run, engine, flow)


def _run(engine: Engine, flow: FlowDef) -> None:
    engine.run(flow).raise_for_failure()


CASES: "dict[str, dict[str, Subject]]" = {"trace": {"szal": replay}}
