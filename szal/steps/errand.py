"""What is called in the place of a handler, where that is elsewhere: a function, and plain arguments."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from szal.expressions.path import Json

__all__ = ["Errand", "Hole"]


class Hole(Enum):
    """What stands among the arguments of a function for what is there only where it is called."""

    CONTEXT = "the context"


@attrs.frozen(eq=False)
class Errand:
    """A function, and what it is called with."""

    function: Callable[..., Any]
    positional: Sequence[Any] = ()
    named: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def takes_context(self) -> bool:
        """Whether the context is among its arguments."""
        return any(value is Hole.CONTEXT for value in (*self.positional, *self.named.values()))

    def __call__(self, ctx: Any) -> Json:
        """Call it, where it was sent to."""
        positional = [ctx if value is Hole.CONTEXT else value for value in self.positional]
        named = {name: ctx if value is Hole.CONTEXT else value for name, value in self.named.items()}
        return self.function(*positional, **named)
