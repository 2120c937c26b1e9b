"""Whether this is a child process that is being made like the one that started it.

It imports the main module of that for it. A script that runs flows whenever it is imported would do so there, too, and
start child processes of its own, which would do the same.
"""

from typing import Final

__all__ = ["PREPARING", "check_not_preparing"]

PREPARING: Final[list[None]] = []
"""Not empty as long as that is so."""


def check_not_preparing() -> None:
    """Raise RuntimeError where the main module runs flows as it is imported by a child process."""
    if PREPARING:
        raise RuntimeError(
            "the main module runs a flow whenever it is imported, and child processes import it: "
            "put what it runs under if __name__ == '__main__':"
        )
