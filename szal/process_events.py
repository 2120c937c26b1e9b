"""Forks and the end of the process: the two things that reach into every store, sink and engine at once.

A process has one list of `atexit` and `os.register_at_fork` hooks, and the latter can never be taken back: so
there is one registry for all of it, of weak references.

A child has only the thread that forked. A lock that another thread held is held there for ever, and what that thread
was changing stays half changed. So before a fork everybody comes to rest, with every lock taken, in the reverse order
of enrolling, as what uses another member enrolls after it; the parent gives the locks back, the child makes new ones:

- `enroll_lock` is for what has a lock, and nothing else to look after;
- `enroll_renewal` is for what has no lock, but something that a child must not go on with;
- `enroll` is for what has threads, files or connections too, or something to finish before the process ends.

Enrolling takes no lock. Any thread may, while another one forks, and so may a signal handler or a finalizer.
"""

import functools
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import attrs

from szal.clock import monotonic
from szal.interruption import call_each, run_to_end
from szal.logs import LINES, Lines, SafeLogger

__all__ = ["HERE", "Member", "end_fork", "end_process", "enroll", "enroll_lock", "enroll_renewal"]

logger = SafeLogger(logging.getLogger(__name__))

T = TypeVar("T")


class Member(Protocol):
    """What takes part in forks and exits. No method may raise, or wait for what enrolled after it."""

    def before_fork(self) -> None:
        """Come to rest, let go of what a child must not inherit, and take every lock of one's own."""

    def after_fork_in_parent(self) -> None:
        """Give the locks back, and go on. Also called where an interruption kept `before_fork` from its end."""

    def after_fork_in_child(self) -> None:
        """Start anew: with new locks, and with nothing that belongs to the parent."""

    def begin_exit(self) -> None:
        """Accept nothing more, and begin to finish what is there."""

    def finish_exit(self, began: float) -> None:
        """Wait for that; *began* is when all members were asked to, on szal's monotonic clock."""


_Rest: TypeAlias = Generator[None, None, None]
"""A member's rest: it begins when the generator is started, and ends when that is closed.

So there is never a doubt whether a lock is held, wherever an interruption comes up.
"""


class _Part(Protocol):
    """How a member takes part in forks. It is told which member each time, and so keeps none alive."""

    def rest(self, member: Any) -> _Rest: ...

    def renew(self, member: Any) -> object: ...


class _Whole:
    """The part of a `Member`."""

    def rest(self, member: Member) -> _Rest:
        parent = os.getpid()
        try:
            member.before_fork()
        except BaseException:
            with suppress(RuntimeError):  # of a lock that it did not come to take
                member.after_fork_in_parent()
            raise
        try:
            yield
        finally:
            if os.getpid() == parent:
                member.after_fork_in_parent()

    def renew(self, member: Member) -> None:
        member.after_fork_in_child()


class _Locked(Generic[T]):
    """The part of what has a lock."""

    def __init__(self, make_lock: Callable[[T], threading.RLock]) -> None:
        self._make_lock = make_lock

    def rest(self, _member: T) -> _Rest:
        with self._lock:
            yield

    def renew(self, member: T) -> None:
        self._lock = self._make_lock(member)


class _Unlocked(Generic[T]):
    """The part of what has none."""

    def __init__(self, renew: Callable[[T], object]) -> None:
        self.renew = renew

    def rest(self, _member: T) -> _Rest:
        yield


class _Logged:
    """The part of the lines that are being logged."""

    def rest(self, lines: Lines) -> _Rest:
        return lines.rest()

    def renew(self, lines: Lines) -> None:
        lines.renew()


@attrs.define(eq=False)
class _Fork:
    """One fork, from before until after it."""

    waiting: list[tuple[object, _Part]]
    """Who has not come to rest yet, in the order of enrolling; the last comes first."""
    resting: list[_Rest] = attrs.field(factory=list, init=False)

    def come_to_rest(self) -> None:
        """Let everybody come to rest. May be called again where an interruption kept it from its end."""
        while self.waiting:
            member, part = self.waiting[-1]
            rest = part.rest(member)
            self.resting.append(rest)
            call_each([functools.partial(next, rest)], _log)
            self.waiting.pop()

    def go_on(self) -> None:
        """End everybody's rest, what others use first. May be called again."""
        call_each([rest.close for rest in reversed(self.resting)], _log)


