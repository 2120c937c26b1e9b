"""What the command line says of how an execution stands: in words, and why steps were skipped."""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from szal.clock import utc_now
from szal.engine.status import ExecutionStatus, is_left_by_a_person
from szal.model.flow import FlowDef
from szal.model.results import ExecutionRecord, StepResult
from szal.model.state import StepStatus, WorkflowState
from szal.scheduler.plan import Plan
from szal.scheduler.run import CONDITION_NOT_MET

__all__ = ["PAUSED", "age_of", "explained", "signals_of", "waits_for_somebody"]

PAUSED: Final = 3
"""The exit status for an execution that waits for something."""


def waits_for_somebody(status: ExecutionStatus) -> bool:
    """Whether an execution goes on only when somebody has sent, decided or resumed it: no time ends any of its waits.

    One whose waits have all been answered is taken up by whoever recovers.
    """
    if status.state is not WorkflowState.PAUSED:
        return False
    is_asked = bool(status.waits) and all(wait.until is None for wait in status.waits)
    return is_asked or is_left_by_a_person(status.record)


def age_of(record: ExecutionRecord | None) -> float:
    """Return how many seconds ago an execution began that has not ended; 0 for any other."""
    if record is None or not record.state.is_live:
        return 0.0
    return max(0.0, (utc_now() - record.started_at).total_seconds())


def signals_of(flow: FlowDef) -> set[str] | None:
    """Return the signals that the steps of *flow* wait for; None where that is known only as it runs."""
    names: set[str] = set()
    for step in flow.walk():
        if step.step_type == "sub_flow":
            continue
        signal = step.config.get("signal") if step.step_type == "wait" and isinstance(step.config, Mapping) else None
        if isinstance(signal, str):
            if "{{" in signal:
                return None
            names.add(signal)
    return names


# -- skips ----------------------------------------------------------------------------------------------


def explained(flow: FlowDef | None, steps: Sequence[StepResult]) -> list[StepResult]:
    """Return *steps* with skip reasons that name the condition, or the steps, that they are due to."""
    if flow is None:
        return list(steps)
    plan = Plan.of(flow)
    results = {result.step_id: result for result in steps}
    return [_explained(plan, results, result) for result in steps]


def _explained(plan: Plan, results: Mapping[str, StepResult], result: StepResult) -> StepResult:
    place = plan.places.get(result.step_name)
    if result.status is not StepStatus.SKIPPED or place is None:
        return result
    step, cause = plan.nodes[place].step, None
    if result.error == CONDITION_NOT_MET:
        cause = step.condition
    elif result.error in ("dependency failed", "dependency skipped"):
        others = (results.get(other) for other in step.depends_on)
        cause = ", ".join(other.step_name for other in others if other and other.status is not StepStatus.COMPLETED)
    elif result.error == "prior step failed":
        failed = (other for other in results.values() if other.status is StepStatus.FAILED)
        cause = next((other.step_name for other in failed if not other.is_caught), None)
    return attrs.evolve(result, error=f"{result.error}: {cause}") if cause else result
