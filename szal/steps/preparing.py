"""Whether this is a child process that is being made like the one that started it.

It imports the main module of that for it. A script that runs flows whenever it is imported would do so there, too, and
start child processes of its own, which would do the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["check_not_preparing", "preparing"]

_PREPARING: Final[list[None]] = []
"""Not empty as long as that is so."""


@contextmanager
def preparing() -> Iterator[None]:
    """Enter what imports the program's modules, to make this a child process of it."""
    _PREPARING.append(None)
    try:
        yield
    finally:
        _PREPARING.pop()


def check_not_preparing() -> None:
    """Raise RuntimeError where the main module runs flows as it is imported by a child process."""
    if _PREPARING:
        raise RuntimeError(
            "the main module runs a flow whenever it is imported, and child processes import it: "
            "put what it runs under if __name__ == '__main__':"
        )
