"""What is to be run: a flow, checked and compiled, the handlers of its steps, and its place in the store."""

from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING

import attrs

from szal.engine.binding import Binding
from szal.engine.config import EngineConfig
from szal.engine.secrets import with_secrets
from szal.errors import EncodeError
from szal.expressions.copies import own_copy
from szal.expressions.path import Json
from szal.model.flow import FlowDef
from szal.model.json.text import as_recorded
from szal.model.redaction import Redaction
from szal.model.results import ExecutionRecord
from szal.model.step import StepDef
from szal.scheduler.cancel import CancellationToken
from szal.scheduler.plan import Plan
from szal.steps.resolving import Resolver

if TYPE_CHECKING:
    from szal.stores.ledger import Snapshot
    from szal.stores.writes import Lease, NewExecution

__all__ = ["ExecutionSpec", "IdFrom", "SubFlowCount", "compiled", "given_inputs"]


def compiled(flow: FlowDef, config: EngineConfig, resolver: Resolver) -> tuple[FlowDef, Plan]:
    """Return *flow* and its plan; where it is to be recorded, as whoever goes on with the execution will see it.

    One that comes from a store takes the inputs that its functions take, which are no part of what is recorded.
    """
    if flow.parameters is None and (parameters := resolver.inputs_of(flow.name)) is not None:
        flow = attrs.evolve(flow, parameters=parameters)
    plan = Plan.of(flow)
    if plan.read_again is None or config.execution_store is None:
        return flow, plan
    return plan.read_again, Plan.of(plan.read_again)


def given_inputs(
    flow: FlowDef,
    plan: Plan,
    inputs: Mapping[str, Json] | None,
    config: EngineConfig,
    *,
    later: Collection[str] = (),
) -> dict[str, Json]:
    """Return what an execution of *flow* is given: a dict of its own, and as JSON, where it is recorded.

    Secret inputs that are not given are had from where the engine has them, or *later*, by who runs it.

    Raises `InvalidInputs`, and `EncodeError` for a name that is no text, and for what cannot be recorded.
    """
    if plan.inputs.secrets:
        inputs = with_secrets(plan, inputs, config)
    given = plan.inputs.effective(flow.name, inputs, later=later)
    if config.execution_store is None:
        for name in given:
            if not isinstance(name, str):
                raise EncodeError("inputs", f"a key of type {type(name).__name__}")
        given = own_copy(given)
    elif given:
        given = as_recorded(given, "inputs")[1]
    return given


@attrs.define(eq=False, repr=False)
class SubFlowCount:
    """How many sub-flows a run has begun in this process, those of its sub-flows included. Coordinator only."""

    begun: int = 0

    def take(self, limit: int) -> bool:
        """Count one more; False, and it is not counted, where that were more than *limit*."""
        if self.begun >= limit:
            return False
        self.begun += 1
        return True


class IdFrom(Enum):
    """Where the id of an execution comes from: whether somebody else may have it."""

    CALLER = "the caller"
    """Who goes on with the execution of that id, if there is one."""
    FLOW = "the flow"
    """Where there is one, another id is taken."""
    NOWHERE = "nowhere"
    """It is new: nobody has it."""


@attrs.frozen(eq=False, repr=False, slots=False)  # with slots it takes three times as long to make
class ExecutionSpec:
    """What is to be run, checked and compiled. With a `snapshot` it goes on where that left off."""

    flow: FlowDef
    plan: Plan
    binding: Binding
    record: ExecutionRecord
    id_from: IdFrom = IdFrom.NOWHERE
    token: CancellationToken | None = None
    parent: "ExecutionSpec | None" = None  # of the execution whose sub-flow it is
    step: StepDef | None = None  # of that one: the step that it is the sub-flow of
    sub_flows: SubFlowCount = attrs.field(factory=SubFlowCount)  # of a run: that of its top counts
    family: set[str] = attrs.field(factory=set)  # likewise: the ids of all that it has written to
    deadline: float | None = None  # inherited; the flow's own comes on top
    epoch: int | None = None  # of the lease
    new: "NewExecution | None" = None  # what is to be written before anything else: it is not recorded yet
    snapshot: "Snapshot | None" = None
    secrets: Mapping[str, Json] = attrs.field(factory=dict)  # inputs that are not recorded as they are
    redaction: Redaction = attrs.field(factory=Redaction)  # of a run: that of its top, for all of its sub-flows
    retries_failed: bool = False  # what has failed under its id is run again

    @property
    def inputs(self) -> dict[str, Json]:
        """What its steps are given; in its record, what must not be seen of that is masked."""
        return {**self.record.inputs, **self.secrets}

    @property
    def lease(self) -> "Lease | None":
        """The lease that it runs under, where the store keeps a ledger."""
        if self.epoch is None:
            return None
        from szal.stores.writes import Lease

        return Lease(self.record.execution_id, self.epoch)

    @property
    def top(self) -> "ExecutionSpec":
        """The one that this is, or is a sub-flow of, that is no sub-flow itself."""
        *_, top = self._upwards()
        return top

    @property
    def recovered(self) -> str | None:
        """The execution that this is, or is a sub-flow of, where it was taken up after its process died."""
        top = self.top
        died = top.snapshot is not None and top.snapshot.recoveries > 0
        return top.record.execution_id if died else None

    @property
    def rolls_back(self) -> bool:
        """Whether its failure is followed by undoing what it did: it asks for that, or what it belongs to does."""
        if self.parent is None:
            return self.flow.rollback_on_failure
        return any(spec.flow.rollback_on_failure for spec in self._upwards())

    @property
    def depth(self) -> int:
        """How many sub-flows this one is inside of."""
        return sum(1 for _ in self._upwards()) - 1

    def sub_flow(self, name: str) -> FlowDef | None:
        """Return the flow of that name that this one's definition brings, or that of what it is a sub-flow of."""
        brought = (flow for spec in self._upwards() for flow in spec.flow.sub_flows)
        return next((flow for flow in brought if flow.name == name), None)

    def _upwards(self) -> "Iterator[ExecutionSpec]":
        """Yield this one, what it is a sub-flow of, and so on."""
        spec: ExecutionSpec | None = self
        while spec is not None:
            yield spec
            spec = spec.parent
