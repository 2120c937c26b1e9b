"""The small languages in Python itself, JSON of ready values, and the imports that szal cannot do without."""

import json
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

VALUES: dict[str, Any] = {
    "inputs": {"target": "here", "force": False},
    "steps": {
        "build": {"status": "completed", "output": {"name": "a.whl", "size": 12}, "error": None},
        "test": {"status": "completed", "output": {"failed": 0}, "error": None},
    },
}


def holds(values: dict[str, Any]) -> object:
    """Tell whether the condition of the case `condition` is met."""
    steps = values["steps"]
    enough = steps["build"]["output"]["size"] > 10
    return (enough and steps["test"]["output"]["failed"] == 0) or values["inputs"]["force"]


def condition(job: "Job") -> "Iterator[Repetition]":
    """A function instead of text."""

    def repetition() -> None:
        for _ in range(job.size):
            holds(VALUES)

    yield repetition


def template(job: "Job") -> "Iterator[Repetition]":
    """The placeholders of the standard library."""
    text = "publish {steps[build][output][name]} of {steps[build][output][size]} bytes to {inputs[target]}"

    def repetition() -> None:
        for _ in range(job.size):
            text.format(**VALUES)

    yield repetition


def ready_record(steps: int) -> dict[str, Any]:
    """Return the record of the cases `encode` and `decode` as JSON has it."""
    moment = "2026-06-10T00:00:00+00:00"
    fields = {"status": "Completed", "duration_ms": 250, "attempts": 1, "error": None, "started_at": moment}
    results = [
        {"step_id": f"{place:032x}", "step_name": f"step {place}", "output": {"rows": place}, **fields}
        for place in range(steps)
    ]
    result = {
        "flow_name": "records",
        "steps": results,
        "total_duration_ms": 1500,
        "success": True,
        "rolled_back": False,
    }
    return {"execution_id": "e", "flow_name": "records", "state": "Completed", "result": result, "started_at": moment}


def encode(job: "Job") -> "Iterator[Repetition]":
    """Dicts that are there already."""
    yield partial(json.dumps, ready_record(job.size), separators=(",", ":"), ensure_ascii=False)


def decode(job: "Job") -> "Iterator[Repetition]":
    """Dicts, and no objects made of them."""
    yield partial(json.loads, json.dumps(ready_record(job.size)))


def required(job: "Job") -> "Iterator[Repetition]":
    """What `import szal` imports of others."""
    yield lambda: job.seconds_of("import tenacity, attrs")


CASES: "dict[str, dict[str, Subject]]" = {
    "condition": {"Python function": condition},
    "template": {"str.format": template},
    "encode": {"json.dumps of ready dicts": encode},
    "decode": {"json.loads": decode},
    "import": {"tenacity and attrs": required},
    "first-run": {"tenacity and attrs": required},
}
