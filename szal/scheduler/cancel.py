"""Asking work to stop: a token that is passed down, read often and cancelled once."""

import functools
import logging
import weakref
from collections.abc import Callable

import attrs

from szal.interruption import call_each, run_to_end
from szal.logs import SafeLogger
from szal.waiters import Waiters, wait_unless, wake_all

__all__ = ["CancellationToken", "check_token"]

logger = SafeLogger(logging.getLogger(__name__))


@attrs.define(eq=False, repr=False)
class CancellationToken:
    """A request to stop, shared by whoever may make it and whoever must notice it.

    Every method may be called from any thread, and from a signal handler: nothing here takes a lock, so a
    handler that interrupts a method of the same token cannot deadlock with it. Instead each step is one atomic
    operation on a set or dict, in one order everywhere: `cancel` sets the flag and then takes what is
    registered, the others register and then look at the flag. Whichever comes second sees the first.

    >>> token = CancellationToken()
    >>> step = token.child()
    >>> token.cancel()
    >>> token.cancelled, step.cancelled
    (True, True)
    >>> step.wait(timeout=10)
    True
    """

    # A child keeps its parent, or cancelling would not pass through a token in the middle that nobody holds.
    # The parent holds its children weakly: a run may make one per step and drop them all.
    _parent: "CancellationToken | None" = attrs.field(default=None, init=False)
    _cancelled: bool = attrs.field(default=False, init=False)
    _children: "set[weakref.ref[CancellationToken]]" = attrs.field(factory=set, init=False)
    _callbacks: dict[object, Callable[[], object]] = attrs.field(factory=dict, init=False)
    _waiters: Waiters = attrs.field(factory=set, init=False)

    @property
    def cancelled(self) -> bool:
        """Whether this token, or one it descends from, was cancelled. Never becomes false again."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel this token and all its descendants. Doing so again changes nothing.

        First every descendant reads as cancelled, then waiting threads wake, then callbacks run, here. Another
        thread that cancels at the same time may return while the callbacks are still running in this one.
        What callbacks raise is logged. An interruption (what a signal handler raises, KeyboardInterrupt) goes on
        when everybody has been told, whether it came up in a callback or in between.
        """
        run_to_end(self._tell_all)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until cancelled, for at most *timeout* seconds; return whether it is cancelled.

        >>> CancellationToken().wait(timeout=0)
        False
        """
        if not self._cancelled:
            wait_unless(self._waiters, lambda: self._cancelled, timeout)
        return self._cancelled

    def child(self) -> "CancellationToken":
        """Return a new token that is cancelled with this one, or alone.

        Hold on to it: a child that nobody holds is garbage collected, and its callbacks with it.

        >>> run = CancellationToken()
        >>> step = run.child()
        >>> step.cancel()
        >>> run.cancelled
        False
        """
        child = CancellationToken()
        child._parent = self
        self._children.add(weakref.ref(child, self._children.discard))
        if self._cancelled:
            child.cancel()
        return child

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have *callback* called once, on the thread that cancels; return a function that takes this back.

        It is called at once, here, if the token is already cancelled. What it raises is logged, but for an
        interruption. Once taken back it is not called any more, but a call that has begun on another thread may
        still be running.

        >>> token = CancellationToken()
        >>> unsubscribe = token.subscribe(lambda: print("stopping"))
        >>> token.cancel()
        stopping
        >>> unsubscribe()
        """
        key = object()
        self._callbacks[key] = callback
        if self._cancelled:
            call_each([functools.partial(self._call, key, callback)], _log)

        def unsubscribe() -> None:
            self._callbacks.pop(key, None)

        return unsubscribe

    def __repr__(self) -> str:
        return f"<CancellationToken {'cancelled' if self._cancelled else 'active'}>"

    def _tell_all(self) -> None:
        family = [self]
        for token in family:  # which grows on the way: not recursive, as a chain may be long
            token._cancelled = True
            # copy() is atomic; iterating is not, as a child may be collected at any allocation
            family.extend(child for ref in token._children.copy() if (child := ref()) is not None)
        for token in family:
            wake_all(token._waiters)
        calls = [
            functools.partial(token._call, key, callback)
            for token in family
            for key, callback in token._callbacks.copy().items()
        ]
        call_each(calls, _log)

    def _call(self, key: object, callback: Callable[[], object]) -> None:
        try:
            # Whoever takes it calls it: once, and no lock is needed. Not with pop(): signals are looked for after
            # each call, and what a handler raised between taking it and calling it would keep it from being called.
            del self._callbacks[key]
        except KeyError:
            return
        callback()


def _log(call: "functools.partial[None]", error: BaseException) -> None:
    logger.error("cancellation callback %r raised", call.args[1], exc_info=error)


def check_token(cancel: object) -> None:
    """Raise TypeError for what an engine is given as `cancel` and is no token.

    >>> check_token(None)
    """
    if cancel is not None and not isinstance(cancel, CancellationToken):
        raise TypeError(f"cancel must be a CancellationToken, not {type(cancel).__name__}")
