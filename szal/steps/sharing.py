"""What attempts of one run have in common, large as it may be: an executor that can keep it is sent it once."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Lock
from typing import Final, TypeAlias

import attrs

from szal.expressions.path import Json
from szal.steps.pickling import Packed, pickled

__all__ = ["NOTHING_SHARED", "Keep", "Shared"]

Keep: TypeAlias = Callable[[Callable[[], Packed]], object]
"""Returns what stands for the bytes that a function returns, which may be called again."""

_LARGE: Final = 1 << 15
"""Bytes of a pickle from which on it is kept: below, asking for it takes longer than sending it."""


@attrs.define(eq=False, repr=False)
class _Value:
    """A value that attempts may have in common; the reference to it keeps its `id` its own."""

    value: Json
    lock: Lock = attrs.field(factory=Lock)
    is_looked_at: bool = False
    kept: object = None


@attrs.define(eq=False, repr=False)
class Shared:
    """The values of one run that were sent. From any thread.

    They are told apart by their identity: the run's own inputs and outputs, which nobody changes.
    """

    _keep: Keep | None
    _values: dict[int, _Value] = attrs.field(factory=dict, init=False)

    def among(self, values: Iterable[Json]) -> Mapping[int, object]:
        """Return what stands for those of *values* that the executor keeps, by their `id`."""
        if self._keep is None:
            return {}
        return {id(value): kept for value in values if (kept := self._kept(value)) is not None}

    def _kept(self, value: Json) -> object:
        if not isinstance(value, str | bytes | list | dict):
            return None
        known = self._values.setdefault(id(value), _Value(value))
        with known.lock:
            if not known.is_looked_at:
                known.kept = self._look_at(value)
                known.is_looked_at = True
        return known.kept

    def _look_at(self, value: Json) -> object:
        assert self._keep is not None
        if isinstance(value, str | bytes) and len(value) < _LARGE // 4:
            return None
        try:
            is_large = len(pickled(value)) >= _LARGE
        except Exception:  # noqa: BLE001 (whatever its own code makes of it: where it is sent, that is told)
            return None
        return self._keep(partial(pickled, value)) if is_large else None


NOTHING_SHARED: Final = Shared(None)
