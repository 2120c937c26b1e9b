"""What was asked for last, kept for a while."""

from typing import Final, Generic, TypeVar

__all__ = ["Recent"]

T = TypeVar("T")

_MOST: Final = 16


class Recent(Generic[T]):
    """The 16 things that were asked for last, by name, as long as they are not longer than *up_to* together.

    From any thread: each change is one atomic operation.

    >>> texts = Recent[str](up_to=5)
    >>> texts.keep("a", "once", size=4)
    >>> texts.keep("b", "upon", size=4)
    >>> texts.get("a"), texts.get("b")
    (None, 'upon')
    """

    def __init__(self, up_to: int) -> None:
        self._up_to = up_to
        self._kept: dict[str, tuple[T, int]] = {}  # those that were asked for last come last

    def get(self, name: str) -> T | None:
        """Return what is kept under *name*, for longer now, or None."""
        kept = self._kept.pop(name, None)
        if kept is None:
            return None
        self._kept[name] = kept
        return kept[0]

    def keep(self, name: str, value: T, size: int) -> None:
        """Keep *value*, which is so long, under *name*."""
        self._kept[name] = value, size
        kept = [*self._kept.copy().items()]
        while len(kept) > _MOST or sum(size for _, (_, size) in kept) > self._up_to:
            self._kept.pop(kept.pop(0)[0], None)
