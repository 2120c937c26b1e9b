"""Pickles of what is sent to an executor: functions as where they are found by import, those of steps included."""

import importlib
import io
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

from szal.errors import describe

__all__ = ["Apart", "Packed", "pickled", "pickled_apart", "problem_of_pickling", "unpickled"]

Packed: TypeAlias = bytes


class Apart(NamedTuple):
    """A pickle, and what stands for those values that were left out of it, in the place of their pickles."""

    data: Packed
    kept: Sequence[object] = ()


def pickled(value: object) -> Packed:
    """Return *value* as a pickle. Raises whatever its code makes of that.

    A decorator may have put something else under the name of a function, as `szal.Flow.step` does: what that wraps is
    found as well.
    """
    data = io.BytesIO()
    _Pickler(data, pickle.HIGHEST_PROTOCOL).dump(value)
    return data.getvalue()


def pickled_apart(value: object, kept: Mapping[int, object]) -> Apart:
    """Return *value* as a pickle without what is *kept*, by its `id`. Raises whatever its code makes of that."""
    if not kept:
        return Apart(pickled(value))
    data = io.BytesIO()
    pickler = _ApartPickler(data, kept)
    pickler.dump(value)
    return Apart(data.getvalue(), pickler.used)


def unpickled(data: Packed, kept: Sequence[Packed] = ()) -> Any:
    """Return what *data* is a pickle of: of the engine, or of what it has chosen. Raises whatever loading it does.

    *kept* are the pickles of what was left out.
    """
    if not kept:
        return pickle.loads(data)  # noqa: S301
    return _ApartUnpickler(io.BytesIO(data), kept).load()


def problem_of_pickling(value: object) -> str | None:
    """Return why *value* cannot be pickled, None if it can.

    >>> problem_of_pickling(print), problem_of_pickling(lambda: None)
    (None, "PicklingError: Can't pickle <function <lambda> at 0x...>: attribute lookup <lambda> on ... failed")
    """
    try:
        pickled(value)
    except Exception as error:  # noqa: BLE001 (whatever its own code makes of it)
        return describe(error)
    return None


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        if type(value) is FunctionType:
            for depth, found in enumerate(_layers(sys.modules.get(value.__module__), value.__qualname__)):
                if found is value and depth:
                    return _found, (value.__module__, value.__qualname__, depth)
        return NotImplemented


class _ApartPickler(_Pickler):
    def __init__(self, file: io.BytesIO, kept: Mapping[int, object]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._kept = kept
        self._places: dict[int, int] = {}
        self.used: list[object] = []

    def persistent_id(self, value: object) -> int | None:
        key = id(value)
        if key not in self._kept:
            return None
        if key not in self._places:
            self._places[key] = len(self.used)
            self.used.append(self._kept[key])
        return self._places[key]


class _ApartUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, kept: Sequence[Packed]) -> None:
        super().__init__(file)
        self._kept = kept

    def persistent_load(self, place: Any) -> Any:
        """Return what was left out: whoever asks has one of its own."""
        return unpickled(self._kept[place])


def _found(module: str, name: str, depth: int) -> Callable[..., Any]:
    """Return what is called *name* in *module*, without so many of its layers."""
    layers = [*_layers(importlib.import_module(module), name)]
    if depth >= len(layers):
        raise AttributeError(f"{module}.{name} is not there as it was where it was sent from")
    return layers[depth]  # type: ignore[no-any-return]


def _layers(module: object, name: str) -> Iterator[Any]:
    """Yield what is called *name* in *module*, then what that wraps, and so on; nothing where it is not there."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    for _ in range(_MOST):
        if found is None:
            return
        yield found
        found = getattr(found, "__wrapped__", None)


_MOST = 100
"""Layers of one function: one may wrap itself."""
