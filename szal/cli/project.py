"""The program that the command line is a part of: its own, or a project's that brings a store and flows."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import attrs

from szal.authoring.flow import Flow
from szal.steps.handlers import Handlers
from szal.steps.resolving import Handling

__all__ = ["Project", "project", "within"]


@attrs.frozen(kw_only=True)
class Project:
    """What belongs to commands that are typed in a project.

    `program`: how the command line is called there; `command`: what begins it, before the words that are typed.
    `store`: what counts where neither ``--store`` nor SZAL_STORE says one. `config`: settings of `EngineConfig`, of
    which those count that no option of a command says.
    """

    program: str = "szal"
    command: Sequence[str] = (sys.executable, "-m", "szal")
    store: str | None = None
    flows: Sequence[Handling] = ()
    config: Mapping[str, object] = attrs.field(factory=dict)

    @property
    def handling(self) -> Handling | Sequence[Handling]:
        """What does the steps of executions for which no target is named; without flows, that is as far as szal can."""
        if not self.flows:
            return Handlers()
        return self.flows[0] if len(self.flows) == 1 else list(self.flows)

    @property
    def names(self) -> list[str]:
        """The names of the flows written as functions."""
        return [flow.name for flow in self.flows if isinstance(flow, Flow)]

    def flow(self, name: str) -> Flow | None:
        """Return the flow of that name, written as functions, if there is one."""
        return next((flow for flow in self.flows if isinstance(flow, Flow) and flow.name == name), None)


_PROJECT: Final[ContextVar[Project | None]] = ContextVar("szal_project", default=None)


def project() -> Project:
    """Return the project whose command is being executed. On any thread that began with this one's context."""
    return _PROJECT.get() or Project()


@contextmanager
def within(found: Project) -> Iterator[None]:
    """Have *found* be the project of all that is done."""
    token = _PROJECT.set(found)
    try:
        yield
    finally:
        _PROJECT.reset(token)
