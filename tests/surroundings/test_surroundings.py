"""The same handlers and flows under what changes the standard library beneath them, each in a process of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import szal

PROGRAM = Path(__file__).with_name("program.py")
RUN = f"""
import runpy
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""

GEVENT = """
from gevent import monkey
monkey.patch_all()
"""
FREEZE = """
import freezegun
freezegun.freeze_time("2020-02-02 12:00").start()
"""
BARE = Path(__file__).with_name("bare.py").read_text()

SURROUNDINGS = {
    "nothing": (None, ""),
    "gevent": ("gevent", GEVENT),
    "freezegun, then szal": ("freezegun", FREEZE),
    "szal, then freezegun": ("freezegun", f"import szal, szal.stores\nszal.open_store('memory:').close(){FREEZE}"),
    "what every system has": (None, BARE),
}


def run(prelude, *arguments, cwd, code=RUN):
    path = os.pathsep.join([str(Path(szal.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-c", prelude + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=40,
    )


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_handlers_and_flows_run_the_same_under(name, postgres_url, tmp_path):
    library, prelude = SURROUNDINGS[name]
    if library is not None:
        pytest.importorskip(library, reason=f"{library} cannot be imported here")
    done = run(prelude, time.time(), "memory:", "sqlite:///szal.db", postgres_url, cwd=tmp_path)
    assert done.stdout.split("\n")[-2:] == ["done", ""], done.stdout + done.stderr
    assert done.returncode == 0


FLOW = """
name: report
mode: parallel
steps:
  - name: first
    call: "os.path:basename"
    with: ["/a/b"]
  - name: ask
    type: wait
    config: {signal: approve}
"""
COMMANDS = """
name: commands
steps:
  - name: build
    run: "true"
"""
COMMAND_LINE = """
from szal.cli import main
for arguments in sys.argv[1:]:
    print("$", arguments, flush=True)
    print("exit status", main(arguments.split()), flush=True)
"""


def test_the_command_line_works_on_what_every_system_has(tmp_path):
    (tmp_path / "report.yaml").write_text(FLOW)
    (tmp_path / "commands.yaml").write_text(COMMANDS)
    store = "--store sqlite:///szal.db"
    commands = {
        "validate report.yaml": 0,
        "graph report.yaml": 0,
        f"run report.yaml --id e1 {store}": 3,
        f"list {store}": 0,
        f"show e1 {store}": 0,
        f"signal e1 approve {store}": 0,
        f"recover {store}": 0,
        f"rerun e1 {store}": 0,
        f"prune --older-than 0s {store}": 0,
        f"run commands.yaml {store}": 2,
    }
    done = run(BARE, *commands, cwd=tmp_path, code=COMMAND_LINE)
    expected = [line for command, status in commands.items() for line in (f"$ {command}", f"exit status {status}")]
    assert [line for line in done.stdout.split("\n") if line in expected] == expected, done.stdout + done.stderr
    assert "step build is a command: that needs a POSIX system, and this one has no os.killpg" in done.stderr


def test_commands_are_refused_by_name_before_anything_runs(tmp_path):
    code = """
from szal import *

def show(flow):
    try:
        Engine(handlers).run(flow)
    except ShellNotSupported as error:
        print(error)

handlers = Handlers(lambda ctx: print("ran", ctx.step.name))
build = StepDef("build", step_type="shell", config={"run": "true"})
show(FlowDef("f", steps=[StepDef("a"), build]))
undone = StepDef("a", rollbackable=True, config={"rollback": {"run": "true"}})
show(FlowDef("f", steps=[undone], rollback_on_failure=True))
"""
    done = run(BARE, cwd=tmp_path, code=code)
    missing = "os.killpg, os.setsid, os.WNOHANG, signal.SIGKILL"
    needs = f"is a command: that needs a POSIX system, and this one has no {missing}"
    assert done.stdout == f"step build {needs}\nstep a {needs}\n", done.stderr
