"""What happens before and after a run: planning, the small languages, records as JSON, the import."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from szal import CompiledCondition, CompiledTemplate, FlowDef, FlowMode, StepDef, WorkflowState
from szal.model.json import decode_record, encode_record
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus
from szal.scheduler.plan import Plan

if TYPE_CHECKING:
    from benchmarks.worker import Job, Repetition, Subject

EDGES = (1, 7, 50)  # how far back the three dependencies of a step are
CONDITION = "steps.build.output.size > 10 && steps.test.output.failed == 0 || inputs.force"
TEMPLATE = "publish {{steps.build.output.name}} of {{steps.build.output.size}} bytes to {{inputs.target}}"
VALUES = {
    "inputs": {"target": "here", "force": False},
    "steps": {
        "build": {"status": "completed", "output": {"name": "a.whl", "size": 12}, "error": None},
        "test": {"status": "completed", "output": {"failed": 0}, "error": None},
    },
}


def plan(job: "Job") -> "Iterator[Repetition]":
    """A fresh flow of the same steps each time: nothing is kept from the time before."""
    steps: list[StepDef] = []
    for place in range(job.size):
        before = [steps[place - back] for back in EDGES if back <= place]
        steps.append(StepDef(f"step {place}", depends_on=before))

    def repetition() -> None:
        Plan.of(FlowDef("plan", FlowMode.DAG, steps=steps))

    yield repetition


def condition(job: "Job") -> "Iterator[Repetition]":
    """Evaluated again and again."""
    evaluate = CompiledCondition.compile(CONDITION).evaluate

    def repetition() -> None:
        for _ in range(job.size):
            evaluate(VALUES)

    yield repetition


def template(job: "Job") -> "Iterator[Repetition]":
    """Rendered again and again."""
    render = CompiledTemplate.compile(TEMPLATE).render

    def repetition() -> None:
        for _ in range(job.size):
            render(VALUES)

    yield repetition


def record_of(steps: int, execution_id: str = "0d0e24b4-3c21-4a6e-8b3c-4b6f4a0e0a11") -> ExecutionRecord:
    """Return the record of a run that went well."""
    now = datetime(2026, 6, 10, tzinfo=UTC)
    results = [
        StepResult(f"{place:032x}", f"step {place}", StepStatus.COMPLETED, {"rows": place}, 0.25, 1, started_at=now)
        for place in range(steps)
    ]
    result = FlowResult("records", results, 1.5, execution_id=execution_id, state=WorkflowState.COMPLETED)
    return ExecutionRecord(execution_id, "records", WorkflowState.COMPLETED, result, now, now)


def encode(job: "Job") -> "Iterator[Repetition]":
    """A record to text."""
    yield partial(encode_record, record_of(job.size))


def decode(job: "Job") -> "Iterator[Repetition]":
    """Text to a record."""
    yield partial(decode_record, encode_record(record_of(job.size)))


def import_szal(job: "Job") -> "Iterator[Repetition]":
    """With nothing imported before."""
    yield lambda: job.seconds_of("import szal")


def first_run(job: "Job") -> "Iterator[Repetition]":
    """With nothing imported before, and all that it needs imported by it."""
    flow = "szal.FlowDef('first', steps=[szal.StepDef('one')])"
    yield lambda: job.seconds_of(f"import szal; szal.run({flow}, handler=lambda ctx: 1)")


CASES: "dict[str, dict[str, Subject]]" = {
    "plan": {"szal": plan},
    "condition": {"szal": condition},
    "template": {"szal": template},
    "encode": {"szal": encode},
    "decode": {"szal": decode},
    "import": {"szal": import_szal},
    "first-run": {"szal": first_run},
}
