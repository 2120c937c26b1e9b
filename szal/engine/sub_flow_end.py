"""How the sub-flow of a step has ended, and what is kept of it for that step."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from szal.engine.lineage import was_overtaken
from szal.engine.rollback import may_be_undone
from szal.engine.spec import ExecutionSpec
from szal.errors import SubFlowError
from szal.expressions.path import Json
from szal.model.results import ExecutionRecord, FlowResult, StepResult
from szal.model.state import StepStatus
from szal.scheduler.run import Run

if TYPE_CHECKING:
    from szal.stores.ledger import Snapshot

__all__ = ["Completed", "Ended", "is_masked_in", "sub_flow_failed"]


@attrs.frozen(eq=False, repr=False)
class Ended:
    """How the sub-flow of a step has ended, or why there is none. `is_final`: another attempt must not follow.

    `is_overtaken`: nothing in it failed, but what it belongs to had, and so it waited for nothing any more.
    `is_masked`: the output is what was recorded of it, and that held what must not be seen.
    """

    output: Json
    error: Exception | None = None
    is_final: bool = False
    is_overtaken: bool = False
    is_masked: bool = False

    @classmethod
    def of(cls, known: "Snapshot", result: FlowResult, left: Sequence[str]) -> "Ended":
        """Return how a sub-flow ended that has *left* steps not undone: on top of that it must not run again."""
        error = None if result.success else sub_flow_failed(result)
        failed = any(not step.is_caught for step in result.failures())
        is_overtaken = not (result.success or left or failed) and was_overtaken(known)
        return cls(result.outputs, error, bool(left), is_overtaken, is_masked_in(result.steps))


def sub_flow_failed(ended: FlowResult | ExecutionRecord) -> SubFlowError:
    """Return the error of a step whose sub-flow did not complete, or was not undone."""
    return SubFlowError(f"sub-flow {ended.flow_name!r} {ended.state}: {ended.error}")


def is_masked_in(steps: Iterable[StepResult]) -> bool:
    """Whether the outputs of *steps* that completed are not all as they were."""
    return any(step.is_masked and step.status is StepStatus.COMPLETED for step in steps)


@attrs.frozen(eq=False, repr=False)
class Completed:
    """A sub-flow that has completed, in this process, where there is no ledger to read it from again."""

    spec: ExecutionSpec
    run: Run
    sub_flows: "Mapping[int, Completed]"  # its own, by place

    @property
    def can_be_undone(self) -> bool:
        """Whether there is anything to undo."""
        results = zip(self.run.plan.nodes, self.run.results, strict=True)
        done = [node for node, result in results if result is not None and may_be_undone(node.step, result)]
        return any(self.spec.binding.undo[node.place] is not None for node in done) or any(
            self.sub_flows[node.place].can_be_undone for node in done if node.place in self.sub_flows
        )
