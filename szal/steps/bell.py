"""What wakes a thread that waits for a file."""

import fcntl
import socket
from contextlib import suppress

__all__ = ["Bell", "linked"]


def linked() -> tuple[socket.socket, socket.socket]:
    """Return two sockets, each the other's peer, as files that nobody takes for stdout where that is closed."""
    here, there = map(_beyond_stderr, socket.socketpair())
    return here, there


def _beyond_stderr(link: socket.socket) -> socket.socket:
    if link.fileno() > 2:
        return link
    with link:
        return socket.socket(fileno=fcntl.fcntl(link, fcntl.F_DUPFD_CLOEXEC, 3))


class Bell:
    """It looks like a lock that is released (`StepContext.woken`)."""

    def __init__(self) -> None:
        self._there, self._here = linked()
        for each in (self._there, self._here):
            each.setblocking(False)

    def fileno(self) -> int:
        """Return the number of the file that can be read from once it has rung."""
        return self._here.fileno()

    def locked(self) -> bool:
        """Whether it may be rung: at any time."""
        return True

    def release(self) -> None:
        """Ring. From any thread, and from a signal handler."""
        with suppress(OSError):  # it is full: that will do; or closed
            self._there.send(b"!")

    def hush(self) -> None:
        """Forget that it has rung."""
        with suppress(OSError):
            while self._here.recv(64):
                pass

    def close(self) -> None:
        """Let go of it."""
        self._there.close()
        self._here.close()
