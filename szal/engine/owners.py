"""Who an owner of executions is, and whether it is known to have ended.

An owner has a name that its rows bear: host, boot, namespaces, pid, start, and a random part, between slashes. What
this system does not tell is empty there, and then nothing can be proven: the lease decides alone.
"""

import logging
import os
import time
import uuid
from pathlib import Path
from typing import Final

import attrs

from szal.clock import monotonic
from szal.logs import SafeLogger
from szal.process_table import sees_this_process, start_of
from szal.steps.supervisor import is_ending_for

__all__ = ["has_left", "is_alive", "is_gone", "owner_name", "process_of"]

logger = SafeLogger(logging.getLogger(__name__))

_MOST_TO_END: Final = 60.0
"""Seconds after which commands that do not end are no longer waited for: then the lease decides."""
_PAUSE: Final = 0.05

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
    start = start_of("self") if sees_this_process() else None
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
    if not start or not sees_this_process():
        return False
    found = start_of(pid)
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


def has_left(owner: str) -> bool:
    """Return whether the process of *owner* has ended, by proof, once its commands have ended, too.

    What runs them again must not begin beside them.
    """
    if not is_gone(owner):
        return False
    pid, start = owner.split("/")[3:5]
    until = monotonic() + _MOST_TO_END
    is_told = False
    while is_ending_for(pid, start):
        if not is_told:
            logger.warning("waiting for the commands to end that process %s has left, which has died", pid)
            is_told = True
        if monotonic() > until:
            return False
        time.sleep(_PAUSE)
    return True


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
