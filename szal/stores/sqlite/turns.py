"""Whose turn it is to hold the one write lock of a file for long: that of one handler of this process at a time.

SQLite has whoever needs the lock look for it again and again, ever more rarely: who has just given it up would have it
again before anybody else looks. So the next handler pauses first, for longer the longer the last one had it, and what
this process writes meanwhile waits here, and not there.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from szal.clock import monotonic
from szal.process_events import enroll_renewal
from szal.stores.database import Keeper
from szal.stores.slots import Slots
from szal.waiters import Flag

__all__ = ["Turns"]

_SHARE = 0.1
_LONGEST_PAUSE = 0.25
"""Seconds: more than SQLite ever sleeps between two looks for a lock."""


class _Turn(Flag):
    """Set once it is over."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self.opener = keeper.opener
        self.limit = keeper.limit


class Turns:
    """The turns of the handlers of this process."""

    def __init__(self) -> None:
        self._slots = Slots(1)
        self._turn: _Turn | None = None
        self._pause_ends = 0.0
        enroll_renewal(self, Turns._renew)

    def _renew(self) -> None:
        self._turn = None

    @contextmanager
    def queue(self, keeper: Keeper) -> Iterator[bool]:
        """Wait until it is the turn of *keeper*, and it may look for the lock; whether it is still wanted then."""
        may = self._slots.take(lambda: keeper.is_wanted)
        try:
            if may:
                time.sleep(max(0.0, self._pause_ends - monotonic()))
            yield may
        finally:
            if may:
                self._slots.give_back()

    @contextmanager
    def turn(self, keeper: Keeper) -> Iterator[None]:
        """Have others of this process wait meanwhile: *keeper* has the lock."""
        turn, began = _Turn(keeper), monotonic()
        self._turn = turn
        try:
            yield
        finally:
            now = monotonic()
            self._pause_ends = now + min(_SHARE * (now - began), _LONGEST_PAUSE)
            self._turn = None
            turn.set()

    def give_way(self, seconds: float | None) -> bool:
        """Wait until a turn that has begun is over, for so many seconds at most; None: as long as it may last.

        False, at once, where it is the caller's own, which does not end as long as this waits.
        """
        turn = self._turn
        if turn is None:
            return True
        if turn.opener == threading.get_ident():
            return False
        turn.wait(turn.limit if seconds is None else seconds)
        return True
