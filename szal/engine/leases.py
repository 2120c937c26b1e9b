"""Who runs an execution: an owner's name, and the heartbeat that keeps its leases."""

import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import attrs

__all__ = ["Heartbeat", "is_gone", "owner_name"]

logger = logging.getLogger(__name__)


class Renewing(Protocol):
    """What a heartbeat needs of a store."""

    def renew(self, owner: str, epochs: Mapping[str, int], ttl: float) -> dict[str, bool]: ...


def owner_name() -> str:
    """Return a name for this process and caller: ``host/boot/pid/start/random``."""
    return "/".join((*_machine(), str(os.getpid()), _start_of(os.getpid()) or "", uuid.uuid4().hex))


def is_gone(owner: str) -> bool:
    """Whether the process of *owner* is known to have ended. Of another machine's nothing is known."""
    host, boot, pid, start, *_ = owner.split("/") + [""] * 5
    if (host, boot) != _machine() or not pid.isdigit():
        return False
    return _start_of(int(pid)) != (start or None)


def _machine() -> tuple[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = ""
    return os.uname().nodename.replace("/", "-"), boot


def _start_of(pid: int) -> str | None:
    """Return when a process started, in ticks, as pids are used again; None where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]  # a zombie does nothing any more


@attrs.define(eq=False)
class _HeldLease:
    epoch: int
    on_lost: Callable[[], None]
    on_cancel: Callable[[], None]
    on_beat: Callable[[], None]
    cancelled: bool = False


class Heartbeat:
    """Renews the leases of an engine's executions every third of their time, on a daemon thread of its own.

    The thread is started with the first lease, in the process that holds it, and does nothing else, so a busy
    engine never makes it late. Where a lease is lost, or cancelling was asked for, it calls back, once.
    """

    def __init__(self, store: Renewing, owner: str, ttl: float) -> None:
        self._store = store
        self._owner = owner
        self._ttl = ttl
        self._lock = threading.Lock()  # guards the fields below
        self._held: dict[str, _HeldLease] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def hold(
        self,
        execution_id: str,
        epoch: int,
        on_lost: Callable[[], None],
        on_cancel: Callable[[], None],
        on_beat: Callable[[], None],
    ) -> None:
        """Keep the lease of *execution_id* until `drop`; *on_beat* is called with each renewal."""
        with self._lock:
            self._held[execution_id] = _HeldLease(epoch, on_lost, on_cancel, on_beat)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="szal-heartbeat", daemon=True)
                self._thread.start()

    def drop(self, execution_id: str) -> None:
        """Renew the lease of *execution_id* no more."""
        with self._lock:
            self._held.pop(execution_id, None)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _beat(self) -> None:
        while not self._closed.wait(self._ttl / 3):
            with self._lock:
                held = dict(self._held)
            if not held:
                continue
            try:
                kept = self._store.renew(self._owner, {name: lease.epoch for name, lease in held.items()}, self._ttl)
            except Exception:  # the store is away; a fence keeps others' work safe meanwhile
                logger.exception("cannot renew the leases of %d executions", len(held))
                continue
            for name, lease in held.items():
                self._tell(name, lease, kept.get(name))

    def _tell(self, name: str, lease: _HeldLease, cancelled: bool | None) -> None:
        if cancelled is None:
            self.drop(name)
            lease.on_lost()
            return
        lease.on_beat()
        if cancelled and not lease.cancelled:
            lease.cancelled = True
            lease.on_cancel()
