"""What is known of the steps of a run from before: before their next attempt, or before the run itself."""

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import attrs

from szal.expressions.path import Json
from szal.model.results import StepResult
from szal.scheduler.plan import Outcome

__all__ = ["History", "Kept", "KeptItem", "Order", "OrderOfItems", "Undoable"]


@attrs.define(eq=False, repr=False)
class History:
    """What is kept of a step from its first call, where that was not the last, to its end."""

    started: float  # of the first call
    ended: float  # of the last one
    attempt: int  # the number of the last attempt that failed; 0: none has
    settled_before: int
    error: BaseException | None  # of the last call, if it failed; None: it failed before a crash
    polls: int = 0  # how many calls have come to something else than what the step is called for
    until_by: float | None = None  # when the time for all of these is over
    output: Json = None  # of the last of them


# Made for each step that is done, and never changed: not frozen, which would triple its cost.
@attrs.define(eq=False, repr=False)
class Kept:
    """What is known of a step from before this run began."""

    result: StepResult
    outcome: Outcome | None
    """What that is to its successors, if nothing before it has run again since; None: it is decided on again."""
    age: int
    """How many reruns ago it ended; 0: in this very execution, before a crash or a pause."""


@attrs.define(eq=False, repr=False)
class KeptItem:
    """What is known of one item of a step from before this run began."""

    result: StepResult
    outcome: Outcome | None
    """None: it had begun, and must not run twice: somebody has to decide on it."""
    age: int
    digest: str | None
    """Of the element that it was of: of another one nothing is known."""
    polled: History | None = None
    """Where it polls, and has not come to what it polls for."""
    due: float = 0.0
    """When it is called next, then (monotonic)."""


Undoable: TypeAlias = int | tuple[int, int]
"""What may have to be undone: a step, by its place, or one item of it, by its index besides."""


class Order(Protocol):
    """The places of what has completed, in the order in which it did."""

    def append(self, place: Any, /) -> None: ...
    def remove(self, place: Any, /) -> None: ...
    def pop(self) -> object: ...
    def __iter__(self) -> Iterator[Undoable]: ...
    def __reversed__(self) -> Iterator[Undoable]: ...


@attrs.define(eq=False)
class OrderOfItems:
    """The order in which the items of the step at `place` complete: a part of that of the run which the step is in.

    >>> whole = [0]
    >>> OrderOfItems(whole, 7).append(2)
    >>> whole
    [0, (7, 2)]
    """

    whole: Order
    place: int

    def append(self, index: int, /) -> None:
        """Take note that an item has completed."""
        self.whole.append((self.place, index))

    def remove(self, index: int, /) -> None:
        """Take that back."""
        self.whole.remove((self.place, index))

    def pop(self) -> object:
        """Take back what was noted last."""
        return self.whole.pop()

    def __iter__(self) -> Iterator[Undoable]:
        """Yield the items, by their index."""
        return (undoable[1] for undoable in self.whole if isinstance(undoable, tuple) and undoable[0] == self.place)

    def __reversed__(self) -> Iterator[Undoable]:
        """Yield them, the last first."""
        return reversed(list(self))
