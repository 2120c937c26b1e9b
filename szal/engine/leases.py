"""The heartbeat, which keeps the leases of what an engine runs."""

import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs

from szal import process_events
from szal.clock import monotonic
from szal.logs import SafeLogger
from szal.stores.ledger import Lease, Ledger, Renewal, Wish
from szal.waiters import waitable

__all__ = ["Heartbeat"]

logger = SafeLogger(logging.getLogger(__name__))


@attrs.define(eq=False)
class _HeldLease:
    on_lost: Callable[[], None]
    on_wish: Mapping[Wish, Callable[[], None]]
    on_beat: Callable[[], None]
    tell: Callable[[], str | None]
    is_recorded: bool
    heard: Wish = Wish.NOTHING


class Heartbeat:
    """Renews the leases of an engine's executions every third of their time, on a daemon thread of its own.

    The thread is started by the first lease, in the process that holds it, and does nothing else, so a busy engine
    never makes it late. It ends when nothing was held for as long as a lease lasts, when this is closed, or when
    nobody refers to this any more; the next lease starts another. Where a lease is lost, or cancelling or a pause was
    asked for, it calls back, once.
    """

    def __init__(self, ledger: Ledger, owner: str, ttl: float) -> None:
        self._ledger = ledger
        self.owner = owner
        self.ttl = ttl
        self._lock = threading.RLock()  # guards the fields below; a signal handler may interrupt who has it
        self._held: dict[Lease, _HeldLease] = {}
        self._thread: _Flag | None = None  # what ends it; None where there is none
        self._idle_beats = 0  # in a row, with nothing held
        self._last_beat: float | None = None  # when leases were renewed last, of the monotonic clock
        self.renewals = 0
        """How often a lease has been renewed. The thread alone changes it, and the next."""
        self.failures = 0
        """How often none could be."""
        process_events.enroll(self)

    def hold(
        self,
        execution_id: str,
        epoch: int,
        on_lost: Callable[[], None],
        on_cancel: Callable[[], None],
        on_beat: Callable[[], None],
        *,
        on_pause: Callable[[], None] = lambda: None,
        tell: Callable[[], str | None] = lambda: None,
        is_recorded: bool = True,
    ) -> None:
        """Keep the lease of *execution_id* until `drop`; *on_beat* is called with each renewal.

        What *tell* returns, before that, is written with the lease: which steps have begun; None: what was, stays.
        Where it is not recorded yet, there is nothing to renew before `recorded` says that it is.
        Raises RuntimeError where no thread can be started: then it is not held.
        """
        with self._lock:
            if self._thread is None:
                self._start()
            self._idle_beats = 0
            if not self._held:
                self._last_beat = monotonic()
            self._held[Lease(execution_id, epoch)] = _HeldLease(
                on_lost, {Wish.CANCEL: on_cancel, Wish.PAUSE: on_pause}, on_beat, tell, is_recorded
            )

    def recorded(self, execution_id: str, epoch: int) -> None:
        """Take note that a lease is in the store, if it is still held. From any thread."""
        lease = self._held.get(Lease(execution_id, epoch))
        if lease is not None:
            lease.is_recorded = True

    def start(self) -> None:
        """Have the thread started, if it is not there: before anything is recorded that `hold` is called for.

        Raises RuntimeError where there is none to be had.
        """
        with self._lock:
            if self._thread is None:
                self._start()
            self._idle_beats = 0

    def drop(self, execution_id: str, epoch: int) -> None:
        """Renew that lease no more. One of a later epoch is another lease."""
        with self._lock:
            self._held.pop(Lease(execution_id, epoch), None)

    def holds(self, execution_id: str) -> bool:
        """Whether a lease of that execution is kept here: somebody runs it."""
        return any(lease.execution_id == execution_id for lease in self._held.copy())

    @property
    def last_beat(self) -> float | None:
        """How many seconds ago leases were renewed last, or the first was taken; None where nothing is held."""
        with self._lock:
            since = self._last_beat if self._held else None
        return None if since is None else monotonic() - since

    def close(self) -> None:
        """End the thread; waits for nothing."""
        with self._lock:
            if self._thread is not None:
                self._thread.set()
                self._thread = None

    # -- the thread -----------------------------------------------------------------------------------

    def _start(self) -> None:
        stop = _Flag()
        heartbeat = weakref.ref(self, lambda _: stop.set())
        arguments = (heartbeat, stop, self.ttl / 3)
        threading.Thread(target=_beat, args=arguments, name="szal-heartbeat", daemon=True).start()
        self._thread = stop

    def beat(self, thread: "_Flag") -> bool:
        """Renew all that is held; return whether *thread*, which calls this, is still needed."""
        with self._lock:
            if self._thread is not thread:
                return False
            self._idle_beats = 0 if self._held else self._idle_beats + 1
            if self._idle_beats == _IDLE_BEATS:
                self._thread = None
                return False
            held = {lease: each for lease, each in self._held.items() if each.is_recorded}
        if held:
            self._renew(held)
        return True

    def _renew(self, held: dict[Lease, _HeldLease]) -> None:
        epochs = dict(held.keys())  # of two leases of one execution the older one is lost
        told = {lease.execution_id: text for lease, each in held.items() if (text := _said(lease, each)) is not None}
        try:
            kept = self._ledger.renew(Renewal(owner=self.owner, epochs=epochs, ttl=self.ttl, under_way=told))
        except BaseException:  # the store is away; a fence keeps others' work safe meanwhile
            logger.exception("cannot renew the leases of %d executions", len(epochs))
            self.failures += 1
            return
        self._last_beat = monotonic()
        self.renewals += len(kept)
        for key, lease in held.items():
            name, epoch = key
            self._tell(key, lease, kept.get(name) if epoch == epochs[name] else None)

    def _tell(self, key: Lease, lease: _HeldLease, wish: Wish | None) -> None:
        with self._lock:
            if self._held.get(key) is not lease:  # dropped since the renewal began
                return
            if wish is None:
                del self._held[key]
        if wish is None:
            _call(key, lease.on_lost)
            return
        _call(key, lease.on_beat)
        if wish and wish is not lease.heard:
            lease.heard = wish
            _call(key, lease.on_wish[wish])

    # -- forks and exits ------------------------------------------------------------------------------

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._held = {}
        self._thread = None
        self._last_beat = None

    def begin_exit(self) -> None:
        pass

    def finish_exit(self, began: float) -> None:
        pass


_IDLE_BEATS = 3  # as many as there are in the time that a lease lasts


class _Flag:
    """A flag to wait for. Unlike that of an Event, its `set` may interrupt `wait`: a destructor may call it."""

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        with suppress(RuntimeError):  # it has been set before
            self._unset.release()

    def wait(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds; return whether it is set, to the only one who waits."""
        return self._unset.acquire(timeout=waitable(timeout))


def _beat(heartbeat: "weakref.ref[Heartbeat]", stop: _Flag, interval: float) -> None:
    """Do the work of a heartbeat's thread, which refers to it only while it is at work."""
    while not stop.wait(interval):
        owner = heartbeat()
        if owner is None or not owner.beat(stop):
            return
        del owner


def _said(lease: Lease, held: _HeldLease) -> str | None:
    try:
        return held.tell()
    except BaseException:  # the leases must be kept
        logger.exception("nobody is told which steps of execution %s run", lease.execution_id)
        return None


def _call(lease: Lease, callback: Callable[[], None]) -> None:
    try:
        callback()
    except BaseException:  # the other leases must be kept
        logger.exception("execution %s cannot be told of its lease", lease[0])
