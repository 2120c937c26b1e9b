"""How long the steps of earlier runs took, as this engine remembers it: so it knows the longest way that is left."""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from szal.model.state import StepStatus
from szal.scheduler.plan import Plan
from szal.scheduler.run import Run

__all__ = ["Durations"]

_MOST: Final = 256  # flows
_SHORT: Final = 0.001
"""Seconds that nobody notices."""
_PRICE: Final = 20e-6
"""Seconds that a step costs more where steps are sorted: it goes to a worker only once that is free, and not before."""


@attrs.define
class Durations:
    """By flow and step, in seconds. Only of flows in which steps had to wait for a worker: for others it is no matter.

    Nor is it for those whose steps take so little that to sort them would cost more than it could gain.

    Runs on several threads share it: what they change is one entry, at once.
    """

    _flows: dict[str, dict[str, float]] = attrs.field(factory=dict)

    def learn(self, flow_name: str, run: Run) -> None:
        """Take note of how long the steps of a run took that is over, where any of them had to wait for room."""
        if not run.was_crowded or run.plan.linear:
            return
        known = self._flows.pop(flow_name, {})
        took = {
            result.step_name: result.duration
            for result in run.results
            if result is not None and result.status is StepStatus.COMPLETED
        }
        if not _matters(sum(took.values()), len(took)):
            return
        blended = {name: (seconds + known.get(name, seconds)) / 2 for name, seconds in took.items()}
        self._flows[flow_name] = known | blended  # it comes last
        for oldest in list(self._flows)[:-_MOST]:
            self._flows.pop(oldest, None)

    def urgency(self, flow_name: str, plan: Plan) -> Sequence[tuple[int, float]] | None:
        """Return how urgent each step is: by its priority, then by the longest way from its beginning to the end.

        None: one as the other, as far as anybody knows.
        """
        known = None if plan.linear else self._flows.get(flow_name)
        left = None if known is None else _left(plan, known)
        if left is None or not _matters(max(left), len(left)):
            return [(-step.priority, 0.0) for step in plan.steps] if plan.has_priorities else None
        return [(-step.priority, -way) for step, way in zip(plan.steps, left, strict=True)]


def _left(plan: Plan, known: Mapping[str, float]) -> list[float]:
    """Return the longest way from the beginning of each step to the end, in seconds."""
    left = [0.0] * len(plan.nodes)
    for node in sorted(plan.nodes, key=lambda node: plan.rank[node.place], reverse=True):
        behind = max((left[target] for target, _ in plan.successors(node.place)), default=0.0)
        left[node.place] = known.get(node.step.name, 0.0) + behind
    return left


def _matters(seconds: float, steps: int) -> bool:
    """Whether a way of so many seconds may gain, in a flow of so many steps, more than it costs to sort them."""
    return seconds > max(_SHORT, _PRICE * steps)
