"""Python processes that begin with everything imported: forked from one that is kept for this, the zygote.

An import of szal and the drivers takes half a second, and the tests begin four hundred processes. Each is as real as
one that `subprocess` starts: it ends as Python ends, or by the signal that kills it. Its parent is a keeper, which
waits for it and tells how it ended. What Python reads before it imports anything, an option or a PYTHON... variable,
is the zygote's.

This file is also the script of the zygote: it reads requests from the socket of that number, until that is closed.
"""

import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REQUEST = 1 << 20  # bytes at most

COMMAND_LINE = """
import os, sys
sys.path.insert(0, os.getcwd())
from szal.cli import main
sys.exit(main())
"""  # what `python -m szal` does


class Process:
    """What is needed of `subprocess.Popen`, for such a process.

    Its standard files are text pipes; or it has nothing to read, and *output* for what it writes. As the leader of a
    session of its own, that is its terminal.
    """

    def __init__(
        self,
        zygote: "Zygote",
        code: str,
        arguments: list[str],
        *,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        output: int | None = None,
        leads_session: bool = False,
    ) -> None:
        self.args = [code, *arguments]
        self.returncode: int | None = None
        self._told, tell = os.pipe()
        request = {
            "code": code,
            "arguments": arguments,
            "cwd": str(cwd or Path.cwd()),
            "environ": dict(os.environ if environ is None else environ),
            "leads_session": leads_session,
        }
        if output is None:
            (its_in, stdin), (stdout, its_out), (stderr, its_err) = (os.pipe() for _ in range(3))
            self.stdin, self.stdout, self.stderr = os.fdopen(stdin, "w"), os.fdopen(stdout), os.fdopen(stderr)
            given = [its_in, its_out, its_err, tell]
        else:
            given = [os.open(os.devnull, os.O_RDONLY), os.dup(output), os.dup(output), tell]
        zygote.ask(request, given)
        for file in given:
            os.close(file)
        self.pid = int(self._hear())

    def _hear(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            read = os.read(self._told, 1)
            assert read, "the process has no keeper any more"
            line += read
        return line

    def wait(self, timeout: float | None = None) -> int:
        """Return how the process ended, as soon as it has."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._told, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self.returncode = int(self._hear())
            os.close(self._told)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; to a process that has ended, none."""
        try:
            self.wait(0)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, said: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Say the last words, and return what the process says until it ends; nothing at a second call."""
        if self.stdout.closed:
            return "", ""
        if not self.stdin.closed:
            try:
                self.stdin.write(said)
                self.stdin.close()
            except BrokenPipeError:
                pass
        with ThreadPoolExecutor(2) as readers:
            out, err = readers.submit(self.stdout.read), readers.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except BaseException:
                self.kill()
                raise
            finally:
                texts = out.result(timeout), err.result(timeout)
        self.stdout.close()
        self.stderr.close()
        return texts


class Zygote:
    """The process that others are forked from."""

    def __init__(self, path: list[str]) -> None:
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__, str(its.fileno())],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
            pass_fds=[its.fileno()],
        )
        its.close()

    def ask(self, request: Mapping[str, object], files: list[int]) -> None:
        """Have a process forked, with these as its three standard files, and its keeper tell the last how it goes."""
        socket.send_fds(self._socket, [json.dumps(request).encode()], files)

    def close(self) -> None:
        """End the zygote. What it has forked lives on."""
        self._socket.close()
        self._process.wait()


def begin(number: int) -> str:
    """Serve requests. In each process that is forked, return the code that it is to run."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    gc.collect()
    gc.freeze()  # what is here already costs no process anything as it ends
    with socket.socket(fileno=number) as requests:
        while True:
            data, files, _, _ = socket.recv_fds(requests, REQUEST, 4)
            if not data:
                os._exit(0)
            if os.fork() == 0:
                break
            for file in files:
                os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard, tell = files
    pid = os.fork()
    if pid:
        keep(pid, standard, tell)
    os.close(tell)
    for place, file in enumerate(standard):
        os.dup2(file, place)
        os.close(file)
    request = json.loads(data)
    if request["leads_session"]:
        os.setsid()
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        reopen(name, mode)
    sys.argv = ["-c", *request["arguments"]]
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["cwd"])
    return str(request["code"])


def reopen(name: str, mode: str) -> None:
    """Open a standard file as Python does where it begins: a terminal's is written line by line."""
    first = getattr(sys, name)
    file = open(first.fileno(), mode, encoding=first.encoding, errors=first.errors, closefd=False)  # noqa: SIM115
    if name == "stderr":
        file.reconfigure(line_buffering=True)
    setattr(sys, name, file)
    setattr(sys, f"__{name}__", file)


def keep(pid: int, files: list[int], tell: int) -> None:
    """Tell the number of a process, and how it ended; then end."""
    for file in [*range(3), *files]:
        os.close(file)
    os.write(tell, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(tell, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


if __name__ == "__main__":
    import sqlite3  # noqa: F401

    import psycopg  # noqa: F401
    import psycopg_pool  # noqa: F401
    import rich.live
    import rich.progress
    import rich.table  # noqa: F401
    import tenacity  # noqa: F401
    import yaml  # noqa: F401

    import szal.cli.commands  # noqa: F401
    from szal import *  # noqa: F403

    sys.path.remove(str(Path(__file__).parent))
    exec(compile(begin(int(sys.argv[1])), "<string>", "exec"), {"__name__": "__main__"})
