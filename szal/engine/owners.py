"""Who an owner of executions is, and whether it is known to have ended. All that szal asks the system of processes.

An owner has a name that its rows bear: host, boot, namespaces, pid, start, and a random part, between slashes. What
this system does not tell is empty there, and then nothing can be proven: the lease decides alone.
"""

import os
import uuid
from pathlib import Path
from typing import Final

import attrs

__all__ = ["is_alive", "is_gone", "owner_name", "process_of"]

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACES: Final = ("pid", "time")
"""In another of the first a number is another process; in another of the second a start has another time."""


@attrs.frozen
class _Place:
    """Where numbers of processes mean the same: one boot of one machine, and one pid namespace of it."""

    host: str
    boot: str
    namespaces: str

    @property
    def is_known(self) -> bool:
        """Whether the system tells it; a container has the host name that it was given, and the boot of its host."""
        return bool(self.boot and self.namespaces)


def owner_name() -> str:
    """Return a name for an owner in this process, another at each call."""
    place = _place()
    start = _start_of("self") if _sees_this_process() else None
    return "/".join((place.host, place.boot, place.namespaces, str(os.getpid()), start or "", uuid.uuid4().hex))


def is_gone(owner: str) -> bool:
    """Whether the process of *owner* has ended, by proof; false where that cannot be told from here.

    Proof is that its pid namespace, of this boot of this machine, has no process of its number, or another one that
    began at another time. A process that this one may not look at is there all the same.
    """
    host, boot, namespaces, pid, start, *_ = owner.split("/") + [""] * 6
    place = _place()
    if not place.is_known or _Place(host, boot, namespaces) != place or not pid.isdecimal():
        return False
    number = int(pid)
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's, or cannot be asked for
        pass
    if not start or not _sees_this_process():
        return False
    found = _start_of(pid)
    return found is not None and found != start


def is_alive(owner: str) -> bool:
    """Whether the process of *owner* is known to run: it is one of this system, and has not ended."""
    host, boot, namespaces, pid, *_ = owner.split("/") + [""] * 6
    place = _place()
    is_here = place.is_known and _Place(host, boot, namespaces) == place and pid.isdecimal()
    return is_here and not is_gone(owner)


def process_of(owner: str) -> str:
    """Return which process *owner* is, for people.

    >>> process_of("web-1/boot/pid:[1]/4711/99/5f"), process_of("somebody")
    ('process 4711 on web-1', 'somebody')
    """
    host, _, _, pid, *_ = owner.split("/") + [""] * 6
    return f"process {pid} on {host}" if host and pid.isdecimal() else owner


def _place() -> _Place:
    return _Place(_host().replace("/", "-"), _boot(), _own_namespaces())


def _host() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket  # which takes time to load

    return socket.gethostname()


def _boot() -> str:
    try:
        return _BOOT.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _own_namespaces() -> str:
    """Return the namespaces of this process ("pid:[4026531836]+time:[4026531834]"); empty where they are not told."""
    found = []
    for kind in _NAMESPACES:
        try:
            found.append(str(Path(f"/proc/self/ns/{kind}").readlink()))
        except (OSError, NotImplementedError):  # older kernels have none for the time
            if kind == "pid":
                return ""
    return "+".join(found)


def _sees_this_process() -> bool:
    """Whether /proc is of this pid namespace: it may have been mounted in another, and tell of other processes."""
    try:
        return str(Path("/proc/self").readlink()) == str(os.getpid())
    except (OSError, NotImplementedError):
        return False


def _start_of(pid: str) -> str | None:
    """Return when a process started, in ticks; "ended" of one that is only there to be reaped; None: it is not told."""
    try:
        stat = Path("/proc", pid, "stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    is_over = fields[0] in "ZX" and int(fields[17]) <= 1  # its first thread may have ended before others
    return "ended" if is_over else fields[19]
