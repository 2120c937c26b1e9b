"""Which executions others still need: those that are tied to a live one by their parents."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

__all__ = ["Needed"]

ParentsOf: TypeAlias = Callable[[Collection[str]], Mapping[str, str]]
"""Returns, of such of these executions as have one, the parent."""


class Needed:
    """What executions that are *live* may come back to.

    That is their sub-flows, which they undo; what they are reruns of, and the sub-flows of that, of which they keep
    what was done; and so on.
    """

    def __init__(self, live: Iterable[str], parents_of: ParentsOf) -> None:
        self._roots: set[str] = set()
        pending = set(live)
        while pending:
            self._roots |= pending
            pending = set(parents_of(pending).values()) - self._roots

    def among(self, execution_ids: Collection[str], parents_of: ParentsOf) -> set[str]:
        """Return those of *execution_ids* that are needed."""
        if not self._roots:
            return set()
        children = defaultdict(list)
        known = pending = set(execution_ids)
        while pending:
            parents = parents_of(pending - self._roots)
            for execution_id, parent in parents.items():
                children[parent].append(execution_id)
            pending = set(parents.values()) - known
            known = known | pending
        needed = list(known & self._roots)
        for execution_id in needed:  # grows while it is read
            needed += children.pop(execution_id, ())
        return set(needed).intersection(execution_ids)
