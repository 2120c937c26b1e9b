"""What the system tells of other processes, in /proc: nothing, where that is not there or is of another namespace."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["group_has_ended", "is_there", "sees_this_process", "start_of"]


def sees_this_process() -> bool:
    """Whether /proc is of this pid namespace: it may have been mounted in another, and tell of other processes."""
    try:
        return str(Path("/proc/self").readlink()) == str(os.getpid())
    except (OSError, NotImplementedError):
        return False


def start_of(pid: str) -> str | None:
    """Return when a process started, in ticks; "ended" of one that is only there to be reaped; None: it is not told."""
    try:
        stat = Path("/proc", pid, "stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    is_over = fields[0] in "ZX" and int(fields[17]) <= 1  # its first thread may have ended before others
    return "ended" if is_over else fields[19]


def group_has_ended(group: int) -> bool:
    """Whether *group* is known to have nothing but processes that wait to be reaped.

    The init of many a container takes its time for that.
    """
    found = False
    for stat in _read_all("stat"):
        state, _, its_group = stat.rpartition(b") ")[2].split(maxsplit=3)[:3]
        if int(its_group) == group:
            found = True
            if state not in (b"Z", b"X"):
                return False
    return found


def is_there(*words: str) -> bool:
    """Whether there is a process whose command line has these words, in a row, among its arguments."""
    wanted = b"".join(b"\0" + word.encode() for word in words) + b"\0"
    return any(wanted in line for line in _read_all("cmdline"))


def _read_all(name: str) -> Iterator[bytes]:
    for file in Path("/proc").glob(f"[0-9]*/{name}"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            yield file.read_bytes()
