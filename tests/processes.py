"""What tests of child processes share."""

import atexit
import functools
import os
import subprocess
import time
from pathlib import Path

from zygote import COMMAND_LINE, Process, Zygote

import szal

# Where the time to start counts, or what is loaded: processes that are not measured for coverage.
UNMEASURED = {key: value for key, value in os.environ.items() if not key.startswith("COV")}


@functools.cache
def zygote() -> Zygote:
    """What this process has its Python processes forked from, which import the szal of this one."""
    found = Zygote([str(Path(szal.__file__).parents[1]), str(Path(__file__).parent)])
    atexit.register(found.close)
    return found


def run_script(path: Path) -> str:
    """The code that runs the script of that path, for a `Process`."""
    return f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"


def command_line(*arguments: object, **options) -> Process:
    """Start the command line in a process, as `python -m szal` does; for the options see `Process`."""
    return Process(zygote(), COMMAND_LINE, [*map(str, arguments)], **options)


def run_command_line(*arguments: object, timeout: float = 50.0) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process to its end; TimeoutExpired if that does not come."""
    process = command_line(*arguments)
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_until(condition, timeout=40):
    """Return what *condition* returns, as soon as that is true; fail when it does not become true."""
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, "this did not come true in time"
        time.sleep(0.005)
    return found


def is_running(group):
    """Whether any process of *group* is alive. One that only waits to be reaped, by a lazy init, is not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    states = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_bytes().rpartition(b") ")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group:
            states.append(state)
    return not states or any(state != b"Z" for state in states)


def number_in(file):
    """Return the number that a process has written into *file*, once that is complete; else None."""
    try:
        text = Path(file).read_text()
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") else None