class _Registry:
    """The members of this process, in the order of enrolling."""

    def __init__(self) -> None:
        # Changed and copied by atomic operations only, as a member may be collected at any allocation.
        self._parts: dict[weakref.ref[Any], _Part] = {}
        self._forks: dict[int, _Fork] = {}  # by thread, of which several may fork at once
        self._renewed_in = os.getpid()

    def install(self) -> None:
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)
            # Twice: a signal that arrived during the fork comes up on the first line of the first hook after it,
            # and the interpreter drops what its handler raises, and with it the rest of that hook.
            os.register_at_fork(after_in_parent=self._in_parent, after_in_child=self._in_child)

    def enroll(self, member: object, part: _Part) -> None:
        self._parts[weakref.ref(member, self._parts.pop)] = part

    def _members(self) -> list[tuple[Any, _Part]]:
        return [(member, part) for ref, part in self._parts.copy().items() if (member := ref()) is not None]

    def _before(self) -> None:
        fork = self._forks[threading.get_ident()] = _Fork(self._members())
        run_to_end(fork.come_to_rest)

    def _in_parent(self) -> None:
        fork = self._forks.get(threading.get_ident())
        if fork is not None:
            run_to_end(fork.go_on)
            self._forks.pop(threading.get_ident(), None)

    def _in_child(self) -> None:
        # Not only who is resting: a program that embeds Python (uWSGI) may fork without calling _before.
        if self._renewed_in != os.getpid():
            call_each([functools.partial(part.renew, member) for member, part in self._members()], _log)
            self._forks = {}
            self._renewed_in = os.getpid()

    def end(self) -> None:
        members = [member for member, part in reversed(self._members()) if isinstance(part, _Whole)]
        began = monotonic()
        begin = [member.begin_exit for member in members]
        finish = [functools.partial(member.finish_exit, began) for member in members]
        call_each([*begin, *finish], _log)


_registry = _Registry()
_registry.install()
# The first to enroll is the last to rest: nobody who is logging waits for a lock of another member then.
_registry.enroll(LINES, _Logged())


def enroll(member: Member) -> None:
    """Make *member* take part for as long as it lives. What uses another member must enroll after it."""
    _registry.enroll(member, _Whole())


def end_process() -> None:
    """Do what is done at the end of the process: as `szal` registers with `atexit`, or for one that ends otherwise."""
    _registry.end()


def end_fork(process: object, step: str, error: BaseException | None = None) -> None:
    """End this process if it is not *process*, but a fork that has come back from a step, or raised *error* there.

    It is the process itself that goes on, and does what is to be done at its end.
    """
    if HERE.process is process:
        return
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        logger.error("a fork of this process has failed in step %s, and ends", step, exc_info=error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # whatever stands there
            stream.flush()
    os._exit(status & 0xFF)


def enroll_lock(owner: T, make_lock: Callable[[T], threading.RLock]) -> None:
    """Have *make_lock* called with *owner*, now and in the child of every fork, and its lock held during forks.

    It makes the owner's lock, and what is built on that, and returns it; reentrant, as a signal handler or finalizer
    may fork while its own thread holds it. It is a plain function, or a method named by its class, as a bound method
    would keep the owner.

    >>> class Counter:
    ...     def __init__(self):
    ...         enroll_lock(self, Counter._make_lock)
    ...
    ...     def _make_lock(self):
    ...         self._lock = threading.RLock()
    ...         self._changed = threading.Condition(self._lock)
    ...         return self._lock
    """
    part = _Locked(make_lock)
    part.renew(owner)
    _registry.enroll(owner, part)


def enroll_renewal(owner: T, renew: Callable[[T], object]) -> None:
    """Have *renew* called with *owner* in the child of every fork. It is a plain function, as for `enroll_lock`."""
    _registry.enroll(owner, _Unlocked(renew))


@attrs.define(eq=False)
class _Here:
    process: object = attrs.field(factory=object)

    def renew(self) -> None:
        self.process = object()


HERE: Final = _Here()
"""Its `process` is another object in a fork, from its first moment on. To ask the system costs a third of a step."""
enroll_renewal(HERE, _Here.renew)


def _log(hook: object, error: BaseException) -> None:
    # the interpreter would drop it
    logger.error("%r failed", hook, exc_info=error)
