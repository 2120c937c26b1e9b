"""Hearing of submissions to a file: whoever waits looks often, which costs next to nothing."""

from typing import Final

from szal.stores.listening import Listener
from szal.waiters import Flag

__all__ = ["SqliteListener"]

_LOOK_EVERY: Final = 0.02
"""Seconds. To look whether anything is due takes some 50 µs."""


class SqliteListener(Listener):
    """Says that something may have been queued, again and again: no file tells whoever has it open."""

    def __init__(self) -> None:
        self._is_closed = Flag()

    def wait(self, timeout: float) -> None:
        self._is_closed.wait(min(timeout, _LOOK_EVERY))

    def close(self) -> None:
        self._is_closed.set()
