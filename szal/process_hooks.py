"""Forks and the end of the process: the two things that reach into every store and sink at once.

A process has one list of `atexit` and `os.register_at_fork` hooks, and the latter can never be taken back: so
there is one registry for all of it, of weak references, filled when the first member enrolls.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

__all__ = ["Member", "enroll"]

logger = logging.getLogger(__name__)


class Member(Protocol):
    """What takes part in forks and exits. No method may raise, or wait for another member."""

    def before_fork(self) -> None:
        """Come to rest, let go of what a child must not inherit, and take every lock of one's own."""

    def after_fork_in_parent(self) -> None:
        """Give the locks back, and go on."""

    def after_fork_in_child(self) -> None:
        """Start anew: with new locks, and with nothing that belongs to the parent."""

    def begin_exit(self) -> None:
        """Accept nothing more, and begin to finish what is there."""

    def finish_exit(self, began: float) -> None:
        """Wait for that; *began* is the `time.monotonic` of when all members were asked to."""


class _Registry:
    """The members of this process, in the order of enrolling."""

    def __init__(self) -> None:
        self._members: WeakKeyDictionary[Member, None] = WeakKeyDictionary()
        self._resting: list[Member] = []  # between before and after: owned by the thread that forks
        self._lock = threading.RLock()  # guards both, and lets one thread fork at a time
        self._hooked = False

    def enroll(self, member: Member) -> None:
        with self._lock:
            if not self._hooked:
                self._hooked = True
                atexit.register(self._exit)
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(
                        before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child
                    )
            self._members[member] = None

    def _before(self) -> None:
        self._lock.acquire()
        self._resting = list(reversed(list(self._members)))  # a sink comes to rest before its store
        for member in self._resting:
            _call(member.before_fork)

    def _in_parent(self) -> None:
        for member in reversed(self._resting):
            _call(member.after_fork_in_parent)
        self._resting = []
        self._lock.release()

    def _in_child(self) -> None:
        # Not only the resting ones: a program that embeds Python (uWSGI) may fork without calling _before.
        for member in list(self._members):
            _call(member.after_fork_in_child)
        self._resting = []
        self._lock = threading.RLock()

    def _exit(self) -> None:
        members = list(reversed(list(self._members)))
        began = time.monotonic()
        for member in members:
            _call(member.begin_exit)
        for member in members:
            _call(member.finish_exit, began)


_registry = _Registry()


def enroll(member: Member) -> None:
    """Make *member* take part for as long as it lives. What uses another member must enroll after it."""
    _registry.enroll(member)


def _call(hook: Callable[..., None], *arguments: float) -> None:
    """Call *hook*; the interpreter would drop its exception, and the other members must have their turn."""
    try:
        hook(*arguments)
    except Exception:
        logger.exception("%r failed", hook)
