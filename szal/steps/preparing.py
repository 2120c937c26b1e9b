"""The program's main module, and whether this is a child process that is importing it.

It is made like the one that started it, and imports the main module of that for it. A script that runs flows whenever
it is imported would do so there, too, and start child processes of its own, which would do the same.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["MAIN", "check_not_preparing", "main_is_found", "preparing"]

MAIN: Final = "__main__"
"""The name of a program's main module."""

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


def main_is_found() -> bool:
    """Whether a child process can import this one's main module: a notebook, a REPL, a program on stdin has no file."""
    main = sys.modules[MAIN]
    file = getattr(main, "__file__", None)
    return getattr(main.__spec__, "name", None) is not None or (file is not None and Path(file).is_file())
