"""The modes of flows, and what is known of one once it has been looked through."""

from collections.abc import Iterable, Iterator

import attrs

from szal.expressions.condition import CompiledCondition
from szal.expressions.path import Path
from szal.expressions.template import CompiledTemplate
from szal.model.state import NamedEnum
from szal.model.step import StepDef

__all__ = ["Analysis", "FlowMode", "walk"]


class FlowMode(NamedEnum):
    """How the steps of a flow are wired (docs/semantics.md has the table).

    >>> FlowMode.DAG.value, FlowMode.SEQUENTIAL.is_linear
    ('Dag', True)
    """

    SEQUENTIAL = "Sequential"
    PARALLEL = "Parallel"
    DAG = "Dag"
    HIERARCHICAL = "Hierarchical"

    @property
    def is_linear(self) -> bool:
        """Whether the steps run one after another, in the order of `walk`."""
        return self in (FlowMode.SEQUENTIAL, FlowMode.HIERARCHICAL)


def walk(steps: Iterable[StepDef]) -> Iterator[tuple[StepDef, int]]:
    """Yield every step and the place of its parent in this very order (-1 at the top), depth first."""
    place = 0
    stack = [(step, -1) for step in reversed(list(steps))]
    while stack:
        step, parent = stack.pop()
        yield step, parent
        stack.extend((sub, place) for sub in reversed(step.sub_steps))
        place += 1


@attrs.define(eq=False, repr=False)
class Analysis:
    """A flow that can be run. All lists are by place: the step's index in the depth-first order of the flow."""

    mode: FlowMode
    steps: list[StepDef]
    parents: list[int]
    places: dict[str, int]  # by name
    before: list[list[int]]  # declared dependencies; only DAG mode has any
    order: list[int]  # a topological order
    finals: frozenset[int] = frozenset()
    """The finally steps."""
    conditions: dict[int, CompiledCondition] = attrs.Factory(dict)
    untils: dict[int, CompiledCondition] = attrs.Factory(dict)
    """What is to hold of what a step returns: until then it is called again."""
    templates: dict[int, CompiledTemplate] = attrs.Factory(dict)
    key: CompiledTemplate | None = None
    """What its executions are told apart by, of which one runs at a time."""
    lists: dict[int, Path] = attrs.Factory(dict)
    """Where the lists are that steps run over, which do not hold one themselves."""
    has_commands: bool = False
    """Whether some step is a command, or is undone by one."""
    flaws: list[str] = attrs.Factory(list)
    """What is wrong with it, and what has been recorded goes on with: a flow that is to be begun has none."""
