"""Which flow a sub_flow step is to run: one that its own brings, or one of the storage."""

from collections.abc import Collection, Mapping

from szal.engine.config import EngineConfig
from szal.engine.spec import ExecutionSpec
from szal.errors import SubFlowError, SzalError, describe
from szal.interruption import is_interruption
from szal.model.catalogue import WorkflowStorage
from szal.model.flow import FlowDef
from szal.model.step import StepDef
from szal.raised import is_a, name_of

__all__ = ["SubFlowLimit", "is_found", "sub_flow_called"]


class SubFlowLimit(SubFlowError):
    """A sub-flow too many for its run: one that contains itself, mostly. Ends all of the run."""


def is_found(step: StepDef, brought: Collection[str], storage: WorkflowStorage | None) -> bool:
    """Whether a sub_flow step is to run one of the flows that are *brought*, by name, or that *storage* has.

    Only as far as its config says now what it is to run.
    """
    name = step.config.get("flow_name") if isinstance(step.config, Mapping) else None
    if not isinstance(name, str) or "{{" in name:
        return True
    return name in brought or (storage is not None and storage.get_by_name(name) is not None)


def sub_flow_called(name: str, parent: ExecutionSpec, config: EngineConfig) -> FlowDef:
    """Return the flow that a sub_flow step of *parent* is to run, and count it.

    Raises `SubFlowError` where there is none, or it cannot be a sub-flow, `SubFlowLimit` where it is one too many.
    """
    storage = config.storage
    flow: object = parent.sub_flow(name)
    if flow is None and storage is not None:
        flow = _looked_up(storage, name)
    if hasattr(type(flow), "definition"):
        flow = flow.definition  # type: ignore[attr-defined]
    if flow is None:
        raise SubFlowError(f"sub-flow {name!r} not found in storage")
    if not isinstance(flow, FlowDef):
        kind = name_of(type(flow))
        raise SubFlowError(f"what the storage has as sub-flow {name!r} is no FlowDef, but a {kind}")
    if flow.concurrency_key is not None:
        raise SubFlowError(f"sub-flow {name!r} has a concurrency_key, and runs within another: give that the key")
    depth, many = config.max_depth, config.max_sub_flows
    if parent.depth >= depth:
        raise SubFlowLimit(f"sub-flow {name!r} is nested more than {depth} deep (max_depth)")
    if not parent.top.sub_flows.take(many):
        raise SubFlowLimit(f"sub-flow {name!r} is one too many: the run has had {many} (max_sub_flows)")
    return flow


def _looked_up(storage: WorkflowStorage, name: str) -> object:
    """Return what *storage* has by that name. What it raises means nothing to the engine: it is foreign code."""
    try:
        return storage.get_by_name(name)
    except BaseException as error:
        if is_interruption(error) or not is_a(error, SzalError):
            raise
        raise LookupError(f"the storage of sub-flows failed: {describe(error)}") from error
