"""An engine's child processes, lent to one attempt at a time."""

import subprocess
import sys
import threading

from processes import UNMEASURED, wait_until
from shared_processes import SharedProcesses

from szal import FlowDef, FlowMode, StepDef
from szal.steps import child_process as child_process_module
from szal.steps import processes as processes_module
from szal.steps.child_process import ChildProcess

LONG = 50.0


def test_one_that_cannot_be_started_leaves_its_place_to_who_waits(monkeypatch):
    """The system has no process left for a moment."""
    refused, waits = threading.Event(), threading.Event()

    def refuse_once(*args):
        if refused.is_set():
            return ChildProcess(*args)
        refused.set()
        assert waits.wait(LONG)
        raise BlockingIOError("fork: no more processes")

    monkeypatch.setattr(processes_module, "ChildProcess", refuse_once)
    steps = [StepDef("a"), StepDef("b")]
    with SharedProcesses(1) as made, made.engine(print_nothing, isolation="process") as engine:
        execution = engine.start(FlowDef("f", FlowMode.PARALLEL, steps=steps))
        wait_until(lambda: made._waiters and refused.is_set(), timeout=LONG)
        waits.set()
        result = execution.result(LONG)
    assert sorted(str(step.error) for step in result.steps) == ["BlockingIOError: fork: no more processes", "None"]


def print_nothing(ctx):
    return None


def test_one_whose_program_cannot_be_imported_says_why(tmp_path, monkeypatch):
    preparation = child_process_module.preparation()
    (tmp_path / "broken_main.py").write_text("raise RuntimeError('no')\n")
    preparation.pop("init_main_from_name", None)
    preparation["init_main_from_path"] = str(tmp_path / "broken_main.py")
    monkeypatch.setattr(child_process_module, "preparation", lambda: preparation)
    with SharedProcesses(1) as made, made.engine(print_nothing, isolation="process") as engine:
        result = engine.run(FlowDef("f", steps=[StepDef("a")]))
    assert result["a"].error == "a: its process ended with exit status 1 before it could begin: RuntimeError: no"


ON_STDIN = """
import os
import sys
import szal
sys.path[:] = SYS_PATH
import isolated_handlers

def here(ctx): ...

flow = szal.FlowDef("f", isolation="process", steps=[szal.StepDef("a")])
with szal.Engine(isolated_handlers.where) as engine:
    print(engine.run(flow)["a"].output != os.getpid())
with szal.Engine(here) as engine:
    try:
        engine.run(flow)
    except szal.InvalidFlow as error:
        print(error)
"""


def test_a_program_that_has_no_file_has_functions_of_modules_called_there_and_its_own_are_refused():
    """As in a notebook or a REPL."""
    program = ON_STDIN.replace("SYS_PATH", repr(sys.path))
    command = [sys.executable, "-"]
    ran = subprocess.run(command, input=program, env=UNMEASURED, capture_output=True, text=True, timeout=LONG)
    called, refused = ran.stdout.splitlines()
    assert (called, ran.stderr) == ("True", "")
    assert "here cannot be sent to a child process (its program has no file that could be imported" in refused
