"""Sub-flows: the executions that sub_flow steps stand for."""

import uuid
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from szal.codec import decode_flow
from szal.config import EngineConfig
from szal.context import StepContext
from szal.errors import ExecutionNotFound, HandlerNotFound, InvalidFlow, SubFlowError
from szal.execution import ExecutionRecord, FlowResult
from szal.flow import FlowDef
from szal.handlers import Resolver
from szal.plan import Node, Plan
from szal.request import Binding, Keeper, Request, bind
from szal.state import WorkflowState

__all__ = ["SubFlows", "child_id", "is_child_id"]

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


class SubFlows:
    """The sub-flows of one execution, which *parent* is the request of."""

    def __init__(self, parent: Request, config: EngineConfig, resolver: Resolver, keeper: Keeper | None) -> None:
        self._parent = parent
        self._config = config
        self._resolver = resolver
        self._keeper = keeper

    def request(self, node: Node, context: StepContext) -> Request | FlowResult:
        """Return what the sub_flow step *node* is to run: anew, or as a crash left it; or the result that it had.

        Raises `SubFlowError` for what keeps it from being run, `LeaseLost` where somebody has taken the parent over.
        """
        config = context.config if isinstance(context.config, Mapping) else {}
        flow = self._find(config.get("flow_name"))
        try:
            plan = Plan.of(flow)
            binding = bind(flow, plan, self._resolver, self._config)
        except (InvalidFlow, HandlerNotFound) as error:
            raise SubFlowError(f"sub-flow {flow.name!r}: {error}") from error
        parent_id = self._parent.record.execution_id
        record = ExecutionRecord(
            child_id(parent_id, node.step.name, context.attempt),
            flow.name,
            WorkflowState.RUNNING,
            inputs={**flow.inputs, **(config.get("inputs") or {})},
            flow_id=flow.id,
            flow_version=flow.version,
            parent_execution_id=parent_id,
        )
        request = Request(
            flow=flow,
            plan=plan,
            binding=binding,
            record=record,
            token=self._parent.token,
            parent=self._parent,
            deadline=context._deadline,
        )
        return request if self._keeper is None else _kept(request, self._keeper)

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
        assert self._keeper is not None
        for attempt, name in enumerate(self._ids(node), 1):
            try:
                child = self._keeper.ledger.look(name)
            except ExecutionNotFound:
                break
            if child.record.state.is_live:
                return attempt
        return 0

    def interrupted(self, node: Node) -> Iterator[Request]:
        """Take over, one after another, the sub-flows of the step *node* that a crash interrupted: to end them."""
        assert self._keeper is not None
        for name in self._ids(node):
            try:
                claim = self._keeper.take_over(name, under=self._parent.lease)
            except ExecutionNotFound:
                return
            if claim.epoch is None or claim.flow is None:
                continue
            flow = decode_flow(claim.flow)
            plan = Plan.of(flow)
            yield Request(
                flow=flow,
                plan=plan,
                binding=Binding([None] * len(plan.nodes), ()),
                record=claim.record,
                parent=self._parent,
                epoch=claim.epoch,
                claim=claim,
            )

    def _ids(self, node: Node) -> Iterator[str]:
        """Yield the ids that the sub-flows of the step *node* have, or would have, one for each attempt."""
        for attempt in range(1, node.step.max_retries + 2):
            yield child_id(self._parent.record.execution_id, node.step.name, attempt)


def _kept(request: Request, keeper: Keeper) -> Request | FlowResult:
    """Return *request* with a lease: of a new execution, or of the one that a crash interrupted."""
    record, flow = request.record, request.flow
    under = None if request.parent is None else request.parent.lease
    from szal.definition import Definition

    epoch = keeper.begin(record, Definition.of(flow), under=under)
    if epoch is not None:
        return attrs.evolve(request, epoch=epoch)
    claim = keeper.take_over(record.execution_id, under=under)
    if claim.epoch is None and claim.record.result is not None:
        result: FlowResult = claim.record.result
        return result
    return attrs.evolve(request, epoch=claim.epoch, claim=claim, record=claim.record)
