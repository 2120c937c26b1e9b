"""What a handler in a child process has of the engine, as its context sees it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from szal.expressions.path import Json

__all__ = ["Link"]


class Link(Protocol):
    """Leads from an attempt in a child process to the engine. Its methods may be called from any thread of that."""

    def begin(self) -> None:
        """Tell the engine that the handler is about to be called."""

    def is_told(self) -> bool:
        """Whether the attempt is to end. Who asks is trusted to do so by itself, within the grace."""

    def wait(self, seconds: float | None) -> None:
        """Sleep for so many seconds, or until the attempt is to end. Who sleeps so is trusted as who asks."""

    def ends_within(self, seconds: float) -> AbstractContextManager[None]:
        """Have the engine wait so long for the attempt to end, once it is to."""

    def once(self, key: object, function: Callable[[], Any]) -> Any:
        """Return what the engine keeps under *key*; else have *function* called here, and keep what it returns."""

    def report(self, data: Json) -> None:
        """Hand *data* to the engine's progress sink."""
