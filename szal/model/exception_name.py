"""Names of exceptions in `retry_on` and `give_up_on`: whether there is such an exception, as far as one can tell.

Nothing is imported to find out. So of a module that is not loaded nothing is known, and whatever it may have is taken.
"""

import builtins
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Final

from szal import errors
from szal.errors import closest
from szal.model.class_name import is_called

__all__ = ["problem_of_exception_name"]

_MAIN: Final = ("__main__", "__mp_main__")  # which program's that is, nobody knows


def problem_of_exception_name(name: str) -> str | None:
    """Return why *name* names no exception, and which one was meant; None: it may name one.

    >>> problem_of_exception_name("ConnectionErorr")
    "there is no exception 'ConnectionErorr'; did you mean 'ConnectionError'?"
    >>> problem_of_exception_name("OSError"), problem_of_exception_name("not_loaded.Error")
    (None, None)
    """
    dotted = name.replace(":", ".")
    if _is_known(dotted):
        return None
    close = closest(dotted, [*_SHORT, *_near(dotted)])
    if close is not None:
        return f"there is no exception {name!r}; did you mean {close!r}?"
    hint = "" if "." in dotted else ": write its module too, as in 'package.module.Error'"
    return f"there is no exception {name!r}{hint}"


def _exceptions_in(names: Mapping[str, object]) -> Iterator[str]:
    return (name for name, value in names.items() if isinstance(value, type) and issubclass(value, BaseException))


_SHORT: Final = frozenset((*_exceptions_in(vars(builtins)), *_exceptions_in(vars(errors))))
"""What needs no module: Python's own, and szal's."""


def _is_known(dotted: str) -> bool:
    """Whether there is that exception, or may be one."""
    module, *rest = _loaded_part(dotted)
    if not rest:  # its name alone
        return dotted in _SHORT or _is_loaded(dotted)
    if not module:  # nothing of that name is loaded
        return all(rest)
    if module in _MAIN or "<locals>" in rest:
        return True
    return _leads_to_one(module, rest) or _is_loaded(dotted)


def _loaded_part(dotted: str) -> tuple[str, ...]:
    """Return the module that *dotted* begins with, empty where none is loaded, and what follows; a bare name alone."""
    parts = dotted.split(".")
    if len(parts) == 1:
        return (dotted,)
    lengths = range(len(parts) - 1, 0, -1)
    length = next((length for length in lengths if ".".join(parts[:length]) in sys.modules), 0)
    return (".".join(parts[:length]), *parts[length:])


def _leads_to_one(module: str, rest: list[str]) -> bool:
    """Whether the attributes *rest* lead from a module that is loaded to an exception, or to where one may be."""
    found: object = sys.modules[module]
    for name in rest:
        try:
            found = getattr(found, name)
        except AttributeError:
            return found is sys.modules[module] and _is_unloaded(f"{module}.{name}")
        except Exception:  # noqa: BLE001 (a module may have a function that is asked)
            return True
    return isinstance(found, type) and issubclass(found, BaseException)


def _is_unloaded(module: str) -> bool:
    """Whether there is a module of that name in a package that is loaded."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):  # what it is looked for in is no package
        return False


def _is_loaded(name: str) -> bool:
    """Whether some class in this process is called *name*."""
    pending: list[type[BaseException]] = [BaseException]
    seen: set[type] = set()
    while pending:
        kind = pending.pop()
        if kind not in seen:
            seen.add(kind)
            if is_called(kind, name):
                return True
            pending += type.__subclasses__(kind)
    return False


def _near(dotted: str) -> Iterator[str]:
    """Yield the exceptions of the module that *dotted* begins with."""
    name = _loaded_part(dotted)[0]
    module = sys.modules.get(name) if "." in dotted else None
    if isinstance(module, ModuleType):
        yield from (f"{name}.{each}" for each in _exceptions_in(vars(module).copy()))
