"""Pickles of what is sent to an executor: functions as where they are found by import, those of steps included."""

import importlib
import io
import pickle
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, TypeAlias

from szal.errors import describe

__all__ = ["Packed", "pickled", "problem_of_pickling", "unpickled"]

Packed: TypeAlias = bytes


def pickled(value: object) -> Packed:
    """Return *value* as a pickle. Raises whatever its code makes of that.

    A decorator may have put something else under the name of a function, as `szal.Flow.step` does: what that wraps is
    found as well.
    """
    data = io.BytesIO()
    _Pickler(data, pickle.HIGHEST_PROTOCOL).dump(value)
    return data.getvalue()


def unpickled(data: Packed) -> Any:
    """Return what *data* is a pickle of: of the engine, or of what it has chosen. Raises whatever loading it does."""
    return pickle.loads(data)  # noqa: S301


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
