"""Something that stands in front of another and has it do all but what is said."""

from typing import Any

__all__ = ["InFront"]


class InFront:
    """Stands in front of *target*, a store or a ledger; what is named is done instead of what that does."""

    def __init__(self, target: Any, **instead: Any) -> None:
        self._target = target
        vars(self).update(instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)
