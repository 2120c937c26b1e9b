"""Which function does which step of which flow, as an engine asks for it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from szal.errors import HandlerNotFound, UnusedHandlers, did_you_mean
from szal.expressions.path import Json
from szal.function import check_handler
from szal.model.flow import FlowDef
from szal.model.step import ENGINE_TYPES, StepDef
from szal.scheduler.context import Handler, StepContext
from szal.steps.handlers import Handlers
from szal.steps.up_to_date import IsDone

if TYPE_CHECKING:
    from szal.model.inputs import Input
    from szal.model.migration import MigrationRegistry

__all__ = [
    "Authored",
    "ByFlow",
    "EveryStep",
    "Handling",
    "Resolver",
    "check_all_used",
    "migrations_of",
    "resolver_of",
    "why_not_done",
]


class Resolver(Protocol):
    """What an engine asks for handlers. A flow is told by its name, by which it is known in every process."""

    def resolve_all(self, steps: Sequence[StepDef], flow_name: str) -> list[Handler | None]: ...
    def resolve_rollback(self, step: StepDef, flow_name: str) -> Handler | None: ...
    def step_types(self, flow_name: str) -> Collection[str]: ...
    def all_done_when(self, flow_name: str) -> Mapping[str, IsDone]: ...
    def inputs_of(self, flow_name: str) -> "Mapping[str, Input] | None": ...


@runtime_checkable
class Authored(Protocol):
    """What brings flows and what does their steps: a `szal.Flow`. By the flows' names: its own, and its sub-flows'."""

    def resolvers(self) -> "Mapping[str, Resolver]": ...
    def registries(self) -> "Mapping[str, MigrationRegistry]": ...


Handling: TypeAlias = Callable[[StepContext], Json] | Handlers | Authored
"""What does the steps of flows."""


class EveryStep:
    """One function for every step, as a resolver."""

    def __init__(self, function: Handler) -> None:
        self._function = function

    def resolve_all(self, steps: Sequence[StepDef], flow_name: str) -> list[Handler | None]:  # noqa: ARG002
        """Return the function, for each."""
        return [self._function] * len(steps)

    def resolve_rollback(self, step: StepDef, flow_name: str) -> Handler | None:  # noqa: ARG002
        """Return None: undoing is `EngineConfig.rollback_handler`'s."""
        return None

    def step_types(self, flow_name: str) -> Collection[str]:  # noqa: ARG002
        """Return none: it does all of them."""
        return ()

    def all_done_when(self, flow_name: str) -> Mapping[str, IsDone]:  # noqa: ARG002
        """Return none: it knows no steps by name."""
        return {}

    def inputs_of(self, flow_name: str) -> None:
        """Return None: a function tells nothing of the inputs that it takes."""


class ByFlow:
    """What does the steps of each flow, by its name; *others* does those of all other flows."""

    def __init__(self, by_name: Mapping[str, Resolver], others: Handlers) -> None:
        self._by_name = by_name
        self._others = others

    def has(self, flow_name: str) -> bool:
        """Whether it was given that flow."""
        return flow_name in self._by_name

    @property
    def others(self) -> Handlers:
        """What does the steps of all other flows."""
        return self._others

    def of(self, flow_name: str) -> Resolver:
        """Return what does the steps of that flow."""
        return self._by_name.get(flow_name, self._others)

    def resolve_all(self, steps: Sequence[StepDef], flow_name: str) -> list[Handler | None]:
        """Return what does each of *steps*, or None."""
        return self.of(flow_name).resolve_all(steps, flow_name)

    def resolve_rollback(self, step: StepDef, flow_name: str) -> Handler | None:
        """Return what undoes *step*, or None."""
        return self.of(flow_name).resolve_rollback(step, flow_name)

    def step_types(self, flow_name: str) -> Collection[str]:
        """Return the types of steps that are done."""
        return self.of(flow_name).step_types(flow_name)

    def all_done_when(self, flow_name: str) -> Mapping[str, IsDone]:
        """Return what says of steps, by name, whether their work is there."""
        return self.of(flow_name).all_done_when(flow_name)

    def inputs_of(self, flow_name: str) -> "Mapping[str, Input] | None":
        """Return the inputs that the functions of that flow take, where that is known."""
        return self.of(flow_name).inputs_of(flow_name)


