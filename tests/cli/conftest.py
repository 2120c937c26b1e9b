"""Flows to name on the command line, and ways to run it: here, in a process, in a terminal."""

import os
import pty
import select
import sys
import termios
import threading
import time
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner
from processes import command_line
from zygote import Process as Started

FLOWS = """
import subprocess, sys, time
import szal.cli.execute
from szal import FlowDef, FlowMode, Handlers, StepDef, TriggerMode

szal.cli.execute._GRACE = 60.0  # what a second signal does not end ends in no time that a test waits for

def work(ctx):
    name = ctx.step.name
    if name.startswith("fail"):
        raise ValueError("it went wrong\\nin two lines")
    if name.startswith("flaky") and ctx.attempt < 3:
        raise OSError("not yet")
    if name.startswith("ready"):
        ctx.report("ready now")
        ctx.sleep(60)
        ctx.check()
    if name.startswith("hang"):
        ctx.report("ready now")
        while True:
            time.sleep(0.05)
    return ctx.inputs.get("value", name)

def flow(name, *steps, mode=FlowMode.SEQUENTIAL, **more):
    return FlowDef(name, mode, steps=steps, **more)

good = flow("good", StepDef("one"), StepDef("two")), work
bad = flow("bad", StepDef("one"), StepDef("fail"), StepDef("three")), work
waits = flow("waits", StepDef("ready"), StepDef("after")), work
hangs = flow("hangs", StepDef("hang"), StepDef("after")), work
large = flow("large", *[StepDef(f"step-{n}") for n in range(300)], mode=FlowMode.PARALLEL), work
shell = flow("shell", StepDef("hello", step_type="shell", config={"run": "echo hello; sleep 0.01; echo bye"}))
floods = flow("floods", StepDef("flood", step_type="shell", config={"run": "yes | head -c 3000000"}))
bar = flow("bar", StepDef("load", step_type="shell", config={"run": '''
printf "10%%\\r"
until [ -e go ]; do sleep 0.02; done
printf "90%%\\r100%%\\n"
'''}))
unhandled = flow("unhandled", StepDef("one"), StepDef("two"))
twice = flow("twice", StepDef("a"), StepDef("a", max_retries=-1))
inner = flow("inner", StepDef("leaf"))
outer = flow("outer", StepDef("call", step_type="sub_flow", config={"flow_name": "inner"})), inner, Handlers(work)

_fail = StepDef("fail")
mixed = flow(
    "mixed", StepDef("build"), StepDef("flaky", max_retries=3, retry_delay=0.01), _fail,
    StepDef("after", depends_on=_fail), StepDef("cond", condition="inputs.env == 'prod'"), mode=FlowMode.DAG,
), work

def close_stdout(ctx):
    sys.stdout.close()

closes = flow("closes", StepDef("one"), StepDef("two")), close_stdout

prints = flow("prints", StepDef("one")), lambda ctx: print("printed")

def undo(ctx):
    print("undone", ctx.step.name)

undoes = Handlers(work)
undoes.rollback("one")(undo)
rolls = flow("rolls", StepDef("one", rollbackable=True), StepDef("ready"), rollback_on_failure=True), undoes

def noisy_work(ctx):
    print("printed")
    sys.stdout.write("written\\n")
    subprocess.run(["echo", "from a child process"], check=True)
    ctx.report("reported")
    ctx.log.warning("logged")
    return {"\\u00e9": [1, None]}

def noisy():
    print("printed while making the flow")
    return flow("noisy", StepDef("one")), noisy_work

EVIL = "\\x1b]0;evil\\x07\\x1b[2J[red]markup[/red]\\r\\x9b5A\\u202e"
def evil_work(ctx):
    ctx.report({"stream": "stdout", "line": EVIL})
    raise ValueError(EVIL)
evil = flow("evil" + EVIL, StepDef("step" + EVIL)), evil_work

def objects(ctx):
    return object()
unserializable = flow("unserializable", StepDef("one")), objects
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current directory with flows.py in it; what is imported from it is forgotten afterwards."""
    (tmp_path / "flows.py").write_text(FLOWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("SZAL_STORE", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist's workers have it
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def stays(monkeypatch):
    """A command at its end gives threads time that an earlier test has left, and does not end this process for them."""
    from szal.cli import execute

    def leave():
        raise AssertionError(f"the process would be left, with these threads: {threading.enumerate()}")

    monkeypatch.setattr(execute, "_PATIENCE", 30.0)
    monkeypatch.setattr(execute, "_finish", leave)


@pytest.fixture
def szal(here, stays):
    """``szal(*arguments)``: run a command in this process; gives exit_code, stdout, stderr."""
    from szal.cli.commands import szal as group

    def call(*arguments):
        result = CliRunner().invoke(group, [str(argument) for argument in arguments], prog_name="szal")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@attrs.define
class Process:
    """A szal that runs in a process; what it has written so far can be waited for."""

    popen: Started
    reader: int
    seen: str = ""

    def until(self, text, timeout=20):
        """Read until *text* has come."""
        while text not in self.seen:
            if not select.select([self.reader], [], [], timeout)[0]:
                raise AssertionError(f"{text!r} did not come within {timeout}s, but:\n{self.seen}")
            if not self._read():
                raise AssertionError(f"it ended before {text!r} came:\n{self.seen}")

    def _read(self):
        try:
            chunk = os.read(self.reader, 65536)
        except OSError:  # how Linux says that nobody has the terminal open any more
            return False
        self.seen += chunk.decode(errors="replace")
        return bool(chunk)

    def hang_up(self):
        """Close its terminal."""
        os.close(self.reader)
        self.reader = None

    def signal(self, number):
        self.popen.send_signal(number)

    def end(self, timeout=20):
        """Read to the end, and return the exit status."""
        until = time.monotonic() + timeout
        while select.select([self.reader], [], [], max(0.0, until - time.monotonic()))[0]:
            if not self._read():
                return self.popen.wait(timeout)
        raise AssertionError(f"it did not end within {timeout}s:\n{self.seen}")


@pytest.fixture
def spawn(here):
    """``spawn(*arguments, terminal=False, **environment)`` starts szal in a process, in a terminal if asked to.

    With *is_its_own* it is told when the terminal is closed, as what a shell starts is.
    """
    started = []

    def start(*arguments, terminal=False, is_its_own=False, **environment):
        if terminal:
            reader, writer = pty.openpty()
            termios.tcsetwinsize(writer, (24, 80))
        else:
            reader, writer = os.pipe()
        unset = {"NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"}
        env = {key: value for key, value in os.environ.items() if key not in unset}
        popen = command_line(
            *arguments,
            environ={**env, "TERM": "xterm-256color", **environment},
            output=writer,
            leads_session=is_its_own,
        )
        os.close(writer)
        started.append(Process(popen, reader))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.wait()
        if process.reader is not None:
            os.close(process.reader)


@pytest.fixture
def database(here, request):
    """The URL of a database that is not there yet; a test may ask for "postgres", by indirect parametrization."""
    if getattr(request, "param", "sqlite") == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{Path('szal.db').absolute()}"
