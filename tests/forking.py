"""Forks of the test's own process, whatever its threads are doing, and what happens in the child."""

import os
import signal
import traceback
import warnings
from collections.abc import Callable

from pairs import FULL

FORKS = 40 if FULL else 12
"""How often a test forks while its threads race with that. Each time the memory of all tests is copied."""


def in_child(function: Callable[[], object], *, within: int = 40) -> None:
    """Fork, call *function* in the child, and wait; it fails if that raises, or takes longer than some seconds."""
    status, said = _status_of(function, within)
    assert not os.WIFSIGNALED(status), f"the child hangs: ended by signal {os.WTERMSIG(status)}"
    assert os.WEXITSTATUS(status) == 0, said


def killed_child(function: Callable[[], object], *, within: int = 40) -> None:
    """As `in_child`, of a child that kills itself: by SIGKILL."""
    status, said = _status_of(function, within)
    assert os.WIFSIGNALED(status), said
    assert os.WTERMSIG(status) == signal.SIGKILL


def _status_of(function: Callable[[], object], within: int) -> tuple[int, str]:
    """Return how a child that calls *function* has ended, and what that raised."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, where there are threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(within)
            function()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = file.read()
    return os.waitpid(child, 0)[1], said
