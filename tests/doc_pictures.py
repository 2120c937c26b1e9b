"""The pictures in docs/pictures, of an execution that is told here: ``python tests/doc_pictures.py`` draws them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from szal import (
    ExecutionRecord,
    FlowDef,
    FlowMode,
    StepDef,
    StepResult,
    StepStatus,
    TriggerMode,
    WorkflowState,
)
from szal.engine.status import ExecutionStatus
from szal.model.json import AttemptEnd, Checkpoint
from szal.pictures.graph import graph_svg
from szal.pictures.timeline import timeline_svg

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
START = datetime(2026, 6, 10, 12, tzinfo=UTC)


def release() -> FlowDef:
    flow = FlowDef("release", FlowMode.DAG, rollback_on_failure=True)

    def step(name: str, *needs: StepDef, **fields: object) -> StepDef:
        return flow.add_step(StepDef(name, depends_on=needs, **fields))  # type: ignore[arg-type]

    checkout = step("checkout", step_type="shell", config={"run": "git fetch --depth 1"})
    tests = [step(f"test on {system}", checkout, max_retries=2) for system in ("linux", "macos", "windows")]
    wheels = step("build wheels", *tests, foreach="inputs.pythons")
    licences = step("list of licences", *tests, continue_on_error=True)
    approve = step("approve", wheels, licences, step_type="wait", config={"signal": "release"})
    publish = step("publish", approve, condition="inputs.channel == 'stable'", rollbackable=True)
    docs = step("deploy docs", wheels, step_type="sub_flow", config={"flow_name": "docs"})
    step("announce", publish, docs)
    step("page someone", publish, docs, trigger_mode=TriggerMode.ONE_FAILED)
    step("remove the workspace", finally_=True)
    return flow


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def result(name: str, begin: float | None, duration: float = 0.0, error: str | None = None, **more: int) -> StepResult:
    status = StepStatus.COMPLETED if error is None else StepStatus.FAILED
    began = None if begin is None else at(begin)
    return StepResult(
        name,
        name,
        StepStatus.SKIPPED if begin is None else status,
        duration=duration,
        attempts=0 if begin is None else more.get("attempts", 1),
        started_at=began,
        error=error,
    )


def main() -> None:
    wheels = result("build wheels", 62, 33)
    wheels.items = [result("build wheels", 62 + place % 2, 20 + place * 4) for place in range(4)]
    macos = result("test on macos", 4, 58, attempts=2)
    results = [
        result("checkout", 0, 4),
        result("test on linux", 4, 31),
        macos,
        result("test on windows", 4, 44),
        wheels,
        result("list of licences", 62, 6, "LicenceMissing: left-pad"),
        result("approve", 95, 40),
        result("publish", 135, 12),
        result("deploy docs", 95, 20, "SubFlowFailed: docs: no space left on the server"),
        result("announce", None, error="dependency failed"),
        result("page someone", 147, 1),
        result("remove the workspace", 150, 2),
    ]
    record = ExecutionRecord("release-7", "release", WorkflowState.FAILED, None, START, at(152))
    status = ExecutionStatus(record=record, results=results, flow=release())
    attempts = [AttemptEnd(at(4), at(24), "OSError: the runner went away"), AttemptEnd(at(34), at(62))]
    assert status.flow is not None
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "execution.svg").write_text(graph_svg(status.flow, status) + "\n")
    timeline = timeline_svg(status, {"test on macos": Checkpoint(macos, attempts=attempts)})
    # as an image it has to have a width of its own
    (FOLDER / "timeline.svg").write_text(timeline.replace('width="100%"', 'width="860"', 1) + "\n")


if __name__ == "__main__":
    main()
