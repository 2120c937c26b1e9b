"""How a child process is started: here, as a fresh interpreter; and what is known of one that was started somehow."""

import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import szal
from szal.scheduler.context import StepContext
from szal.steps.exit_status import ExitStatus
from szal.steps.preparing import main_is_found

__all__ = ["Afresh", "Start", "Started", "interpreter", "preparation"]

_PROGRAM: Final = (
    "import sys; sys.path[:] = [*filter(None, sys.path), {folder!r}]; from {module} import main; main({number})"
)


class Started(Protocol):
    """A process that was started. Its group has the number `pid`, which is its own until it is reaped."""

    pid: int
    has_environment: bool
    """Whether it was started with the environment that it is to have."""

    @property
    def code(self) -> int | None:
        """How it has ended, once it has: negative where a signal killed it; None where nobody can tell."""

    def has_ended(self) -> bool:
        """Whether it has. Never waits."""

    def reap(self) -> None:
        """Have it forgotten, as it has ended."""

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""


class Start(Protocol):
    """A way to start child processes. From any thread."""

    def start(self, link: socket.socket, environment: Mapping[str, str], ctx: StepContext) -> Started:
        """Start one that has *link* to talk by, for the attempt of *ctx*, which is asked whether to go on waiting.

        Raises OSError where the system has no process left.
        """

    def let_go(self) -> Callable[[], object]:
        """Let go of what it needs for that, and return what ends that: no process is left which it has started."""

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""


def interpreter(
    module: str, link: socket.socket, environment: Mapping[str, str], options: list[str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a Python, in a session of its own, which calls the `main` of *module* with the number of *link*."""
    folder = str(Path(szal.__file__).parents[1])
    program = _PROGRAM.format(folder=folder, module=module, number=link.fileno())
    return subprocess.Popen(
        [*(options or _options()), "-c", program],
        env=environment,
        stdin=subprocess.DEVNULL,
        pass_fds=[link.fileno()],
        start_new_session=True,
    )


def preparation() -> dict[str, Any]:
    """Return what a child process has to know to become like this one: as `multiprocessing` has it done."""
    from multiprocessing import spawn  # which takes time to load

    found = spawn.get_preparation_data("szal-child")
    if not main_is_found():
        found.pop("init_main_from_path", None)  # "<stdin>"
    return {**found, "authkey": bytes(found["authkey"])}


def _options() -> list[str]:
    """Return the interpreter, and the options that it was started with."""
    from multiprocessing import spawn

    return [os.fsdecode(each) for each in spawn.get_command_line()[:-3]]


class _Fresh:
    """A fresh interpreter."""

    has_environment = True

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._status = ExitStatus(process)
        self.pid = process.pid
        self.has_ended = self._status.has_ended
        self.reap = self._status.reap

    @property
    def code(self) -> int | None:
        return self._status.code

    def forget(self) -> None:
        self._process.returncode = 0


class Afresh:
    """Starts each as a fresh interpreter, which imports szal and the program's modules."""

    def start(self, link: socket.socket, environment: Mapping[str, str], ctx: StepContext) -> Started:  # noqa: ARG002
        """Start one; see `Start`."""
        return _Fresh(interpreter("szal.steps.child", link, environment))

    def let_go(self) -> Callable[[], object]:
        """Nothing to do."""
        return lambda: None

    def forget(self) -> None:
        """Nothing to do."""
