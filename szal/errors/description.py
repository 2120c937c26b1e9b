"""An exception as text, as it is written into results."""

from collections.abc import Callable
from typing import Final

from szal.errors.step import OutputNotSerializable, StepError
from szal.interruption import is_interruption
from szal.raised import name_of
from szal.storable import storable

__all__ = ["MAX_TEXT", "UNPRINTABLE", "cut", "describe", "text_of"]


MAX_TEXT: Final = 16_384
"""How many characters are left of an exception's text that is cut: one of more than twice as many."""


UNPRINTABLE: Final = "<unprintable>"
"""What stands for an exception whose own text cannot be had."""


def describe(error: BaseException, mask: Callable[[str], str] | None = None) -> str:
    """Return *error* as it is written into results: a step's own errors as they are, others with their type.

    *mask* masks what must not be seen in what it says, before that is cut. Raises nothing but interruptions, whatever
    *error* is.

    >>> from szal import StepTimeout
    >>> describe(ValueError("no such file"))
    'ValueError: no such file'
    >>> describe(StepTimeout("build", 2.5))
    'step timeout: build after 2500ms'
    """
    kind = type(error)
    text = _say(error, mask)
    if text is None:
        text = UNPRINTABLE
    elif issubclass(kind, StepError) and not issubclass(kind, OutputNotSerializable):
        return text
    name = storable(name_of(kind))
    return cut(f"{name}: {text}" if text else name)


def text_of(error: BaseException, mask: Callable[[str], str] | None = None) -> str:
    """Return what *error* says of itself, masked by *mask*, and cut where that is very long.

    Raises nothing but interruptions.
    """
    text = _say(error, mask)
    return UNPRINTABLE if text is None else text


def _say(error: BaseException, mask: Callable[[str], str] | None) -> str | None:
    """Return what *error* says of itself, cut; None where it cannot: its ``__str__`` is foreign code."""
    try:
        text = "".join((str(error),))  # no class of its own, which may have methods of its own
    except BaseException as broken:
        if is_interruption(broken):
            raise
        return None
    return cut(storable(text if mask is None else mask(text)))


def cut(text: str) -> str:
    """Return the beginning and the end of a very long text, and how long it was; another one as it is.

    A text may be as long again as it is after that, so that one that was cut, and put into another, stays whole.

    >>> shown = cut("x" * 1_000_000)
    >>> len(shown) == MAX_TEXT, "[... cut: 1000000 characters in all ...]" in shown
    (True, True)
    """
    if len(text) <= 2 * MAX_TEXT:
        return text
    mark = f"[... cut: {len(text)} characters in all ...]"
    end = MAX_TEXT // 4
    return f"{text[: MAX_TEXT - end - len(mark)]}{mark}{text[-end:]}"
