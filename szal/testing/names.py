"""Which step a name means that a test gives."""

from collections.abc import Iterable, Sequence

from szal.errors import did_you_mean
from szal.model.flow import FlowDef
from szal.model.step import StepDef

__all__ = ["step_named"]

_Found = tuple[FlowDef, StepDef]


def step_named(flows: Sequence[FlowDef], name: str, what: str) -> _Found:
    """Return the step that *name* means, and its flow: one of *flows*, or else of their sub-flows.

    Where several have one of that name, ``"FLOW/STEP"`` says which. *what* says where the name was given, in the
    ValueError for one that means no step, or more than one.

    >>> orders = FlowDef("orders", steps=[StepDef("charge")])
    >>> step_named([orders], "chage", "fakes")
    Traceback (most recent call last):
    ValueError: fakes: flow 'orders' has no step 'chage'; did you mean 'charge'?
    """
    given: object = name
    if not isinstance(given, str):
        raise TypeError(f"{what}: {given!r} is no name of a step")
    below = [sub_flow for flow in flows for sub_flow in flow.sub_flows]
    for candidates in (flows, below):
        found = {flow.name: (flow, step) for flow, step in _steps_of(candidates) if step.name == name}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            told = ", ".join(repr(f"{flow_name}/{name}") for flow_name in found)
            raise ValueError(f"{what}: several flows have a step {name!r}: say which ({told})")
    everywhere = _steps_of([*flows, *below])
    for flow, step in everywhere:
        if name == f"{flow.name}/{step.name}":
            return flow, step
    known = [f"{flow.name}/{step.name}" if "/" in name else step.name for flow, step in everywhere]
    told = " or ".join(f"flow {flow.name!r}" for flow in flows) or "no flow"
    raise ValueError(f"{what}: {told} has no step {name!r}{did_you_mean(name, known)}")


def _steps_of(flows: Iterable[FlowDef]) -> list[_Found]:
    return [(flow, step) for flow in flows for step in flow.walk()]
