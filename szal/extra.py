"""Libraries that szal can do without, each brought by one of its extras."""

from collections.abc import Iterator
from contextlib import contextmanager

from szal.errors import MissingExtra

__all__ = ["optional"]


@contextmanager
def optional(*libraries: str, extra: str, feature: str) -> Iterator[None]:
    """Have imports of *libraries* within say which *extra* brings what *feature* needs.

    Raises `MissingExtra` where one of them is not installed. What else is missing, in such a library say, is told as it
    is.

    >>> with optional("no_such_library", extra="web", feature="a dashboard"):
    ...     import no_such_library
    Traceback (most recent call last):
    szal.errors.MissingExtra: a dashboard needs an optional part of szal: pip install "szal[web]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in libraries:
            raise
        raise MissingExtra(feature, extra) from None
