"""A function that is a step of a flow: it stays callable as it was."""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar

from szal.number import shown

__all__ = ["Each", "Owner", "Step", "StepDecorator", "each"]

P = ParamSpec("P")
R = TypeVar("R")
_F = TypeVar("_F", bound=Callable[..., Any])


class Owner(Protocol):
    """The flow that a step is one of."""

    @property
    def name(self) -> str: ...


class Undoable(Owner, Protocol):
    """One that takes what undoes its steps."""

    def register_undo(self, step: str, function: Callable[..., Any]) -> None: ...


class Step(Generic[P, R]):
    """What `Flow.step` returns. Called, it is the function that it was made of; it names its step in ``needs=``."""

    def __init__(
        self, flow: Undoable, name: str, function: Callable[P, R], also: "Step[..., Any] | None" = None
    ) -> None:
        """Made by the flow; *also*: what it is in another one, where it has been made a step of that before."""
        functools.update_wrapper(self, function)  # signature, docstring, annotations
        self.also = also
        self.flow = flow
        self.name = name
        self.function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself: nothing of the flow runs."""
        return self.function(*args, **kwargs)

    def in_flow(self, flow: Owner) -> "AnyStep":
        """Return the step that it is in *flow*; itself where it is none there."""
        return next((each for each in self._all() if each.flow is flow), self)

    def _all(self) -> "Iterator[AnyStep]":
        each: AnyStep | None = self
        while each is not None:
            yield each
            each = each.also

    def rollback(self, function: _F) -> _F:
        """Register what undoes the step, as a decorator. Its parameters are bound as those of steps are.

        The step's own name, or ``ctx.output``, is what the step came to.
        """
        self.flow.register_undo(self.name, function)
        return function

    def __repr__(self) -> str:
        return f"<step {self.name!r} of flow {self.flow.name!r}>"

    def __reduce__(self) -> Any:
        """Pickle as what is found under its name, as a function does; else as the function that it was made of."""
        module, name = getattr(self, "__module__", None), getattr(self, "__qualname__", None)
        found: Any = sys.modules.get(str(module))
        for part in str(name).split("."):
            found = getattr(found, part, None)
        return name if found is self else (_function, (self.function,))


def _function(function: Callable[P, R]) -> Callable[P, R]:
    return function


AnyStep: TypeAlias = Step[..., Any]


class StepDecorator(Protocol):
    """What makes a step of a function: what `Flow.step` returns without one."""

    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...


class Each:
    """An input of which a step takes one element at a time: see `each`."""

    def __init__(self, name: str) -> None:
        self.name = name


def each(name: str) -> Each:
    """Return what ``foreach=`` takes to have a step done once for each element of the input *name*.

    Raises TypeError for what is no name.

    >>> each("files").name
    'files'
    """
    given: object = name
    if not isinstance(given, str) or not given:
        raise TypeError(f"szal.each takes the name of an input, not {shown(given)}")
    return Each(name)
