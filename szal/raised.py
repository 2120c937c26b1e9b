"""What an exception is, whatever its class makes of it.

An exception of a program's is foreign code: it may answer for its own class, attributes and comparisons, and any of
that may raise or lie. What the engine has to know it reads past all that, from the interpreter itself.
"""

from copy import copy
from types import TracebackType
from typing import Any, Final

__all__ = [
    "attributes_of",
    "bare_copy",
    "cause_of",
    "context_of",
    "in_short",
    "is_a",
    "name_of",
    "raise_beside",
    "set_cause",
    "take_after",
    "trace_of",
    "without_trace_of",
]

_PLAIN: Final = vars(BaseException)
_NAME: Final = vars(type)["__name__"]


def is_a(error: object, *kinds: type) -> bool:
    """Whether *error* was made of a class derived from one of *kinds*, none of which has a metaclass.

    >>> class Liar(Exception):
    ...     __class__ = KeyboardInterrupt
    >>> isinstance(Liar(), KeyboardInterrupt), is_a(Liar(), KeyboardInterrupt), is_a(Liar(), ValueError, Exception)
    (True, False, True)
    """
    return issubclass(type(error), kinds)


def raise_beside(first: BaseException | None, then: Exception) -> None:
    """Raise *then*, which came up as a block was left; where *first* leaves it, that has it as a note, and goes on.

    >>> first = KeyError("order")
    >>> raise_beside(first, OSError("disk full"))
    >>> first.__notes__
    ['OSError, as the block was left: disk full']
    """
    if first is None:
        raise then
    BaseException.add_note(first, f"{name_of(type(then))}, as the block was left: {then}")


def name_of(kind: type) -> str:
    """Return the name that a class was made with."""
    name: str = _NAME.__get__(kind)
    return name


def in_short(error: BaseException) -> str:
    """Return the name of its class, and what plain text it was made with.

    >>> in_short(OSError("no such file")), in_short(ValueError())
    ('OSError: no such file', 'ValueError')
    """
    said = (part for part in _PLAIN["args"].__get__(error) if type(part) is str)
    return ": ".join((name_of(type(error)), *said))


def trace_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of *error*."""
    trace: TracebackType | None = _PLAIN["__traceback__"].__get__(error)
    return trace


def without_trace_of(error: BaseException, frames: int) -> BaseException:
    """Return *error* itself, with a traceback that has so many fewer frames at its beginning."""
    trace = trace_of(error)
    for _ in range(frames):
        trace = None if trace is None else trace.tb_next
    _PLAIN["__traceback__"].__set__(error, trace)
    return error


def cause_of(error: BaseException) -> BaseException | None:
    """Return what *error* was raised from."""
    cause: BaseException | None = _PLAIN["__cause__"].__get__(error)
    return cause


def context_of(error: BaseException) -> BaseException | None:
    """Return in the handling of what *error* was raised."""
    context: BaseException | None = _PLAIN["__context__"].__get__(error)
    return context


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Have *error* raised from *cause*."""
    _PLAIN["__cause__"].__set__(error, cause)


def bare_copy(error: BaseException) -> BaseException:
    """Return a copy of *error*, without its cause, context and traceback. Raises whatever its class makes of that.

    Its attributes are its own: they are not where `tblib` copies it, as it does once dask is imported.
    """
    copied = copy(error)
    if copied is error:
        raise TypeError(f"{in_short(error)} is its own copy")
    _PLAIN["__dict__"].__set__(copied, {**attributes_of(copied)})
    for name in ("__cause__", "__context__", "__traceback__"):
        _PLAIN[name].__set__(copied, None)
    _PLAIN["__suppress_context__"].__set__(copied, False)
    return copied


def take_after(copied: BaseException, error: BaseException) -> None:
    """Give *copied* all that *error* has: attributes, cause, context, traceback."""
    attributes_of(copied).update(attributes_of(error))
    for name in ("__cause__", "__context__", "__traceback__", "__suppress_context__"):  # the last is set by the first
        _PLAIN[name].__set__(copied, _PLAIN[name].__get__(error))


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return the attributes that *error* itself has: the very dict."""
    attributes: dict[str, Any] = _PLAIN["__dict__"].__get__(error)
    return attributes
