"""Sub-flows: the executions that sub_flow steps stand for."""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from szal.engine.config import EngineConfig
from szal.engine.spec import Binding, ExecutionSpec, LeasedStore, bind, stored_flow
from szal.errors import ExecutionNotFound, HandlerNotFound, InvalidFlow, SubFlowError
from szal.model.catalogue import WorkflowStorage
from szal.model.flow import FlowDef
from szal.model.json import decode_flow
from szal.model.results import ExecutionRecord, FlowResult
from szal.model.state import WorkflowState
from szal.model.step import StepDef
from szal.scheduler.call import Call
from szal.scheduler.plan import Node, Plan
from szal.steps.handlers import Resolver

if TYPE_CHECKING:
    from szal.stores.ledger import Snapshot

__all__ = ["SubFlows", "child_id", "is_child_id", "is_found", "last_sub_flow", "sub_flows_of"]

MAX_DEPTH: Final = 32  # of sub-flows in sub-flows: more is a flow that contains itself


def child_id(parent: str, step: str, attempt: int) -> str:
    """Return the id of a sub-flow's execution: the same when it is taken up after a crash."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{parent}:{step}:{attempt}"))


def is_child_id(execution_id: str) -> bool:
    """Whether an execution that has a parent is its sub-flow; a rerun, which has one too, has a random id."""
    try:
        return uuid.UUID(execution_id).version == 5
    except ValueError:
        return False


def sub_flows_of(ledger: Any, parent: str, step: StepDef) -> "Iterator[tuple[int, Snapshot]]":
    """Yield the sub-flows that *step* of the execution *parent* has begun, each with the attempt that it is."""
    for attempt in range(1, step.max_retries + 2):
        try:
            yield attempt, ledger.read(child_id(parent, step.name, attempt))
        except ExecutionNotFound:
            return


def last_sub_flow(ledger: Any, parent: str, step: StepDef, taken_over: str | None = None) -> "Snapshot | None":
    """Return the sub-flow that *step* of *parent* began last, or the one *taken_over* from an earlier execution."""
    last = None
    for _, last in sub_flows_of(ledger, parent, step):  # noqa: B007
        pass
    if last is None and taken_over is not None:
        with contextlib.suppress(ExecutionNotFound):
            last = ledger.read(taken_over)
    return last


def is_found(step: StepDef, storage: WorkflowStorage | None) -> bool:
    """Whether *storage* has what a sub_flow step is to run, as far as its config says that now."""
    name = step.config.get("flow_name") if isinstance(step.config, Mapping) else None
    if not isinstance(name, str) or "{{" in name:
        return True
    return storage is not None and storage.get_by_name(name) is not None


class SubFlows:
    """The sub-flows of one execution, which *parent* is the spec of."""

    def __init__(
        self, parent: ExecutionSpec, config: EngineConfig, resolver: Resolver, leased: LeasedStore | None
    ) -> None:
        self._parent = parent
        self._config = config
        self._resolver = resolver
        self._leased = leased

    def spec_of(self, call: Call) -> ExecutionSpec | FlowResult:
        """Return what a call of a sub_flow step is to run: a new execution, or one that a crash left; or its result.

        Raises `SubFlowError` for what keeps it from being run, `LeaseLost` where somebody has taken the parent over.
        """
        given = call.run.call_context(call).config
        config = given if isinstance(given, Mapping) else {}
        parent_id = self._parent.record.execution_id
        execution_id = child_id(parent_id, call.node.step.name, call.number)
        known = self._known(execution_id)
        if known is not None and known.epoch is None and known.record.result is not None:
            result: FlowResult = known.record.result
            return result
        flow = self._find(config.get("flow_name")) if known is None else stored_flow(execution_id, known, self._config)
        try:
            plan = Plan.of(flow)
            binding = bind(flow, plan, self._resolver, self._config)
        except (InvalidFlow, HandlerNotFound) as error:
            raise SubFlowError(f"sub-flow {flow.name!r}: {error}") from error
        record = ExecutionRecord(
            execution_id,
            flow.name,
            WorkflowState.RUNNING,
            inputs={**flow.inputs, **(config.get("inputs") or {})},
            flow_id=flow.id,
            flow_version=flow.version,
            parent_execution_id=parent_id,
        )
        spec = ExecutionSpec(
            flow=flow,
            plan=plan,
            binding=binding,
            record=record,
            token=self._parent.token,
            parent=self._parent,
            deadline=call.deadline,
        )
        return self._begun(spec) if known is None else self._taken_over(spec)

    def _known(self, execution_id: str) -> "Snapshot | None":
        """Return the sub-flow that a crash or a pause interrupted, if it had begun."""
        if self._leased is None or self._parent.snapshot is None:
            return None
        try:
            known: Snapshot = self._leased.ledger.read(execution_id)
        except ExecutionNotFound:
            return None
        return known

    def _begun(self, spec: ExecutionSpec) -> ExecutionSpec:
        """Return *spec* with a lease, where executions have one."""
        if self._leased is None:
            return spec
        from szal.model.definition import Definition

        # One of that id has been left over by an execution that was removed, and whose id its parent has now.
        definition = Definition.of(spec.flow)
        epoch = self._leased.create(spec.record, definition, under=self._parent.lease, replace=True)
        return attrs.evolve(spec, epoch=epoch)

    def _taken_over(self, spec: ExecutionSpec) -> ExecutionSpec:
        """Return *spec* as it goes on."""
        assert self._leased is not None
        snapshot = self._leased.take_over(spec.record.execution_id, under=self._parent.lease)
        return attrs.evolve(spec, epoch=snapshot.epoch, snapshot=snapshot, record=snapshot.record)

    def _find(self, name: str | None) -> FlowDef:
        if not name:
            raise SubFlowError("sub_flow step requires config.flow_name")
        storage = self._config.storage
        flow = None if storage is None else storage.get_by_name(name)
        if flow is None:
            raise SubFlowError(f"sub-flow {name!r} not found in storage")
        if self._parent.depth >= MAX_DEPTH:
            raise SubFlowError(f"sub-flow {name!r} is nested more than {MAX_DEPTH} deep")
        return flow

    def under_way(self, node: Node) -> int:
        """Return the attempt whose sub-flow is in the store as begun and not ended; 0 where there is none."""
        assert self._leased is not None
        begun = sub_flows_of(self._leased.ledger, self._parent.record.execution_id, node.step)
        return next((attempt for attempt, child in begun if child.record.state.is_live), 0)

    def interrupted(self, node: Node) -> Iterator[ExecutionSpec]:
        """Take over, one after another, the sub-flows of the step *node* that a crash interrupted: to end them."""
        assert self._leased is not None
        for _, child in sub_flows_of(self._leased.ledger, self._parent.record.execution_id, node.step):
            snapshot = self._leased.take_over(child.record.execution_id, under=self._parent.lease)
            if snapshot.epoch is None or snapshot.flow is None:
                continue
            flow = decode_flow(snapshot.flow)
            plan = Plan.of(flow)
            yield ExecutionSpec(
                flow=flow,
                plan=plan,
                binding=Binding([None] * len(plan.nodes), ()),
                record=snapshot.record,
                parent=self._parent,
                epoch=snapshot.epoch,
                snapshot=snapshot,
            )