class NoFlows:
    """What does the steps of an engine that was given no flow, and so runs none."""

    def resolve_all(self, steps: Sequence[StepDef], flow_name: str) -> list[Handler | None]:
        """Raise `HandlerNotFound`, also where no step needs one."""
        kind = f"flow {flow_name!r} in this engine, and so no handler"
        raise HandlerNotFound(tuple(step.name for step in steps), kind)

    def resolve_rollback(self, step: StepDef, flow_name: str) -> Handler | None:  # noqa: ARG002
        """Return None: nothing is undone."""
        return None

    def step_types(self, flow_name: str) -> Collection[str]:  # noqa: ARG002
        """Return none."""
        return ()

    def all_done_when(self, flow_name: str) -> Mapping[str, IsDone]:  # noqa: ARG002
        """Return none."""
        return {}

    def inputs_of(self, flow_name: str) -> None:
        """Return None: it has no functions."""


def resolver_of(handler: "Handling | Iterable[Handling]") -> Resolver:
    """Return what an engine asks that is given *handler*: several are flows, and a `Handlers` for all others.

    Of none at all it runs nothing.

    Raises `NotAHandler`, and ValueError for two flows of one name.
    """
    if isinstance(handler, Handlers):
        return handler
    if isinstance(handler, Authored | list | tuple):
        return _by_flow(_parts(handler))
    check_handler(handler, "the handler of an engine")
    return EveryStep(handler)  # type: ignore[arg-type]


def why_not_done(steps: Iterable[StepDef], resolver: Resolver, flow_name: str) -> Iterator[str]:
    """Yield what is wrong with *steps* that nothing does, as far as that is known: types that there are not."""
    if isinstance(resolver, ByFlow) and not resolver.has(flow_name):
        yield f"no flow {flow_name!r} was given to the engine"
    known = [*resolver.step_types(flow_name), *sorted(ENGINE_TYPES)]
    for name in dict.fromkeys(step.step_type for step in steps):
        if name is not None and name not in known:
            yield f"there is no step type {name!r}{did_you_mean(name, known)}"


def check_all_used(resolver: Resolver, flows: Iterable[FlowDef]) -> None:
    """Raise `UnusedHandlers` where a strict registry has handlers for what is in none of *flows*, which are all."""
    registry = resolver.others if isinstance(resolver, ByFlow) else resolver
    if not isinstance(registry, Handlers) or not registry.strict:
        return
    steps = [step for flow in flows for step in flow.walk()]
    types = {step.step_type or "" for step in steps}
    known: dict[str, set[str]] = {"step": {step.name for step in steps}, "step type": types}
    unused = [(kind, name) for kind, name in registry.registered_for() if name not in known[kind]]
    if unused:
        raise UnusedHandlers(tuple(f"{kind} {name!r}{did_you_mean(name, [*known[kind]])}" for kind, name in unused))


def migrations_of(handler: "Handling | Iterable[Handling]") -> "dict[str, MigrationRegistry]":
    """Return the migrations that the flows among *handler* bring, by flow name."""
    flows = (part for part in _parts(handler) if isinstance(part, Authored))
    return {name: registry for flow in flows for name, registry in flow.registries().items()}


def _parts(handler: "Handling | Iterable[Handling]") -> Sequence[object]:
    return handler if isinstance(handler, list | tuple) else (handler,)


def _by_flow(parts: Sequence[object]) -> Resolver:
    if not parts:
        return NoFlows()
    by_name: dict[str, Resolver] = {}
    others: Handlers | None = None
    for part in parts:
        if isinstance(part, Handlers) and others is None:
            others = part
        elif not isinstance(part, Authored):
            check_handler(part, "one of the handlers of an engine")
            raise ValueError("an engine of several flows takes flows, and one Handlers for all others")
        else:
            for name, resolver in part.resolvers().items():
                if by_name.setdefault(name, resolver) is not resolver:
                    raise ValueError(f"two flows of this engine are called {name!r}")
    return ByFlow(by_name, Handlers() if others is None else others)
