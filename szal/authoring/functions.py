"""What does the steps of a flow of functions, for an engine that knows the flow."""

from collections.abc import Collection, Sequence
from typing import Protocol

from szal.model.step import StepDef
from szal.scheduler.context import Handler
from szal.steps.handlers import Handlers

__all__ = ["Functions"]


class Owner(Protocol):
    """A flow of functions."""

    @property
    def handlers(self) -> Handlers: ...


class Functions:
    """The functions that a flow has when a run begins, as a resolver."""

    def __init__(self, flow: Owner) -> None:
        self._flow = flow

    def resolve_all(self, steps: Sequence[StepDef], flow_name: str) -> list[Handler | None]:
        """Return what does each of *steps*, or None."""
        return self._flow.handlers.resolve_all(steps, flow_name)

    def resolve_rollback(self, step: StepDef, flow_name: str) -> Handler | None:
        """Return what undoes *step*, or None."""
        return self._flow.handlers.resolve_rollback(step, flow_name)

    def step_types(self, flow_name: str) -> Collection[str]:
        """Return the types of steps that are done whatever they are called."""
        return self._flow.handlers.step_types(flow_name)
